"""The cues of pairs: true overlaps and places that look alike differ, and swapped images have the same cues."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.scene_cues import scene_cues
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.views import PairView
from tests.helpers.lookalike_views import Walk

STARTS = [0, 150, 300, 450, 600, 750, 900, 1050, 1200, 1350, 1500]


def street() -> Walk:
    """The upper half of the wall between 1500 and 2100 looks like that between 0 and 600."""
    plain = Walk(STARTS)
    twins = {}
    sources = np.flatnonzero((plain.points[:, 0] < 600) & (plain.points[:, 1] < 200))
    copies = np.flatnonzero((plain.points[:, 0] >= 1500) & (plain.points[:, 0] < 2100) & (plain.points[:, 1] < 200))
    num = min(len(sources), len(copies))
    walk = Walk(STARTS)
    for source, copy in zip(sources[:num].tolist(), copies[:num].tolist(), strict=True):
        twins[copy] = source
        walk.points[copy] = walk.points[source] + (1500, 0)
    moved = Walk(STARTS, twins=twins)
    moved.points[:] = walk.points
    moved.rows = [np.flatnonzero((walk.points[:, 0] > x) & (walk.points[:, 0] < x + 600)) for x in STARTS]
    moved.images = [
        replace(image, keypoints=(walk.points[rows] - (x, 0)).astype(np.float32))
        for image, rows, x in zip(moved.images, moved.rows, STARTS, strict=True)
    ]
    return moved


def street_pairs(walk: Walk) -> list[PairView]:
    true = [walk.pair(i, j) for i in range(len(STARTS)) for j in range(i + 1, len(STARTS)) if j - i <= 3]
    return [*true, walk.pair(0, 10)]


def test_a_pair_of_places_that_look_alike_differs_from_true_overlaps():
    walk = street()
    *true, false = scene_cues(walk.images, street_pairs(walk))
    assert false.matched_high < min(one.matched_low for one in true)
    assert false.unmatched_cells_low > max(one.unmatched_cells_high for one in true)
    assert false.missing_low > max(one.missing_high for one in true)
    assert false.relative_matched < min(one.relative_matched for one in true)
    assert np.isnan(false.triplets_closed)
    assert false.jaccard == 0


def test_the_order_of_the_names_is_a_cue_only_if_it_says_something():
    walk = street()
    cues = scene_cues(walk.images, street_pairs(walk))
    assert cues[0].order_gap == pytest.approx(1 / 11)
    assert cues[-1].order_gap == pytest.approx(10 / 11)
    shuffled = np.random.default_rng(0).permutation(len(STARTS)).tolist()
    images = [walk.images[shuffled.index(image)] for image in range(len(STARTS))]
    pairs = [replace(pair, image0=shuffled[pair.image0], image1=shuffled[pair.image1]) for pair in street_pairs(walk)]
    assert all(np.isnan(one.order_gap) for one in scene_cues(images, pairs))


def test_swapped_images_have_the_same_cues():
    walk = street()
    pairs = street_pairs(walk)
    swapped = [
        replace(pair, image0=pair.image1, image1=pair.image0, rows=pair.rows[:, ::-1], rotation=pair.rotation.T)
        for pair in pairs
    ]
    for one, other in zip(scene_cues(walk.images, pairs), scene_cues(walk.images, swapped), strict=True):
        np.testing.assert_allclose(one.as_vector(), other.as_vector(), atol=1e-9)


def test_positions_that_are_far_apart_are_a_cue():
    walk = street()
    images = [
        replace(image, position_m=np.array([x / 100, 0, 0])) for image, x in zip(walk.images, STARTS, strict=True)
    ]
    cues = scene_cues(images, street_pairs(walk))
    assert cues[0].position_gap < 1.1
    assert cues[-1].position_gap > 2.5
    assert all(np.isnan(one.position_gap) for one in scene_cues(walk.images, street_pairs(walk)))


def test_tracks_over_a_third_image_are_closed_or_crossed():
    walk = Walk([0, 100, 200])
    pairs = [walk.pair(0, 1), walk.pair(1, 2), walk.pair(0, 2)]
    found = PairTracks(walk.images, pairs).agreement(2, [1])
    assert found.is_confirmed.all()
    assert found.num_tracks == len(pairs[2].rows)
    crossed = PairTracks(walk.images, [*pairs[:2], walk.pair(0, 2, shift=1)]).agreement(2, [1])
    assert crossed.is_crossed.all()
    assert not crossed.is_confirmed.any()
    assert not PairTracks(walk.images, pairs).agreement(2, []).is_confirmed.any()


def test_a_weak_pair_is_confirmed_by_stronger_ones_only():
    walk = Walk([0, 100, 200])
    pairs = [walk.pair(0, 1), walk.pair(1, 2), walk.pair(0, 2, keep=0.5)]
    strong, _, weak = scene_cues(walk.images, pairs)
    assert (weak.tracks_closed, weak.tracks_crossed, weak.triplets_closed) == (1, 0, 1)
    assert np.isnan([strong.tracks_closed, strong.tracks_crossed, strong.triplets_closed]).all()
    wrong = scene_cues(walk.images, [*pairs[:2], walk.pair(0, 2, keep=0.5, shift=1)])[2]
    assert wrong.tracks_closed == 0
    assert wrong.tracks_crossed == 1


def test_no_pairs_have_no_cues_and_fields_have_an_order():
    assert scene_cues([], []) == []
    vector = PairCues(log_inliers=2.0).as_vector()
    assert vector[0] == 2.0
    assert len(vector) == len(PairCues.FIELDS)
    assert np.isnan(vector[1:]).all()


def test_steps_are_positions_among_all_images_and_unknown_between_folders() -> None:
    walk = Walk(STARTS)
    images = [replace(image, number=2 * idx, folder="a" if idx < 8 else "b") for idx, image in enumerate(walk.images)]
    pairs = street_pairs(walk)[:-1]
    steps = np.array([one.order_step for one in scene_cues(images, pairs)])
    is_between = np.array([pair.image0 < 8 <= pair.image1 for pair in pairs])
    assert np.isnan(steps[is_between]).all()
    assert steps[~is_between].tolist() == [
        2 * (pair.image1 - pair.image0) for pair, other in zip(pairs, is_between, strict=True) if not other
    ]
