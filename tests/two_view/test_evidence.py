"""Distinctive matches: what counts as a look-alike, and what does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.two_view.correspondences import MatchedPair
from sfm_lightglue.two_view.evidence import measure_evidence
from sfm_lightglue.types import Features, Matches, PairEvidence
from tests.helpers.point_views import PINHOLE, SIZE

NUM = 40


def make_pair(shrink_factor: float | None = 1.0, seed: int = 0) -> MatchedPair:
    """All keypoints match, and each descriptor is unlike the others."""
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(NUM, 64))
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(5)), axis=-1).reshape(-1, 2) * 100.0 + 100
    features = []
    for shift in (0.0, 30.0):
        noisy = descriptors * rng.uniform(0.5, 2, (NUM, 1)) + rng.normal(scale=0.1, size=descriptors.shape)
        features.append(as_features(grid + shift, noisy, shrink_factor))
    rows = np.arange(NUM, dtype=np.int32)
    matches = Matches(np.stack([rows, rows], axis=1), np.linspace(0.2, 1, NUM, dtype=np.float32))
    return MatchedPair((features[0], features[1]), matches, (PINHOLE, PINHOLE))


def as_features(keypoints: np.ndarray, descriptors: np.ndarray, shrink_factor: float | None) -> Features:
    return Features(
        keypoints.astype(np.float32),
        np.ones(len(keypoints), np.float32),
        descriptors.astype(np.float32),
        SIZE,
        shrink_factor=shrink_factor,
    )


def with_twins(
    pair: MatchedPair, rows: list[int], offset_px: float, image_idx: int = 1, copies: int = 1
) -> MatchedPair:
    """Keypoints with nearly the descriptor of some keypoints, at a distance from them."""
    features = list(pair.features)
    source = features[image_idx]
    rng = np.random.default_rng(1)
    keypoints, descriptors = [source.keypoints], [source.descriptors]
    for copy in range(copies):
        angle = 2 * np.pi * copy / copies
        keypoints.append(source.keypoints[rows] + offset_px * np.array([np.cos(angle), np.sin(angle)]))
        descriptors.append(source.descriptors[rows] + rng.normal(scale=0.02, size=(len(rows), 64)))
    features[image_idx] = as_features(np.concatenate(keypoints), np.concatenate(descriptors), source.shrink_factor)
    return replace(pair, features=(features[0], features[1]))


def evidence_of(pair: MatchedPair, mask: np.ndarray | None = None) -> PairEvidence:
    return measure_evidence(pair, np.ones(len(pair.matches), np.bool_) if mask is None else mask, -12.5)


def test_all_matches_of_unlike_keypoints_are_distinctive() -> None:
    mask = np.arange(NUM) < 25
    evidence = evidence_of(make_pair(), mask)
    assert (evidence.num_distinctive, evidence.num_distinctive_inliers) == (NUM, 25)
    assert evidence.mean_inlier_score == pytest.approx(np.linspace(0.2, 1, NUM)[:25].mean(), rel=1e-5)
    assert evidence.log10_false_alarms == -12.5


@pytest.mark.parametrize("image_idx", [0, 1])
def test_equal_keypoints_elsewhere_are_look_alikes(image_idx: int) -> None:
    pair = with_twins(make_pair(), [3, 4, 5, 30], 50, image_idx)
    evidence = evidence_of(pair, np.arange(NUM) < 25)
    assert (evidence.num_distinctive, evidence.num_distinctive_inliers) == (NUM - 4, 25 - 3)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_equal_keypoints_at_the_same_place_are_none(copies: int) -> None:
    """A detector finds a corner at several scales."""
    pair = with_twins(make_pair(), list(range(10)), 5.5, copies=copies)
    assert evidence_of(pair).num_distinctive == NUM
    assert evidence_of(with_twins(make_pair(), list(range(10)), 6.5, copies=copies)).num_distinctive == NUM - 10


def test_a_look_alike_is_found_behind_keypoints_at_the_same_place() -> None:
    pair = with_twins(with_twins(make_pair(), list(range(10)), 4.0, copies=2), list(range(5)), 70)
    assert evidence_of(pair).num_distinctive == NUM - 5


@pytest.mark.parametrize(("shrink_factor", "num"), [(1.0, NUM - 10), (2.0, NUM), (None, NUM - 10)])
def test_the_same_place_is_in_pixels_of_the_detector(shrink_factor: float | None, num: int) -> None:
    assert evidence_of(with_twins(make_pair(shrink_factor), list(range(10)), 10)).num_distinctive == num


def test_exchanged_images_have_the_same_evidence() -> None:
    pair = with_twins(with_twins(make_pair(), [1, 2, 3], 40, 0), [3, 4], 60, 1)
    mask = np.arange(NUM) % 3 > 0
    swapped = MatchedPair(pair.features[::-1], pair.matches.swapped(), pair.cameras)
    there, back = evidence_of(pair, mask), evidence_of(swapped, mask)
    assert there.num_distinctive == back.num_distinctive == NUM - 4
    assert there.num_distinctive_inliers == back.num_distinctive_inliers
    assert there.mean_inlier_score == pytest.approx(back.mean_inlier_score)


def test_no_matches_and_no_inliers() -> None:
    pair = make_pair()
    assert evidence_of(replace(pair, matches=Matches.empty())) == PairEvidence(0, 0, 0.0, -12.5)
    assert evidence_of(pair, np.zeros(NUM, np.bool_)) == PairEvidence(NUM, 0, 0.0, -12.5)


def test_a_single_keypoint_has_no_look_alike() -> None:
    pair = make_pair()
    features = tuple(as_features(one.keypoints[:1], one.descriptors[:1], 1.0) for one in pair.features)
    matches = Matches(np.zeros((1, 2), np.int32), np.ones(1, np.float32))
    assert evidence_of(MatchedPair((features[0], features[1]), matches, pair.cameras)).num_distinctive == 1


def test_of_many_matches_a_sample_gives_the_counts() -> None:
    """About as many distinctive matches as an examination of all would find."""
    rng = np.random.default_rng(3)
    num = 1500
    descriptors = rng.normal(size=(num, 64))
    descriptors[num // 2 :] = descriptors[: num // 2]  # the second half has look-alikes in the first
    pixels = rng.uniform(10, 890, (num, 2))
    features = [as_features(pixels, descriptors + rng.normal(scale=0.05, size=(num, 64)), 1.0) for _ in range(2)]
    order = rng.permutation(num).astype(np.int32)
    matches = Matches(np.stack([order, order], axis=1), np.ones(num, np.float32))
    half = MatchedPair((features[0], features[1]), matches, (PINHOLE, PINHOLE))
    assert evidence_of(half).num_distinctive == pytest.approx(0, abs=30)
    descriptors[num // 2 :] = rng.normal(size=(num // 2, 64))
    descriptors[: num // 4] = descriptors[num // 4 : num // 2]
    features = [as_features(pixels, descriptors + rng.normal(scale=0.05, size=(num, 64)), 1.0) for _ in range(2)]
    evidence = evidence_of(MatchedPair((features[0], features[1]), matches, (PINHOLE, PINHOLE)), order % 2 == 0)
    assert evidence.num_distinctive == pytest.approx(num / 2, rel=0.15)
    assert evidence.num_distinctive_inliers == pytest.approx(num / 4, rel=0.25)
