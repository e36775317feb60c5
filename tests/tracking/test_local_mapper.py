"""Local mapping of a synthetic walk: exact from exact observations, bounded by their noise otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg, umeyama
from sfm_lightglue.stages.cached import CachedMatcher
from sfm_lightglue.store.store import Store
from sfm_lightglue.tracking.config import InitializationConfig, MappingConfig, TrackerConfig
from sfm_lightglue.tracking.frame_store import StoredMatches
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, ExactMatcher, Walk, disturbed

KEEP_ALL = TrackerConfig(mapping=MappingConfig(remove_redundant=False))

NO_PARTNERS = MappingConfig(remove_redundant=False, num_partners=0, num_final_partners=0)


def scaled_pose(walk, idx):
    """The true pose in the frame and unit of a map that `unit_start` began."""
    relative = walk.pose(idx) @ walk.pose(0).inverse()
    return Rigid3(relative.R, relative.t / np.linalg.norm((walk.pose(1) @ walk.pose(0).inverse()).t))


def unit_start(walk):
    """The first two keyframes: the first at the origin, the second at distance 1."""
    first, second = walk.keyframe(0, Rigid3.identity()), walk.keyframe(1)
    second.cam_from_world = scaled_pose(walk, 1)
    return first, second


def started(walk, config=None):
    slam_map = SlamMap(CAMERA)
    mapper = LocalMapper(slam_map, ExactMatcher(), config or KEEP_ALL)
    assert mapper.start(*unit_start(walk))
    return slam_map, mapper


def walked(walk, num, error=0.0, config=None):
    """A map of `num` keyframes whose poses come from the tracker with random errors."""
    slam_map, mapper = started(walk, config)
    for idx in range(2, num):
        pose = disturbed(scaled_pose(walk, idx), walk.random, error)
        keyframe = walk.with_tracked_points(walk.keyframe(idx, pose), slam_map.keyframes[idx - 1])
        mapper.add(keyframe)
    return slam_map, mapper


def center_errors(walk, slam_map):
    """Distances of the camera centres from the true ones after alignment, in units of the scene."""
    idxs = sorted(slam_map.keyframes)
    centers = np.stack([slam_map.keyframes[idx].cam_from_world.center for idx in idxs])
    truth = np.stack([walk.pose(idx).center for idx in idxs])
    return np.linalg.norm(umeyama(centers, truth) @ centers - truth, axis=1)


def all_errors_px(slam_map):
    errors = []
    for keyframe in slam_map.keyframes.values():
        rows = np.flatnonzero(keyframe.point_ids >= 0)
        xyz = slam_map.xyz(keyframe.point_ids[rows])
        errors.append(reprojection_errors_px(slam_map.camera, keyframe.cam_from_world, xyz, keyframe.keypoints[rows]))
    return np.concatenate(errors)


def test_exact_observations_give_an_exact_map():
    walk = Walk()
    slam_map, _ = walked(walk, 8)
    assert sorted(slam_map.keyframes) == list(range(8))
    assert center_errors(walk, slam_map).max() < 1e-4
    assert all_errors_px(slam_map).max() < 1e-3


def test_points_come_from_matches_and_from_tracks_of_flow():
    walk = Walk()
    slam_map, _ = started(walk)
    second = slam_map.keyframes[1]
    has_point = second.point_ids >= 0
    num_features = second.num_features
    assert has_point[:num_features].sum() > 100
    assert has_point[num_features:].sum() > 100


def test_features_observe_points_of_the_map_without_matching():
    walk = Walk(noise_px=0.3)
    slam_map, _ = started(walk)
    unmatched = LocalMapper(slam_map, ExactMatcher(), replace(KEEP_ALL, mapping=NO_PARTNERS))
    keyframe = walk.with_tracked_points(walk.keyframe(2, scaled_pose(walk, 2)), slam_map.keyframes[1])
    assert (keyframe.point_ids[: keyframe.num_features] == -1).all()
    unmatched.add(keyframe)
    assert (keyframe.point_ids[: keyframe.num_features] >= 0).sum() > 80


def test_each_point_is_one_point_of_the_scene():
    walk = Walk(noise_px=0.3)
    slam_map, _ = walked(walk, 8, error=0.01)
    for point_id in slam_map.points_of(list(slam_map.keyframes)).tolist():
        numbers = {walk.numbers[idx][row] for idx, row in slam_map.track(point_id).items()}
        assert len(numbers) == 1
    lengths = slam_map.num_observations(slam_map.points_of([4]))
    assert np.median(lengths) >= 5


def test_wrong_poses_are_corrected():
    walk = Walk(noise_px=0.3)
    slam_map, _ = walked(walk, 8, error=0.02)
    assert center_errors(walk, slam_map).max() < 0.01
    assert np.sqrt((all_errors_px(slam_map) ** 2).mean()) < 0.6


def test_the_first_keyframe_stays():
    walk = Walk(noise_px=0.5)
    slam_map, mapper = walked(walk, 6, error=0.02)
    mapper.adjust_all(0)
    first = slam_map.keyframes[0].cam_from_world
    assert np.array_equal(first.R, np.eye(3))
    assert np.array_equal(first.t, np.zeros(3))


def test_two_runs_give_the_same_map():
    maps = [walked(Walk(noise_px=0.5), 4, error=0.02)[0] for _ in range(2)]
    poses = [np.stack([one.cam_from_world.as_matrix() for one in each.keyframes.values()]) for each in maps]
    assert np.array_equal(*poses)
    ids = [each.points_of(list(each.keyframes)) for each in maps]
    assert np.array_equal(*ids)
    assert np.array_equal(maps[0].xyz(ids[0]), maps[1].xyz(ids[1]))


def test_a_bad_start_leaves_nothing():
    walk = Walk()
    first, second = unit_start(walk)
    slam_map, strict = SlamMap(CAMERA), TrackerConfig(initialization=InitializationConfig(min_points=10_000))
    assert not LocalMapper(slam_map, ExactMatcher(), strict).start(first, second)
    assert slam_map.keyframes == {}
    added = slam_map.add_points(np.zeros((1, 3)), [[]])[0]
    assert added > 50, "the start had points"
    assert (slam_map.resolve(np.arange(added)) == -1).all()


def test_a_start_with_a_wrong_pose_is_bad():
    first, second = unit_start(Walk())
    second.cam_from_world = Rigid3(second.cam_from_world.R, np.array([0.0, 1.0, 0.0]))
    slam_map = SlamMap(CAMERA)
    assert not LocalMapper(slam_map, ExactMatcher(), TrackerConfig()).start(first, second)
    assert slam_map.keyframes == {}


def test_wrong_observations_leave_the_map():
    walk = Walk(noise_px=0.3)
    slam_map, mapper = walked(walk, 5)
    keyframe = walk.with_tracked_points(walk.keyframe(5), slam_map.keyframes[4])
    keyframe.cam_from_world = scaled_pose(walk, 5)
    wrong = np.flatnonzero(keyframe.point_ids >= 0)[::10]
    keyframe.keypoints[wrong] += np.float32(12)
    assert len(wrong) > 10
    mapper.add(keyframe)
    assert (slam_map.keyframes[5].point_ids[wrong] == -1).all()
    assert center_errors(walk, slam_map).max() < 0.01


def test_unknown_intrinsics_are_refined():
    walk = Walk(noise_px=0.2)
    slam_map, mapper = walked(walk, 13, config=replace(KEEP_ALL, refine_camera=True))
    slam_map.camera = replace(CAMERA, params=(490.0, 495.0, *CAMERA.params[2:4], 0.0, 0.0, 0.0, 0.0))
    mapper.adjust_all(0)
    assert slam_map.camera.params[:2] == pytest.approx(CAMERA.params[:2], rel=0.005)
    assert center_errors(walk, slam_map).max() < 0.01


def test_only_the_largest_map_refines_the_intrinsics_that_all_share():
    walk = Walk(noise_px=0.2)
    slam_map, mapper = walked(walk, 6, config=replace(KEEP_ALL, refine_camera=True))
    wrong = replace(CAMERA, params=(490.0, 495.0, *CAMERA.params[2:]))
    slam_map.camera = wrong
    for idx in range(6, 13):
        keyframe = walk.keyframe(idx)
        keyframe.map_id = 1
        slam_map.add_keyframe(keyframe)
    mapper.adjust_all(0)
    assert slam_map.camera == wrong
    slam_map.remove_keyframe(12)
    mapper.adjust_all(0)
    assert slam_map.camera.params[:2] == pytest.approx(CAMERA.params[:2], rel=0.01)


def test_points_of_the_start_are_judged_three_keyframes_later():
    walk = Walk(noise_px=0.3)
    slam_map, mapper = started(walk, replace(KEEP_ALL, mapping=NO_PARTNERS))
    start = slam_map.points_of([0, 1])
    for idx in range(2, 5):
        seen_twice = start[slam_map.num_observations(start) == 2]
        assert len(seen_twice) > 100, f"judged at keyframe {idx - 1}"
        mapper.add(walk.keyframe(idx, scaled_pose(walk, idx)))
    assert (slam_map.num_observations(start) != 2).all()


class CountingMatcher(ExactMatcher):
    """Counts the pairs, and notes which keyframe came first."""

    def __init__(self, slam_map):
        self.pairs, self._map = [], slam_map

    def match(self, features0, features1):
        name_of = {id(one.features): one.name for one in self._map.keyframes.values()}
        self.pairs.append((name_of[id(features0)], name_of[id(features1)]))
        return super().match(features0, features1)


def test_a_keyframe_is_matched_with_two_others_and_with_more_at_the_end_once_in_the_order_of_names():
    walk = Walk(noise_px=0.3)
    slam_map = SlamMap(CAMERA)
    matcher = CountingMatcher(slam_map)
    mapper = LocalMapper(slam_map, matcher, replace(KEEP_ALL, mapping=MappingConfig(remove_redundant=False)))
    assert mapper.start(*unit_start(walk))
    for idx in range(2, 7):
        keyframe = walk.with_tracked_points(walk.keyframe(idx, scaled_pose(walk, idx)), slam_map.keyframes[idx - 1])
        mapper.add(keyframe, is_busy=idx == 5)
    assert len(matcher.pairs) == 1 + 2 + 2 + 2 + 1 + 2, "while others wait, a keyframe is matched with one"
    before = slam_map.num_observations(slam_map.points_of(list(slam_map.keyframes))).sum()
    mapper.complete(0)
    mapper.adjust_all(0)
    assert slam_map.num_observations(slam_map.points_of(list(slam_map.keyframes))).sum() >= before
    assert len(set(matcher.pairs)) == len(matcher.pairs) > 10, "a pair was matched again"
    assert all(name0 < name1 for name0, name1 in matcher.pairs)
    assert center_errors(walk, slam_map).max() < 0.01


def test_two_threads_complete_a_map_as_one_does():
    completed = []
    for threads in (1, 2):
        slam_map, mapper = walked(Walk(noise_px=0.3), 7, config=replace(KEEP_ALL, threads=threads))
        before = len(slam_map.points_of(list(slam_map.keyframes)))
        mapper.complete(0)
        ids = slam_map.points_of(list(slam_map.keyframes))
        assert len(ids) != before, "there was nothing to complete"
        completed.append((ids.tolist(), [slam_map.track(point_id) for point_id in ids.tolist()]))
    assert completed[0] == completed[1]


def test_matches_of_keyframes_are_saved(tmp_path):
    store, keyframes = Store(tmp_path), unit_start(Walk(noise_px=0.3))
    for keyframe in keyframes:
        keyframe._features = replace(keyframe.features, key=keyframe.name)
    mapper = LocalMapper(SlamMap(CAMERA), StoredMatches(ExactMatcher(), store), KEEP_ALL)
    assert mapper.start(*keyframes)
    saved = CachedMatcher(ExactMatcher(), store).load(*(keyframe.features for keyframe in keyframes))
    assert saved is not None and len(saved) > 100


def test_features_of_old_keyframes_take_less_memory():
    slam_map, _ = walked(Walk(), 15, config=replace(KEEP_ALL, mapping=NO_PARTNERS))
    is_exact = [keyframe.features is keyframe.features for _, keyframe in sorted(slam_map.keyframes.items())]
    assert is_exact == [False] * 3 + [True] * 12


def test_the_relative_rotation_of_neighbours_is_exact():
    walk = Walk(noise_px=0.3)
    slam_map, _ = walked(walk, 8, error=0.01)
    for idx in range(1, 8):
        poses = [slam_map.keyframes[one].cam_from_world for one in (idx - 1, idx)]
        relative = poses[1] @ poses[0].inverse()
        truth = walk.pose(idx) @ walk.pose(idx - 1).inverse()
        assert rotation_angle_deg(relative.R @ truth.R.T) < 0.1


def test_redundant_keyframes_leave_and_the_rest_stays_exact():
    walk = Walk(noise_px=0.3)
    slam_map, _ = walked(walk, 10, error=0.01, config=TrackerConfig())
    kept = set(slam_map.keyframes)
    assert {0, 7, 8, 9} <= kept
    assert len(kept) < 10
    assert all(slam_map.reference(idx) is not None for idx in range(10))
    assert center_errors(walk, slam_map).max() < 0.01


@pytest.mark.parametrize("option", ["window", "max_iterations", "min_parallax_deg", "max_error_px", "loss_px"])
def test_options_must_be_positive(option):
    with pytest.raises(ConfigError, match=f"mapping.{option}"):
        MappingConfig(**{option: 0})
    with pytest.raises(ConfigError, match=r"mapping.num_partners"):
        MappingConfig(num_partners=-1)
    with pytest.raises(ConfigError, match=r"mapping.num_final_partners"):
        MappingConfig(num_final_partners=-1)
