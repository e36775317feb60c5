"""The last adjustment of a map lowers its errors and removes what does not fit."""

import numpy as np

from sfm_lightglue.geometry.alignment import AlignedPoses, align_poses
from sfm_lightglue.tracking import precise_adjustment
from sfm_lightglue.tracking.adjustment import adjust_keyframes
from sfm_lightglue.tracking.precise_adjustment import adjust_precisely
from tests.helpers.rendered_map import rendered_map, scene

NOISE_PX = 0.5
MAX_ERROR_PX = 3.0


def adjusted(precisely):
    slam_map = rendered_map(NOISE_PX)
    adjust_keyframes(slam_map, slam_map.members(0)[1:], 2.0, MAX_ERROR_PX, 30)
    if precisely:
        assert adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1)
    return slam_map


def center_error(slam_map):
    poses = {keyframe.name: keyframe.cam_from_world for keyframe in slam_map.keyframes.values()}
    aligned = align_poses(poses, scene().cam_from_world_from_name)
    assert isinstance(aligned, AlignedPoses)
    return aligned.mean_center_error


def as_bytes(slam_map):
    keyframes = slam_map.keyframes.items()
    return {idx: (one.cam_from_world.as_matrix().tobytes(), one.keypoints.tobytes()) for idx, one in keyframes}


def test_errors_are_lower():
    assert center_error(adjusted(True)) < 0.5 * center_error(adjusted(False))


def test_wrong_observations_are_removed_and_hardly_matter():
    slam_map, exact = rendered_map(0.1), rendered_map(0.1)
    keyframe = slam_map.keyframes[2]
    wrong = np.flatnonzero(keyframe.point_ids >= 0)[:20]
    keyframe.keypoints = keyframe.keypoints.copy()
    keyframe.keypoints[wrong] += np.float32(15)
    for one in (slam_map, exact):
        assert adjust_precisely(one, 0, MAX_ERROR_PX, 1)
    assert (keyframe.point_ids[wrong] == -1).all()
    assert len(slam_map.points_of([2])) > 0.9 * (len(exact.points_of([2])) - len(wrong))
    assert center_error(slam_map) < 1.5 * center_error(exact)


def test_a_wrong_focal_length_is_refined_if_it_may_be():
    for refined in ((), (0,)):
        slam_map = adjusted(False)
        true = slam_map.camera.params[0]
        slam_map.camera = type(slam_map.camera)(
            slam_map.camera.model, *slam_map.camera.size, (1.01 * true, *slam_map.camera.params[1:])
        )
        assert adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1, refined)
        assert (abs(slam_map.camera.params[0] / true - 1) < 0.005) == bool(refined)


def test_a_map_without_the_image_of_a_keyframe_is_not_adjusted():
    slam_map = adjusted(False)
    slam_map.keyframes[1].image = None
    before = as_bytes(slam_map)
    assert not adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1)
    assert as_bytes(slam_map) == before


def test_a_map_in_which_patches_do_not_agree_with_the_poses_is_not_adjusted(monkeypatch):
    slam_map = adjusted(False)
    before = as_bytes(slam_map)
    monkeypatch.setattr(precise_adjustment, "_MAX_FACTOR", 0.1)
    assert not adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1)
    assert as_bytes(slam_map) == before


def test_a_keyframe_that_hardly_fits_keeps_its_connection():
    slam_map = rendered_map(0.1)
    keyframe = slam_map.keyframes[2]
    rows = np.flatnonzero(keyframe.point_ids >= 0)
    shaken = rows[::2]
    keyframe.keypoints = keyframe.keypoints.copy()
    noise = np.random.default_rng(0).uniform(-2.0, 2.0, (len(shaken), 2))
    keyframe.keypoints[shaken] += noise.astype(np.float32)
    adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1)
    assert (keyframe.point_ids >= 0).sum() > 0.6 * len(rows)


def test_equal_maps_are_adjusted_to_the_same_bytes():
    assert as_bytes(adjusted(True)) == as_bytes(adjusted(True))
