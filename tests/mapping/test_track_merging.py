"""Points that matches connect are merged where one point explains the observations of both, and only there."""

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping.dense_tracks import DensePoints
from sfm_lightglue.mapping.observers import Observers
from sfm_lightglue.mapping.track_merging import merge_points

pytestmark = pytest.mark.usefixtures("each_implementation")

FOCAL_PX = 1000.0
NUM_IMAGES, NUM_POINTS = 6, 40


def observers(noise_px=0.2):
    """Cameras on an arc; keypoint k of image i shows point k and has the number i * NUM_POINTS + k."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (NUM_POINTS, 3)) + np.array([0, 0, 6])
    rotations = [rotation_from_rotvec(np.array([0.0, angle, 0.0])) for angle in np.linspace(-0.3, 0.3, NUM_IMAGES)]
    shifts = [np.array([0, 0, 6.0]) - R @ [0, 0, 6] for R in rotations]
    in_cameras = [xyz @ R.T + t for R, t in zip(rotations, shifts, strict=True)]
    points = np.concatenate([one[:, :2] / one[:, 2:] for one in in_cameras])
    points += rng.normal(0, noise_px / FOCAL_PX, points.shape)
    image = np.repeat(np.arange(NUM_IMAGES), NUM_POINTS)
    limits = np.full(NUM_IMAGES, 2.0)
    return xyz, Observers(np.array(rotations), np.array(shifts), np.full(NUM_IMAGES, FOCAL_PX), limits, image, points)


def halves(xyz):
    """Each point twice: seen by the first three images, and by the last three."""
    images, rows = np.divmod(np.arange(NUM_IMAGES * NUM_POINTS), NUM_POINTS)
    return DensePoints(np.concatenate([xyz, xyz]), rows + NUM_POINTS * (images >= 3), images * NUM_POINTS + rows)


def matches(first, second, rows):
    return np.stack([first * NUM_POINTS + rows, second * NUM_POINTS + rows], axis=1)


def test_matched_halves_become_one_point():
    xyz, cameras = observers()
    found = merge_points(halves(xyz), matches(2, 3, np.arange(30)), cameras)
    assert len(found.xyz) == NUM_POINTS + 10
    assert sorted(found.num_observations.tolist()) == [3] * 20 + [6] * 30
    assert len(np.unique(found.keypoint)) == len(found.keypoint) == NUM_IMAGES * NUM_POINTS
    rows = found.keypoint % NUM_POINTS
    for point in range(len(found.xyz)):
        (row,) = np.unique(rows[found.point == point])
        assert np.linalg.norm(found.xyz[point] - xyz[row]) < 0.02


def test_different_points_that_match_stay():
    xyz, cameras = observers()
    wrong = matches(2, 3, np.arange(NUM_POINTS))
    wrong[:, 1] = np.roll(wrong[:, 1], 1)
    found = merge_points(halves(xyz), wrong, cameras)
    assert len(found.xyz) == 2 * NUM_POINTS


def test_a_refused_pair_does_not_keep_its_points_from_others():
    xyz, cameras = observers()
    wrong = np.array([(i * NUM_POINTS, j * NUM_POINTS + 1) for i, j in ((0, 3), (1, 3), (2, 3), (1, 4), (2, 4))])
    right = np.concatenate([matches(i, 3, np.arange(1)) for i in range(3)])
    found = merge_points(halves(xyz), np.concatenate([wrong, right]), cameras)
    assert len(found.xyz) == 2 * NUM_POINTS - 1
    (merged,) = np.flatnonzero(found.num_observations == NUM_IMAGES)
    assert set(found.keypoint[found.point == merged] % NUM_POINTS) == {0}


def test_points_with_a_common_image_stay():
    xyz, cameras = observers(noise_px=0.0)
    points = halves(xyz)
    shared = cameras.points.copy()
    shared[3 * NUM_POINTS + 1] = shared[3 * NUM_POINTS]  # image 3 shows point 0 twice
    shared_cameras = Observers(cameras.R, cameras.t, cameras.focal_px, cameras.limits_px, cameras.image, shared)
    point = points.point.copy()
    point[points.keypoint == 3 * NUM_POINTS + 1] = 0  # of the first half of point 0
    found = merge_points(DensePoints(points.xyz, point, points.keypoint), matches(2, 3, np.arange(1)), shared_cameras)
    assert len(found.xyz) == 2 * NUM_POINTS


@pytest.mark.parametrize("num_matches", [0, 5])
def test_points_without_others_stay_as_they_are(num_matches):
    xyz, cameras = observers()
    points = halves(xyz)
    inside = matches(0, 1, np.arange(num_matches))
    found = merge_points(points, inside, cameras)
    np.testing.assert_array_equal(found.xyz, points.xyz)
    np.testing.assert_array_equal(found.keypoint, points.keypoint)


def test_a_point_in_three_parts_becomes_one():
    xyz, cameras = observers()
    images, rows = np.divmod(np.arange(NUM_IMAGES * NUM_POINTS), NUM_POINTS)
    points = DensePoints(np.concatenate([xyz] * 3), rows + NUM_POINTS * (images // 2), images * NUM_POINTS + rows)
    every = np.arange(NUM_POINTS)
    found = merge_points(points, np.concatenate([matches(1, 2, every), matches(3, 4, every)]), cameras)
    assert len(found.xyz) == NUM_POINTS
    assert (found.num_observations == NUM_IMAGES).all()
