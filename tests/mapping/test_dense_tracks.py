"""Matches become tracks, and tracks become points: robustly, and without a keypoint in two points."""

import dataclasses

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping import dense_tracks
from sfm_lightglue.mapping.dense_tracks import triangulate_matches, triangulation_angles_deg
from sfm_lightglue.mapping.observers import Observers

pytestmark = pytest.mark.usefixtures("each_implementation")

FOCAL_PX = 1000.0
NUM_IMAGES = 6


def cameras(num_points, noise_px=0.3, seed=0, limit_px=2.0):
    """Cameras on an arc, and true points; keypoint k of image i has the number i * num_points + k."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (num_points, 3)) + np.array([0, 0, 6])
    rotations, translations, normalized = [], [], []
    for angle in np.linspace(-0.3, 0.3, NUM_IMAGES):
        R = rotation_from_rotvec(np.array([0.0, angle, 0.0]))
        center = np.array([0, 0, 6]) - R.T @ [0, 0, 6]
        t = -R @ center
        in_camera = points @ R.T + t
        pixels = in_camera[:, :2] / in_camera[:, 2:] + rng.normal(0, noise_px / FOCAL_PX, (num_points, 2))
        rotations.append(R)
        translations.append(t)
        normalized.append(pixels)
    observers = Observers(
        R=np.array(rotations),
        t=np.array(translations),
        focal_px=np.full(NUM_IMAGES, FOCAL_PX),
        limits_px=np.full(NUM_IMAGES, limit_px),
        image=np.repeat(np.arange(NUM_IMAGES), num_points),
        points=np.concatenate(normalized),
    )
    return observers, points


def all_matches(num_points, images=None):
    pairs = [(i, j) for i in range(NUM_IMAGES) for j in range(i + 1, NUM_IMAGES)] if images is None else images
    rows = np.arange(num_points)
    return np.concatenate([np.stack([i * num_points + rows, j * num_points + rows], axis=1) for i, j in pairs])


def require_valid(points, observers):
    """Each keypoint has one point, and each point at most one keypoint of an image."""
    assert len(np.unique(points.keypoint)) == len(points.keypoint)
    pairs = np.stack([points.point, observers.image[points.keypoint]], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    error, depth = observers.residuals(points.xyz[points.point], points.keypoint)
    assert (np.linalg.norm(error, axis=1) <= 1).all()
    assert (depth > 0).all()


def test_keypoints_without_a_match_change_nothing():
    """Those of a model that grows are many."""
    observers, _ = cameras(80)
    matches = all_matches(80)
    rng = np.random.default_rng(0)
    matches[rng.random(len(matches)) < 0.1, 1] = rng.integers(5 * 80, 6 * 80)  # some join two tracks
    matches = matches[observers.image[matches[:, 0]] != observers.image[matches[:, 1]]]
    points = triangulate_matches(matches, observers, 1.5)
    place = np.sort(rng.permutation(3 * len(observers.image))[: len(observers.image)])
    image = np.zeros(3 * len(observers.image), np.int64)
    image[place] = observers.image
    image = np.maximum.accumulate(image)
    normalized = np.zeros((len(image), 2))
    normalized[place] = observers.points
    among_others = triangulate_matches(
        place[matches], dataclasses.replace(observers, image=image, points=normalized), 1.5
    )
    np.testing.assert_array_equal(among_others.keypoint, place[points.keypoint])
    np.testing.assert_array_equal(among_others.point, points.point)
    np.testing.assert_array_equal(among_others.xyz, points.xyz)


def test_right_matches_give_the_points_with_all_of_their_keypoints():
    observers, truth = cameras(200)
    points = triangulate_matches(all_matches(200), observers, min_angle_deg=1.5)
    require_valid(points, observers)
    assert len(points.xyz) == 200
    assert len(points.keypoint) >= 0.99 * 200 * NUM_IMAGES
    shown = points.keypoint % 200
    assert np.median(np.linalg.norm(points.xyz[points.point] - truth[shown], axis=1)) < 0.005


def test_refined_points_are_more_exact_than_those_of_two_images():
    observers, truth = cameras(200, noise_px=0.5)
    many = triangulate_matches(all_matches(200), observers, 1.5)
    two = triangulate_matches(all_matches(200, [(2, 3)]), observers, 1.5, min_views=2)
    errors = [
        np.median(np.linalg.norm(each.xyz[each.point] - truth[each.keypoint % 200], axis=1)) for each in (many, two)
    ]
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize("num_wrong", [50, 400])
def test_wrong_matches_cost_few_points(num_wrong):
    observers, truth = cameras(200)
    rng = np.random.default_rng(1)
    images = np.array([rng.permutation(NUM_IMAGES)[:2] for _ in range(num_wrong)])
    wrong = images * 200 + rng.integers(0, 200, (num_wrong, 2))
    matches = np.concatenate([all_matches(200), wrong])
    points = triangulate_matches(matches[rng.permutation(len(matches))], observers, 1.5)
    require_valid(points, observers)
    distances = np.linalg.norm(points.xyz[points.point] - truth[points.keypoint % 200], axis=1)
    right = np.bincount(points.point, distances < 0.05) >= 3
    assert right.sum() >= 190
    assert (distances < 0.05).mean() > 0.97


def test_a_chain_through_wrong_matches_is_divided():
    observers, _ = cameras(100)
    # Every point is joined with the next one by a wrong match, so that all keypoints are connected.
    wrong = np.stack([np.arange(99), 100 + np.arange(1, 100)], axis=1)
    points = triangulate_matches(np.concatenate([wrong, all_matches(100)]), observers, 1.5)
    require_valid(points, observers)
    assert len(points.xyz) >= 90


def test_points_without_parallax_or_with_few_images_are_left_out():
    observers, _ = cameras(100)
    assert len(triangulate_matches(all_matches(100), observers, min_angle_deg=60).xyz) == 0
    pairs_only = all_matches(100, [(0, 5)])
    assert len(triangulate_matches(pairs_only, observers, 1.5, min_views=3).xyz) == 0
    assert len(triangulate_matches(pairs_only, observers, 1.5, min_views=2).xyz) == 100


def test_the_same_matches_give_the_same_points():
    observers, _ = cameras(100)
    first, second = (triangulate_matches(all_matches(100), observers, 1.5) for _ in range(2))
    assert first.xyz.tobytes() == second.xyz.tobytes()
    assert first.keypoint.tobytes() == second.keypoint.tobytes()


def test_the_points_do_not_depend_on_how_many_matches_are_computed_at_once(monkeypatch):
    observers, _ = cameras(100)
    at_once = triangulate_matches(all_matches(100), observers, 1.5)
    monkeypatch.setattr(dense_tracks, "_ROWS_AT_A_TIME", 37)
    in_parts = triangulate_matches(all_matches(100), observers, 1.5)
    np.testing.assert_array_equal(in_parts.xyz, at_once.xyz)
    np.testing.assert_array_equal(in_parts.keypoint, at_once.keypoint)


@pytest.mark.parametrize("num_images", [3, 40])
def test_tracks_are_joined_alike_with_marks_and_with_less_memory(monkeypatch, num_images):
    rng = np.random.default_rng(num_images)
    image = np.sort(rng.integers(0, num_images, 500))
    matches = rng.integers(0, 500, (400, 2))
    matches = matches[image[matches[:, 0]] != image[matches[:, 1]]]
    with_marks = dense_tracks._joined_labels(np.arange(500), matches, image)
    monkeypatch.setattr(dense_tracks, "_MAX_MARKS", 100)
    sorted_ones = dense_tracks._joined_labels(np.arange(500), matches, image)
    assert with_marks[1].any() and not with_marks[1].all()
    for found, expected in zip(sorted_ones, with_marks, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_many_tracks_and_images_need_no_memory_for_each_of_both():
    track, image = np.array([0, 1, 1, 7, 7]), np.array([10**9, 5, 5, 5, 6])
    is_single = dense_tracks._sees_images_once(track, image, 10**6)
    assert np.flatnonzero(~is_single).tolist() == [1]


def test_keypoints_whose_distortion_cannot_be_undone_are_left_out():
    observers, _ = cameras(50)
    observers.points[7] = np.nan
    points = triangulate_matches(all_matches(50), observers, 1.5)
    assert 7 not in points.keypoint
    assert len(points.xyz) == 50


def test_no_matches_give_no_points():
    observers, _ = cameras(10)
    points = triangulate_matches(np.zeros((0, 2), np.int64), observers, 1.5)
    assert len(points.xyz) == len(points.keypoint) == 0


def test_the_angle_of_a_point_is_that_of_its_outer_rays():
    observers, _ = cameras(20, noise_px=0.0)
    points = triangulate_matches(all_matches(20), observers, 1.5)
    angles = triangulation_angles_deg(points.xyz, points.point, points.keypoint, observers)
    centers = observers.centers()
    rays = points.xyz[:, None] - centers[None, [0, -1]]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    outer = np.degrees(np.arccos((rays[:, 0] * rays[:, 1]).sum(axis=1)))
    np.testing.assert_allclose(angles, outer, rtol=1e-6)
