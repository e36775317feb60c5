"""Two images from one place: matches everywhere in a true pair; whole unmatched parts around equal twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.lookalikes.same_view import ray_angles, same_view_conflict
from sfm_lightglue.lookalikes.views import ImageView, PairView

SIZE = (640, 480)
FOCAL_PX = 500.0
NUM = 800


def pair_of_views(covered: float, keep: float = 0.6, turn_deg: float = 0.0) -> tuple[list[ImageView], PairView]:
    """Two images from one place; a part of the matches is found, all of them in the left part of the first image.

    Args:
        covered: fraction of the width with the same content in both images; the rest differs.
        keep: fraction of its keypoints that are matched.
        turn_deg: angle by which the second camera is turned about its vertical axis.
    """
    rng = np.random.default_rng(0)
    first = rng.uniform((0, 0), SIZE, (NUM, 2))
    angle = np.radians(turn_deg)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    rays = np.column_stack([(first - np.array(SIZE) / 2) / FOCAL_PX, np.ones(NUM)]) @ rotation.T
    second = rays[:, :2] / rays[:, 2:] * FOCAL_PX + np.array(SIZE) / 2
    is_same = first[:, 0] < covered * SIZE[0]
    second[~is_same] += rng.normal(0, 15, (int((~is_same).sum()), 2))
    rows = np.flatnonzero(is_same & (rng.random(NUM) < keep) & ((second > 0) & (second < SIZE)).all(axis=1))
    images = [ImageView(points.astype(np.float32), SIZE, focal_px=FOCAL_PX) for points in (first, second)]
    return images, PairView(0, 1, np.column_stack([rows, rows]), len(rows), 0, 0, 0.9, rotation)


def conflict(images: list[ImageView], pair: PairView) -> float:
    both = images[0], images[1]
    return same_view_conflict(both, pair, ray_angles(both, pair))


@pytest.mark.parametrize("turn_deg", [0.0, 8.0])
@pytest.mark.parametrize("keep", [0.55, 0.7])
def test_unmatched_parts_around_a_twin_are_a_conflict(turn_deg: float, keep: float) -> None:
    assert conflict(*pair_of_views(0.55, keep, turn_deg)) > 1.2
    assert conflict(*pair_of_views(1.0, keep, turn_deg)) < 0.6


def test_swapped_images_have_the_same_conflict() -> None:
    images, pair = pair_of_views(0.7, turn_deg=5.0)
    swapped = replace(pair, rows=pair.rows[:, ::-1], rotation=pair.rotation.T)
    assert conflict(images[::-1], swapped) == pytest.approx(conflict(images, pair))


def test_nothing_is_said_about_images_from_different_places_or_without_a_focal_length() -> None:
    images, pair = pair_of_views(0.7)
    elsewhere = replace(images[1], keypoints=images[1].keypoints + np.float32([60, 0]))
    assert ray_angles((images[0], elsewhere), pair).median_deg == pytest.approx(6.6, abs=0.5)
    assert np.isnan(conflict([images[0], elsewhere], pair))
    assert np.isnan(conflict([images[0], replace(images[1], focal_px=None)], pair))
    nearer = [replace(image, scales=np.full(NUM, size, np.float32)) for image, size in zip(images, (4, 6), strict=True)]
    assert np.isnan(conflict(nearer, pair))


def test_only_the_keypoints_that_were_asked_count() -> None:
    images, pair = pair_of_views(1.0)
    is_left = images[0].keypoints[:, 0] < 0.7 * SIZE[0]
    kept = replace(pair, rows=pair.rows[is_left[pair.rows[:, 0]]])
    bits = np.packbits(is_left)
    asked = replace(kept, asked0=bits, asked1=bits)
    assert np.array_equal(asked.is_asked(0, NUM), is_left)
    assert kept.is_asked(1, NUM).all()
    assert conflict(images, kept) > 1.2
    assert conflict(images, asked) < 0.6
