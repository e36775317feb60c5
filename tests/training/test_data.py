"""Training pairs: rendered views are consistent with their depth, labels with reprojection."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.curved import Relief, Round
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light, Plane, Surface, Texture
from sfm_lightglue.synthetic.photo_scenes.textures import smooth_noise
from sfm_lightglue.synthetic.photo_scenes.views import render, trace
from tests.helpers.rendered_scenes import pattern

DAYLIGHT = Light(np.array([0, -1.0, 0]), 0.3, 0.7)


def texture(seed: int, width_m: float, alpha: np.ndarray | None = None) -> Texture:
    return Texture.from_pixels(pattern(seed), width_m, alpha)


def facing_plane(x: float, y: float, z: float, size: tuple[float, float], seed: int) -> Plane:
    """A rectangle with its corner at (x, y, z), in front of a camera at the origin that looks along z."""
    return Plane(Rigid3(np.eye(3), np.array([x, y, z])), texture(seed, size[0]), size)


def camera_at(x: float, y: float = 0.0, z: float = 0.0, focal_px: float = 300.0) -> PosedCamera:
    return PosedCamera(focal_px, (320, 240), Rigid3(np.eye(3), -np.array([x, y, z])))


def sampled_world_points(view_depth: np.ndarray, camera: PosedCamera, step: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """World points [N, 3] and their pixels [N, 2], computed without the code under test."""
    y, x = np.mgrid[3 : view_depth.shape[0] : step, 3 : view_depth.shape[1] : step]
    x, y = x.ravel(), y.ravel()
    z = view_depth[y, x].astype(np.float64)
    rays = np.linalg.inv(camera.K) @ np.stack([x + 0.5, y + 0.5, np.ones(len(x))])
    R, t = camera.cam_from_world.R, camera.cam_from_world.t
    return (R.T @ (rays * z - t[:, None])).T[z > 0], np.stack([x + 0.5, y + 0.5], 1)[z > 0]


def surfaces_under_test() -> dict[str, tuple[Surface, PosedCamera]]:
    rng = np.random.default_rng(3)
    slanted = Rigid3.from_rotvec(np.array([0.6, 0.5, 0.1]), np.array([-2.2, -1.5, 4.5]))
    hills = (smooth_noise(rng, (96, 96), 5) + 1).astype(np.float32) * 0.3
    turned = Rigid3.from_rotvec(np.array([1.2, 0.2, 0.3]), np.array([0.2, 0.1, 4.0]))
    lying = Rigid3.from_rotvec(np.array([0.7, 0.0, 0.0]), np.array([-3.0, -2.0, 4.0]))
    return {
        "plane": (Plane(slanted, texture(0, 2.0), (5.0, 4.0), two_sided=True), camera_at(0.1)),
        "cylinder": (Round(turned, texture(1, 3.0), 1.0, 2.5), camera_at(0.1)),
        "inside": (Round(turned, texture(1, 3.0), 6.0, 30.0, inside=True), camera_at(0.1)),
        "sphere": (Round(turned, texture(2, 3.0), 1.2), camera_at(0.1)),
        "relief": (Relief(lying, texture(3, 3.0), (6.0, 6.0), hills), camera_at(0.0)),
    }


@pytest.mark.parametrize("name", ["plane", "cylinder", "inside", "sphere", "relief"])
def test_depths_lie_on_the_surface(name):
    surface, camera = surfaces_under_test()[name]
    depth, _ = trace([surface], camera)
    points, _ = sampled_world_points(np.where(np.isfinite(depth), depth, 0), camera)
    assert len(points) > 200
    local = surface.world_from_local.inverse() @ points
    if isinstance(surface, Plane):
        assert np.abs(local[:, 2]).max() < 1e-4
        assert (local[:, :2] > -0.1).all() and (local[:, :2] < np.array(surface.size_m) + 0.1).all()
    elif isinstance(surface, Round):
        radii = np.linalg.norm(local[:, : 3 if surface.height_m is None else 2], axis=1)
        assert np.abs(radii - surface.radius_m).max() < 1e-3
        towards = ((camera.cam_from_world.center - points) * (points - surface.world_from_local.t)).sum(1)
        if surface.height_m is None:
            assert (towards > 0).all(), "the far side of a sphere is visible"
    elif isinstance(surface, Relief):
        cells = local[:, :2] / np.array(surface.size_m) * surface.heights_m.shape[::-1] - 0.5
        maps = cells.astype(np.float32)[:, None]
        heights = cv2.remap(surface.heights_m, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        assert np.abs(local[:, 2] + heights[:, 0]).max() < 2e-2  # remap rounds to 1/32 of a cell
        assert heights.max() - heights.min() > 0.1, "no hills"


@pytest.mark.parametrize("name", ["plane", "cylinder", "inside", "sphere", "relief"])
def test_the_same_point_has_the_same_colour_in_two_views(name):
    """Colours are equal at pixels that show the same point according to depth."""
    surface, camera0 = surfaces_under_test()[name]
    near = camera0.cam_from_world.center + np.array([0.25, -0.1, 0.1])
    tilt = Rigid3.from_rotvec(np.array([0.02, 0.06, 0.2]), np.zeros(3))
    camera1 = PosedCamera(280.0, (320, 240), tilt @ Rigid3(np.eye(3), -near))
    images, depths = zip(
        *(render([surface], camera, DAYLIGHT, np.random.default_rng(0)) for camera in (camera0, camera1)), strict=True
    )
    points, pixels0 = sampled_world_points(depths[0], camera0)
    pixels1, z1 = camera1.project(points)
    inside = ((pixels1 > 2) & (pixels1 < (318, 238))).all(1)
    at1 = np.floor(pixels1[inside]).astype(int)
    seen = np.abs(depths[1][at1[:, 1], at1[:, 0]] - z1[inside]) < 0.03 * z1[inside]
    pixels1, pixels0 = pixels1[inside][seen], pixels0[inside][seen]
    assert len(pixels1) > 150
    colours0, colours1 = (
        cv2.remap(cv2.GaussianBlur(image, (0, 0), 1.5), (at - 0.5).astype(np.float32)[:, None], None, cv2.INTER_LINEAR)
        for image, at in zip(images, (pixels0, pixels1), strict=True)
    )
    difference = np.abs(colours0.astype(float) - colours1).mean()
    shifted = cv2.remap(
        cv2.GaussianBlur(images[1], (0, 0), 1.5), (pixels1 + 5).astype(np.float32)[:, None], None, cv2.INTER_LINEAR
    )
    assert difference < 0.45 * np.abs(colours0.astype(float) - shifted).mean()


def test_minified_textures_are_filtered():
    """A fine chequerboard far away is grey, without moiré."""
    chequer = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    tile = Texture.from_pixels(np.repeat(chequer[..., None], 3, axis=2), 1.0)
    plane = Plane(Rigid3(np.eye(3), np.array([-20.0, -20.0, 8.0])), tile, (40.0, 40.0))
    image, _ = render([plane], camera_at(0), Light(np.array([0, 0, -1.0]), 0, 1), np.random.default_rng(0))
    assert image.std() < 3 and abs(image.mean() - 127.5) < 3
