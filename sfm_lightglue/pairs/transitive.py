"""Pairs that verified pairs suggest: images that see what a third image sees, and more for weakly connected images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array, IndexArray
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.retrieval.closer_look import CloserLook
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.types import ImagePair

_FULL_INLIERS = 100
"""Number of inliers from which a verified pair is a link of full strength, 1."""

_CANDIDATES_PER_SIMILAR = 4
"""Similar images that are looked at for each that is matched: among them, those of other groups are taken first."""

_CHUNK_IMAGES = 256
"""Images whose paths over them are counted at a time."""


@dataclass(frozen=True, slots=True)
class TransitiveConfig:
    """Options of the rounds of matching after the first one.

    Exhaustive pairs, pairs from a file and those of plug-ins have no further rounds.
    """

    rounds: int = 2
    """Largest number of rounds; a round in which no pair is verified is the last. 0 matches the selected pairs only."""

    max_per_image: int = 5
    """Each image is matched with at most this many images that its neighbours suggest, in each round."""

    min_strength: float = 0.1
    """Smallest strength of the paths between two images over a third: the sum of the products of the strengths of
    both pairs. A pair of 100 inliers or more has the strength 1, one of 20 inliers .2."""

    min_neighbors: int = 3
    """An image with fewer verified pairs is weakly connected and is matched with more images that look similar."""

    num_similar: int = 10
    """Number of these similar images, in each round."""

    closer_look: bool = True
    """Suggested pairs of images that are well connected already are left out if their keypoints have no more matches
    than those of images of different places: the nearest neighbours of 640 keypoints are compared."""

    def __post_init__(self) -> None:
        for name in ("rounds", "max_per_image", "min_neighbors", "num_similar"):
            if getattr(self, name) < 0:
                raise ConfigError(f"`transitive.{name}` must not be negative, got {getattr(self, name)}")
        if not self.min_strength > 0:
            raise ConfigError(f"`transitive.min_strength` must be positive, got {self.min_strength}")


def suggested_pairs(
    asked: IndexedPairs,
    num_inliers: Mapping[ImagePair, int],
    config: TransitiveConfig,
    similar: Callable[[], SimilarImages],
) -> IndexedPairs:
    """Pairs to match after those that were matched.

    Args:
        asked: all pairs that were matched; their names are all images of the scene. None of them is returned.
        num_inliers: of the verified pairs among them.
        config: limits.
        similar: global descriptors of the same names; called only if an image is weakly connected.
    """
    names = asked.names
    links = _Links.of(names, num_inliers)
    suggested = IndexedPairs.from_rows(names, _over_a_third(asked, links, config))
    weak = _weakly_connected(links, config.min_neighbors)
    if len(weak) > 0 and config.num_similar > 0:
        suggested = suggested.union(_similar_to(weak, links, asked, similar(), config.num_similar))
    return suggested.without(asked)


def without_unlikely(
    suggested: IndexedPairs, num_inliers: Mapping[ImagePair, int], config: TransitiveConfig, look: CloserLook
) -> IndexedPairs:
    """Suggested pairs without those that probably show nothing in common.

    Pairs of weakly connected images, and of images that no verified pairs connect, are all kept.

    Args:
        suggested: the pairs.
        num_inliers: of the verified pairs.
        config: whether and where pairs are left out.
        look: compares the keypoints of pairs.
    """
    if not config.closer_look:
        return suggested
    links = _Links.of(suggested.names, num_inliers)
    is_strong, group = links.num_neighbors >= max(1, config.min_neighbors), links.groups()
    rows = suggested.rows
    doubtful = is_strong[rows].all(axis=1) & (group[rows[:, 0]] == group[rows[:, 1]])
    asked = IndexedPairs.from_rows(suggested.names, rows[doubtful])
    is_likely = look.likely(asked, sorted(num_inliers))
    return suggested.without(IndexedPairs.from_rows(suggested.names, asked.rows[~is_likely]))


@dataclass(frozen=True, eq=False, slots=True)
class _Links:
    """The verified pairs in both directions, by first image: neighbours of image i are at starts[i]:starts[i + 1]."""

    starts: IndexArray
    ends: IndexArray
    strengths: Float64Array

    @classmethod
    def of(cls, names: Sequence[str], num_inliers: Mapping[ImagePair, int]) -> _Links:
        row = {name: i for i, name in enumerate(names)}
        pairs = np.array([(row[pair.name0], row[pair.name1]) for pair in num_inliers], np.int64).reshape(-1, 2)
        strength = np.minimum(np.array([*num_inliers.values()], np.float64) / _FULL_INLIERS, 1)
        both = np.concatenate([pairs, pairs[:, ::-1]])
        order = np.lexsort((both[:, 1], both[:, 0]))
        starts = np.searchsorted(both[order, 0], np.arange(len(names) + 1))
        return cls(starts, both[order, 1], np.concatenate([strength, strength])[order])

    @property
    def num_neighbors(self) -> IndexArray:
        """[N] of each image."""
        return np.diff(self.starts)

    def groups(self) -> IndexArray:
        """A number [N] for each image, equal for connected images."""
        group = np.arange(len(self.num_neighbors))
        source = np.repeat(group, self.num_neighbors)
        while True:  # each image takes the lowest number around it, then the number of the image of that number
            lowest = group.copy()
            np.minimum.at(lowest, source, group[self.ends])
            lowest = np.minimum(lowest, lowest[lowest])
            if np.array_equal(lowest, group):
                return np.unique(group, return_inverse=True)[1]
            group = lowest

    def neighbors(self, images: IndexArray) -> tuple[IndexArray, IndexArray, Float64Array]:
        """For all neighbours of some images: the position in `images`, the neighbour, and the strength."""
        counts = self.num_neighbors[images]
        position = np.repeat(np.arange(len(images)), counts)
        entry = np.arange(len(position)) - np.repeat(np.cumsum(counts) - counts, counts)
        link = self.starts[images][position] + entry
        return position, self.ends[link], self.strengths[link]


def _over_a_third(asked: IndexedPairs, links: _Links, config: TransitiveConfig) -> IndexArray:
    """Pairs [P, 2] of images with a common neighbour; those of an image with the largest strength."""
    num = len(asked.names)
    known = np.sort(np.concatenate([_codes(asked.rows, num), _codes(asked.rows[:, ::-1], num)]))
    chosen = []
    for start in range(0, num, _CHUNK_IMAGES):
        images = np.arange(start, min(start + _CHUNK_IMAGES, num))
        first, middle, strength = links.neighbors(images)
        second, end, further = links.neighbors(middle)
        codes = images[first[second]] * num + end
        codes, inverse = np.unique(codes, return_inverse=True)
        total = np.bincount(inverse, strength[second] * further, minlength=len(codes))
        image, other = np.divmod(codes, num)
        is_new = (image != other) & (total >= config.min_strength) & ~_is_in(codes, known)
        image, other, total = image[is_new], other[is_new], total[is_new]
        order = np.lexsort((other, -total, image))
        image, other = image[order], other[order]
        rank = np.arange(len(image)) - np.searchsorted(image, image)
        chosen.append(np.stack([image, other], axis=1)[rank < config.max_per_image])
    return np.concatenate(chosen) if chosen else np.zeros((0, 2), np.int64)


def _weakly_connected(links: _Links, min_neighbors: int) -> IndexArray:
    """Images with few verified pairs, and those outside of the largest group of connected images."""
    group = links.groups()
    sizes = np.bincount(group, minlength=1)
    return np.flatnonzero((links.num_neighbors < min_neighbors) | (group != np.argmax(sizes)))


def connected_images(verified: IndexedPairs) -> IndexArray:
    """A number [N] for each name, equal for images that the pairs connect, also over other images."""
    return _Links.of(verified.names, dict.fromkeys(verified, _FULL_INLIERS)).groups()


def _similar_to(
    weak: IndexArray, links: _Links, asked: IndexedPairs, similar: SimilarImages, num_similar: int
) -> IndexedPairs:
    """The most similar images of weakly connected ones that they were not matched with, those of other groups first."""
    names, num = asked.names, len(asked.names)
    row_from_name = {name: i for i, name in enumerate(similar.names)}
    row = np.array([row_from_name.get(name, -1) for name in names])  # -1: an image without features
    image = np.full(len(similar), -1)
    image[row[row >= 0]] = np.flatnonzero(row >= 0)
    weak = weak[row[weak] >= 0]
    num_asked = np.bincount(asked.rows.ravel(), minlength=num)
    num_candidates = int(num_asked[weak].max(initial=0)) + _CANDIDATES_PER_SIMILAR * num_similar
    found = similar.between(row[weak], row[row >= 0], num_candidates)[0]
    first = np.repeat(weak, found.shape[1])
    second = np.where(found >= 0, image[found], -1).ravel()
    known = np.sort(np.concatenate([_codes(asked.rows, num), _codes(asked.rows[:, ::-1], num)]))
    is_new = (second >= 0) & ~_is_in(first * num + second, known)
    group = links.groups()
    order = np.lexsort((group[first] == group[second], first))  # stable: by similarity within both
    order = order[is_new[order]]
    position = np.arange(len(order)) - np.searchsorted(first[order], first[order])
    chosen = order[position < num_similar]
    return IndexedPairs.from_rows(names, np.stack([first[chosen], second[chosen]], axis=1))


def _codes(rows: AnyArray, num_names: int) -> IndexArray:
    wide = rows.astype(np.int64)
    codes: IndexArray = wide[:, 0] * num_names + wide[:, 1]
    return codes


def _is_in(codes: IndexArray, ordered: IndexArray) -> BoolArray:
    """Whether each code is among sorted ones."""
    if len(ordered) == 0:
        return np.zeros(len(codes), np.bool_)
    found: BoolArray = ordered[np.searchsorted(ordered, codes).clip(max=len(ordered) - 1)] == codes
    return found
