"""Features of all images of a scene, looked up by name without all of them in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import Image
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.types import Features, Scene, SceneImage, SkippedImage

logger = logging.getLogger(__name__)


class SceneFeatures(Mapping[str, Features]):
    """Features by name of image, of the images that could be decoded.

    The features of an image are read from the store when they are looked up; those of the images used last are kept
    in memory.

    Args:
        scene: the images.
        extractor: with the store.
        num_in_memory: number of images whose features are kept in memory.
    """

    def __init__(self, scene: Scene, extractor: CachedExtractor, num_in_memory: int = 128) -> None:
        self._extractor = extractor
        self._images = scene.images
        self._image_from_name: dict[str, SceneImage] = {}
        self._key_from_name: dict[str, str] = {}
        self._recent: LruCache[str, Features] = LruCache(num_in_memory)
        self._counted: set[str] = set()
        self._lock = threading.Lock()
        self.skipped: list[SkippedImage] = []

    def extract(self, executor: Executor = SERIAL, progress: Progress = silent) -> None:
        """Extract the features that the store does not hold yet.

        Images that cannot be decoded are logged as warnings and listed in `skipped`.
        """
        progress("extract", 0, len(self._images))
        results = executor.map(self._extract_one, self._images)
        for num_done, (image, result) in enumerate(zip(self._images, results, strict=True), start=1):
            if isinstance(result, SkippedImage):
                logger.warning("left out %s: %s", result.name, result.reason)
                self.skipped.append(result)
            else:
                self._image_from_name[image.name] = image
                self._key_from_name[image.name] = result
            progress("extract", num_done, len(self._images))

    @property
    def decoded_images(self) -> tuple[SceneImage, ...]:
        """The images that have features, in the order of the scene."""
        return tuple(self._image_from_name.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._key_from_name)

    def __len__(self) -> int:
        return len(self._key_from_name)

    def __contains__(self, name: object) -> bool:
        return name in self._key_from_name

    def __getitem__(self, name: str) -> Features:
        """The features of an image that was extracted before."""
        recent = self._recent.get(name)
        if recent is not None:
            return recent
        features = self._extractor.read(self._key_from_name[name])
        if features is None:  # the entry is damaged or was removed meanwhile: compute it again
            image = self._image_from_name[name]
            self._is_first_use(name)
            features = self._extractor.compute(Image.read(image.path, image.name))
        elif self._is_first_use(name):
            self._extractor.store.count("features", hit=True)
        self._recent.put(name, features)
        return features

    def _is_first_use(self, name: str) -> bool:
        """Whether an image has not been counted as a hit or a miss of the store yet."""
        with self._lock:
            is_first = name not in self._counted
            self._counted.add(name)
            return is_first

    def _extract_one(self, image: SceneImage) -> str | SkippedImage:
        """The key of the features of an image."""
        key = self._extractor.key(image.digest, image.quarter_turns)
        if self._extractor.has(key):
            return key
        try:
            features = self._extractor.compute(Image.read(image.path, image.name))
        except DataError as error:
            return SkippedImage(image.name, str(error).removeprefix(f"{image.name}: "))
        self._is_first_use(image.name)
        self._recent.put(image.name, features)
        return features.key
