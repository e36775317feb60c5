"""Features of altered copies of images, for matching and in the pixels of the stored image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import Features
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


def _moved(features: Features, matrix: Float64Array) -> Float64Array:
    moved: Float64Array = features.keypoints.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved
