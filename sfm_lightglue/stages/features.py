"""The features of a scene, at hand by name without all being in memory."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.images.image import Image
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.encoding import features_from_arrays
from sfm_lightglue.types import Features, Scene, SceneImage, SkippedImage

logger = logging.getLogger(__name__)


class SceneFeatures:
    """Extracts all features of a scene once, and fetches them from the store whenever they are asked for.

    Keypoints stay in memory; of the descriptors only those of the images used last.

    Args:
        scene: the photos.
        extractor: with the store behind it.
        num_in_memory: images whose descriptors are kept.
    """

    def __init__(self, scene: Scene, extractor: CachedExtractor, num_in_memory: int = 128) -> None:
        self._extractor = extractor
        self._image_from_name = {image.name: image for image in scene.images}
        self._num_in_memory = num_in_memory
        self._recent: OrderedDict[str, Features] = OrderedDict()
        self._key_from_name: dict[str, str] = {}
        self._lock = threading.Lock()
        self.keypoints_from_name: dict[str, Float32Array] = {}
        self.skipped: list[SkippedImage] = []

    def extract(self, num_threads: int = 1, progress: Progress = silent) -> None:
        """Extract from every photo; those that cannot be decoded are logged, and listed in `skipped`."""
        images = list(self._image_from_name.values())
        progress("extract", 0, len(images))
        results = ordered_map(self._extract_one, images, num_threads)
        for num_done, (image, result) in enumerate(zip(images, results, strict=True), start=1):
            if isinstance(result, SkippedImage):
                logger.warning("left out %s: %s", result.name, result.reason)
                self.skipped.append(result)
            else:
                self.keypoints_from_name[image.name] = result
            progress("extract", num_done, len(images))

    @property
    def decoded_images(self) -> tuple[SceneImage, ...]:
        """The photos that have features, in the scene's order."""
        return tuple(image for name, image in self._image_from_name.items() if name in self.keypoints_from_name)

    def _extract_one(self, image: SceneImage) -> Float32Array | SkippedImage:
        try:
            features = self._extractor.extract(Image.read(image.path, image.name))
        except DataError as error:
            return SkippedImage(image.name, str(error).removeprefix(f"{image.name}: "))
        self._remember(image.name, features)
        return features.keypoints

    def _remember(self, name: str, features: Features) -> None:
        with self._lock:
            self._key_from_name[name] = features.key
            self._recent[name] = features
            self._recent.move_to_end(name)
            while len(self._recent) > self._num_in_memory:
                self._recent.popitem(last=False)

    def __getitem__(self, name: str) -> Features:
        """The features of an image that was extracted before."""
        with self._lock:
            if name in self._recent:
                self._recent.move_to_end(name)
                return self._recent[name]
            key = self._key_from_name[name]
        arrays = self._extractor.store.read("features", key)
        if arrays is not None:
            features = features_from_arrays(arrays, key)
        else:  # the entry was lost meanwhile: compute it again
            image = self._image_from_name[name]
            features = self._extractor.extract(Image.read(image.path, image.name))
        self._remember(name, features)
        return features
