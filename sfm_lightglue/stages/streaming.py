"""Match pairs while later images are still extracted; the stage "match" finds their results in the store."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.distributed import FillsStore
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.stages.matching import match_pairs
from sfm_lightglue.types import ImagePair, Scene, SceneImage

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

PAIRS_PER_IMAGE = 8
"""Pairs that are matched at most after each image, those of the images just before it first. With more, an image that
cannot be read would be found late, and the time left of the extraction would be a guess."""

_MAX_PARTNERS = 128
"""Earlier images that are looked up for each image at most: features of earlier ones are no longer in memory."""


class PairStream:
    """An `Executor` for the extraction of a scene, which also matches pairs whose images are both extracted.

    A pair is matched if the features of both images were computed by this run and are still in memory, so nothing is
    read from the store, and nothing is done where the images were extracted before. All other pairs are left to the
    stage "match". Images and pairs wait in one bounded queue, in which the pairs of an image precede the
    images that are not in it yet. No pair is in it before the matcher is prepared: workers would wait for that.

    Args:
        executor: computes images and pairs.
        pairs: of the scene.
        images: in the order of their extraction.
        features: that are extracted.
        matcher: with the store, for one pair at a time.
        verifier: with the store.
        may_match: whether pairs can be matched without waiting for anything.
    """

    def __init__(
        self,
        executor: Executor,
        pairs: Sequence[ImagePair],
        images: Sequence[SceneImage],
        features: SceneFeatures,
        matcher: CachedMatcher,
        verifier: CachedVerifier,
        may_match: Callable[[], bool] = lambda: True,
    ) -> None:
        self.seconds = dict.fromkeys(("extract", "match", "verify"), 0.0)
        self._executor = executor
        self._names = tuple(image.name for image in images)
        self._camera_from_name = {image.name: image.camera for image in images}
        self._earlier = earlier_partners(pairs, self._names)
        self._features, self._matcher, self._verifier = features, matcher, verifier
        self._may_match = may_match
        self._lock = threading.Lock()

    @property
    def num_workers(self) -> int:
        """Images and pairs that are computed at the same time."""
        return self._executor.num_workers

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """Results in the order of the items, the images of the scene.

        The caller makes each result known to the features before it asks for the next one.
        """
        ready: deque[ImagePair] = deque()

        def tasks() -> Iterator[Callable[[], tuple[ResultT] | None]]:
            for item in items:
                yield partial(self._timed, function, item)
                while ready and self._may_match():
                    yield partial(self._match, ready.popleft())

        num_done = 0
        for result in self._executor.map(lambda task: task(), tasks()):
            if result is None:
                continue
            yield result[0]
            ready.extend(self._ready_pairs(num_done))
            num_done += 1

    def _ready_pairs(self, position: int) -> Iterator[ImagePair]:
        """The pairs of an image that was just extracted with earlier ones."""
        name = self._names[position]
        if not self._features.is_in_memory(name):
            return iter(())
        others = map(self._names.__getitem__, islice(self._earlier(position), _MAX_PARTNERS))
        known = filter(self._features.is_in_memory, others)
        return (ImagePair.from_names(name, other) for other in islice(known, PAIRS_PER_IMAGE))

    def _timed(self, function: Callable[[ItemT], ResultT], item: ItemT) -> tuple[ResultT]:
        start = time.perf_counter()
        result = function(item)
        self._count("extract", time.perf_counter() - start)
        return (result,)

    def _match(self, pair: ImagePair) -> None:
        try:
            for found in match_pairs([pair], self._features, self._camera_from_name, self._matcher, self._verifier):
                self._count("match", found.match_seconds)
                self._count("verify", found.verify_seconds)
        except DataError as error:  # the stage "match" meets it again
            logger.debug("%s - %s: not matched while images are extracted: %s", pair.name0, pair.name1, error)

    def _count(self, stage: str, seconds: float) -> None:
        with self._lock:
            self.seconds[stage] += seconds


def extract_and_match(
    scene: Scene,
    pairs: Sequence[ImagePair],
    extractor: CachedExtractor,
    matcher: CachedMatcher,
    verifier: CachedVerifier,
    clock: Clock,
    executor: Executor = SERIAL,
    progress: Progress = silent,
    max_keypoints_dense: int = 0,
) -> SceneFeatures:
    """Features of all images of a scene as by `extract_scene`, and some of its pairs are matched meanwhile.

    No pair is matched by one worker, by executors of several processes, and by matchers of several pairs at a time:
    their batches are made of all pairs of a scene, so that they do not depend on the order of the extraction.

    Args:
        scene: the images.
        pairs: that will be matched.
        extractor: with the store.
        matcher: with the store.
        verifier: with the store.
        clock: receives the time of the stages "extract", "match" and "verify".
        executor: works on several images and pairs at a time.
        progress: called after each image.
        max_keypoints_dense: about the number of places of the dense layer of an image; 0 for none.

    Raises:
        DataError: if no image can be decoded.
    """
    if executor.num_workers == 1 or isinstance(executor, FillsStore) or matcher.batch_size > 1:
        with clock.stage("extract"):
            return extract_scene(scene, extractor, executor, progress, max_keypoints_dense)
    features = SceneFeatures(scene, extractor, max_keypoints_dense=max_keypoints_dense)
    is_prepared = threading.Event()
    stream = PairStream(executor, pairs, scene.images, features, matcher, verifier, is_prepared.is_set)
    start = time.perf_counter()
    # A run that is continued after the extraction may find all of its pairs in the store, too.
    is_new = len(pairs) > 0 and not any(map(features.is_stored, scene.images[: executor.num_workers]))
    if not is_new:
        is_prepared.set()  # nothing waits for it
    with one_blas_thread(), prepared_meanwhile(matcher, is_prepared) if is_new else nullcontext():
        features.extract(stream, progress)
    clock.share_out(time.perf_counter() - start, stream.seconds)
    return features


@contextmanager
def prepared_meanwhile(matcher: CachedMatcher, is_prepared: threading.Event) -> Iterator[None]:
    """Load what a matcher needs in a thread of its own during the block: import torch, and read a network.

    Args:
        matcher: with the store.
        is_prepared: set at the end, also after an error.
    """

    def prepare() -> None:
        try:
            matcher.prepare()
        except Exception as error:  # whatever it is, the first pair raises it again
            logger.debug("the matcher cannot be prepared: %s: %s", type(error).__name__, error)
        finally:
            is_prepared.set()

    thread = threading.Thread(target=prepare, name="prepare-matcher")
    thread.start()
    yield
    thread.join()  # not after an error: the import may take long


def earlier_partners(pairs: Sequence[ImagePair], names: Sequence[str]) -> Callable[[int], Iterable[int]]:
    """The images before each one that it is paired with, the last one first.

    Args:
        pairs: any set; no pair is made as an object.
        names: of all images in an order; images are their positions in it.
    """
    if isinstance(pairs, AllPairs) and len(pairs.names) == len(names):
        return lambda position: range(position - 1, -1, -1)
    indexed = IndexedPairs.from_pairs(names, pairs)
    position_from_name = {name: position for position, name in enumerate(names)}
    rows = np.sort(np.array([position_from_name[name] for name in indexed.names], np.int32)[indexed.rows], axis=1)
    rows = rows[np.lexsort((-rows[:, 0], rows[:, 1]))]
    starts = np.searchsorted(rows[:, 1], np.arange(len(names) + 1))
    return lambda position: rows[starts[position] : starts[position + 1], 0].tolist()
