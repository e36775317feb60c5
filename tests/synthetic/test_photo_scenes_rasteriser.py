"""The renderer in torch agrees with the one in numpy and OpenCV, in batches as alone, on each device."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes import rasteriser
from sfm_lightglue.synthetic.photo_scenes.augmentation import random_light
from sfm_lightglue.synthetic.photo_scenes.curved import Relief
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.rasteriser import Rasteriser, Shot
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS, SceneLayout
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.surfaces import Surface, Texture
from sfm_lightglue.synthetic.photo_scenes.texel_atlas import MAX_LEVELS, TexelAtlas
from sfm_lightglue.synthetic.photo_scenes.texel_sheet import TexelSheet
from sfm_lightglue.synthetic.photo_scenes.textures import Photos
from sfm_lightglue.synthetic.photo_scenes.views import random_sky
from tests.helpers import render_reference
from tests.helpers.photo_scene_views import DAYLIGHT, GREY_SKY, camera_at, scene_of_all_kinds, surfaces_under_test
from tests.helpers.render_reference_curved import reference_of
from tests.helpers.textured_photos import write_photos

SIZES = ((320, 240), (240, 320), (213, 101), (64, 64))
"""Landscape, portrait, sides that are no multiple of the tiles."""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> PhotoLibrary:
    return PhotoLibrary.open(write_photos(tmp_path_factory.mktemp("photos")))


def layout_of(library: PhotoLibrary, kind: int, seed: int) -> SceneLayout:
    rng = np.random.default_rng([seed, kind])
    return SCENE_LAYOUTS[kind](Photos(library, library.names[:6], rng), rng)


def shots_of(layout: SceneLayout, scene: int, seed: int) -> list[Shot]:
    """A view of each size around a layout, rolled, each with its own light and sky."""
    rng = np.random.default_rng(seed)
    shots = []
    for size in SIZES:
        azimuth, elevation = (
            middle + rng.uniform(-reach, reach) * layout.spread_rad
            for middle, reach in ((layout.azimuth_rad, 1), (layout.elevation_rad, 0.3))
        )
        towards = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        center = np.clip(layout.target + towards * layout.distance_m * rng.uniform(0.6, 1.4), layout.low, layout.high)
        roll = Rigid3.from_rotvec(np.array([0, 0, rng.uniform(-1, 1)]), np.zeros(3))
        pose = roll @ Rigid3.look_at(center, layout.target, np.array([0, 0, 1.0]))
        camera = PosedCamera(max(size) * rng.uniform(0.6, 1.5), size, pose)
        shots.append(Shot(scene, camera, random_light(rng), random_sky(rng)))
    return shots


def check_against_reference(surfaces: Sequence[Surface], shots: Sequence[Shot]) -> None:
    """The same surfaces, depths and colours.

    OpenCV fills every pixel that the outline of a plane touches, so pixels within 2 px of an edge are left out. Of the
    others, at most 1 % differ by more than 2 grey levels, where the levels of textures meet.
    """
    references = [reference_of(surface) for surface in surfaces]
    for shot, (image, trace) in zip(shots, Rasteriser(SurfaceTable.of([surfaces])).render(shots), strict=True):
        expected, expected_depth = render_reference.render(references, shot.camera, shot.light, shot.sky)
        _, expected_idx = render_reference.trace(references, shot.camera)
        assert (trace.surface_idx.numpy() != expected_idx).mean() < 0.05
        gradient = cv2.morphologyEx(expected_idx, cv2.MORPH_GRADIENT, np.ones((3, 3)))
        is_inner = cv2.dilate(gradient, np.ones((3, 3))) == 0
        assert is_inner.mean() > 0.5
        assert (trace.surface_idx.numpy() != expected_idx)[is_inner].mean() <= 1e-3
        is_same = is_inner & (trace.surface_idx.numpy() == expected_idx)
        assert ((trace.depth.numpy() == 0) == (expected_depth == 0))[is_same].all()
        is_close = np.isclose(trace.depth.numpy(), expected_depth, rtol=1e-4, atol=0)
        assert is_close[is_same].mean() > 0.999  # the secant method of reliefs fails at a few pixels
        difference = np.abs(image.numpy().astype(int) - expected).max(-1)[is_same]
        assert (difference > 2).mean() < 0.01 and difference.mean() < 0.8


@pytest.mark.parametrize("kind", range(len(SCENE_LAYOUTS)), ids=[build.__name__ for build in SCENE_LAYOUTS])
@pytest.mark.parametrize("seed", [0, 1])
def test_layouts_are_rendered_as_by_the_reference(library, kind, seed):
    layout = layout_of(library, kind, seed)
    check_against_reference(layout.surfaces, shots_of(layout, 0, seed))


@pytest.mark.parametrize("name", [*surfaces_under_test(), "all"])
def test_surfaces_are_rendered_as_by_the_reference(name):
    surfaces = scene_of_all_kinds() if name == "all" else [surfaces_under_test()[name][0]]
    tilt = Rigid3.from_rotvec(np.array([0.05, -0.1, 0.4]), np.array([0.1, 0.0, 0.3]))
    cameras = [camera_at(0.1), PosedCamera(250.0, (240, 320), tilt)]
    check_against_reference(surfaces, [Shot(0, camera, DAYLIGHT, GREY_SKY) for camera in cameras])


def test_a_batch_of_scenes_is_rendered_as_each_view_alone(library):
    """Bit by bit, at all sizes of images, whatever else is in the batch."""
    layouts = [layout_of(library, kind, 5) for kind in range(len(SCENE_LAYOUTS))]
    shots = [shot for scene, layout in enumerate(layouts) for shot in shots_of(layout, scene, scene)]
    together = Rasteriser(SurfaceTable.of([layout.surfaces for layout in layouts])).render(shots)
    for shot, (image, trace) in list(zip(shots, together, strict=True))[::3]:
        alone = Rasteriser(SurfaceTable.of([layouts[shot.scene].surfaces]))
        ((image1, trace1),) = alone.render([Shot(0, shot.camera, shot.light, shot.sky)])
        assert image.shape == (*shot.camera.size[::-1], 3) and image.dtype == torch.uint8
        assert torch.equal(image, image1)
        assert torch.equal(trace.depth, trace1.depth) and torch.equal(trace.surface_idx, trace1.surface_idx)


@pytest.mark.parametrize("side", [16, 64])
def test_the_size_of_tiles_does_not_matter(library, side, monkeypatch):
    """Nor how many are evaluated at once. Rounding may differ."""
    layout = layout_of(library, 0, 2)
    table, shots = SurfaceTable.of([layout.surfaces]), shots_of(layout, 0, 2)
    expected = Rasteriser(table).render(shots)
    monkeypatch.setattr(rasteriser, "_CPU_CHUNK", 7)
    for (image0, trace0), (image1, trace1) in zip(expected, Rasteriser(table, side).render(shots), strict=True):
        is_same = trace0.surface_idx == trace1.surface_idx
        assert is_same.double().mean() > 0.999
        assert torch.allclose(trace0.depth[is_same], trace1.depth[is_same], rtol=1e-5)
        assert (image0.int() - image1.int()).abs()[is_same].double().mean() < 0.01


def test_traces_are_rendered_depths_within_their_rounding(library):
    layout = layout_of(library, 1, 0)
    table, shots = SurfaceTable.of([layout.surfaces]), shots_of(layout, 0, 1)
    traces = Rasteriser(table, 16).trace([0] * len(shots), [shot.camera for shot in shots])
    for trace, (_, expected) in zip(traces, Rasteriser(table, 16).render(shots), strict=True):
        assert torch.equal(trace.surface_idx, expected.surface_idx)
        assert torch.allclose(trace.depth, expected.depth, rtol=2**-14)


def test_a_sky_is_enlarged_behind_the_surfaces():
    sky = np.random.default_rng(0).integers(100, 250, GREY_SKY.shape).astype(np.uint8)
    away = PosedCamera(300.0, (320, 240), Rigid3.from_rotvec(np.array([0, np.pi, 0]), np.zeros(3)))
    flat = surfaces_under_test()["plane"][0]
    ((image, trace),) = Rasteriser(SurfaceTable.of([[flat]])).render([Shot(0, away, DAYLIGHT, sky)])
    assert (trace.depth == 0).all() and (trace.surface_idx == 255).all()
    expected = cv2.resize(sky, (320, 240), interpolation=cv2.INTER_LINEAR)
    assert np.abs(image.numpy().astype(int) - expected).max() <= 4  # weights of 1/32, steps of up to 150 grey levels


def test_both_lookups_of_colours_agree(library):
    """OpenCV's, for a CPU, and the one in torch; also beyond the borders, and beyond 255."""
    rng = np.random.default_rng(0)
    textures = [Photos(library, library.names[:2], rng).plain(1.0) for _ in range(3)]
    skies = torch.from_numpy(rng.integers(0, 256, (2, 14, 18, 3)).astype(np.uint8))
    x, y = (torch.from_numpy(rng.uniform(-3, 3, (20, 500)).astype(np.float32)) for _ in range(2))
    x[0, :6] = torch.tensor([0.0, 1.0, -1.0, -1e-9, 1e-9, 0.5])
    rows = torch.from_numpy(rng.integers(0, 5 * MAX_LEVELS, (20, 500)).astype(np.int32))
    gains = torch.from_numpy(rng.uniform(0.3, 1.5, (20, 500)).astype(np.float32))
    first, second = (
        kind.of(textures, skies).lit_colours(x.clone(), y.clone(), rows, gains) for kind in (TexelAtlas, TexelSheet)
    )
    assert first.shape == (20, 500, 3) and first.double().std() > 20
    assert (first.int() - second.int()).abs().max() <= 2


def on_cuda(surface: Surface) -> Surface:
    texture = surface.texture
    alpha = None if texture.alpha is None else texture.alpha.cuda()
    moved = Texture(tuple(level.cuda() for level in texture.levels), texture.texels_per_m, alpha)
    values = {**vars(surface), "texture": moved}
    values.pop("highest_m", None)
    if isinstance(surface, Relief):
        values["heights_m"] = surface.heights_m.cuda()
    return type(surface)(**values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
def test_a_gpu_renders_as_the_cpu(library):
    layouts = [layout_of(library, kind, 7) for kind in range(len(SCENE_LAYOUTS))]
    shots = [shot for scene, layout in enumerate(layouts) for shot in shots_of(layout, scene, scene)]
    on_cpu = Rasteriser(SurfaceTable.of([layout.surfaces for layout in layouts])).render(shots)
    table = SurfaceTable.of([[on_cuda(surface) for surface in layout.surfaces] for layout in layouts])
    for (image0, trace0), (image1, trace1) in zip(on_cpu, Rasteriser(table).render(shots), strict=True):
        is_same = trace0.surface_idx == trace1.surface_idx.cpu()
        assert is_same.double().mean() > 0.999
        assert torch.allclose(trace0.depth[is_same], trace1.depth.cpu()[is_same], rtol=1e-5)
        difference = (image0.int() - image1.cpu().int()).abs()[is_same]
        assert (difference > 1).double().mean() < 0.001
