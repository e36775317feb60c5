"""A closer look at pairs that may show nothing in common: how many of their best-spread keypoints match.

A pair without a common view costs as much as several easy ones when it is matched by a network, because its few bad
matches leave it open until the end. Nearest neighbours tell most of these pairs in a fiftieth of that time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Int32Array, require_array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.features import best_spread
from sfm_lightglue.retrieval.largest_keypoints import num_mutual_matches
from sfm_lightglue.retrieval.scene_vocabulary import KIND, key_of
from sfm_lightglue.retrieval.vlad import unit_rows
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import Features, ImagePair

CLOSER_LOOK_VERSION = 2
"""Number to raise when a change of the code finds other numbers of matches, or other limits."""

_NUM_KEYPOINTS = 640
"""Best-spread keypoints of each image that are compared."""

_NUM_IN_MEMORY = 512
"""Images whose descriptors are kept, in 84 MB if they have 128 numbers: partners in a video are far apart."""

_CHUNK = 64
_UNKNOWN = 2**30
"""Number of matches of an image that cannot be read: later stages report it."""

_NUM_SAMPLES = 200
"""Pairs of each kind that determine the limit; with fewer than the second number, no pair is left out."""

_MIN_SAMPLES = 20

_RANDOM_QUANTILE = 0.75
"""This fraction of random pairs of the scene has no more matches than the limit."""

_FRACTION_OF_USUAL = 0.25
"""The limit is at most this fraction of the matches of pairs that see the same: all images may show one place."""

_MIN_USUAL = 8
"""With fewer matches of pairs that see the same, in the median, no pair is left out: nearest neighbours do not work for
these features, and true pairs have as few matches as others."""

_MIN_TIMES_RANDOM = 2
"""Nor is one if these have not so many times the matches of random pairs."""


class CloserLook:
    """Compares the best-spread keypoints of pairs by mutual nearest neighbours that pass the ratio test.

    Args:
        features: by name of image.
        store: keeps the numbers of matches; None if nothing is kept.
        executor: compares chunks of pairs.
        progress: called with "compare" after each chunk.
    """

    def __init__(
        self,
        features: Mapping[str, Features],
        store: Store | None = None,
        executor: Executor = SERIAL,
        progress: Progress = silent,
    ) -> None:
        self._features, self._store, self._executor, self._progress = features, store, executor, progress
        self._kept: LruCache[str, AnyArray] = LruCache(_NUM_IN_MEMORY)

    def likely(self, pairs: Sequence[ImagePair], usual: Sequence[ImagePair]) -> BoolArray:
        """Which pairs [P] have more matches than images of different places of this scene.

        Args:
            pairs: the pairs.
            usual: pairs that probably or certainly see the same. They are few of all pairs.
        """
        if len(pairs) == 0:
            return np.zeros(0, np.bool_)
        found: BoolArray = self.num_matches(pairs) > self._limit(usual)
        return found

    def num_matches(self, pairs: Sequence[ImagePair]) -> Int32Array:
        """The number [P] of matches of each pair."""
        key = self._key(pairs)
        if self._store is None or key is None:
            return self._computed(pairs)

        def decode(arrays: Mapping[str, AnyArray]) -> Int32Array:
            require_array("numbers", arrays["numbers"], np.int32, (len(pairs),))
            return np.asarray(arrays["numbers"], np.int32)

        found = self._store.read_as(KIND, key, decode)
        if found is None:
            found = self._computed(pairs)
            if (found < _UNKNOWN).all():
                self._store.save(KIND, key, {"numbers": found})
        return found

    def _limit(self, usual: Sequence[ImagePair]) -> float:
        """Number of matches that pairs without a common view have; -1 if it is not known."""
        if len(usual) < _MIN_SAMPLES:
            return -1.0
        names, known = sorted(self._features), set(usual)
        rows = np.random.default_rng(0).integers(0, max(len(names), 1), (2 * _NUM_SAMPLES, 2))
        drawn = {ImagePair.from_names(names[i], names[j]) for i, j in rows.tolist() if i != j} - known
        random = sorted(drawn)[:: max(1, len(drawn) // _NUM_SAMPLES)]
        if len(random) < _MIN_SAMPLES:
            return -1.0
        chosen = [usual[row] for row in np.unique(np.linspace(0, len(usual) - 1, _NUM_SAMPLES).round().astype(int))]
        of_random = float(np.quantile(self.num_matches(random), _RANDOM_QUANTILE))
        of_usual = float(np.median(self.num_matches(sorted(chosen))))
        if of_usual < max(_MIN_USUAL, _MIN_TIMES_RANDOM * of_random):
            return -1.0
        return min(of_random, _FRACTION_OF_USUAL * of_usual)

    def _key(self, pairs: Sequence[ImagePair]) -> str | None:
        names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
        try:
            keys = "".join(key_of(self._features, name) for name in names)
        except DataError:  # features that are not in the store, of an image that can no longer be read
            return None
        listed = "\n".join(f"{pair.name0}\t{pair.name1}" for pair in pairs)
        digests = (hashlib.sha256(text.encode()).hexdigest() for text in (keys, listed))
        return make_key("closer look", CLOSER_LOOK_VERSION, *digests)

    def _computed(self, pairs: Sequence[ImagePair]) -> Int32Array:
        chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
        with one_blas_thread():
            results = self._executor.map(self._of_chunk, chunks)
            found = list(reporting(results, "compare", len(chunks), self._progress))
        return np.concatenate([np.zeros(0, np.int32), *found])

    def _of_chunk(self, pairs: Sequence[ImagePair]) -> Int32Array:
        return np.array([self._of_pair(pair) for pair in pairs], np.int32)

    def _of_pair(self, pair: ImagePair) -> int:
        try:
            return num_mutual_matches(self._descriptors(pair.name0) @ self._descriptors(pair.name1).T)
        except DataError:
            return _UNKNOWN

    def _descriptors(self, name: str) -> Float32Array:
        """Descriptors [K, D] of about length 1 of the best-spread keypoints of an image."""
        kept = self._kept.get(name)
        if kept is None:
            features = self._features[name]
            rows = best_spread(features.keypoints, features.scores, _NUM_KEYPOINTS, features.image_size)
            kept = unit_rows(features.descriptors[np.sort(rows)].astype(np.float32)).astype(np.float16)
            self._kept.put(name, kept)
        return kept.astype(np.float32)
