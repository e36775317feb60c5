"""A part of the map is adjusted while others use and change the map."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.tracking import adjustment
from sfm_lightglue.tracking.adjustment import adjust_keyframes, window_of
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, Walk, disturbed

LIMITS = {"loss_px": 1.0, "max_error_px": 3.0, "max_iterations": 20}


@pytest.fixture
def slam_map():
    """Five keyframes of a walk with true poses, and all points that at least two of them see."""
    walk = Walk(noise_px=0.3, num_points=300)
    slam_map = SlamMap(CAMERA)
    for idx in range(5):
        slam_map.add_keyframe(walk.keyframe(idx))
    rows = [{number: row for row, number in enumerate(walk.numbers[idx].tolist())} for idx in range(5)]
    tracks = [[(idx, rows[idx][number]) for idx in range(5) if number in rows[idx]] for number in range(300)]
    seen = np.flatnonzero([len(track) >= 2 for track in tracks])
    slam_map.add_points(walk.xyz[seen], [tracks[number] for number in seen.tolist()])
    return slam_map


def centers(slam_map):
    return np.stack([keyframe.cam_from_world.center for keyframe in slam_map.keyframes.values()])


def test_a_window_has_the_most_covisible_keyframes_without_the_first(slam_map):
    assert window_of(slam_map, 3, size=10)[0] == 3
    assert sorted(window_of(slam_map, 3, size=10)) == [1, 2, 3, 4]
    most = max([1, 2, 4], key=dict(slam_map.covisible(3)).__getitem__)
    assert window_of(slam_map, 3, size=2) == [3, most]


def test_only_the_given_keyframes_move(slam_map):
    truth = centers(slam_map)
    random = np.random.default_rng(0)
    for idx in (3, 4):
        slam_map.keyframes[idx].cam_from_world = disturbed(slam_map.keyframes[idx].cam_from_world, random)
    assert np.linalg.norm(centers(slam_map) - truth, axis=1).max() > 0.02
    adjust_keyframes(slam_map, [3, 4], **LIMITS)
    assert np.array_equal(centers(slam_map)[:3], truth[:3])
    assert np.linalg.norm(centers(slam_map) - truth, axis=1).max() < 0.01


def test_wrong_observations_are_removed_and_counted(slam_map):
    keyframe = slam_map.keyframes[2]
    wrong = np.flatnonzero(keyframe.point_ids >= 0)[:7]
    assert adjust_keyframes(slam_map, [2, 3], **LIMITS) == 0
    keyframe.keypoints[wrong] += np.float32(20)
    assert adjust_keyframes(slam_map, [2, 3], **LIMITS) == 7
    assert (keyframe.point_ids[wrong] == -1).all()


def changed_meanwhile(monkeypatch, change):
    """Run `change` in another thread while the adjustment solves; whether it could finish before the end."""
    real, finished = adjustment.adjust, []

    def adjust(*args):
        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        thread.join(timeout=20)
        finished.append(not thread.is_alive())
        return real(*args)

    monkeypatch.setattr(adjustment, "adjust", adjust)
    return finished


def test_the_map_is_free_while_the_adjustment_runs(slam_map, monkeypatch):
    finished = changed_meanwhile(monkeypatch, lambda: slam_map.xyz([0]))
    adjust_keyframes(slam_map, [3, 4], **LIMITS)
    assert finished == [True]


def test_what_was_removed_meanwhile_stays_removed(slam_map, monkeypatch):
    removed = slam_map.points_of([4])[:5]

    def change():
        slam_map.remove_points(removed)
        slam_map.remove_keyframe(3)

    finished = changed_meanwhile(monkeypatch, change)
    adjust_keyframes(slam_map, [3, 4], **LIMITS)
    assert finished == [True]
    assert sorted(slam_map.keyframes) == [0, 1, 2, 4]
    assert np.isnan(slam_map.xyz(removed)).all()
    assert (slam_map.resolve(removed) == -1).all()


def test_impossible_intrinsics_change_nothing(slam_map, monkeypatch):
    real = adjustment.adjust
    wrong = replace(CAMERA, params=(5.0, 5.0, *CAMERA.params[2:]))
    monkeypatch.setattr(adjustment, "adjust", lambda *args: replace(real(*args), camera=wrong))
    before = centers(slam_map)
    assert adjust_keyframes(slam_map, [2, 3], **LIMITS, refined_params=(0, 1)) == 0
    assert slam_map.camera == CAMERA
    assert np.array_equal(centers(slam_map), before)


def test_keyframes_without_points_stay(slam_map):
    slam_map.remove_points(slam_map.points_of(range(5)))
    assert adjust_keyframes(slam_map, [1, 2], **LIMITS) == 0
