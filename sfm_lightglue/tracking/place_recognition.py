"""Keyframes that show the same place as an image: global descriptors, which are added one by one."""

from __future__ import annotations

import threading
from collections.abc import Collection

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.features import Features
from sfm_lightglue.retrieval.largest_keypoints import LargestKeypoints
from sfm_lightglue.retrieval.learning import learn_vocabulary
from sfm_lightglue.retrieval.scene_vocabulary import is_root_sift
from sfm_lightglue.retrieval.similar_images import NUM_CANDIDATES
from sfm_lightglue.retrieval.vlad import unit_rows
from sfm_lightglue.retrieval.vocabulary import Signature, Vocabulary, sift_vocabulary
from sfm_lightglue.tracking.slam_map import Keyframe

_LEARN_FROM = 10
"""Keyframes from which a vocabulary for other features than SIFT is learnt, once."""

_NUM_DESCRIPTORS = 1000
"""Descriptors of each of them for that."""

_CENTER_FROM = 8
"""Number of keyframes from which what all have in common is subtracted."""


class PlaceRecognition:
    """The global descriptors of keyframes, of all maps. All methods take a lock.

    A keyframe takes 25 kB. For SIFT, the vocabulary is that of the package. For other features, it is learnt from the
    first keyframes, and nothing is found before.

    Args:
        seed: of the vocabulary that is learnt.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._waiting: dict[int, Features] = {}
        self._signatures: dict[int, Signature] = {}
        self._vectors: dict[int, Float32Array] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._signatures) + len(self._waiting)

    def add(self, keyframe: Keyframe) -> None:
        """Add a keyframe by its features; one without features is never found."""
        if len(keyframe.features) == 0:
            return
        with self._lock, one_blas_thread():
            if self._vocabulary is None and is_root_sift(keyframe.features.descriptors):
                self._vocabulary = sift_vocabulary()
            self._waiting[keyframe.idx] = keyframe.features
            if self._vocabulary is None and len(self._waiting) >= _LEARN_FROM:
                self._vocabulary = self._learnt()
            if self._vocabulary is not None:
                for idx, features in self._waiting.items():
                    self._signatures[idx] = self._vocabulary.describe(features)
                    self._vectors[idx] = unit_rows(self._signatures[idx].vlad[None].astype(np.float32))[0]
                self._waiting.clear()

    def remove(self, idx: int) -> None:
        """Forget a keyframe; nothing happens if it is not there."""
        with self._lock:
            for of_idx in (self._waiting, self._signatures, self._vectors):
                of_idx.pop(idx, None)

    def keep(self, idxs: Collection[int]) -> None:
        """Forget all keyframes but these."""
        with self._lock:
            gone = (self._signatures.keys() | self._waiting.keys()) - set(idxs)
        for idx in gone:
            self.remove(idx)

    def query(self, features: Features, num: int, excluded: Collection[int] = ()) -> list[tuple[int, float]]:
        """Keyframes that look like an image.

        Those with the most similar VLADs are ordered by the number of their largest keypoints that match.

        Args:
            features: of the image.
            num: number of keyframes.
            excluded: keyframes that are not wanted.

        Returns:
            (idx, similarity) of at most `num` keyframes, most similar first. The similarity is roughly the fraction
            of the largest keypoints that match.
        """
        with self._lock, one_blas_thread():
            if self._vocabulary is None or len(features) == 0:
                return []
            return self._most_similar(self._vocabulary.describe(features), num, excluded)

    def query_keyframe(self, idx: int, num: int, excluded: Collection[int] = ()) -> list[tuple[int, float]]:
        """As `query`, for a keyframe that was added; nothing looks like one that is not there."""
        with self._lock, one_blas_thread():
            signature = self._signatures.get(idx)
            return [] if signature is None else self._most_similar(signature, num, {idx, *excluded})

    def _most_similar(self, signature: Signature, num: int, excluded: Collection[int]) -> list[tuple[int, float]]:
        idxs = np.array(sorted(self._signatures.keys() - set(excluded)), np.int64)
        if len(idxs) == 0 or num < 1:
            return []
        products = self._products(signature, idxs)
        order = np.lexsort((idxs, -products))[: max(num, NUM_CANDIDATES)]
        similarity = self._similarity(signature, idxs[order]) + products[order] / 1000
        best = np.lexsort((idxs[order], -similarity))[:num]
        return list(zip(idxs[order][best].tolist(), similarity[best].tolist(), strict=True))

    def _products(self, signature: Signature, idxs: IndexArray) -> Float64Array:
        """Cosines [N] of the angles between VLADs, without what all keyframes have in common."""
        vector = unit_rows(signature.vlad[None].astype(np.float32))[0]
        everything = np.stack(list(self._vectors.values()))
        rows = np.stack([self._vectors[idx] for idx in idxs.tolist()])
        if len(everything) >= _CENTER_FROM:
            mean = everything.mean(axis=0)
            vector, rows = unit_rows((vector - mean)[None])[0], unit_rows(rows - mean)
        products: Float64Array = np.round((rows @ vector).astype(np.float64), 6)
        return products

    def _similarity(self, signature: Signature, idxs: IndexArray) -> Float64Array:
        """Fractions [N] of the largest keypoints that match."""
        images = [signature.largest, *(self._signatures[idx].largest for idx in idxs.tolist())]
        largest = LargestKeypoints.from_images(images)
        pairs = np.stack([np.zeros(len(idxs), np.int64), np.arange(1, len(images))], axis=1)
        return largest.num_matches(pairs).astype(np.float64) / largest.max_count

    def _learnt(self) -> Vocabulary:
        random = np.random.default_rng(self._seed)
        chosen = []
        for features in self._waiting.values():
            rows = random.permutation(len(features))[:_NUM_DESCRIPTORS]
            chosen.append(features.descriptors[np.sort(rows)])
        return learn_vocabulary(np.concatenate(chosen), self._seed)
