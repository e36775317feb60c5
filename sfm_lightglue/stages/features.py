"""Features of all images of a scene, looked up by name without all of them in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.blocks import blocks_kept
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.distributed import FeatureWork, FillsStore
from sfm_lightglue.stages.keypoints import HasKeypoints, ImageKeypoints
from sfm_lightglue.types import DenseFeatures, Features, Scene, SceneImage, SkippedImage

logger = logging.getLogger(__name__)


class SceneFeatures(Mapping[str, Features]):
    """Features by name of image, of the images that could be decoded.

    The features of an image are read from the store when they are looked up; those of the images used last are kept
    in memory, and the keypoints of all images that were looked up once.

    Args:
        scene: the images.
        extractor: with the store.
        num_in_memory: number of images whose features are kept in memory.
        max_keypoints_dense: about the number of places of the dense layer of an image; 0 for none.
    """

    def __init__(
        self, scene: Scene, extractor: CachedExtractor, num_in_memory: int = 128, max_keypoints_dense: int = 0
    ) -> None:
        self._extractor = extractor
        self._max_keypoints_dense = max_keypoints_dense
        self._root, self._images = scene.root, scene.images
        self._image_from_name: dict[str, SceneImage] = {}
        self._key_from_name: dict[str, str] = {}
        self._dense_key_from_name: dict[str, str] = {}
        self._turns_from_name: dict[str, int] = {}
        self._extractor_from_name: dict[str, CachedExtractor] = {}
        self._recent: LruCache[str, Features] = LruCache(num_in_memory)
        self._keypoints_from_name: dict[str, ImageKeypoints] = {}
        self._dense_was_used: set[str] = set()
        self._recent_dense: LruCache[str, DenseFeatures] = LruCache(num_in_memory)
        self._lock = threading.Lock()
        self.num_keypoints_from_name: dict[str, int] = {}
        self.skipped: list[SkippedImage] = []

    def extract(self, executor: Executor = SERIAL, progress: Progress = silent) -> None:
        """Extract the features that the store does not hold yet, both layers of an image in one pass.

        Images that cannot be decoded are logged as warnings and listed in `skipped`.

        Raises:
            DataError: if no image can be decoded.
        """
        with blocks_kept():
            if isinstance(executor, FillsStore):
                work = FeatureWork(self._images, self._extractor, self._max_keypoints_dense, self._extract_one)
                executor.fill(work, progress)
            progress("extract", 0, len(self._images))
            results = executor.map(self._extract_one, self._images)
            for num_done, (image, result) in enumerate(zip(self._images, results, strict=True), start=1):
                if isinstance(result, SkippedImage):
                    self._skip(result)
                else:
                    self._image_from_name[image.name] = image
                    self._key_from_name[image.name], self._dense_key_from_name[image.name] = result
                progress("extract", num_done, len(self._images))
        if len(self) == 0:
            raise DataError(f"{self._root}: none of the {len(self._images)} images can be decoded")

    def is_stored(self, image: SceneImage) -> bool:
        """Whether the store has what `extract` would compute of an image."""
        return self._has(image, *self._keys_of(image))

    def read_all(self, executor: Executor = SERIAL) -> Iterator[tuple[SceneImage, Features]]:
        """The features of each image that was extracted, in the order of the scene.

        An image whose stored features are damaged is extracted again. If it can no longer be read, it is logged as a
        warning, moved to `skipped`, and left out.
        """
        images = self.decoded_images
        for image, result in zip(images, executor.map(self._read_one, images), strict=True):
            if isinstance(result, SkippedImage):
                for table in (self._image_from_name, self._key_from_name, self._dense_key_from_name):
                    del table[image.name]
                self._skip(result)
            else:
                yield image, result

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
        """The features of an image that was extracted before.

        Raises:
            DataError: if its stored features are damaged, and the image can no longer be read.
        """
        recent = self._recent.get(name)
        if recent is not None:
            return recent
        extractor = self._extractor_of(name)
        features = extractor.read(self._key_from_name[name])
        if features is None:  # the entry is damaged or was removed meanwhile: compute it again
            image = self._image_from_name[name]
            features = extractor.compute(self._read(image))
            self._key_from_name[name] = features.key
            self._remember(name, features)
        elif self._remember(name, features):
            extractor.store.count("features", hit=True)
        return features

    def dense(self, name: str) -> DenseFeatures:
        """All features of an image that was extracted before; without a dense layer, those of the sparse one.

        The first rows are the keypoints of `self[name]`.

        Raises:
            DataError: if its stored features are damaged, and the image can no longer be read.
        """
        recent = self._recent_dense.get(name)
        if recent is not None:
            return recent
        features = self[name]
        if self._max_keypoints_dense == 0:
            return DenseFeatures.from_features(features)
        extractor = self._extractor_of(name)
        dense = extractor.read_dense(self._dense_key_from_name[name])
        if dense is None or not dense.starts_with(features):
            image = self._read(self._image_from_name[name])
            features, dense = extractor.compute_dense(image, self._max_keypoints_dense)
            self._key_from_name[name], self._dense_key_from_name[name] = features.key, dense.key
            self._remember(name, features)
        elif self._is_first_use_of_dense(name):
            extractor.store.count("dense_features", hit=True)
        self._recent_dense.put(name, dense)
        return dense

    def keypoints_of(self, name: str) -> HasKeypoints:
        """The keypoints of an image that was extracted before; its features are read at the first time only.

        Raises:
            DataError: if its stored features are damaged, and the image can no longer be read.
        """
        known = self._keypoints_from_name.get(name)
        return self[name] if known is None else known

    def is_in_memory(self, name: str) -> bool:
        """Whether looking up the features of an image reads nothing from the store."""
        return name in self._key_from_name and name in self._recent

    def key_of(self, name: str) -> str:
        """Key of the features of an image that was extracted before, without reading them."""
        return self._key_from_name[name]

    def turned(self, name: str, turns: int) -> Features:
        """The features that an image would have if it were upright after further quarter turns.

        Args:
            name: of an image that was extracted before.
            turns: clockwise turns by 90 degrees, beside those of its EXIF data.

        Raises:
            DataError: if the image can no longer be read.
        """
        image = self._image_from_name[name]
        turned = replace(self._read(image), quarter_turns_override=(image.quarter_turns + turns) % 4)
        return self._extractor.extract(turned)

    def by(self, name: str, extractor: CachedExtractor) -> Features:
        """The features that another extractor finds in an image that was extracted before.

        Args:
            name: of the image.
            extractor: with the store.

        Raises:
            DataError: if the image can no longer be read.
        """
        image = self._image_from_name[name]
        features = extractor.read(extractor.key(image.content_digest, self.quarter_turns(name)))
        if features is None:
            return extractor.compute(self._read(image))
        extractor.store.count("features", hit=True)
        return features

    def quarter_turns(self, name: str) -> int:
        """Clockwise turns by 90 degrees that make an image upright, by its EXIF data or by `turn`."""
        return self._turns_from_name.get(name, self._image_from_name[name].quarter_turns)

    def is_turned(self, name: str) -> bool:
        """Whether `turn` was called for an image."""
        return name in self._turns_from_name

    def turn(self, name: str, turns: int) -> None:
        """Use the features of `turned` for an image, in both layers; the arguments are the same.

        Raises:
            DataError: if the image can no longer be read.
        """
        self._turns_from_name[name] = (self._image_from_name[name].quarter_turns + turns) % 4
        self._forget(name)

    def alter(self, name: str, extractor: CachedExtractor | None) -> None:
        """Use the features of another extractor for an image, in both layers.

        Args:
            name: of an image that was extracted before.
            extractor: with the store; its descriptors must be of the same kind. None for that of all images.

        Raises:
            DataError: if the image can no longer be read.
        """
        known = self._extractor_from_name.pop(name, None)
        if extractor is not None:
            self._extractor_from_name[name] = extractor
        if (known and known.identity) != (extractor and extractor.identity):
            self._forget(name)

    def _extractor_of(self, name: str) -> CachedExtractor:
        return self._extractor_from_name.get(name, self._extractor)

    def _forget(self, name: str) -> None:
        """Find the features of an image again, after they were changed."""
        self._recent.drop(name)
        self._keypoints_from_name.pop(name, None)
        self._recent_dense.drop(name)
        keys = self._extract_one(self._image_from_name[name])
        if isinstance(keys, SkippedImage):
            raise DataError(f"{name}: {keys.reason}")
        self._key_from_name[name], self._dense_key_from_name[name] = keys
        self.num_keypoints_from_name[name] = len(self[name])

    def _read(self, image: SceneImage) -> Image:
        read = read_scene_image(image)
        turns = self._turns_from_name.get(image.name)
        return read if turns is None else replace(read, quarter_turns_override=turns)

    def _remember(self, name: str, features: Features) -> bool:
        """Keep features in memory; whether it is the first time that those of this image are used."""
        self._recent.put(name, features)
        self._keypoints_from_name[name] = ImageKeypoints.of(features)
        with self._lock:
            is_first = name not in self.num_keypoints_from_name
            self.num_keypoints_from_name[name] = len(features)
            return is_first

    def _is_first_use_of_dense(self, name: str) -> bool:
        with self._lock:
            is_first = name not in self._dense_was_used
            self._dense_was_used.add(name)
            return is_first

    def _keys_of(self, image: SceneImage) -> tuple[str, str]:
        limit, extractor = self._max_keypoints_dense, self._extractor_of(image.name)
        turns = self._turns_from_name.get(image.name, image.quarter_turns)
        dense_key = "" if limit == 0 else extractor.dense_key(image.content_digest, turns, limit)
        return extractor.key(image.content_digest, turns), dense_key

    def _has(self, image: SceneImage, key: str, dense_key: str) -> bool:
        extractor = self._extractor_of(image.name)
        return extractor.has(key) and (dense_key == "" or extractor.has_dense(dense_key))

    def _extract_one(self, image: SceneImage) -> tuple[str, str] | SkippedImage:
        """The keys of the features and of the dense features ("" without a dense layer) of an image."""
        limit, extractor = self._max_keypoints_dense, self._extractor_of(image.name)
        key, dense_key = self._keys_of(image)
        if self._has(image, key, dense_key):
            return key, dense_key
        try:
            read = self._read(image)
            if limit == 0:
                features = extractor.compute(read)
            else:
                features, dense = extractor.compute_dense(read, limit)
                self._recent_dense.put(image.name, dense)
                self._is_first_use_of_dense(image.name)
                dense_key = dense.key
        except DataError as error:
            return _skipped(image, error)
        self._remember(image.name, features)
        return features.key, dense_key

    def _read_one(self, image: SceneImage) -> Features | SkippedImage:
        try:
            features = self[image.name]
            if self._max_keypoints_dense > 0:
                self.dense(image.name)  # both layers, or the image is left out
            return features
        except DataError as error:
            return _skipped(image, error)

    def _skip(self, image: SkippedImage) -> None:
        logger.warning("left out %s: %s", image.name, image.reason)
        self.skipped.append(image)


def read_scene_image(image: SceneImage) -> Image:
    """An image of a scene with its mask, not yet decoded.

    Raises:
        DataError: if the image or its mask cannot be read.
    """
    read = Image.read(image.path, image.name)
    if image.mask is None:
        return read
    try:
        mask = Mask.read(image.mask, read.size, image.quarter_turns)
    except DataError as error:
        raise DataError(f"{image.name}: its mask cannot be used: {error}") from error
    return replace(read, mask=mask, mask_digest=mask.digest)  # of what was read now: the scan is some time ago


def _skipped(image: SceneImage, error: DataError) -> SkippedImage:
    return SkippedImage(image.name, str(error).removeprefix(f"{image.name}: "))
