"""Training data of matchers: keypoints of several views of one scene, and labels of their pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Int32Array, UInt8Array

IGNORED, MATCHED, UNMATCHABLE = 0, 1, 2
"""States of a keypoint: unknown; it has a match; it has no match."""

StateArray = np.ndarray[tuple[int], np.dtype[np.int8]]

_QUANTA = 512
"""Quantisation of RootSIFT values, which are below 0.5 in practice: 1 is 512."""

STORED_DTYPES = (np.dtype(np.uint8), np.dtype(np.float16))
"""Types of stored descriptors."""


@dataclass(frozen=True, eq=False)
class TrainingView:
    """Local features of one image.

    Args:
        keypoints: [N, 2] float32 pixels, COLMAP convention.
        scales: [N] float32 diameters in pixels; 0 for features without scale.
        orientations: [N] float32 radians; 0 for features without orientation.
        scores: [N] float32.
        descriptors: [N, D] uint8, RootSIFT times 512, rounded; or float16 of other features. See `unit_descriptors`.
        image_size: (width, height) in pixels.
    """

    keypoints: Float32Array
    scales: Float32Array
    orientations: Float32Array
    scores: Float32Array
    descriptors: AnyArray
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        shapes = [self.keypoints.shape, self.scales.shape, self.orientations.shape, self.scores.shape]
        found = self.descriptors
        if shapes != [(n, 2), (n,), (n,), (n,)] or found.ndim != 2 or len(found) != n:
            raise ValueError(f"TrainingView: expected equal numbers of keypoints, got shapes {shapes}, {found.shape}")
        if found.dtype not in STORED_DTYPES:
            raise ValueError(f"TrainingView: descriptors must be uint8 or float16, got {found.dtype}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def unit_descriptors(self) -> Float32Array:
        """Descriptors [N, D] float32 of unit length, as the matcher takes them."""
        values = self.descriptors.astype(np.float32)
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        unit: Float32Array = values / np.maximum(norms, np.float32(1e-6))
        return unit


@dataclass(frozen=True, eq=False)
class PairLabels:
    """Labels of the keypoints of two views.

    Args:
        view0: index of the first view in its scene.
        view1: index of the second view.
        matches: [M, 2] int32 indices of keypoints that show the same point, one to one, sorted.
        state0: [N0] int8: `IGNORED`, `MATCHED` or `UNMATCHABLE`.
        state1: [N1] int8, likewise.
        overlap: mean of the fractions of each image that are visible in the other; 0 for unrelated images.
    """

    view0: int
    view1: int
    matches: Int32Array
    state0: StateArray
    state1: StateArray
    overlap: float

    def __post_init__(self) -> None:
        if self.matches.ndim != 2 or self.matches.shape[1] != 2:
            raise ValueError(f"PairLabels: expected matches [M, 2], got {self.matches.shape}")
        for side, state in enumerate((self.state0, self.state1)):
            if not np.array_equal(np.flatnonzero(state == MATCHED), np.sort(self.matches[:, side])):
                raise ValueError(f"PairLabels: matches and states of view {side} contradict each other")


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """Views of one scene, and the labelled pairs of views."""

    views: tuple[TrainingView, ...]
    pairs: tuple[PairLabels, ...]


def quantised(descriptors: Float32Array) -> UInt8Array:
    """RootSIFT descriptors [N, 128] float32 of unit length as uint8; the error of a value is at most 1/1024."""
    return np.asarray(np.clip(np.rint(descriptors * np.float32(_QUANTA)), 0, 255), np.uint8)
