"""Tracks become points where their views agree."""

from itertools import pairwise

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.triangulation import triangulate_tracks
from tests.helpers.slam_scene import CAMERA, Walk


def scene(num_keyframes=4, noise_px=0.0):
    """Keyframes of a walk, and the tracks of all points that all of them see: (track, number of the point)."""
    walk = Walk(noise_px)
    keyframes = {idx: walk.keyframe(idx) for idx in range(num_keyframes)}
    seen = sorted(set.intersection(*(set(numbers.tolist()) for numbers in walk.numbers.values())))
    rows = [{number: row for row, number in enumerate(walk.numbers[idx].tolist())} for idx in keyframes]
    tracks = [[(idx, rows[idx][number]) for idx in keyframes] for number in seen]
    return walk, keyframes, tracks, np.array(seen)


def test_exact_tracks_give_exact_points():
    walk, keyframes, tracks, numbers = scene()
    found = triangulate_tracks(CAMERA, keyframes, tracks, max_error_px=1.0, min_parallax_deg=1.0)
    assert found.numbers.tolist() == list(range(len(tracks)))
    assert found.tracks == tracks
    assert np.allclose(found.xyz, walk.xyz[numbers], atol=1e-3)


def test_noise_costs_little_accuracy():
    walk, keyframes, tracks, numbers = scene(noise_px=0.5)
    found = triangulate_tracks(CAMERA, keyframes, tracks, max_error_px=3.0, min_parallax_deg=1.0)
    assert len(found.numbers) > 0.95 * len(tracks)
    errors = np.linalg.norm(found.xyz - walk.xyz[numbers[found.numbers]], axis=1)
    assert np.median(errors) < 0.05


def test_a_view_that_does_not_fit_is_left_out():
    walk, keyframes, tracks, numbers = scene()
    track = tracks[0]
    keyframes[2].keypoints[track[2][1]] += 40
    found = triangulate_tracks(CAMERA, keyframes, [track], max_error_px=1.0, min_parallax_deg=1.0)
    assert found.tracks == [[pair for pair in track if pair[0] != 2]]
    assert np.allclose(found.xyz[0], walk.xyz[numbers[0]], atol=1e-3)


def test_tracks_of_two_different_points_give_none():
    _, keyframes, tracks, _ = scene(num_keyframes=2)
    mixed = [[one[0], other[1]] for one, other in pairwise(tracks)]
    found = triangulate_tracks(CAMERA, keyframes, mixed, max_error_px=1.0, min_parallax_deg=1.0)
    assert len(found.numbers) < 0.05 * len(mixed)


@pytest.mark.parametrize(("min_parallax_deg", "share"), [(1.0, 1.0), (30.0, 0.0)])
def test_small_parallax_gives_none(min_parallax_deg, share):
    _, keyframes, tracks, _ = scene(num_keyframes=3)
    found = triangulate_tracks(CAMERA, keyframes, tracks, max_error_px=1.0, min_parallax_deg=min_parallax_deg)
    assert len(found.numbers) == share * len(tracks)


def test_points_behind_the_cameras_are_none():
    """Rays that meet behind: the second camera has moved the other way."""
    _, keyframes, tracks, _ = scene(num_keyframes=2)
    first, second = keyframes[0].cam_from_world, keyframes[1].cam_from_world
    keyframes[1].cam_from_world = Rigid3(second.R, -second.R @ (2 * first.center - second.center))
    found = triangulate_tracks(CAMERA, keyframes, tracks, max_error_px=1e6, min_parallax_deg=0.1)
    assert len(found.numbers) == 0


def test_no_tracks_give_no_points():
    found = triangulate_tracks(CAMERA, {}, [], max_error_px=1.0, min_parallax_deg=1.0)
    assert found.xyz.shape == (0, 3)
    assert found.tracks == []
