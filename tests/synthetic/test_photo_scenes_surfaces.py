"""Every kind of surface of the training scenes: its geometry, its texture, its visibility."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.curved import Relief, Round
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.surface_table import MAX_SURFACES, SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light, Plane, Surface, Texture
from tests.helpers.photo_scene_views import (
    camera_at,
    facing_plane,
    rendered,
    sampled_world_points,
    surfaces_under_test,
    texture,
)

NAMES = ["plane", "holes", "cylinder", "inside", "sphere", "relief"]


@pytest.mark.parametrize("name", NAMES)
def test_depths_lie_on_the_surface(name):
    surface, camera = surfaces_under_test()[name]
    depth = rendered([surface], camera)[1].depth.numpy()
    points, _ = sampled_world_points(depth, camera)
    assert len(points) > 200
    local = surface.world_from_local.inverse() @ points
    if isinstance(surface, Plane):
        assert np.abs(local[:, 2]).max() < 1e-4
        assert (local[:, :2] > -0.01).all() and (local[:, :2] < np.array(surface.size_m) + 0.01).all()
    elif isinstance(surface, Round):
        radii = np.linalg.norm(local[:, : 3 if surface.height_m is None else 2], axis=1)
        assert np.abs(radii - surface.radius_m).max() < 1e-3
        towards = ((camera.cam_from_world.center - points) * (points - surface.world_from_local.t)).sum(1)
        if surface.height_m is None:
            assert (towards > 0).all(), "the far side of a sphere is visible"
    elif isinstance(surface, Relief):
        cells = local[:, :2] / np.array(surface.size_m) * surface.heights_m.shape[::-1] - 0.5
        maps, values = cells.astype(np.float32)[:, None], surface.heights_m.numpy()
        heights = cv2.remap(values, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        assert np.abs(local[:, 2] + heights[:, 0]).max() < 2e-2  # remap rounds to 1/32 of a cell
        assert heights.max() - heights.min() > 0.1, "no hills"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "holes"])
def test_the_same_point_has_the_same_colour_in_two_views(name):
    """Colours are equal at pixels that show the same point according to depth."""
    surface, camera0 = surfaces_under_test()[name]
    near = camera0.cam_from_world.center + np.array([0.25, -0.1, 0.1])
    tilt = Rigid3.from_rotvec(np.array([0.02, 0.06, 0.2]), np.zeros(3))
    camera1 = PosedCamera(280.0, (320, 240), tilt @ Rigid3(np.eye(3), -near))
    images, traces = zip(*(rendered([surface], camera) for camera in (camera0, camera1)), strict=True)
    points, pixels0 = sampled_world_points(traces[0].depth.numpy(), camera0)
    pixels1, z1 = camera1.project(points)
    inside = ((pixels1 > 2) & (pixels1 < (318, 238))).all(1)
    at1 = np.floor(pixels1[inside]).astype(int)
    seen = np.abs(traces[1].depth.numpy()[at1[:, 1], at1[:, 0]] - z1[inside]) < 0.03 * z1[inside]
    pixels1, pixels0 = pixels1[inside][seen], pixels0[inside][seen]
    assert len(pixels1) > 150
    colours0, colours1, shifted = (
        cv2.remap(cv2.GaussianBlur(image, (0, 0), 1.5), (at - 0.5).astype(np.float32)[:, None], None, cv2.INTER_LINEAR)
        for image, at in ((images[0], pixels0), (images[1], pixels1), (images[1], pixels1 + 5.5))
    )
    difference = np.abs(colours0.astype(float) - colours1).mean()
    assert difference < 0.45 * np.abs(colours0.astype(float) - shifted).mean()


def test_minified_textures_are_filtered():
    """A fine chequerboard far away is grey, without moiré."""
    chequer = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    tile = Texture.from_pixels(torch.from_numpy(np.repeat(chequer[..., None], 3, axis=2)), 1.0)
    plane = Plane(Rigid3(np.eye(3), np.array([-20.0, -20.0, 8.0])), tile, (40.0, 40.0))
    image, _ = rendered([plane], camera_at(0), Light(np.array([0, 0, -1.0]), 0, 1))
    assert image.std() < 3 and abs(image.mean() - 127.5) < 3


def test_a_texture_appears_as_it_is():
    """At one texel a pixel, the image is the texture, from the texel that the offset gives; it repeats."""
    tile = Texture.from_pixels(texture(0, 1.0).levels[0][:64, :96].contiguous(), 0.96)
    plane = Plane(Rigid3(np.eye(3), np.array([-2.0, -2.0, 3.0])), tile, (4.0, 4.0), (0.2, 0.1))
    image, _ = rendered([plane], PosedCamera(300.0, (320, 240), Rigid3.identity()), Light(np.zeros(3), 0, 1))
    y, x = np.mgrid[:240, :320]
    # Pixel (x, y) is at ((x - 160) / 100, (y - 120) / 100) m, and 2 m + offset from there is texel 100 (2 + offset).
    expected = tile.levels[0].numpy()[(y - 120 + 210) % 64, (x - 160 + 220) % 96]
    assert np.array_equal(image, expected)


def test_backs_are_visible_only_if_two_sided():
    behind = Rigid3.from_rotvec(np.array([0, np.pi, 0]), np.array([1.0, -1.0, 4.0]))
    for two_sided in (False, True):
        plane = Plane(behind, texture(0, 2.0), (2.0, 2.0), two_sided=two_sided)
        assert bool((rendered([plane], camera_at(0))[1].depth > 0).any()) == two_sided


def test_nothing_is_visible_below_the_smallest_depth():
    """A floor that begins behind the camera is visible from 5 cm on."""
    lying = Rigid3(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([-5, 0.01, 20.0]))
    depth = rendered([Plane(lying, texture(0, 3.0), (10, 30))], camera_at(0))[1].depth.numpy()
    # The floor is 1 cm below the camera: its depth is 0.01 * 300 / (y + 0.5 - 120) m, 5.04 cm at y = 179.
    rows = np.arange(120, 180)
    assert np.allclose(depth[rows, 160], 3 / (rows - 119.5), rtol=1e-4)
    assert (depth[:120] == 0).all() and (depth[180:] == 0).all()


def test_the_first_of_two_equal_surfaces_is_visible():
    planes: list[Surface] = [facing_plane(-1, -1, 4, (2, 2), seed) for seed in (0, 1)]
    surface_idx = rendered(planes, camera_at(0))[1].surface_idx
    assert set(surface_idx.unique().tolist()) == {0, 255}


def test_wrong_numbers_of_surfaces_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        SurfaceTable.of([[]])
    with pytest.raises(ValueError, match="254"):
        SurfaceTable.of([[facing_plane(0, 0, 4, (1, 1), 0)] * (MAX_SURFACES + 1)])
