"""A point must have a depth that other points have around it in its images."""

import numpy as np
import pytest

from sfm_lightglue.mapping.dense_tracks import DensePoints, joined_points
from sfm_lightglue.mapping.depth_agreement import agrees_with_surface, surface_of
from sfm_lightglue.mapping.observers import Observers

NUM_IMAGES, FOCAL_PX = 3, 1000.0
CENTERS = np.array([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])


def observed(xyz, first_keypoint, images=range(NUM_IMAGES)):
    """Points that images without rotation observe; keypoints are numbered image by image."""
    numbers = np.arange(len(xyz))
    points = [(xyz - CENTERS[i])[:, :2] / xyz[:, 2:] for i in images]
    keypoints = [first_keypoint + k * len(xyz) + numbers for k in range(len(points))]
    image = np.repeat(list(images), len(xyz))
    found = DensePoints(xyz, np.tile(numbers, len(points)), np.concatenate(keypoints))
    return found, np.concatenate(points), image


def observers_of(seen, image):
    return Observers(
        np.tile(np.eye(3), (NUM_IMAGES, 1, 1)),
        -CENTERS,
        np.full(NUM_IMAGES, FOCAL_PX),
        np.full(NUM_IMAGES, 2.0),
        np.concatenate(image),
        np.concatenate(seen),
    )


def verdict(surface, points, surface_images=range(NUM_IMAGES)):
    return verdict_of_parts([(surface, surface_images)], points)


def verdict_of_parts(surfaces, points):
    """Surfaces are positions and the images that see them."""
    parts, seen, image = [], [], []
    for xyz, images in [*surfaces, (points, range(NUM_IMAGES))]:
        for column, values in zip((parts, seen, image), observed(xyz, sum(map(len, seen)), images), strict=True):
            column.append(values)
    return agrees_with_surface(parts[-1], joined_points(parts[:-1]), observers_of(seen, image)).tolist()


def wall(depth, num=100, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-3, 5, num), rng.uniform(-3, 3, num), np.full(num, depth)])


@pytest.mark.parametrize(
    ("depth", "agrees"), [(10.0, True), (10.4, True), (9.7, True), (10.8, False), (9.3, False), (40.0, False)]
)
def test_a_point_lies_on_the_wall_around_it(depth, agrees):
    assert verdict(wall(10.0), np.array([[1.0, 0, depth]])) == [agrees]


def test_a_point_may_lie_between_what_is_near_and_what_is_far():
    both = np.concatenate([wall(10.0, num=200), wall(20.0, num=50, seed=1)])
    assert verdict(both, np.array([[1.0, 0, 14.0], [1.0, 0, 25.0], [1.0, 0, 8.0]])) == [True, False, False]


def test_most_images_decide_and_those_without_neighbours_do_not():
    point = np.array([[1.0, 0, 20.0]])
    assert verdict(wall(10.0), point) == [False]
    assert verdict(wall(20.0), point, surface_images=[1]) == [True]
    assert verdict(wall(10.0), point, surface_images=[1]) == [False]
    assert verdict(wall(20.0, num=3), point) == [False]  # nothing to compare with
    near, far = wall(10.0), wall(20.0)
    assert verdict_of_parts([(far, [0, 2]), (near, [1])], point) == [True]
    assert verdict_of_parts([(far, [0]), (near, [1, 2])], point) == [False]


def test_no_points_have_no_verdicts():
    assert verdict(wall(10.0), np.zeros((0, 3))) == []


def test_images_that_see_too_few_sure_points_have_all_points_as_surface():
    parts, seen, image = [], [], []
    for num, images in ((5, [0, 1, 2]), (20, [0, 1])):  # sure points, and others
        for column, values in zip(
            (parts, seen, image), observed(wall(10.0, num=num), sum(map(len, seen)), images), strict=True
        ):
            column.append(values)
    points, observers = joined_points(parts), observers_of(seen, image)
    seen_in = [np.bincount(observers.image[surface_of(points, num, observers).keypoint]) for num in (3, 4)]
    assert [counts.tolist() for counts in seen_in] == [[5, 5, 5], [25, 25, 5]]
