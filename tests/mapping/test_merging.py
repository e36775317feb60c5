"""Parts of a known model that were moved apart are merged again, and nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3, Sim3
from sfm_lightglue.mapping import merging
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import adjustment_of_merged_like, filter_like
from sfm_lightglue.mapping.merging import merge_models, merge_two
from sfm_lightglue.mapping.model_alignment import ModelAlignment, NotMerged, align_models
from tests.helpers.exact_scenes import UP, ExactScene, make_model, ring_scene

MOVED = pycolmap.Sim3d(np.column_stack([2.7 * Rigid3.from_rotvec([0.4, -1.1, 2.0], np.zeros(3)).R, [5, -3, 40]]))


def adjust(model: pycolmap.Reconstruction) -> None:
    adjustment_of_merged_like(None, MappingTask(None, None, model.num_reg_images(), frozenset({1})))(model)


def line_scene() -> ExactScene:
    """Cameras on a line; all look at the points."""
    poses = {
        f"{idx:02d}.jpg": Rigid3.look_at(np.array([0.6 * idx - 3, -8.0, 1.0]), np.zeros(3), UP) for idx in range(12)
    }
    return ExactScene(poses, np.random.default_rng(0).uniform(-1, 1, (200, 3)) * [3, 3, 2])


def part(model: pycolmap.Reconstruction, idxs: Sequence[int], moved: pycolmap.Sim3d | None = None):
    """A copy with some images only, in another world, without points that fewer than two of them observe."""
    names = {f"{idx:02d}.jpg" for idx in idxs}
    kept = copy.deepcopy(model)
    manager = pycolmap.ObservationManager(kept)
    for image_id in sorted(kept.reg_image_ids()):
        if kept.images[image_id].name not in names:
            manager.deregister_frame(kept.images[image_id].frame_id)
    kept.tear_down()
    if moved is not None:
        kept.transform(moved)
    return kept


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene(12)


@pytest.fixture(scope="module")
def model(scene: ExactScene) -> pycolmap.Reconstruction:
    return make_model(scene)


@pytest.mark.parametrize("num_common", [3, 5])
def test_two_halves_in_different_worlds_become_the_whole_model(scene, model, num_common: int) -> None:
    first, second = part(model, range(7)), part(model, range(7 - num_common, 12), MOVED)
    (merged,) = merge_models([first, second], adjust)
    poses = poses_of_model(merged)
    assert set(poses) == set(scene.poses)
    aligned = align_poses(poses, scene.poses)
    assert aligned.max_center_error < 0.02, "the ring has a diameter of 16"
    assert aligned.max_rotation_error_deg < 0.1
    assert merged.num_points3D() == model.num_points3D(), "each point exists once"
    assert merged.compute_num_observations() > 0.97 * model.compute_num_observations()
    assert first.num_reg_images() == 7, "the given models are not changed"
    assert merged.is_valid()


def test_three_parts_become_one(scene, model) -> None:
    parts = [part(model, range(5)), part(model, range(2, 8), MOVED), part(model, range(5, 12), MOVED.inverse())]
    (merged,) = merge_models(parts, adjust)
    assert merged.num_reg_images() == 12
    assert align_poses(poses_of_model(merged), scene.poses).max_center_error < 0.02


def test_models_with_two_common_images_stay_apart(model) -> None:
    parts = [part(model, range(7)), part(model, range(5, 12), MOVED)]
    assert [each.num_reg_images() for each in merge_models(parts, adjust)] == [7, 7]


def test_the_alignment_is_found_despite_wrong_poses(scene, model) -> None:
    """Two of six common images have wrong poses in one of the models."""
    turned = {name: scene.poses[name] for name in scene.poses}
    turned["04.jpg"], turned["05.jpg"] = turned["09.jpg"], turned["00.jpg"]
    target = part(make_model(scene, turned), range(4, 12))
    found = align_models(part(model, range(10), MOVED), target)
    assert isinstance(found, ModelAlignment)
    assert found.names == tuple(f"{idx:02d}.jpg" for idx in range(6, 10))
    assert found.target_from_source.scale == pytest.approx(1 / 2.7, rel=1e-3)


def test_a_mirrored_model_is_not_merged(scene, model) -> None:
    """Its camera centres fit after a reflection only."""
    flip = np.diag([-1.0, 1.0, 1.0])
    mirrored = {
        name: Rigid3(np.diag([-1.0, 1.0, 1.0]) @ pose.R @ flip, np.diag([-1.0, 1.0, 1.0]) @ pose.t)
        for name, pose in scene.poses.items()
    }
    other = make_model(ExactScene(mirrored, scene.points @ flip, scene.camera), mirrored)
    found = merge_two(part(model, range(8)), part(other, range(4, 12)), adjust)
    assert isinstance(found, NotMerged)
    assert "consistent poses" in found.reason


def test_images_at_each_others_places_are_not_merged(scene, model) -> None:
    """The common images have poses of other images in the second model."""
    swapped = dict(scene.poses)
    for name, other in zip(("04.jpg", "05.jpg", "06.jpg"), ("05.jpg", "06.jpg", "04.jpg"), strict=True):
        swapped[name] = scene.poses[other]
    found = merge_two(part(model, range(7)), part(make_model(scene, swapped), range(4, 12)), adjust)
    assert isinstance(found, NotMerged)
    assert "consistent poses" in found.reason


def test_three_cameras_on_a_line_do_not_suffice() -> None:
    """Their centres leave the rotation around the line open; five orientations determine it."""
    scene = line_scene()
    model = make_model(scene)
    found = merge_two(part(model, range(7)), part(model, range(4, 12), MOVED), adjust)
    assert isinstance(found, NotMerged)
    assert "lie on a line" in found.reason
    merged = merge_two(part(model, range(7)), part(model, range(2, 12), MOVED), adjust)
    assert not isinstance(merged, NotMerged)
    assert align_poses(poses_of_model(merged), scene.poses).max_rotation_error_deg < 0.1


def test_coinciding_centres_do_not_suffice(scene, model) -> None:
    """The scale between two models of a camera that turned is unknown."""
    still = dict(scene.poses)
    for name in ("05.jpg", "06.jpg"):
        still[name] = Rigid3(still["04.jpg"].R, still["04.jpg"].t + 1e-4)
    target, source = (part(make_model(scene, still), idxs) for idxs in (range(7), range(4, 12)))
    assert isinstance(align_models(source, target), NotMerged)


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_short_baselines_do_not_accept_a_wrong_scale(scene, scale: float) -> None:
    """The images at distances of a fortieth of the depth fit other scales with errors of few pixels."""
    near, wrong = dict(scene.poses), dict(scene.poses)
    middle = near["05.jpg"].center
    for number, name in enumerate(("04.jpg", "05.jpg", "06.jpg")):
        move = 0.2 * np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]][number])
        near[name] = Rigid3.look_at(middle + move, np.zeros(3), UP)
        wrong[name] = Rigid3(near[name].R, -near[name].R @ (middle + scale * move))
    target = part(make_model(ExactScene(near, scene.points)), range(7))
    source = part(make_model(ExactScene(near, scene.points), wrong), range(4, 12))
    found = align_models(source, target)
    assert isinstance(found, ModelAlignment) == (scale == 1.0)
    if isinstance(found, NotMerged):
        assert "the scale is not determined" in found.reason


def chain_scene() -> ExactScene:
    """Cameras along a wall; only neighbours see the same points."""
    centers = np.array([[1.2 * idx, -6.0, 1 + 0.3 * np.sin(2.1 * idx)] for idx in range(43)])
    poses = {
        f"{idx:02d}.jpg": Rigid3.look_at(each, np.array([each[0] + 0.2 * np.sin(idx), 0, 0]), UP)
        for idx, each in enumerate(centers)
    }
    points = np.random.default_rng(0).uniform(0, 1, (1000, 3)) * [56, 4, 4] - [2, 2, 2]
    return ExactScene(poses, points)


@pytest.mark.parametrize(("scale", "is_merged"), [(1.0, True), (2.0, False)])
def test_chains_that_lose_their_connection_stay_apart(monkeypatch, scale: float, is_merged: bool) -> None:
    """Nearly all observations remain, those that connect the chains do not."""
    scene = chain_scene()
    model = make_model(scene)
    target, source = part(model, range(23)), part(model, range(20, 43))
    center = scene.poses["21.jpg"].center
    alignment = ModelAlignment(Sim3(scale, np.eye(3), (1 - scale) * center), (), 0.0, 1.0)
    monkeypatch.setattr(merging, "align_models", lambda *_: alignment)
    remaining = []

    def only_filter(merged: pycolmap.Reconstruction) -> None:
        before = merged.compute_num_observations()
        filter_like(None, MappingTask(None, None, 43, frozenset({1})))(merged)
        remaining.append(merged.compute_num_observations() / before)

    found = merge_two(target, source, only_filter)
    assert remaining[0] > 0.7
    assert isinstance(found, NotMerged) != is_merged
    if isinstance(found, NotMerged):
        assert "that connect one of them" in found.reason


def test_models_are_kept_apart_if_the_merged_one_is_worse(model) -> None:
    parts = [part(model, range(7)), part(model, range(3, 12), MOVED)]
    asked = []

    def never(*models: pycolmap.Reconstruction) -> bool:
        asked.append([each.num_reg_images() for each in models])
        return False

    assert [each.num_reg_images() for each in merge_models(parts, adjust, never)] == [9, 7]
    assert asked == [[12, 9, 7]]


def test_models_with_other_identifiers_have_no_common_images(scene, model) -> None:
    """Images of two databases can have the same name."""
    other = make_model(scene, {name: scene.poses[name] for name in sorted(scene.poses)[4:]})
    assert len(merge_models([part(model, range(8)), other], adjust)) == 2


def test_rigs_keep_their_frames() -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 2, 8
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)

    def some(frame_ids: range, moved: pycolmap.Sim3d) -> pycolmap.Reconstruction:
        kept = copy.deepcopy(model)
        manager = pycolmap.ObservationManager(kept)
        for frame_id in set(kept.reg_frame_ids()) - set(frame_ids):
            manager.deregister_frame(frame_id)
        kept.tear_down()
        kept.transform(moved)
        return kept

    same_size = pycolmap.Sim3d(np.column_stack([MOVED.rotation.matrix(), MOVED.translation]))
    merged = merge_two(some(range(1, 6), pycolmap.Sim3d()), some(range(3, 9), same_size), adjust)
    assert not isinstance(merged, NotMerged)
    assert (merged.num_reg_frames(), merged.num_reg_images(), merged.num_rigs()) == (8, 16, 1)
    assert align_poses(poses_of_model(merged), poses_of_model(model)).max_center_error < 0.01
