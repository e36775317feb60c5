"""Features of altered copies of images, for matching and in the pixels of the stored image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import DenseFeatures, Features
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.alteration import ALTERATION_VERSION, Alteration
from sfm_lightglue.images.image import Image

_MARGIN_PX = 4.0
"""Keypoints nearer to the edge of the stored image, in pixels of the copy, are left out: the pixels beyond the edge are
made up."""

_DEFAULT_MAX_SIZE = 1600


class AlteredExtractor:
    """An `Extractor` that looks at altered copies of images.

    Its features are in pixels of the copy, which is what a matcher should see; `in_stored_pixels` moves their
    keypoints into the stored image.

    Args:
        extractor: of the copies.
        alteration: of the images.
    """

    def __init__(self, extractor: Extractor, alteration: Alteration) -> None:
        self.extractor = extractor
        self.alteration = alteration
        self._max_size = int(getattr(extractor, "max_image_size", _DEFAULT_MAX_SIZE))

    @property
    def identity(self) -> Identity:
        """That of the extractor, with the alteration."""
        base = self.extractor.identity
        config = [base, self.alteration]
        return Identity("altered", ALTERATION_VERSION, config)

    def extract(self, image: Image) -> Features:
        """Features in pixels of the altered copy, without those at the edge of the image or outside of its mask.

        Raises:
            DataError: if the image cannot be decoded.
        """
        colour = bool(getattr(self.extractor, "needs_colour", True))
        pixels = self.alteration.pixels(image, self._max_size, colour)
        features = self.extractor.extract(Image.from_array(pixels, image.name))
        matrix = self._matrix(image.size, image.quarter_turns)
        stored = _moved(features, matrix)
        margin = _MARGIN_PX * np.linalg.norm(matrix[:, :2], axis=1)
        inside = ((stored >= margin) & (stored <= np.array(image.size) - margin)).all(axis=1)
        if image.mask is not None:
            inside &= image.mask.allows(stored, image.size)
        return features.rows(inside)

    def in_stored_pixels(self, features: Features, size: tuple[int, int], quarter_turns: int) -> Features:
        """The same features with keypoints in pixels of the stored image; scales and orientations are left out.

        Args:
            features: of `extract`.
            size: (width, height) of the stored image.
            quarter_turns: clockwise turns that make it upright.
        """
        matrix = self._matrix(size, quarter_turns)
        return replace(
            features,
            keypoints=_moved(features, matrix).astype(np.float32),
            image_size=size,
            scales=None,
            orientations=None,
            shrink_factor=(features.shrink_factor or 1.0) * float(np.linalg.norm(matrix[:, 0])),
            key="",
        )

    def _matrix(self, size: tuple[int, int], quarter_turns: int) -> Float64Array:
        return self.alteration.stored_from_altered(size, quarter_turns, self._max_size)


def _moved(features: Features | DenseFeatures, matrix: Float64Array) -> Float64Array:
    moved: Float64Array = features.keypoints.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved


class AlteredInPlace:
    """An `Extractor` that looks at altered copies, with features in pixels of the stored image, in both layers.

    They can replace the ordinary features of an image. Copies that are turned are no such ones: a matcher would not see
    them upright.

    Args:
        extractor: of the copies.
        alteration: of the images, without a turn.

    Raises:
        ValueError: for an alteration with a turn.
    """

    def __init__(self, extractor: Extractor, alteration: Alteration) -> None:
        if alteration.angle_deg != 0:
            raise ValueError(f"AlteredInPlace: expected an alteration without a turn, got {alteration}")
        self.extractor = extractor
        self.alteration = alteration
        self._max_size = int(getattr(extractor, "max_image_size", _DEFAULT_MAX_SIZE))

    @property
    def identity(self) -> Identity:
        """That of the extractor, with the alteration."""
        return Identity("altered-in-place", ALTERATION_VERSION, [self.extractor.identity, self.alteration])

    def extract(self, image: Image) -> Features:
        """Features of the altered copy in pixels of the stored image.

        Raises:
            DataError: if the image cannot be decoded.
        """
        return self._in_place(self.extractor.extract(self._copy(image)), image)

    def extract_dense(self, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
        """Both layers, see `DenseExtractor`; an extractor that has no dense layer gives its features alone.

        Raises:
            DataError: if the image cannot be decoded.
        """
        extract_dense = getattr(self.extractor, "extract_dense", None)
        if extract_dense is None:
            features = self.extract(image)
            return features, DenseFeatures.from_features(features)
        found, dense = extract_dense(self._copy(image), max_keypoints)
        features = self._in_place(found, image)
        keypoints = _moved(dense, self._matrix(image)).astype(np.float32)
        return features, replace(
            dense, keypoints=keypoints, image_size=image.size, shrink_factor=features.shrink_factor, key=""
        )

    def _copy(self, image: Image) -> Image:
        colour = bool(getattr(self.extractor, "needs_colour", True))
        return Image.from_array(self.alteration.pixels(image, self._max_size, colour), image.name)

    def _in_place(self, features: Features, image: Image) -> Features:
        matrix = self._matrix(image)
        orientations = features.orientations
        if orientations is not None:
            turned = orientations.astype(np.float64) - image.quarter_turns * np.pi / 2
            orientations = np.mod(turned, 2 * np.pi).astype(np.float32)
        return replace(
            features,
            keypoints=_moved(features, matrix).astype(np.float32),
            image_size=image.size,
            orientations=orientations,
            quarter_turns=image.quarter_turns,
            shrink_factor=(features.shrink_factor or 1.0) * float(np.linalg.norm(matrix[:, 0])),
            key="",
        )

    def _matrix(self, image: Image) -> Float64Array:
        return self.alteration.stored_from_altered(image.size, image.quarter_turns, self._max_size)
