"""What a network computed from single images is kept for their next pairs, within a budget of memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfm_lightglue.matchers.encoded_images import EncodedImages
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.models.lightglue import EncodedSide, LightGlue, Side
from sfm_lightglue.types import Features
from tests.helpers.random_features import random_sift

BYTES = 4 * 10 * (8 + 2 * 4)
"""Of the result for 10 points."""


def test_results_are_computed_once_and_the_least_recently_used_are_dropped() -> None:
    computed: list[Features] = []

    def encode(features: Features) -> EncodedSide:
        computed.append(features)
        return EncodedSide(torch.full((1, 10, 8), float(len(computed))), torch.zeros(1, 10, 2, 4))

    kept = EncodedImages(2 * BYTES)
    first, second, third = (random_sift(seed, 10) for seed in range(3))
    results = [kept.get(one, encode) for one in (first, second, first, third, first, second)]
    assert computed == [first, second, third, second]
    assert results[0] is results[2] is results[4] and results[1] is not results[5]


def test_a_result_above_the_budget_is_returned_but_not_kept() -> None:
    calls = []

    def encode(features: Features) -> EncodedSide:
        calls.append(features)
        return EncodedSide(torch.zeros(1, 10, 8), torch.zeros(1, 10, 2, 4))

    kept = EncodedImages(BYTES - 1)
    one = random_sift(0, 10)
    assert kept.get(one, encode).x.shape == (1, 10, 8)
    kept.get(one, encode)
    assert len(calls) == 2


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_matcher_encodes_each_image_once(monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    encode, num_points = LightGlue.encode, []

    def counted(self: LightGlue, side: Side) -> EncodedSide:
        num_points.append(side.keypoints.shape[1])
        return encode(self, side)

    monkeypatch.setattr(LightGlue, "encode", counted)
    images = [random_sift(seed, 20 + seed) for seed in range(4)]
    pairs = [(a, b) for a in images for b in images if a is not b]
    matcher = LightGlueMatcher(LightGlueMatcherConfig(batch_size=batch_size, precision="float32"), "cpu")
    together = matcher.match_batch(pairs)
    assert sorted(num_points) == [20, 21, 22, 23]
    for pair, one in zip(pairs, together, strict=True):
        fresh = LightGlueMatcher(LightGlueMatcherConfig(precision="float32"), "cpu").match(*pair)
        assert np.array_equal(one.indices, fresh.indices)
        assert np.allclose(one.scores, fresh.scores, atol=5e-5)
