"""What an image should see of another one, and what of it is matched."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.lookalikes.region import fit_affine, side_cues
from tests.helpers.lookalike_views import SIZE, Walk


def num_pairs(walk: Walk, image: int, times: int) -> np.ndarray:
    return np.full(len(walk.images[image].keypoints), times)


def test_an_affine_map_is_found_among_outliers():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 1, (60, 2))
    truth = np.array([[0.9, 0.1], [-0.2, 1.1], [0.3, -0.1]])
    others = np.column_stack([points, np.ones(60)]) @ truth
    others[:12] += rng.uniform(-0.5, 0.5, (12, 2))
    np.testing.assert_allclose(fit_affine(points, others), truth, atol=2e-3)


@pytest.mark.parametrize("num", [1, 2, 3, 8])
def test_points_on_a_line_have_the_smallest_affine_map(num):
    points = np.column_stack([np.linspace(0.1, 0.9, num), np.full(num, 0.5)])
    found = fit_affine(points, points)
    np.testing.assert_allclose(np.column_stack([points, np.ones(num)]) @ found, points, atol=1e-6)
    assert np.abs(found).max() < 2


def test_no_points_have_no_affine_map():
    np.testing.assert_array_equal(fit_affine(np.zeros((0, 2)), np.zeros((0, 2))), np.zeros((3, 2)))


def test_the_region_is_the_common_part_of_both_images():
    walk = Walk([0, 200])
    counts = num_pairs(walk, 0, 1), num_pairs(walk, 1, 1)
    first, second = side_cues((walk.images[0], walk.images[1]), walk.pair(0, 1), counts)
    for side in (first, second):
        assert side.region == pytest.approx(400 / 600, abs=0.05)
        assert side.matched > 0.98
        assert side.missing == 0


def test_a_part_that_other_pairs_match_and_this_pair_does_not_is_missing():
    walk = Walk([0, 0])
    pair = walk.pair(0, 1)
    seen = walk.images[0].keypoints[pair.rows[:, 0]][:, 0] > SIZE[0] / 4  # a car hides a quarter of the wall
    hidden = replace(pair, rows=pair.rows[seen])
    counts = num_pairs(walk, 0, 3), num_pairs(walk, 1, 3)
    complete, _ = side_cues((walk.images[0], walk.images[1]), pair, counts)
    partial, other = side_cues((walk.images[0], walk.images[1]), hidden, counts)
    assert complete.unmatched_cells == 0
    assert partial.unmatched_cells == pytest.approx(0.25, abs=0.02)
    assert partial.matched == pytest.approx(0.75, abs=0.06)
    assert other.missing == pytest.approx(0.25, abs=0.06)
    # What no other pair matches either is no evidence.
    is_inlier = np.zeros(len(walk.images[0].keypoints), np.int64)
    is_inlier[hidden.rows[:, 0]] = 1
    alone, _ = side_cues((walk.images[0], walk.images[1]), hidden, (is_inlier, num_pairs(walk, 1, 3)))
    assert alone.missing == 0


def test_keypoints_that_were_not_asked_are_no_evidence():
    walk = Walk([0, 0])
    pair = walk.pair(0, 1)
    seen = walk.images[0].keypoints[pair.rows[:, 0]][:, 0] > SIZE[0] / 4
    hidden = replace(pair, rows=pair.rows[seen])
    asked = []
    for side in (0, 1):
        is_asked = np.zeros(len(walk.images[side].keypoints), np.bool_)
        is_asked[hidden.rows[:, side]] = True
        asked.append(np.packbits(is_asked))
    both, counts = (walk.images[0], walk.images[1]), (num_pairs(walk, 0, 3), num_pairs(walk, 1, 3))
    of_asked = side_cues(both, replace(hidden, asked0=asked[0], asked1=asked[1]), counts)
    for side in of_asked:
        assert side.matched == 1.0
        assert side.missing == 0
        assert np.isnan(side.unmatched_cells) or side.unmatched_cells == 0
    # Also if only one image has keypoints that were not asked.
    first, second = side_cues(both, replace(hidden, asked1=asked[1]), counts)
    assert first == side_cues(both, hidden, counts)[0] and first.matched < 0.9
    assert second == of_asked[1]
