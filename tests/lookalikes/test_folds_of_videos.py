"""Videos: far frames of a right model have few points in common, and places that lie on top of each other too."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import UP
from tests.helpers.folded_models import all_pairs, model_of

LIMIT = ChecksConfig().max_conflict
NUM_POINTS = 1500
DETECTED = 0.8


def video(
    num_frames: int = 60,
    reach_deg: float = 8.0,
    turn_deg: float = 40.0,
    num_places: int = 1,
    twins: float = 0.4,
    rounds: int = 1,
    seed: int = 0,
) -> pycolmap.Reconstruction:
    """A camera that moves on an arc around things; all places lie on top of each other. Names are `place-frame.jpg`.

    Args:
        num_frames: of all places together.
        reach_deg: a point is found from directions that differ from its own one by at most this angle.
        turn_deg: angle of the arc.
        num_places: places that the camera visits.
        twins: fraction of the points of a place that all places have.
        rounds: number of times that the camera moves along the arc, forth and back.
        seed: of the points and cameras.
    """
    rng = np.random.default_rng(seed)
    directions = rng.uniform(-turn_deg / 2 - reach_deg, turn_deg / 2 + reach_deg, NUM_POINTS)
    is_twin = rng.random(NUM_POINTS) < twins
    points = rng.uniform(-1, 1, (num_places, NUM_POINTS, 3)) * [4, 1.5, 2.5]
    poses, rows = {}, {}
    for place in range(num_places):
        own_rows = np.where(is_twin, 0, place * NUM_POINTS) + np.arange(NUM_POINTS)
        for frame, way in enumerate(np.linspace(0, rounds, num_frames // num_places)):
            angle_deg = turn_deg * (0.5 - abs(way % 2 - 1)) + rng.normal(0, 0.1)
            angle = np.radians(angle_deg)
            center = 10 * np.array([np.sin(angle), -np.cos(angle), 0.02])
            name = f"{place}-{frame:03d}.jpg"
            poses[name] = Rigid3.look_at(center, np.zeros(3), UP)
            is_found = (np.abs(directions - angle_deg) < reach_deg) & (rng.random(NUM_POINTS) < DETECTED)
            rows[name] = own_rows[is_found]
    return model_of(poses, points.reshape(-1, 3), rows)


def least_share(model: pycolmap.Reconstruction) -> float:
    """The smallest share of its points that an image has in common with one that looks up to 15 degrees away."""
    images = sorted((model.images[image_id] for image_id in model.reg_image_ids()), key=lambda image: image.name)
    seen = [{one.point3D_id for one in image.get_observation_points2D()} for image in images]
    axes = [image.viewing_direction() for image in images]
    return min(
        len(seen[i] & seen[j]) / len(seen[i])
        for i in range(len(images))
        for j in range(len(images))
        if np.dot(axes[i], axes[j]) > np.cos(np.radians(15))
    )


@pytest.mark.parametrize(
    ("num_frames", "reach_deg", "rounds"), [(60, 8.0, 1), (100, 6.0, 1), (24, 9.0, 1), (60, 6.0, 3), (60, 12.0, 2)]
)
def test_a_video_whose_far_frames_have_few_points_in_common_is_no_fold(
    num_frames: int, reach_deg: float, rounds: int
) -> None:
    model = video(num_frames, reach_deg, rounds=rounds)
    assert least_share(model) < 0.3
    check = check_fold(model)
    assert check.num_known > 2 * num_frames
    assert (check.evidence < -1).sum() <= 0.01 * check.num_known
    assert check.conflict == 0
    assert check.groups == (check.names,)


@pytest.mark.parametrize("factor", [-1, 1])
def test_doubts_about_half_of_the_pairs_of_a_video_make_no_fold(factor: int) -> None:
    """Prior odds that would divide the video in the middle: only the model can tell a fold."""
    model = video()
    names = sorted(image.name for image in model.images.values())
    halves = {name: number < len(names) // 2 for number, name in enumerate(names)}
    probabilities = {
        pair: 0.9 if factor * (halves[pair.name0] - halves[pair.name1]) == 0 else 0.1 for pair in all_pairs(names)
    }
    assert check_fold(model, None, probabilities).conflict == 0


@pytest.mark.parametrize(("num_places", "num_frames"), [(2, 60), (2, 40), (3, 60)])
@pytest.mark.parametrize(("reach_deg", "twins"), [(8.0, 0.4), (8.0, 0.2), (15.0, 0.4)])
def test_places_on_top_of_each_other_are_found_in_a_video(
    num_places: int, num_frames: int, reach_deg: float, twins: float
) -> None:
    check = check_fold(video(num_frames, reach_deg, num_places=num_places, twins=twins))
    assert check.conflict > 5 * LIMIT
    by_place = {tuple(name for name in check.names if name[0] == str(place)) for place in range(num_places)}
    assert set(check.groups) == by_place
    assert len(check.conflicts) == num_places * (num_places - 1) // 2


def test_pairs_that_join_the_places_of_a_video_are_those_between_them() -> None:
    check = check_fold(video(num_places=2))
    joining = check.joining_pairs({pair: 50 for pair in all_pairs(check.names)})
    assert len(joining) > 50
    assert all(isinstance(pair, ImagePair) and pair.name0[0] != pair.name1[0] for pair in joining)
