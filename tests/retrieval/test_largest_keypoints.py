"""Matches of the largest keypoints: laws of the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.retrieval.largest_keypoints import LargestKeypoints


def images(*counts: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-127, 128, (count, 16)).astype(np.int8) for count in counts]


def all_rows(num: int) -> np.ndarray:
    return np.stack([axis.ravel() for axis in np.mgrid[:num, :num]], axis=1)


def test_numbers_are_the_same_from_both_images():
    largest = LargestKeypoints.from_images(images(40, 30, 50, 20))
    numbers = largest.num_matches(all_rows(4)).reshape(4, 4)
    np.testing.assert_array_equal(numbers, numbers.T)
    np.testing.assert_array_equal(np.diag(numbers), [40, 30, 50, 20])


def test_common_keypoints_are_counted_in_any_order():
    first, second = images(40, 30)
    mixed = np.concatenate([second, first[:25]])[np.random.default_rng(1).permutation(55)]
    (number,) = LargestKeypoints.from_images([first, mixed]).num_matches(np.array([[0, 1]]))
    assert 25 <= number <= 27


def test_keypoints_that_occur_twice_are_not_distinct():
    (first,) = images(20)
    twice = np.concatenate([first, first])
    assert LargestKeypoints.from_images([first, twice]).num_matches(np.array([[0, 1], [1, 0]])).tolist() == [0, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_images_with_fewer_than_two_keypoints_have_no_match(count):
    largest = LargestKeypoints.from_images(images(20, count))
    assert largest.num_matches(np.array([[0, 1], [1, 0], [1, 1]])).tolist() == [0, 0, 0]


def test_the_number_of_threads_does_not_matter():
    largest = LargestKeypoints.from_images(images(*range(20, 45)))
    numbers = largest.num_matches(all_rows(25))
    np.testing.assert_array_equal(numbers, largest.num_matches(all_rows(25), ThreadExecutor(3)))
    assert largest.num_matches(np.zeros((0, 2), np.int64)).shape == (0,)
