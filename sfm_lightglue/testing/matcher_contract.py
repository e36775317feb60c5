"""Tests that every matcher must pass."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.store.store import make_key
from sfm_lightglue.testing.photos import textured
from sfm_lightglue.types import Features, Matches

SHIFT_PX = (24, 12)

FeaturePair = tuple[Features, Features]


class MatcherContract:
    """Tests of a `Matcher`. A subclass defines how it is built, and which features it matches."""

    @classmethod
    def build(cls) -> Matcher:
        """Build the matcher."""
        raise NotImplementedError(f"{cls.__name__} must define `build`")

    @classmethod
    def build_extractor(cls) -> Extractor:
        """Build the extractor of the matched features; about 200 features of an image are enough."""
        return SiftExtractor(SiftConfig(max_keypoints=200))

    @pytest.fixture(scope="class")
    @classmethod
    def matcher(cls) -> Matcher:
        """The matcher under test."""
        return cls.build()

    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls) -> FeaturePair:
        """Features of two windows of one texture; the second window is shifted."""
        extractor = cls.build_extractor()
        first, second = (extractor.extract(window(shift)) for shift in ((0, 0), SHIFT_PX))
        return first, second

    @pytest.fixture(scope="class")
    @classmethod
    def matches(cls, matcher: Matcher, pair: FeaturePair) -> Matches:
        """Matches of the two windows."""
        return matcher.match(*pair)

    def test_matches_have_the_shift_of_the_windows(self, pair: FeaturePair, matches: Matches) -> None:
        """Nearly all matches are correct."""
        assert len(matches) > 40
        moved = pair[0].keypoints[matches.indices[:, 0]] - pair[1].keypoints[matches.indices[:, 1]]
        assert (np.linalg.norm(moved - SHIFT_PX, axis=1) < 2).mean() > 0.9

    def test_matches_are_valid_and_sorted_by_the_first_image(self, pair: FeaturePair, matches: Matches) -> None:
        """Scores lie between 0 and 1."""
        for side in (0, 1):
            assert matches.indices[:, side].min() >= 0
            assert matches.indices[:, side].max() < len(pair[side])
        assert (np.diff(matches.indices[:, 0]) > 0).all()
        assert (matches.scores >= 0).all()
        assert (matches.scores <= 1).all()
        assert matches.stop_layer >= 0

    def test_swapped_images_give_swapped_matches(self, matcher: Matcher, pair: FeaturePair, matches: Matches) -> None:
        """Matching is symmetric."""
        swapped = matcher.match(*pair[::-1]).swapped()
        np.testing.assert_array_equal(swapped.indices, matches.indices)
        np.testing.assert_allclose(swapped.scores, matches.scores, atol=1e-4)

    @pytest.mark.parametrize("sizes", [(0, 0), (0, 50), (50, 0)])
    def test_no_features_give_no_matches(self, matcher: Matcher, pair: FeaturePair, sizes: tuple[int, int]) -> None:
        """The result is empty and of the usual type."""
        matches = matcher.match(some(pair[0], sizes[0]), some(pair[1], sizes[1]))
        assert matches.indices.shape == (0, 2)
        assert matches.scores.shape == (0,)

    @pytest.mark.parametrize("sizes", [(1, 1), (1, 50), (50, 1), (2, 3)])
    def test_few_features_are_supported(self, matcher: Matcher, pair: FeaturePair, sizes: tuple[int, int]) -> None:
        """Also if there is no second-best candidate."""
        matches = matcher.match(some(pair[0], sizes[0]), some(pair[1], sizes[1]))
        assert len(matches) <= min(sizes)

    def test_a_batch_equals_its_pairs(self, matcher: Matcher, pair: FeaturePair) -> None:
        """Results are in the order of the pairs, which may have different sizes or be empty."""
        first, second = pair
        pairs = [(first, second), (some(first, 20), second), (some(first, 0), second), (second, some(first, 90))]
        together = matcher.match_batch(pairs)
        assert len(together) == len(pairs)
        for batched, alone in zip(together, (matcher.match(*one) for one in pairs), strict=True):
            np.testing.assert_array_equal(batched.indices, alone.indices)
            np.testing.assert_allclose(batched.scores, alone.scores, atol=1e-4)
            assert batched.stop_layer == alone.stop_layer
        assert matcher.batch_size >= 1

    def test_the_same_pair_gives_the_same_matches_on_any_thread(
        self, matcher: Matcher, pair: FeaturePair, matches: Matches
    ) -> None:
        """Results are equal bit by bit."""
        found = list(ordered_map(lambda pair: matcher.match(*pair), [pair, pair[::-1]] * 3, 3))
        assert {one.digest for one in found[::2]} == {matches.digest}
        assert len({one.digest for one in found[1::2]}) == 1

    def test_descriptors_of_different_dimensions_are_refused(self, matcher: Matcher, pair: FeaturePair) -> None:
        """The message names the dimensions."""
        first, second = pair
        narrow = np.ascontiguousarray(second.descriptors[:, : second.descriptors.shape[1] // 2])
        other = Features(second.keypoints, second.scores, narrow, second.image_size)
        with pytest.raises(ConfigError, match="dimensions"):
            matcher.match(first, other)

    def test_its_identity_can_be_part_of_a_key(self, matcher: Matcher) -> None:
        """So the store never returns matches of another configuration."""
        assert len(make_key(matcher.identity)) == 64
        assert matcher.identity.name


def window(shift: tuple[int, int] = (0, 0), seed: int = 0) -> Image:
    """A window of 240 x 180 pixels of a texture, with its corner at `shift` (x, y)."""
    pixels = textured(320, 240, seed)[shift[1] : 180 + shift[1], shift[0] : 240 + shift[0]]
    return Image.from_array(np.ascontiguousarray(pixels))


def some(features: Features, n: int) -> Features:
    """The first n features."""
    return Features(
        features.keypoints[:n],
        features.scores[:n],
        features.descriptors[:n],
        features.image_size,
        None if features.scales is None else features.scales[:n],
        None if features.orientations is None else features.orientations[:n],
    )
