"""Views of training scenes: cameras with the wanted overlap, the same bytes for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.synthetic.photo_scenes import cameras as cameras_module
from sfm_lightglue.synthetic.photo_scenes.cameras import choose_cameras
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.rasteriser import Rasteriser
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS, SceneLayout
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.textures import Photos
from sfm_lightglue.synthetic.photo_scenes.views import RenderedView, SceneRequest, ViewConfig, render_scenes
from sfm_lightglue.synthetic.photo_scenes.visibility import DepthViews, overlaps
from tests.helpers.textured_photos import write_photos

SMALL = ViewConfig(image_size=(320, 240))


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> PhotoLibrary:
    return PhotoLibrary.open(write_photos(tmp_path_factory.mktemp("photos")))


def layouts_of(library: PhotoLibrary, seed: int) -> list[SceneLayout]:
    rngs = [np.random.default_rng([seed, kind]) for kind in range(len(SCENE_LAYOUTS))]
    return [build(Photos(library, library.names[:6], rng), rng) for build, rng in zip(SCENE_LAYOUTS, rngs, strict=True)]


def chosen(layouts: list[SceneLayout], seeds: list[int], config: ViewConfig, num_views: int) -> list[list[PosedCamera]]:
    table = SurfaceTable.of([layout.surfaces for layout in layouts])
    rngs = [np.random.default_rng(seed) for seed in seeds]
    return choose_cameras(layouts, table, rngs, [num_views] * len(layouts), config)


def numbers(cameras: list[PosedCamera]) -> list[list[float]]:
    return [[camera.focal_px, *camera.size, *camera.cam_from_world.as_matrix().ravel()] for camera in cameras]


def overlaps_with_best(layout: SceneLayout, cameras: list[PosedCamera]) -> np.ndarray:
    """Overlaps of the view that has the most overlap with all others."""
    small = [camera.scaled(1 / 4) for camera in cameras]
    depths = [trace.depth for trace in Rasteriser(SurfaceTable.of([layout.surfaces])).trace([0] * len(small), small)]
    others = [[(k, idx) for idx in range(len(small)) if idx != k] for k in range(len(small))]
    rows = [overlaps(DepthViews.of(depths, small), torch.tensor(pairs), step=4) for pairs in others]
    return max(rows, key=lambda row: float(row.min())).numpy()


def test_cameras_of_many_scenes_are_those_of_each_alone(library):
    layouts = layouts_of(library, 0)
    seeds = list(range(10, 10 + len(layouts)))
    together = chosen(layouts, seeds, SMALL, 4)
    for layout, seed, cameras in zip(layouts, seeds, together, strict=True):
        assert numbers(chosen([layout], [seed], SMALL, 4)[0]) == numbers(cameras)


def test_how_many_cameras_are_tried_at_once_does_not_matter(library, monkeypatch):
    layouts = layouts_of(library, 1)
    seeds = list(range(len(layouts)))
    expected = chosen(layouts, seeds, SMALL, 3)
    monkeypatch.setattr(cameras_module, "_FIRST_ROUNDS", (1,) * 10)
    monkeypatch.setattr(cameras_module, "_OTHER_ROUNDS", (10,))
    assert [numbers(cameras) for cameras in chosen(layouts, seeds, SMALL, 3)] == [*map(numbers, expected)]


def test_cameras_have_enough_overlap_with_one_of_them(library):
    """In nearly all scenes; in a few, none of ten cameras has enough."""
    layouts = layouts_of(library, 2) + layouts_of(library, 3)
    config = ViewConfig(image_size=(320, 240), min_overlap=0.2, easy_share=1.0)
    least = [
        overlaps_with_best(layout, cameras).min()
        for layout, cameras in zip(layouts, chosen(layouts, list(range(len(layouts))), config, 3), strict=True)
    ]
    assert np.mean(np.array(least) > 0.17) > 0.8


def test_cameras_with_too_much_overlap_are_drawn_again(library):
    """In scenes that are not easy, the largest overlap is between 0.3 and 0.8.

    A camera of an easy scene is kept in the hard one, or another is found, or there is none; then the one with the
    largest overlap is taken.
    """
    layouts = layouts_of(library, 4)
    easy, hard = [], []
    for share, found in ((1.0, easy), (0.0, hard)):
        config = ViewConfig(image_size=(320, 240), min_overlap=0.05, easy_share=share)
        for seed in (5, 6):
            cameras = chosen(layouts, [seed] * len(layouts), config, 2)
            found += [overlaps_with_best(*pair)[0] for pair in zip(layouts, cameras, strict=True)]
    overlaps0, overlaps1 = np.array(easy), np.array(hard)
    assert ((overlaps1 < 0.83) | (overlaps1 > overlaps0 - 0.03)).all()
    is_other = np.abs(overlaps1 - overlaps0) > 0.05
    assert is_other.any() and (overlaps0[is_other] > 0.27).all()
    assert (overlaps1 < overlaps0 - 0.1).any()


def test_without_enough_overlap_the_largest_is_taken(library):
    layouts = layouts_of(library, 5)[:1]
    config = ViewConfig(image_size=(320, 240), min_overlap=1.1)
    one = ViewConfig(image_size=(320, 240), min_overlap=0.0, easy_share=1.0)
    best, first = (
        np.mean([overlaps_with_best(layouts[0], chosen(layouts, [seed], kind, 2)[0]) for seed in range(8)])
        for kind in (config, one)
    )
    assert best > first + 0.05


def bytes_of(views: tuple[RenderedView, ...]) -> list[bytes]:
    return [array.numpy().tobytes() for view in views for array in (view.image, view.depth)]


def test_the_same_seed_gives_the_same_bytes(library):
    """Also in a batch with other scenes; other seeds give others."""
    first, second = (SceneRequest(library.names, seed, 2) for seed in (3, 4))
    alone = render_scenes(library, [first], SMALL)
    assert bytes_of(render_scenes(library, [first], SMALL)[0]) == bytes_of(alone[0])
    both = render_scenes(library, [second, first], SMALL)
    assert bytes_of(both[1]) == bytes_of(alone[0])
    assert bytes_of(both[0]) != bytes_of(alone[0])


def test_views_are_complete(library):
    """Each layout gives textured views at several depths, as many as wanted, of the wanted format."""
    formats = set()
    for kind in range(len(SCENE_LAYOUTS)):
        shares = tuple(float(idx == kind) for idx in range(len(SCENE_LAYOUTS)))
        config = ViewConfig(image_size=(320, 240), layout_shares=shares, portrait_share=kind % 2, hardness=0.2)
        requests = [SceneRequest(library.names, 20 + kind, 3), SceneRequest(library.names, 30 + kind, 1)]
        scenes = render_scenes(library, requests, config)
        assert [len(views) for views in scenes] == [3, 1]
        for view in scenes[0]:
            height, width = view.depth.shape
            assert view.image.shape == (height, width, 3) and view.camera.size == (width, height)
            assert max(width, height) == 320 and (height > width) == (kind % 2 == 1)
            assert (view.depth > 0).double().mean() > 0.2 and view.image.double().std() > 5
            formats.add((width, height))
        depths = torch.cat([view.depth[view.depth > 0] for view in scenes[0]])[::7]
        assert depths.quantile(0.95) > 1.05 * depths.quantile(0.05)
    assert len(formats) > 2


def test_no_request_gives_no_scene(library):
    assert render_scenes(library, [], SMALL) == []


def test_wrong_requests_and_configurations_are_refused(library):
    for names, num_views in (((), 2), (library.names, 0)):
        with pytest.raises(ValueError, match="at least one photograph"):
            SceneRequest(names, 0, num_views)
    for wrong in ({"layout_shares": (1.0,)}, {"num_views": 0}, {"max_zoom": 0.5}, {"image_size": (32, 240)}):
        with pytest.raises(ConfigError, match="views:"):
            ViewConfig(**wrong)
