"""Points with too few observations leave a model, after the last filter of each step of a dense model."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.incremental import MappingConfig
from sfm_lightglue.mapping.short_tracks import remove_short_tracks, short_tracks
from sfm_lightglue.reconstruction.refine_model import refine_model
from sfm_lightglue.refinement.config import RefinementConfig
from tests.helpers.dense_models import model_of

NUM_IMAGES, NUM_POINTS, NUM_WRONG = 4, 60, 10


def model_with_wrong_observations() -> pycolmap.Reconstruction:
    """The first points have three observations, of which that of image 1 is wrong; the others are in all images."""
    rng = np.random.default_rng(0)
    points = rng.uniform((-1.0, -1, 4), (1.0, 1, 7), (NUM_POINTS, 3))
    poses = [(rotation_from_rotvec(np.array([0, 0.08 * k, 0])), np.array([-0.4 * k, 0, 0])) for k in range(NUM_IMAGES)]
    every = np.arange(NUM_POINTS)
    seen = [every] * (NUM_IMAGES - 1) + [every[NUM_WRONG:]]
    exact = model_of(points, poses, seen)
    keypoints = [np.array([point.xy for point in exact.images[k + 1].points2D]) for k in range(NUM_IMAGES)]
    keypoints[0][:NUM_WRONG, 1] += 8.0  # across the epipolar lines
    return model_of(points, poses, seen, keypoints)


def lengths(model: pycolmap.Reconstruction) -> list[int]:
    return [point.track.length() for point in model.points3D.values()]


def test_points_below_the_limit_leave_and_kept_ones_stay() -> None:
    model = model_with_wrong_observations()
    short = short_tracks(model, 4)
    assert len(short) == NUM_WRONG and short == sorted(short)
    assert remove_short_tracks(model, 4, kept=short[:3]) == NUM_WRONG - 3
    assert sorted(set(short) & model.point3D_ids()) == short[:3]
    assert remove_short_tracks(model, 2) == 0
    assert model.num_points3D() == NUM_POINTS - NUM_WRONG + 3


def test_an_image_that_observes_a_point_twice_counts_once() -> None:
    rows = [np.array([0, 1]), np.array([0, 1, -1])]  # image 2 has a further keypoint
    poses = [(np.eye(3), np.array([-0.5 * k, 0, 0])) for k in range(2)]
    pixels = [np.zeros((len(each), 2)) for each in rows]
    model = model_of(np.array([[0.0, 0, 5], [0.2, 0, 5]]), poses, rows, pixels)
    first, second = sorted(model.point3D_ids())
    model.add_observation(first, pycolmap.TrackElement(2, 2))
    assert model.points3D[first].track.length() == 3
    assert short_tracks(model, 3) == [first, second]


@pytest.mark.parametrize(("min_views", "num_left"), [(2, NUM_POINTS), (3, NUM_POINTS - NUM_WRONG)])
def test_the_filter_after_the_refinement_leaves_no_point_of_two_observations(min_views: int, num_left: int) -> None:
    model = model_with_wrong_observations()
    task = MappingTask(Path(), Path(), NUM_IMAGES, frozenset({1}))
    refine_model(model, {}, RefinementConfig(), MappingConfig(), task, min_views=min_views)
    assert model.num_points3D() == num_left
    assert (2 in lengths(model)) == (min_views == 2)
    assert model.compute_mean_reprojection_error() < 0.3


def test_a_model_of_two_images_keeps_points_of_two() -> None:
    assert [DensityConfig().min_views(number) for number in (2, 3, 50)] == [2, 3, 3]
    assert DensityConfig(min_track_length=4).min_views(3) == 3
