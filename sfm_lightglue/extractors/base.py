"""Common code of extractors: limit the size, rotate upright, convert back to pixels of the stored image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned, turn_back
from sfm_lightglue.types import DenseFeatures, Features

DENSE_VERSION = 2
"""Number to raise when a change of the code changes the additional keypoints of the dense layer."""


class Extractor(Protocol):
    """Finds and describes local features. Safe to call from several threads."""

    @property
    def identity(self) -> Identity:
        """Name, configuration and weights; part of the keys of the store."""

    def extract(self, image: Image) -> Features:
        """Features in pixels of the stored image.

        Raises:
            DataError: the image cannot be decoded.
        """


class DenseExtractor(Extractor, Protocol):
    """An `Extractor` that can find more keypoints than matchers should see. Others need not have this method."""

    def extract_dense(self, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
        """Both layers in one pass.

        Args:
            image: to decode.
            max_keypoints: about the number of places of the dense layer; SIFT and DoGHardNet have at most half as many
                more, the others none. If it is not above the number of `Features`, the dense layer has these alone.

        Returns:
            What `extract` returns, and the dense layer.

        Raises:
            DataError: the image cannot be decoded.
        """


@dataclass(frozen=True, eq=False)
class Detection:
    """Features in the shrunk, upright image that a detector works on.

    Args:
        keypoints: [N, 2] float32 (x, y) in pixels of that image, COLMAP convention.
        scores: [N] float32.
        descriptors: [N, D] float32.
        scales: [N] float32 diameters in pixels of that image, or None.
        orientations: [N] float32 radians in that image, or None.
    """

    keypoints: Float32Array
    scores: Float32Array
    descriptors: Float32Array
    scales: Float32Array | None = None
    orientations: Float32Array | None = None

    def rows(self, index: IndexArray | BoolArray) -> Detection:
        """The features selected by indices or a boolean mask [N]."""
        return replace(
            self,
            keypoints=self.keypoints[index],
            scores=self.scores[index],
            descriptors=self.descriptors[index],
            scales=None if self.scales is None else self.scales[index],
            orientations=None if self.orientations is None else self.orientations[index],
        )


class UprightExtractor(ABC):
    """An `Extractor` made of a detector for upright images of limited size.

    Subclasses set `max_image_size` (longer side in pixels) and `needs_colour`.
    """

    max_image_size: int
    needs_colour: bool = False

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """Name, configuration and weights."""

    @abstractmethod
    def detect(self, pixels: UInt8Array) -> Detection:
        """Finds features in an upright image [H, W] or [H, W, 3]."""

    def detect_within(self, pixels: UInt8Array, allowed: BoolArray) -> Detection:
        """Finds features in an upright image with a mask [H, W].

        A detector can spend its limit of keypoints there. Features at other pixels are removed afterwards anyway.
        """
        return self.detect(pixels)

    def detect_layers(self, pixels: UInt8Array, allowed: BoolArray | None, max_keypoints: int) -> tuple[Detection, int]:
        """Finds the features of both layers in an upright image.

        Args:
            pixels: [H, W] or [H, W, 3].
            allowed: mask [H, W] as in `detect_within`; None without a mask.
            max_keypoints: about the number of places of the dense layer, see `DenseExtractor`; 0 without a dense layer.

        Returns:
            The features of `detect` or `detect_within` first, then the additional ones; the number of the former.
        """
        found = self.detect(pixels) if allowed is None else self.detect_within(pixels, allowed)
        return found, len(found.keypoints)

    def extract(self, image: Image) -> Features:
        """Decodes, shrinks and rotates an image, detects features, and converts them to the stored image."""
        return self._extract_layers(image, 0)[0]

    def extract_dense(self, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
        """Like `extract`, with the dense layer: see `DenseExtractor`."""
        features, num_sparse = self._extract_layers(image, max_keypoints)
        return features.rows(np.arange(num_sparse)), DenseFeatures.from_features(features, num_sparse)

    def _extract_layers(self, image: Image, max_keypoints: int) -> tuple[Features, int]:
        """All features in pixels of the stored image, and the number of those of the sparse layer."""
        small, factors = image.to_fit(self.max_image_size, self.needs_colour)
        width, height = image.size
        turns = image.quarter_turns
        upright = quarter_turned(small, turns)
        allowed = None
        if image.mask is not None:
            resized = image.mask.resized((small.shape[1], small.shape[0]))
            allowed = np.ascontiguousarray(np.rot90(resized, -turns))
        found, num_sparse = self.detect_layers(upright, allowed, max_keypoints)
        upright_size = (float(upright.shape[1]), float(upright.shape[0]))
        keypoints = turn_back(found.keypoints.astype(np.float64), turns, upright_size) * factors
        if image.mask is not None:
            inside = image.mask.allows(keypoints, image.size)
            found, keypoints, num_sparse = found.rows(inside), keypoints[inside], int(inside[:num_sparse].sum())
        orientations = found.orientations
        if orientations is not None:
            turned = orientations.astype(np.float64) - turns * np.pi / 2
            orientations = np.mod(turned, 2 * np.pi).astype(np.float32)
        features = Features(
            np.ascontiguousarray(keypoints, dtype=np.float32),
            found.scores,
            found.descriptors,
            (width, height),
            found.scales,
            orientations,
            turns,
            shrink_factor=max(1.0, max(width, height) / self.max_image_size),
        )
        return features, num_sparse


def options_of_identity(config: Any, left_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The options of a configuration (a dataclass) that change the sparse layer of features, by name.

    Args:
        config: of an extractor.
        left_out: further options to leave out.
    """
    names = [one.name for one in fields(config) if one.name not in left_out | {"max_keypoints_dense"}]
    return {name: getattr(config, name) for name in names}


def require_dense_limit(max_keypoints_dense: int) -> None:
    """Check this option of an extractor.

    Raises:
        ConfigError: if it is negative.
    """
    if max_keypoints_dense < 0:
        raise ConfigError(f"`extractor.max_keypoints_dense` must not be negative, got {max_keypoints_dense}")
