"""Similar images of a scene: the signature of each image is computed once and kept in the store."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Int8Array, require_array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.features import Features
from sfm_lightglue.retrieval.kept_results import KeptResults, KeptSimilarImages
from sfm_lightglue.retrieval.largest_keypoints import LargestKeypoints
from sfm_lightglue.retrieval.learning import LEARNING_VERSION, principal_axes
from sfm_lightglue.retrieval.scene_vocabulary import KIND, key_of, scene_vocabulary, spread
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.retrieval.vlad import unit_rows
from sfm_lightglue.retrieval.vocabulary import Signature, Vocabulary, sift_vocabulary
from sfm_lightglue.store.store import Store, make_key

logger = logging.getLogger(__name__)

DESCRIBE_VERSION = 1
"""Number to raise when a change of the code changes the signatures of a vocabulary."""

_MAX_DIMENSION = 256
"""Dimensions of the global descriptors of a scene with more images than that."""

_NUM_FOR_AXES = 1024
"""Images that determine these dimensions."""

_BLOCK_ROWS = 512


def describe_scene(
    features: Mapping[str, Features],
    store: Store | None = None,
    executor: Executor = SERIAL,
    progress: Progress = silent,
) -> SimilarImages:
    """Global descriptors of the images of a scene that have keypoints.

    The vectors are VLADs without what all images of the scene have in common. They are kept in 256 dimensions if the
    scene has more images than that.

    Args:
        features: by name of image. If it has `key_of`, features are read only where the store has no signature.
        store: keeps a signature of 12 kB of each image, and which images are similar; None if nothing is kept. With
            the results that are asked for in the store, nothing is read or computed.
        executor: computes signatures, and searches similar images.
        progress: called with "describe" after each image.
    """

    def build() -> tuple[SimilarImages, bool]:
        return _describe_all(features, store, executor, progress)

    if store is None:
        return build()[0]
    names = sorted(features)
    try:
        keys = "".join(key_of(features, name) for name in names)
    except DataError:  # features that are not in the store, of an image that can no longer be read
        return build()[0]
    versions = [DESCRIBE_VERSION, LEARNING_VERSION, sift_vocabulary().digest]
    key = make_key(versions, hashlib.sha256(keys.encode()).hexdigest())
    return KeptSimilarImages.of_scene(names, KeptResults(key, build, store, executor))


def _describe_all(
    features: Mapping[str, Features], store: Store | None, executor: Executor, progress: Progress
) -> tuple[SimilarImages, bool]:
    """All images that have keypoints, and whether all others have none; the rest cannot be read."""
    vocabulary = scene_vocabulary(features, store, executor)
    if vocabulary is None:
        return SimilarImages((), np.zeros((0, 1), np.float32)), False
    describer = ImageDescriber(features, vocabulary, store)
    names, vlads, largest, is_complete = [], [], [], True
    progress("describe", 0, len(features))
    for num_done, (name, signature) in enumerate(executor.map(describer.describe, sorted(features)), start=1):
        is_complete &= signature is not None
        if signature is not None and signature.vlad.any():
            names.append(name)
            vlads.append(signature.vlad)
            largest.append(signature.largest)
        progress("describe", num_done, len(features))
    if not names:
        return SimilarImages((), np.zeros((0, 1), np.float32)), is_complete
    with one_blas_thread():
        vectors = scene_vectors(np.stack(vlads))
    keypoints = LargestKeypoints.from_images(largest)
    return SimilarImages(tuple(names), vectors, executor, keypoints, progress), is_complete


def scene_vectors(vlads: Int8Array) -> Float32Array:
    """Vectors [N, D] of length 1, D at most 256 or at most that of the VLADs, from the VLADs [N, K L] of a scene.

    Their mean is subtracted: images of one scene have much in common, which says nothing about their overlap. If all
    images are equal, the VLADs themselves are returned.
    """
    return SceneProjection.from_vlads(vlads).vectors(vlads)


@dataclass(frozen=True, eq=False, slots=True)
class SceneProjection:
    """How the VLADs of a scene become vectors.

    Args:
        mean: [K L] of the VLADs, which is subtracted.
        axes: [K L, D] on which the rest is projected; None if all dimensions are kept.
    """

    mean: Float32Array
    axes: Float32Array | None

    @classmethod
    def from_vlads(cls, vlads: Int8Array) -> SceneProjection:
        """That of a scene with these VLADs [N, K L], N at least 1."""
        chosen = _unit(vlads[spread(len(vlads), _NUM_FOR_AXES)])
        if len(vlads) > _MAX_DIMENSION:
            return cls(*principal_axes(chosen, _MAX_DIMENSION))
        return cls(chosen.mean(axis=0), None)

    def vectors(self, vlads: Int8Array) -> Float32Array:
        """Vectors [N, D] of length 1 of VLADs [N, K L]."""
        blocks = []
        for start in range(0, len(vlads), _BLOCK_ROWS):
            rows = _unit(vlads[start : start + _BLOCK_ROWS])
            centered = rows - self.mean
            if self.axes is not None and self.axes.shape[1] > 0:
                centered, rows = centered @ self.axes, rows @ self.axes
            is_mean = np.linalg.norm(centered, axis=1) < 1e-4
            blocks.append(unit_rows(np.where(is_mean[:, None], rows, centered)))
        return np.concatenate(blocks)


def _unit(vlads: Int8Array) -> Float32Array:
    return unit_rows(vlads.astype(np.float32))


class ImageDescriber:
    """Computes the signatures of images, once if there is a store.

    Args:
        features: by name of image.
        vocabulary: of the scene.
        store: keeps the signatures; None if nothing is kept.
    """

    def __init__(self, features: Mapping[str, Features], vocabulary: Vocabulary, store: Store | None) -> None:
        self._features = features
        self._vocabulary = vocabulary
        self._store = store

    def describe(self, name: str) -> tuple[str, Signature | None]:
        """The signature of an image; None if its features are damaged and the image can no longer be read."""
        try:
            return name, self._describe(name)
        except DataError as error:  # later stages report it
            logger.debug("%s: no global descriptor: %s", name, error)
            return name, None

    def _describe(self, name: str) -> Signature:
        if self._store is None:
            return self._vocabulary.describe(self._features[name])
        key = make_key("signature", DESCRIBE_VERSION, self._vocabulary.digest, key_of(self._features, name))
        stored = self._store.load_as(KIND, key, self._decode)
        if stored is not None:
            return stored
        signature = self._vocabulary.describe(self._features[name])
        self._store.save(KIND, key, {"vlad": signature.vlad, "largest": signature.largest})
        return signature

    def _decode(self, arrays: Mapping[str, AnyArray]) -> Signature:
        require_array("vlad", arrays["vlad"], np.int8, (self._vocabulary.dimension,))
        require_array("largest", arrays["largest"], np.int8, (None, self._vocabulary.words.shape[1]))
        return Signature(arrays["vlad"], arrays["largest"])
