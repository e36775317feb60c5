"""Work on a scene that several processes share before each of them reads the results from the store.

The stages stay as they are: they compute what the store lacks. An executor that has the store filled first, by other
processes too, leaves them nothing to compute. So results have the same bytes, whoever computed them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.pairs.pair_sets import in_blocks
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.types import Camera, Features, ImagePair, SceneImage

ItemT = TypeVar("ItemT")


class SharedWork(Protocol[ItemT]):
    """Items whose results belong into the store."""

    @property
    def stage(self) -> str:
        """Name of the stage."""

    def __len__(self) -> int:
        """Number of items."""

    def batches(self, size: int) -> Iterator[list[ItemT]]:
        """All items, in the same order in every process."""

    def keys(self, item: ItemT) -> tuple[str, ...]:
        """Keys of the entries of an item."""

    def has(self, keys: tuple[str, ...]) -> bool:
        """Whether the store has all entries of an item."""

    def compute(self, items: Sequence[ItemT]) -> None:
        """Compute items, and save what can be computed."""


@runtime_checkable
class FillsStore(Protocol):
    """An executor that has items computed by several processes before the stage itself computes the rest."""

    def fill(self, work: SharedWork[ItemT], progress: Progress = silent) -> None:
        """Return when the store has all items that can be computed."""


@dataclass(frozen=True, eq=False, slots=True)
class FeatureWork:
    """Extraction of the features of images.

    Args:
        images: of the scene.
        extractor: with the store.
        max_keypoints_dense: about the number of places of the dense layer of an image; 0 for none.
        extract: computes and saves what the store lacks of one image, and does not fail.
    """

    images: Sequence[SceneImage]
    extractor: CachedExtractor
    max_keypoints_dense: int
    extract: Callable[[SceneImage], object]
    stage: ClassVar[str] = "extract"

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int) -> Iterator[list[SceneImage]]:
        """All images, in their order."""
        return in_batches(self.images, size)

    def keys(self, item: SceneImage) -> tuple[str, ...]:
        """Keys of the features, and of the dense features if there are any."""
        digest, turns, limit = item.content_digest, item.quarter_turns, self.max_keypoints_dense
        key = self.extractor.key(digest, turns)
        return (key,) if limit == 0 else (key, self.extractor.dense_key(digest, turns, limit))

    def has(self, keys: tuple[str, ...]) -> bool:
        """Whether the store has all layers of an image."""
        return self.extractor.has(keys[0]) and all(map(self.extractor.has_dense, keys[1:]))

    def compute(self, items: Sequence[SceneImage]) -> None:
        """Extract the features of images."""
        for image in items:
            self.extract(image)


@dataclass(frozen=True, eq=False, slots=True)
class PairWork:
    """Matching and verification of pairs.

    Args:
        pairs: of images that have features.
        block_size: number of images of a block, see `in_blocks`.
        features: by name of image.
        digest_of: digest of the features of an image by its name, without reading them.
        camera_from_name: intrinsics.
        matcher: with the store.
        verifier: with the store.
        match: matches, verifies and saves what the store lacks of a few pairs.
    """

    pairs: Sequence[ImagePair]
    block_size: int
    features: Mapping[str, Features]
    digest_of: Callable[[str], str]
    camera_from_name: Mapping[str, Camera]
    matcher: CachedMatcher
    verifier: CachedVerifier
    match: Callable[[Sequence[ImagePair]], object]
    stage: ClassVar[str] = "match"

    def __len__(self) -> int:
        return len(self.pairs)

    def batches(self, size: int) -> Iterator[list[ImagePair]]:
        """All pairs, in the order of `in_blocks`."""
        return in_batches(in_blocks(self.pairs, self.block_size), size)

    def keys(self, item: ImagePair) -> tuple[str, ...]:
        """Keys of the matches and of the geometry."""
        digests = self.digest_of(item.name0), self.digest_of(item.name1)
        matches_key = self.matcher.key(*digests)
        return matches_key, self.verifier.key(item, digests, matches_key, self.cameras(item))

    def cameras(self, pair: ImagePair) -> tuple[Camera, Camera]:
        """The cameras of a pair."""
        return self.camera_from_name[pair.name0], self.camera_from_name[pair.name1]

    def has(self, keys: tuple[str, ...]) -> bool:
        """Whether the store has matches and geometry of a pair."""
        return self.matcher.has(keys[0]) and self.verifier.has(keys[1])

    def compute(self, items: Sequence[ImagePair]) -> None:
        """Match and verify pairs."""
        for batch in in_batches(items, self.matcher.batch_size):
            self.match(batch)


def in_batches(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """Items in lists of a size; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
