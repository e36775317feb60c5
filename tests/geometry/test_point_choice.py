"""How many observations of each image are wanted for the intrinsics of free cameras."""

import numpy as np
import pytest

from sfm_lightglue.geometry.point_choice import wanted_for_intrinsics

PER_IMAGE = np.array([6000, 2000, 8000, 500])
CAMERAS = np.array([3, 3, 5, 8])


@pytest.mark.parametrize(
    ("num_params", "enough_of_all", "expected"),
    [
        ({}, 9000, [0, 0, 0, 0]),
        ({5: 4}, 9000, [0, 0, 4000, 0]),  # no more than enough
        ({3: 4, 5: 4, 8: 4}, 9000, [2250, 750, 3000, 3000]),  # a third; of an image with fewer, all
        ({3: 4, 5: 8}, 1000, [750, 250, 2000, 0]),  # 250 of each parameter
        ({3: 4, 5: 20}, 1000, [750, 250, 4000, 0]),
    ],
    ids=["none", "one", "three", "least", "least above enough"],
)
def test_free_cameras_share_a_total_but_get_some_of_each_parameter(num_params, enough_of_all, expected):
    wanted = wanted_for_intrinsics(PER_IMAGE, CAMERAS, num_params, 4000, enough_of_all)
    np.testing.assert_allclose(wanted, expected)


def test_an_image_without_observations_wants_none():
    assert wanted_for_intrinsics(np.array([0, 10]), np.array([1, 2]), {1: 4, 2: 4}, 4000, 9000)[0] == 0
