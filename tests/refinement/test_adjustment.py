"""Adjustment by precision: precise observations count more, and equal ones as in COLMAP."""

from copy import deepcopy

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry import point_choice
from sfm_lightglue.geometry.alignment import AlignedPoses, align_poses
from sfm_lightglue.refinement import adjustment
from sfm_lightglue.refinement.adjustment import adjust_by_precision
from sfm_lightglue.refinement.observations import move_keypoints, read_observations
from tests.helpers.exact_scenes import ExactScene, make_model, ring_scene

PRECISE_PX, COARSE_PX = 0.04, 0.4


def exact_ring() -> ExactScene:
    ring = ring_scene(6)
    return ExactScene(ring.poses, ring.points, ring.camera, noise_px=0.0)


def noisy(seed: int = 0) -> tuple[pycolmap.Reconstruction, dict[int, np.ndarray]]:
    """A model of which a third of the keypoints is ten times less precise, and the true precision of all."""
    model = make_model(exact_ring())
    rng = np.random.default_rng(seed)
    sigmas = {}
    for image_id in sorted(model.images):
        num = model.images[image_id].num_points2D()
        sigmas[image_id] = np.where(rng.random(num) < 0.33, COARSE_PX, PRECISE_PX).astype(np.float32)
        xy = np.array([keypoint.xy for keypoint in model.images[image_id].points2D])
        noise = rng.normal(size=xy.shape) * sigmas[image_id][:, None]
        move_keypoints(model, image_id, np.arange(num), xy + noise)
    return model, sigmas


def two_cameras(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """A copy in which images with even numbers have a camera of their own, with the same intrinsics."""
    copy = pycolmap.Reconstruction()
    for camera_id in (1, 2):
        camera = deepcopy(model.cameras[1])
        camera.camera_id = camera_id
        copy.add_camera_with_trivial_rig(camera)
    for image_id in sorted(model.images):
        image = model.images[image_id]
        pixels = np.array([point.xy for point in image.points2D])
        other = pycolmap.Image(name=image.name, keypoints=pixels, camera_id=2 - image_id % 2, image_id=image_id)
        copy.add_image_with_trivial_frame(other, image.cam_from_world())
    for point_id in sorted(model.point3D_ids()):
        copy.add_point3D(model.points3D[point_id].xyz, model.points3D[point_id].track)
    return copy


def center_error(model: pycolmap.Reconstruction) -> float:
    aligned = align_poses(dict(poses_of_model(model)), exact_ring().poses)
    assert isinstance(aligned, AlignedPoses)
    return aligned.mean_center_error


def test_the_true_precision_gives_smaller_errors_than_equal_weights():
    ratios = []
    for seed in range(3):
        model, sigmas = noisy(seed)
        equal = pycolmap.Reconstruction(model)
        assert adjust_by_precision(model, sigmas, {1})
        assert adjust_by_precision(equal, {key: np.full_like(value, 0.2) for key, value in sigmas.items()}, {1})
        ratios.append(center_error(model) / center_error(equal))
    assert max(ratios) < 1
    assert np.mean(ratios) < 0.6


def test_intrinsics_are_refined_unless_they_are_constant():
    for constant in ({1}, set()):
        model, sigmas = noisy()
        true = np.array(model.cameras[1].params)
        model.cameras[1].params = true * [1.01, 1, 1, 1]
        assert adjust_by_precision(model, sigmas, constant)
        focal = model.cameras[1].params[0]
        assert focal == pytest.approx(1.01 * true[0] if constant else true[0], rel=1e-9 if constant else 1e-3)


def test_intrinsics_stay_if_most_observations_are_coarse():
    model, sigmas = noisy()
    before = np.array(model.cameras[1].params)
    assert adjust_by_precision(model, {key: np.full_like(value, COARSE_PX) for key, value in sigmas.items()}, set())
    np.testing.assert_array_equal(model.cameras[1].params, before)


def test_tracks_keypoints_and_other_numbers_stay():
    model, sigmas = noisy()
    seen = read_observations(model)
    tracks = {number: model.points3D[number].track.length() for number in model.point3D_ids()}
    adjust_by_precision(model, sigmas, {1})
    again = read_observations(model)
    np.testing.assert_array_equal(again.xy, seen.xy)
    np.testing.assert_array_equal(again.points, seen.points)
    assert {number: model.points3D[number].track.length() for number in model.point3D_ids()} == tracks
    assert not np.array_equal(again.positions, seen.positions)
    assert model.compute_mean_reprojection_error() < 0.3


def test_equal_runs_are_equal():
    first, sigmas = noisy()
    second = pycolmap.Reconstruction(first)
    for model in (first, second):
        adjust_by_precision(model, sigmas, set())
    np.testing.assert_array_equal(read_observations(first).positions, read_observations(second).positions)


def test_a_part_of_the_observations_refines_the_free_camera_and_leaves_the_fixed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_CAMERA", 200)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_IMAGE", 40)
    one, sigmas = noisy()
    model, true = two_cameras(one), np.array(one.cameras[1].params)
    wrong = true * [1.01, 1, 1, 1]
    for fixed, free in ((1, 2), (2, 1)):
        changed = pycolmap.Reconstruction(model)
        changed.cameras[free].params = wrong
        assert adjust_by_precision(changed, sigmas, {fixed})
        np.testing.assert_array_equal(changed.cameras[fixed].params, true)
        assert changed.cameras[free].params[0] == pytest.approx(true[0], rel=2e-3)


def test_an_empty_model_is_not_adjusted():
    assert not adjust_by_precision(pycolmap.Reconstruction(), {}, set())


def test_a_part_of_the_precise_observations_determines_intrinsics(monkeypatch: pytest.MonkeyPatch) -> None:
    used, solve = [], adjustment._solve

    def recorded(model: pycolmap.Reconstruction, *arguments: object) -> None:
        used.append(model.compute_num_observations())
        solve(model, *arguments)

    monkeypatch.setattr(adjustment, "_solve", recorded)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_CAMERA", 300)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_IMAGE", 40)
    model, sigmas = noisy()
    true = np.array(model.cameras[1].params)
    model.cameras[1].params = true * [1.01, 1, 1, 1]
    assert adjust_by_precision(model, sigmas, set())
    assert used[1] == model.compute_num_observations()  # poses and points by all of them
    assert 200 < used[0] < 0.5 * used[1]
    assert model.cameras[1].params[0] == pytest.approx(true[0], rel=2e-3)


@pytest.mark.parametrize("constant_image_ids", [(), (1, 2, 3, 4, 5, 6)])
def test_a_part_of_the_points_determines_the_poses_and_all_points_follow(
    monkeypatch: pytest.MonkeyPatch, constant_image_ids: tuple[int, ...]
) -> None:
    true = read_observations(make_model(exact_ring())).positions
    model, sigmas = noisy()
    whole = pycolmap.Reconstruction(model)
    assert adjust_by_precision(whole, sigmas, {1}, constant_image_ids=constant_image_ids)
    used, solve = [], adjustment._solve
    is_chosen: list[np.ndarray] = []

    def recorded(part: pycolmap.Reconstruction, *arguments: object) -> None:
        used.append(part.compute_num_observations())
        solve(part, *arguments)

    def choose(*arguments: object) -> np.ndarray:
        is_chosen.append(points_for_poses(*arguments))
        return is_chosen[-1]

    points_for_poses = adjustment._points_for_poses
    monkeypatch.setattr(adjustment, "_points_for_poses", choose)

    monkeypatch.setattr(adjustment, "_solve", recorded)
    monkeypatch.setattr(adjustment, "_MOST_OF_POSE", model.compute_num_observations() // 20)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_IMAGE", 20)
    monkeypatch.setattr(point_choice, "_ENOUGH_OF_PAIR", 10)
    rng = np.random.default_rng(3)
    for point_id in sorted(model.point3D_ids()):
        model.points3D[point_id].xyz += rng.normal(0, 0.01, 3)
    far = np.linalg.norm(read_observations(model).positions - true, axis=1)
    assert adjust_by_precision(model, sigmas, {1}, constant_image_ids=constant_image_ids)
    assert len(used) == 1 and used[0] < 0.6 * model.compute_num_observations()
    near = np.linalg.norm(read_observations(model).positions - true, axis=1)
    best = np.linalg.norm(read_observations(whole).positions - true, axis=1)
    others = ~is_chosen[0]
    assert 20 < others.sum() < len(others) - 20
    if not constant_image_ids:
        assert center_error(model) < 2.5 * center_error(whole)
        before = read_observations(model).positions
        monkeypatch.setattr(adjustment, "_points_for_poses", lambda seen, _: np.ones(len(seen.positions), np.bool_))
        fixed = sorted(model.reg_image_ids())
        adjust_by_precision(model, sigmas, {1}, constant_image_ids=fixed, tolerance=1e-8)
        moved = np.linalg.norm(read_observations(model).positions - before, axis=1)
        assert np.median(moved[others]) < 0.05 * np.median(far)
        return
    for rows in (others, ~others):
        assert np.median(near[rows]) < 1.05 * np.median(best[rows]) < 0.5 * np.median(far[rows])


def test_enough_precise_observations_determine_the_poses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adjustment, "_MOST_OF_POSE", 20)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_IMAGE", 15)
    monkeypatch.setattr(point_choice, "_ENOUGH_OF_PAIR", 0)
    seen = read_observations(make_model(exact_ring()))
    is_precise = np.random.default_rng(0).random(len(seen)) < 0.1
    is_chosen = adjustment._points_for_poses(seen, is_precise)
    assert not is_chosen.all()
    per_image = [np.bincount(seen.images[mask]) for mask in (is_precise, is_precise & is_chosen[seen.points])]
    assert (per_image[1] >= np.minimum(per_image[0], 12)).all()


def test_points_that_do_not_fit_the_adjusted_poses_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sigmas = noisy()
    hopeless = sorted(model.point3D_ids())[:5]
    for point_id in hopeless:
        model.points3D[point_id].xyz *= 1000.0  # behind some of its cameras
    monkeypatch.setattr(adjustment, "_points_for_poses", lambda seen, _: np.arange(len(seen.positions)) >= 5)
    total = model.num_points3D()
    assert adjust_by_precision(model, sigmas, {1})
    assert total - model.num_points3D() == 5 and not set(hopeless) & model.point3D_ids()


@pytest.mark.parametrize(("free", "expected"), [({1, 2}, 200), ({2}, 400)])
def test_free_cameras_share_a_number_of_observations(
    monkeypatch: pytest.MonkeyPatch, free: set[int], expected: int
) -> None:
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_ALL", 400)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_IMAGE", 10)
    monkeypatch.setattr(point_choice, "_ENOUGH_OF_PARAMETER", 10)
    model = two_cameras(make_model(exact_ring()))
    seen = read_observations(model)
    chosen = adjustment._enough(model, seen, np.ones(len(seen), np.bool_), free)
    cameras = np.array([model.images[image_id].camera_id for image_id in seen.image_ids])[seen.images]
    for camera_id in free:
        assert 0.85 * expected < chosen[cameras == camera_id].sum() < 1.15 * expected


@pytest.mark.parametrize(("of_all", "expected"), [(6000, 400), (1800, 300), (600, 200)])
def test_few_images_adjust_their_poses_by_more_observations(
    monkeypatch: pytest.MonkeyPatch, of_all: int, expected: int
) -> None:
    for name, value in {"_ENOUGH_OF_POSES": of_all, "_ENOUGH_OF_POSE": 200, "_MOST_OF_POSE": 400}.items():
        monkeypatch.setattr(adjustment, name, value)
    monkeypatch.setattr(adjustment, "_ENOUGH_OF_IMAGE", 0)
    monkeypatch.setattr(point_choice, "_ENOUGH_OF_PAIR", 0)
    ring = ring_scene(6, num_points=2000)
    seen = read_observations(make_model(ExactScene(ring.poses, ring.points, ring.camera, noise_px=0.0)))
    is_chosen = adjustment._points_for_poses(seen, np.ones(len(seen), np.bool_))
    per_image = np.bincount(seen.images[is_chosen[seen.points]])
    assert 0.85 * expected < per_image.min() <= per_image.max() < 1.15 * expected


@pytest.mark.parametrize("constant_image_ids", [(1, 2, 3, 4, 5, 6), (2, 5)])
def test_constant_images_stay_where_intrinsics_are_free(constant_image_ids: tuple[int, ...]) -> None:
    model, sigmas = noisy()
    true = np.array(model.cameras[1].params)
    model.cameras[1].params = true * [1.01, 1, 1, 1]
    poses = {number: model.images[number].cam_from_world().matrix() for number in constant_image_ids}
    assert adjust_by_precision(model, sigmas, set(), constant_image_ids=constant_image_ids)
    for number, pose in poses.items():
        np.testing.assert_array_equal(model.images[number].cam_from_world().matrix(), pose)
    assert model.cameras[1].params[0] == pytest.approx(true[0], rel=1e-3)


def test_few_precise_observations_move_no_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an image may be too few for its pose: all observations adjust it, from where it was."""
    model, sigmas = noisy()
    sigmas[3][4:] = COARSE_PX
    poses = {number: model.images[number].cam_from_world().matrix() for number in sigmas}
    starts, solve = [], adjustment._solve

    def recorded(part: pycolmap.Reconstruction, *arguments: object) -> None:
        starts.append({number: part.frames[number].rig_from_world.matrix() for number in sigmas})
        solve(part, *arguments)

    monkeypatch.setattr(adjustment, "_solve", recorded)
    assert adjust_by_precision(model, sigmas, set())
    assert len(starts) == 2
    for number, pose in poses.items():
        np.testing.assert_array_equal(starts[1][number], pose)
