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

_BATCHES_PER_TASK = 8
"""So many batches whose pairs are stored are one task of a thread, so that the threads seldom wait for each other."""


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

    def work(batch: Sequence[ImagePair]) -> list[PairResult]:
        start = time.perf_counter()
        known = [(keypoints_of(pair.name0), keypoints_of(pair.name1)) for pair in batch]
        stored = [matcher.load(*both) for both in known]
        missing = [pair for pair, matches in zip(batch, stored, strict=True) if matches is None]
        computed = iter(matcher.compute([features_of(pair) for pair in missing]))
        found = [next(computed) if matches is None else matches for matches in stored]
        middle = time.perf_counter()
        geometries = []
        for pair, both, matches in zip(batch, known, found, strict=True):
            cameras = camera_from_name[pair.name0], camera_from_name[pair.name1]
            geometry = verifier.load(pair, both, matches, cameras)
            if geometry is None:
                geometry = verifier.compute(pair, features_of(pair), matches, cameras)
            geometries.append(geometry)
        match_seconds = (middle - start) / len(batch)
        verify_seconds = (time.perf_counter() - middle) / len(batch)
        return [
            PairResult(pair, both, matches, geometry, match_seconds, verify_seconds)
            for pair, both, matches, geometry in zip(batch, known, found, geometries, strict=True)
        ]

    def work_all(batches: Sequence[Sequence[ImagePair]]) -> list[PairResult]:
        return [result for batch in batches for result in work(batch)]

    def is_stored(batch: Sequence[ImagePair]) -> bool:
        return matcher.has(matcher.key(digest_of(batch[0].name0), digest_of(batch[0].name1)))

    digest_of = features.key_of if isinstance(features, SceneFeatures) else lambda name: features[name].digest
    if isinstance(executor, FillsStore):
        shared = PairWork(pairs, BLOCK_SIZE, features, digest_of, camera_from_name, matcher, verifier, work)
        executor.fill(shared, progress)
    batches = in_batches(in_blocks(pairs, BLOCK_SIZE), matcher.batch_size)
    num_done = 0
    progress("match", 0, len(pairs))
    for results in executor.map(work_all, _as_tasks(batches, is_stored)):
        for result in results:
            num_done += 1
            progress("match", num_done, len(pairs))
            yield result


def _as_tasks(
    batches: Iterable[list[ImagePair]], is_stored: Callable[[Sequence[ImagePair]], bool]
) -> Iterator[list[list[ImagePair]]]:
    """Batches that follow each other in one task where they are stored. One that is computed is a task by itself."""
    task: list[list[ImagePair]] = []
    for batch in batches:
        if is_stored(batch):
            task.append(batch)
            if len(task) < _BATCHES_PER_TASK:
                continue
        elif task:
            yield task
            task = [batch]
        else:
            task = [batch]
        yield task
        task = []
    if task:
        yield task
