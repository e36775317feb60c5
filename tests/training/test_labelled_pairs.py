"""Training scenes: their labels are consistent with rendered depths, and a seed always gives the same scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS
from sfm_lightglue.synthetic.photo_scenes.views import RenderedView, SceneRequest, ViewConfig, render_scenes
from sfm_lightglue.training.data.describers import InlineDescriber, build_extractor
from sfm_lightglue.training.data.labelled_pairs import SceneConfig, make_scenes, split_photos
from sfm_lightglue.training.data.labelled_scenes import (
    MATCHED,
    UNMATCHABLE,
    PairLabels,
    TrainingScene,
    TrainingView,
    quantised,
)
from tests.helpers.rendered_scenes import CONFIG, SMALL, same


@pytest.fixture(scope="module")
def library(photo_folder: Path) -> PhotoLibrary:
    return PhotoLibrary.open(photo_folder)


def scenes_of(library: PhotoLibrary, seeds: Sequence[int], config: SceneConfig = CONFIG) -> list[TrainingScene]:
    return make_scenes(library, seeds, config, InlineDescriber(build_extractor(config.features, "cpu")))


def rendered_like(library: PhotoLibrary, seed: int) -> tuple[RenderedView, ...]:
    """The views that `make_scenes` renders."""
    own, _ = split_photos(library.names, np.random.default_rng([seed, 2]))
    return render_scenes(library, [SceneRequest(own, seed, SMALL.num_views)], SMALL)[0]


def independent_reprojection(keypoints: np.ndarray, view: RenderedView, other: RenderedView) -> np.ndarray:
    """[N, 3] pixels and depths in the other view, from the depth of the pixel that contains each keypoint."""
    columns, rows = np.floor(keypoints).astype(int).T
    z = view.depth.numpy()[rows, columns].astype(np.float64)
    rays = np.linalg.inv(view.camera.K) @ np.concatenate([keypoints.T, np.ones((1, len(z)))])
    relative = other.camera.cam_from_world.as_matrix() @ np.linalg.inv(view.camera.cam_from_world.as_matrix())
    moved = other.camera.K @ (relative[:3, :3] @ (rays * z) + relative[:3, 3:])
    with np.errstate(all="ignore"):
        return np.stack([*(moved[:2] / moved[2]), np.where(z > 0, moved[2], 0)], 1)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_labels_fit_reprojection_in_rendered_scenes(library, seed):
    (scene,) = scenes_of(library, [seed])
    assert len(scene.views) == 3
    rendered = rendered_like(library, seed)
    for pair in scene.pairs:
        idxs, states = (pair.view0, pair.view1), (pair.state0, pair.state1)
        for side in (0, 1):
            own, other = idxs[side], idxs[1 - side]
            found = independent_reprojection(scene.views[own].keypoints, rendered[own], rendered[other])
            points = scene.views[other].keypoints
            check_labels(found, points, rendered[other], pair.matches[:, [side, 1 - side]], states[side])
        assert 0 < pair.overlap <= 1


def check_labels(
    found: np.ndarray, points: np.ndarray, other: RenderedView, matches: np.ndarray, state: np.ndarray
) -> None:
    """Labels of one view by the reprojections [N, 3] of its keypoints and the keypoints of the other view."""
    mine, theirs = matches.T
    assert len(np.unique(mine)) == len(mine), "one to one"
    assert sorted(mine.tolist()) == np.flatnonzero(state == MATCHED).tolist()
    # Within 3 px; the depth of the pixel differs a little from that at the keypoint.
    errors = np.linalg.norm(found[mine, :2] - points[theirs], axis=1)
    assert (errors >= 3.0).sum() <= max(1, 0.03 * len(errors)) and (errors < 6).all(), np.sort(errors)[-5:]
    for x, y, z in found[state == UNMATCHABLE]:
        width, height = other.camera.size
        if z <= 0 or not (0 <= x < width and 0 <= y < height):
            continue
        occluded = other.depth[int(y), int(x)] < z * 0.97
        distances = np.linalg.norm(points - (x, y), axis=1)
        assert occluded or len(distances) == 0 or distances.min() > 4.5


def test_scenes_have_occlusion_parallax_and_positives(library):
    """Views of each layout have matches, and occlusion between them."""
    hidden, num_positives = 0, 0
    for kind in range(len(SCENE_LAYOUTS)):
        shares = tuple(float(idx == kind) for idx in range(len(SCENE_LAYOUTS)))
        config = replace(SMALL, layout_shares=shares, hardness=0.2)
        (views,) = render_scenes(library, [SceneRequest(library.names, 10 + kind, SMALL.num_views)], config)
        for view in views:
            height, width = view.depth.shape
            assert view.image.shape == (height, width, 3) and view.camera.size == (width, height)
            assert (view.depth > 0).float().mean() > 0.2 and view.image.float().std() > 5
        depths = np.concatenate([view.depth[view.depth > 0].numpy() for view in views])
        assert np.quantile(depths, 0.95) > 1.05 * np.quantile(depths, 0.05)
        (scene,) = scenes_of(library, [10 + kind], replace(CONFIG, views=config))
        num_positives += sum(len(pair.matches) for pair in scene.pairs)
        hidden += count_hidden(views)
    assert num_positives > 300
    assert hidden > 250


def count_hidden(views: tuple[RenderedView, ...]) -> int:
    """Number of sampled points of the first view that are occluded in the second view."""
    height, width = views[0].depth.shape
    y, x = np.mgrid[3:height:7, 3:width:7]
    pixels = np.stack([x.ravel(), y.ravel()], 1) + 0.5
    moved = independent_reprojection(pixels, views[0], views[1])
    width, height = views[1].camera.size
    moved = moved[(moved[:, 2] > 0.1) & (moved[:, :2] >= 1).all(1) & (moved[:, :2] < (width - 1, height - 1)).all(1)]
    columns, rows = np.floor(moved[:, :2]).astype(int).T
    seen = views[1].depth.numpy()[rows, columns]
    return int(((seen > 0) & (seen < 0.9 * moved[:, 2])).sum())


def test_the_same_seed_gives_the_same_scene_alone_or_with_others(library):
    config = replace(CONFIG, unrelated_share=1 / 3)
    together = scenes_of(library, [5, 6, 7], config)
    for scene, seed in zip(together, (5, 6, 7), strict=True):
        assert same(scene, scenes_of(library, [seed], config)[0])
    assert not same(together[0], together[1])
    assert scenes_of(library, []) == []


def test_there_is_one_keypoint_per_position(library):
    for view in scenes_of(library, [1])[0].views:
        assert 0 < len(view) <= 200
        assert len(np.unique(np.floor(view.keypoints), axis=0)) == len(view)


def test_unrelated_pairs_have_no_match(library):
    config = replace(CONFIG, unrelated_share=2 / 3)  # one of three views is always unrelated
    (scene,) = scenes_of(library, [3], config)
    unrelated = [pair for pair in scene.pairs if pair.overlap == 0]
    assert [(pair.view0, pair.view1) for pair in unrelated] == [(0, 2), (1, 2)]
    for pair in unrelated:
        assert len(pair.matches) == 0
        assert (pair.state0 == UNMATCHABLE).all() and (pair.state1 == UNMATCHABLE).all()
        assert len(pair.state0) == len(scene.views[pair.view0]) > 0


def test_parts_of_one_photograph_stay_in_one_set():
    names = [f"facade_{k:04d}{part}.jpg" for k in range(6) for part in ("", "_c0", "_c1")]
    own, other = split_photos(names, np.random.default_rng(0))
    assert sorted((*own, *other)) == sorted(names)
    assert own and other and not {name[:11] for name in own} & {name[:11] for name in other}
    assert split_photos(names[:3], np.random.default_rng(0)) == (tuple(names[:3]), ())


def test_quantised_descriptors_have_small_errors(library):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(128, 0.5), 50).astype(np.float32)
    roots = np.sqrt(shares)
    assert np.abs(quantised(roots) / 512 - roots)[roots < 0.49].max() <= 1 / 1024 + 1e-6
    for view in scenes_of(library, [1])[0].views:
        assert view.descriptors.dtype == np.uint8
        assert np.abs(np.linalg.norm(view.unit_descriptors, axis=1) - 1).max() < 1e-5


def test_wrong_configurations_and_scenes_are_refused():
    with pytest.raises(ConfigError):
        SceneConfig(unrelated_share=0.9)
    with pytest.raises(ConfigError):
        SceneConfig(views=ViewConfig(num_views=1))
    with pytest.raises(ConfigError, match="larger than those of xfeat"):
        SceneConfig(views=ViewConfig(image_size=(1280, 960)), extractor="xfeat")
    with pytest.raises(ConfigError, match="sift, aliked, xfeat, not for 'disk'"):
        SceneConfig(extractor="disk")
    with pytest.raises(ConfigError, match="aliked has no such option"):
        SceneConfig(extractor="aliked", extractor_options=(("contrast_threshold", 0.1),))
    with pytest.raises(ValueError, match="matches"):
        PairLabels(0, 1, np.array([[0, 0]], np.int32), np.zeros(1, np.int8), np.zeros(1, np.int8), 0.5)
    empty = np.zeros(0, np.float32)
    with pytest.raises(ValueError, match="uint8 or float16"):
        TrainingView(np.zeros((0, 2), np.float32), empty, empty, empty, np.zeros((0, 64), np.float32), (4, 4))
