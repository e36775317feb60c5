"""Match and verify the pairs of a scene as a stream: the results of a pair are dropped once they are used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.pairs.pair_sets import in_blocks
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.distributed import FillsStore, PairWork, in_batches
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.keypoints import HasKeypoints
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Rejected, TwoViewGeometry

BLOCK_SIZE = 48
"""Images of a block; the features of two blocks fit into the memory of `SceneFeatures`."""

_STORED_PER_TASK = 16
"""Number of batches whose pairs are stored that are handed over together."""


@dataclass(frozen=True, eq=False, slots=True)
class PairResult:
    """Matches and geometry of one pair, with the keypoints of both images, and the seconds that they took."""

    pair: ImagePair
    keypoints: tuple[HasKeypoints, HasKeypoints]
    matches: Matches
    geometry: TwoViewGeometry | Rejected
    match_seconds: float
    verify_seconds: float


def match_pairs(
    pairs: Sequence[ImagePair],
    features: Mapping[str, Features],
    camera_from_name: Mapping[str, Camera],
    matcher: CachedMatcher,
    verifier: CachedVerifier,
    executor: Executor = SERIAL,
    progress: Progress = silent,
) -> Iterator[PairResult]:
    """Matches and geometry of each pair, in the order of `in_blocks`.

    Features are read only where the store lacks matches or a geometry.

    Args:
        pairs: of images that have features.
        features: by name of image.
        camera_from_name: intrinsics.
        matcher: with the store.
        verifier: with the store.
        executor: computes batches of pairs.
        progress: called after each pair.
    """
    keypoints_of: Callable[[str], HasKeypoints]
    keypoints_of = features.keypoints_of if isinstance(features, SceneFeatures) else features.__getitem__

    def features_of(pair: ImagePair) -> tuple[Features, Features]:
        return features[pair.name0], features[pair.name1]

    def cameras_of(pair: ImagePair) -> tuple[Camera, Camera]:
        return camera_from_name[pair.name0], camera_from_name[pair.name1]

    def read(batch: Sequence[ImagePair]) -> _Batch:
        start = time.perf_counter()
        known = [(keypoints_of(pair.name0), keypoints_of(pair.name1)) for pair in batch]
        stored = [matcher.load(*both) for both in known]
        middle = time.perf_counter()
        geometries = [
            None if matches is None else verifier.load(pair, both, matches, cameras_of(pair))
            for pair, both, matches in zip(batch, known, stored, strict=True)
        ]
        return _Batch(batch, known, stored, geometries, middle - start, time.perf_counter() - middle)

    def completed(batch: _Batch) -> list[PairResult]:
        start = time.perf_counter()
        missing = [pair for pair, matches in zip(batch.pairs, batch.matches, strict=True) if matches is None]
        computed = iter(matcher.compute([features_of(pair) for pair in missing]) if missing else ())
        middle = time.perf_counter()
        results = []
        for pair, both, stored, geometry in zip(
            batch.pairs, batch.keypoints, batch.matches, batch.geometries, strict=True
        ):
            matches, cameras = next(computed) if stored is None else stored, cameras_of(pair)
            if stored is None:
                geometry = verifier.load(pair, both, matches, cameras)
            if geometry is None:
                geometry = verifier.compute(pair, features_of(pair), matches, cameras)
            results.append((pair, both, matches, geometry))
        match_seconds = (batch.match_seconds + middle - start) / len(batch.pairs)
        verify_seconds = (batch.verify_seconds + time.perf_counter() - middle) / len(batch.pairs)
        return [PairResult(*result, match_seconds, verify_seconds) for result in results]

    def all_completed(batches: Sequence[_Batch]) -> list[PairResult]:
        return [result for batch in batches for result in completed(batch)]

    def work(batch: Sequence[ImagePair]) -> list[PairResult]:
        return completed(read(batch))

    if isinstance(executor, FillsStore):
        digest_of = features.key_of if isinstance(features, SceneFeatures) else lambda name: features[name].digest
        shared = PairWork(pairs, BLOCK_SIZE, features, digest_of, camera_from_name, matcher, verifier, work)
        executor.fill(shared, progress)
    batches = map(read, in_batches(in_blocks(pairs, BLOCK_SIZE), matcher.batch_size))
    num_done = 0
    progress("match", 0, len(pairs))
    for results in executor.map(all_completed, _as_tasks(batches)):
        for result in results:
            num_done += 1
            progress("match", num_done, len(pairs))
            yield result


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    """Pairs, and what the store has of them: it is read by the caller, and workers compute the rest.

    To read an entry takes Python's lock nearly all the time, so several threads would only wait for each other.

    Args:
        pairs: of the batch.
        keypoints: of both images of each.
        matches: of each; None if they are not stored.
        geometries: of each; None if it is not stored, or if its matches are not.
        match_seconds: that it took to read the matches.
        verify_seconds: and the geometries.
    """

    pairs: Sequence[ImagePair]
    keypoints: Sequence[tuple[HasKeypoints, HasKeypoints]]
    matches: Sequence[Matches | None]
    geometries: Sequence[TwoViewGeometry | Rejected | None]
    match_seconds: float
    verify_seconds: float

    @property
    def is_stored(self) -> bool:
        """Whether nothing is to be computed."""
        return all(geometry is not None for geometry in self.geometries)


def _as_tasks(batches: Iterable[_Batch]) -> Iterator[list[_Batch]]:
    """The tasks of the workers: a batch that is to be computed alone, stored ones together."""
    stored: list[_Batch] = []
    for batch in batches:
        if batch.is_stored:
            stored.append(batch)
        if stored and (not batch.is_stored or len(stored) >= _STORED_PER_TASK):
            yield stored
            stored = []
        if not batch.is_stored:
            yield [batch]
    if stored:
        yield stored
