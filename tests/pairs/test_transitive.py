"""Pairs that verified pairs suggest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.pairs.transitive import TransitiveConfig, connected_images, suggested_pairs, without_unlikely
from sfm_lightglue.retrieval.closer_look import CloserLook
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.types import ImagePair

NAMES = [f"{letter}.jpg" for letter in "abcdefgh"]


def pair(text: str) -> ImagePair:
    return ImagePair(f"{text[0]}.jpg", f"{text[1]}.jpg")


def pairs(*texts: str) -> IndexedPairs:
    return IndexedPairs.from_pairs(NAMES, [pair(text) for text in texts])


def verified(num_inliers: int, *texts: str) -> dict[ImagePair, int]:
    return {pair(text): num_inliers for text in texts}


def never() -> SimilarImages:
    raise AssertionError("no image is weakly connected")


def on_a_circle(*degrees: float) -> Callable[[], SimilarImages]:
    """Descriptors of the first images, the closer the angles the more similar."""
    angles = np.radians(degrees)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return lambda: SimilarImages(tuple(NAMES[: len(degrees)]), vectors)


ONLY_PATHS = TransitiveConfig(min_neighbors=0, num_similar=0)


def test_two_verified_pairs_suggest_the_third() -> None:
    found = suggested_pairs(pairs("ab", "bc"), verified(80, "ab", "bc"), ONLY_PATHS, never)
    assert list(found) == [pair("ac")]
    assert found.names == tuple(NAMES)


def test_a_pair_that_was_matched_is_not_asked_again() -> None:
    assert len(suggested_pairs(pairs("ab", "bc", "ac"), verified(80, "ab", "bc"), ONLY_PATHS, never)) == 0


def test_weak_pairs_suggest_nothing_alone_but_together() -> None:
    asked = pairs("ab", "bc", "ad", "cd", "ae", "ce")
    assert len(suggested_pairs(asked, verified(20, "ab", "bc"), ONLY_PATHS, never)) == 0
    found = suggested_pairs(asked, verified(20, "ab", "bc", "ad", "cd", "ae", "ce"), ONLY_PATHS, never)
    assert list(found) == [pair("ac")]  # .2 * .2 for each of three, above .1


def test_the_strongest_paths_of_each_image_are_taken() -> None:
    inliers = {pair("ab"): 100, pair("bc"): 100, pair("bd"): 60, pair("be"): 40}
    config = TransitiveConfig(max_per_image=1, min_neighbors=0, num_similar=0)
    found = suggested_pairs(pairs("ab", "bc", "bd", "be"), inliers, config, never)
    # a and c choose each other, and d and e choose a, the first of two equal paths.
    assert list(found) == [pair("ac"), pair("ad"), pair("ae")]


def test_an_image_with_few_pairs_is_matched_with_similar_ones() -> None:
    chain = pairs("ab", "bc", "ac", "ad", "bd", "cd", "ae")
    inliers = verified(80, "ab", "bc", "ac", "ad", "bd", "cd")
    config = TransitiveConfig(max_per_image=0, min_neighbors=3, num_similar=2)
    found = suggested_pairs(chain, inliers, config, on_a_circle(0, 10, 20, 30, 5))
    # e has no verified pair. a is the most similar image, but known; then b and c.
    assert list(found) == [pair("be"), pair("ce")]


def test_images_of_other_groups_come_first() -> None:
    asked = pairs("ab", "ac", "bc", "de", "df", "ef")
    config = TransitiveConfig(max_per_image=0, min_neighbors=3, num_similar=1)
    found = suggested_pairs(
        asked, verified(80, "ab", "ac", "bc", "de", "df", "ef"), config, on_a_circle(0, 1, 2, 3, 4, 5)
    )
    assert pair("cd") in found
    assert all((one.name0 < "d") != (one.name1 < "d") for one in found)


def test_images_without_features_are_left_out() -> None:
    config = TransitiveConfig(num_similar=3)
    found = suggested_pairs(pairs("ab"), verified(80, "ab"), config, on_a_circle(0, 10, 20))
    assert list(found) == [pair("ac"), pair("bc")]  # d to h have no descriptor


def test_groups_are_connected_images() -> None:
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 200, (120, 2))
    names = [f"{i:03d}" for i in range(200)]
    group = connected_images(IndexedPairs.from_rows(names, edges))
    parent = list(range(200))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, j in edges.tolist():
        parent[root(i)] = root(j)
    roots = np.array([root(i) for i in range(200)])
    assert ((group[:, None] == group) == (roots[:, None] == roots)).all()


def test_the_suggestions_do_not_depend_on_the_order_of_the_verified_pairs() -> None:
    rng = np.random.default_rng(1)
    names = [f"{i:03d}" for i in range(60)]
    listed = sorted({tuple(sorted(rng.choice(60, 2, replace=False).tolist())) for _ in range(150)})
    inliers = {ImagePair(names[i], names[j]): int(rng.integers(15, 150)) for i, j in listed}
    asked = IndexedPairs.from_pairs(names, inliers)
    found = suggested_pairs(asked, inliers, ONLY_PATHS, never)
    assert suggested_pairs(asked, dict(reversed(inliers.items())), ONLY_PATHS, never) == found
    assert len(found) > 50
    assert len(found.common(asked)) == 0


@pytest.mark.parametrize("option", ["rounds", "max_per_image", "min_neighbors", "num_similar", "min_strength"])
def test_wrong_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        TransitiveConfig(**{option: -1})  # type: ignore[arg-type]


class NothingLikely(CloserLook):
    """Finds nothing in common in any pair."""

    def __init__(self) -> None:
        super().__init__({})
        self.usual: list[ImagePair] = []

    def likely(self, pairs: Sequence[ImagePair], usual: Sequence[ImagePair]) -> np.ndarray:
        self.usual = list(usual)
        return np.zeros(len(pairs), np.bool_)


def test_unlikely_pairs_of_well_connected_images_are_left_out() -> None:
    inliers = verified(80, "ab", "ac", "bc", "cd", "de", "bd", "fg")
    suggested, look = pairs("ad", "be", "ae", "cf", "fh"), NothingLikely()
    found = without_unlikely(suggested, inliers, TransitiveConfig(min_neighbors=2), look)
    # e and f have one verified pair, h has none; c and f are not connected. Only a and d are sure to do without.
    assert list(found) == [pair("ae"), pair("be"), pair("cf"), pair("fh")]
    assert look.usual == sorted(inliers)
    assert without_unlikely(suggested, inliers, TransitiveConfig(closer_look=False), look) == suggested


def test_pairs_between_groups_of_well_connected_images_are_kept() -> None:
    inliers = verified(80, "ab", "ac", "bc", "de", "df", "ef")
    config = TransitiveConfig(min_neighbors=2)
    assert list(without_unlikely(pairs("ad", "be"), inliers, config, NothingLikely())) == [pair("ad"), pair("be")]
