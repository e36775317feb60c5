"""Similar images of a scene for an image that is not in it: global descriptors that stay in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float32Array, Int8Array
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.features import Features
from sfm_lightglue.retrieval.describe import ImageDescriber, SceneProjection
from sfm_lightglue.retrieval.largest_keypoints import LargestKeypoints
from sfm_lightglue.retrieval.scene_vocabulary import scene_vocabulary
from sfm_lightglue.retrieval.similar_images import NUM_CANDIDATES
from sfm_lightglue.retrieval.vocabulary import Vocabulary
from sfm_lightglue.store.store import Store


@dataclass(frozen=True, eq=False, slots=True)
class ImageIndex:
    """The images of a scene by their global descriptors.

    Args:
        names: of the images that have keypoints, sorted.
        vocabulary: of local features; None if no image has keypoints.
        projection: of VLADs to vectors; None likewise.
        vectors: [N, D] of length 1.
        largest: [M_i, L] reduced descriptors of the largest keypoints of each image.
    """

    names: tuple[str, ...]
    vocabulary: Vocabulary | None
    projection: SceneProjection | None
    vectors: Float32Array
    largest: tuple[Int8Array, ...]

    @classmethod
    def from_features(
        cls,
        features: Mapping[str, Features],
        store: Store | None = None,
        executor: Executor = SERIAL,
        progress: Progress = silent,
    ) -> ImageIndex:
        """The index of the images of a scene.

        Args:
            features: by name of image.
            store: keeps the signatures of the images; None if nothing is kept.
            executor: computes signatures.
            progress: called with "describe" after each image.
        """
        vocabulary, found = scene_vocabulary(features, store, executor), []
        if vocabulary is not None:
            describer = ImageDescriber(features, vocabulary, store)
            results = reporting(executor.map(describer.describe, sorted(features)), "describe", len(features), progress)
            found = [(name, one) for name, one in results if one is not None and one.vlad.any()]
        if not found:
            return cls((), None, None, np.zeros((0, 1), np.float32), ())
        vlads = np.stack([one.vlad for _, one in found])
        with one_blas_thread():
            projection = SceneProjection.from_vlads(vlads)
            vectors = projection.vectors(vlads)
        names = tuple(name for name, _ in found)
        return cls(names, vocabulary, projection, vectors, tuple(one.largest for _, one in found))

    def query(self, features: Features, k: int, left_out: Collection[str] = ()) -> list[tuple[str, float]]:
        """The most similar images of the scene.

        Args:
            features: of the image that is asked for.
            k: largest number of images.
            left_out: images that are not returned.

        Returns:
            Names and similarities, most similar first: roughly the fraction of the largest keypoints that match.
        """
        if self.vocabulary is None or self.projection is None or len(features) == 0:
            return []
        signature = self.vocabulary.describe(features)
        if not signature.vlad.any():
            return []
        with one_blas_thread():
            products = self.vectors @ self.projection.vectors(signature.vlad[None])[0]
        allowed = np.array([name not in left_out for name in self.names])
        order = np.argsort(np.where(allowed, -products, np.inf), kind="stable")[: int(allowed.sum())]
        order = order[: max(NUM_CANDIDATES, 2 * k)]
        if len(order) == 0:
            return []
        largest = LargestKeypoints.from_images([signature.largest, *(self.largest[i] for i in order)])
        rows = np.stack([np.zeros(len(order), np.int64), 1 + np.arange(len(order))], axis=1)
        similarity = (largest.num_matches(rows) + products[order] / 4) / (largest.max_count + 0.25)
        best = np.argsort(-similarity, kind="stable")[:k]
        return [(self.names[order[i]], float(similarity[i])) for i in best]
