"""The last adjustment of a map lowers its errors and removes what does not fit."""

import numpy as np
import pytest

from sfm_lightglue.geometry.alignment import AlignedPoses, align_poses
from sfm_lightglue.tracking import precise_adjustment
from sfm_lightglue.tracking.adjustment import adjust_keyframes
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.precise_adjustment import adjust_precisely
from tests.helpers.rendered_map import rendered_map, scene
from tests.helpers.slam_scene import ExactMatcher

NOISE_PX = 0.5
MAX_ERROR_PX = 3.0


def adjusted(precisely):
    slam_map = rendered_map(NOISE_PX)
    adjust_keyframes(slam_map, slam_map.members(0)[1:], 2.0, MAX_ERROR_PX, 30)
    if precisely:
        assert adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1).uses_patches
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


@pytest.mark.parametrize("shift_px", [2, 15])
def test_wrong_observations_are_removed_and_hardly_matter(shift_px):
    slam_map, exact = rendered_map(0.1), rendered_map(0.1)
    keyframe = slam_map.keyframes[2]
    seen = np.flatnonzero(keyframe.point_ids >= 0)
    wrong = seen[slam_map.num_observations(keyframe.point_ids[seen]) == 4][:20]
    keyframe.keypoints = keyframe.keypoints.copy()
    keyframe.keypoints[wrong] += np.float32(shift_px)
    for one in (slam_map, exact):
        assert adjust_precisely(one, 0, MAX_ERROR_PX, 1).uses_patches
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
        assert adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1, refined).uses_patches
        assert (abs(slam_map.camera.params[0] / true - 1) < 0.005) == bool(refined)


def without_an_image(slam_map, monkeypatch):
    slam_map.keyframes[1].image = None


def with_few_alignments(slam_map, monkeypatch):
    monkeypatch.setattr(precise_adjustment, "_MIN_ALIGNED", 10_000)


def with_a_small_share_of_alignments(slam_map, monkeypatch):
    monkeypatch.setattr(precise_adjustment, "_MIN_ALIGNED_SHARE", 0.9)


def with_patches_that_do_not_fit(slam_map, monkeypatch):
    monkeypatch.setattr(precise_adjustment, "_MAX_FACTOR", 0.1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_an_image, "a keyframe without an image"),
        (with_few_alignments, "observations could be aligned: too few"),
        (with_a_small_share_of_alignments, "observations could be aligned: too few"),
        (with_patches_that_do_not_fit, "the patches do not fit the poses"),
    ],
)
def test_a_map_that_patches_cannot_help_stays_and_the_reason_is_told(change, reason, monkeypatch):
    slam_map = adjusted(False)
    change(slam_map, monkeypatch)
    before = as_bytes(slam_map)
    done = adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1)
    assert not done.uses_patches and reason in done.reason
    assert as_bytes(slam_map) == before


@pytest.mark.parametrize("max_track", [4, 2])
def test_a_keyframe_that_hardly_fits_keeps_its_connection(max_track):
    slam_map = rendered_map(0.1, max_track)
    keyframe = slam_map.keyframes[2]
    keyframe.image = CompactImage(b"", (1.0, 1.0))  # so that nothing there is aligned
    rows = np.flatnonzero(keyframe.point_ids >= 0)
    keyframe.keypoints = keyframe.keypoints.copy()
    keyframe.keypoints[rows] += np.random.default_rng(0).uniform(-2.0, 2.0, (len(rows), 2)).astype(np.float32)
    assert adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1).uses_patches
    assert 0.6 * len(rows) < (keyframe.point_ids >= 0).sum() < len(rows)


def test_a_keyframe_whose_points_other_keyframes_would_lose_is_not_left_without_a_hold():
    """Nothing can be aligned in it, and each of its points has one other observation, in a keyframe that fits well."""
    slam_map = rendered_map(0.1)
    blurred = slam_map.keyframes[2]
    blurred.image = CompactImage(b"", (1.0, 1.0))
    leave_pairs(slam_map, 2)
    rows = np.flatnonzero(blurred.point_ids >= 0)
    blurred.keypoints = blurred.keypoints.copy()
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, len(rows))
    blurred.keypoints[rows] += 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    before = as_bytes(slam_map)
    done = adjust_precisely(slam_map, 0, MAX_ERROR_PX, 1)
    assert not done.uses_patches and f"{blurred.name} would lose more than half" in done.reason
    assert as_bytes(slam_map) == before


def leave_pairs(slam_map, idx):
    """Leave every fifth point of a keyframe to it and one of the others in turn, and the rest to the others."""
    for number, point_id in enumerate(slam_map.points_of([idx]).tolist()):
        others = sorted(set(slam_map.track(point_id)) - {idx})
        lost = [other for other in others if other != others[number % len(others)]] if number % 5 == 0 else [idx]
        for one in lost:
            if one in slam_map.track(point_id):
                slam_map.remove_observation(point_id, one)


def test_the_mapper_adjusts_a_map_that_patches_cannot_help_as_without_them():
    by_patches, plain = (rendered_map(NOISE_PX) for _ in range(2))
    by_patches.keyframes[1].image = None
    done = LocalMapper(by_patches, ExactMatcher(), TrackerConfig()).adjust_precisely(0)
    LocalMapper(plain, ExactMatcher(), TrackerConfig()).adjust_all(0)
    assert not done.uses_patches
    assert as_bytes(by_patches) == as_bytes(plain) != as_bytes(rendered_map(NOISE_PX))


def test_equal_maps_are_adjusted_to_the_same_bytes():
    assert as_bytes(adjusted(True)) == as_bytes(adjusted(True))
