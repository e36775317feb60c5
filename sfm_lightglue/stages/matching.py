"""Match and verify the pairs of a scene, streaming: each pair is forgotten once it is in the database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.types import Camera, ImagePair, Matches, Rejected, TwoViewGeometry

BLOCK_SIZE = 48
"""Images of a block; two blocks fit into the memory of `SceneFeatures`."""


def in_blocks(pairs: Sequence[ImagePair]) -> list[ImagePair]:
    """Order pairs so that those of two blocks of images follow each other: their features are read once for all."""
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    block_from_name = {name: i // BLOCK_SIZE for i, name in enumerate(names)}
    return sorted(pairs, key=lambda pair: (block_from_name[pair.name0], block_from_name[pair.name1], pair))


@dataclass(frozen=True, eq=False, slots=True)
class PairResult:
    """What is known of one pair, and the seconds of work that it took."""

    pair: ImagePair
    matches: Matches
    geometry: TwoViewGeometry | Rejected
    match_seconds: float
    verify_seconds: float


def match_pairs(
    pairs: Sequence[ImagePair],
    features: SceneFeatures,
    camera_from_name: Mapping[str, Camera],
    matcher: CachedMatcher,
    verifier: CachedVerifier,
    num_threads: int = 1,
    progress: Progress = silent,
) -> Iterator[PairResult]:
    """Matches and geometry of each pair, in the order of `in_blocks`.

    Args:
        pairs: of extracted images.
        features: of the scene.
        camera_from_name: intrinsics.
        matcher: with the store behind it.
        verifier: with the store behind it.
        num_threads: batches of pairs under way at a time.
        progress: told of each pair.
    """

    def work(batch: Sequence[ImagePair]) -> list[PairResult]:
        start = time.perf_counter()
        loaded = [(features[pair.name0], features[pair.name1]) for pair in batch]
        found = matcher.match_batch(loaded)
        middle = time.perf_counter()
        geometries = [
            verifier.verify(pair, both, matches, (camera_from_name[pair.name0], camera_from_name[pair.name1]))
            for pair, both, matches in zip(batch, loaded, found, strict=True)
        ]
        match_seconds = (middle - start) / len(batch)
        verify_seconds = (time.perf_counter() - middle) / len(batch)
        return [
            PairResult(pair, matches, geometry, match_seconds, verify_seconds)
            for pair, matches, geometry in zip(batch, found, geometries, strict=True)
        ]

    size = matcher.batch_size
    ordered = in_blocks(pairs)
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    num_done = 0
    progress("match", 0, len(pairs))
    for results in ordered_map(work, batches, num_threads):
        for result in results:
            num_done += 1
            progress("match", num_done, len(pairs))
            yield result
