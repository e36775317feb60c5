"""Local features of one image: those that matchers see, and the dense layer around them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray, UInt8Array, require_array


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one image.

    Args:
        keypoints: [N, 2] float32 (x, y) in pixels.
        scores: [N] float32, higher is better.
        descriptors: [N, D] float32.
        image_size: (width, height) in pixels.
        scales: [N] float32 diameters in pixels of the image that the detector received, which may be smaller than
            the stored image; or None.
        orientations: [N] float32 radians in the stored image, or None.
        quarter_turns: clockwise turns by 90 degrees that make the stored image upright, 0..3.
        key: digest of the input of the extraction, set by the store; "" without a store.
        shrink_factor: pixels of the stored image per pixel of the image that the detector received, at least 1. It
            converts `scales` to the stored image. None if unknown: entries of earlier versions lack it.

    Raises:
        ValueError: for wrong shapes or types, or keypoints outside the image.

    Example:
        >>> features = sfm_lightglue.match_images("left.jpg", "right.jpg").features[0]
        >>> len(features), features.keypoints.shape[1], features.descriptors.shape[1]
        (..., 2, 128)
    """

    keypoints: Float32Array
    scores: Float32Array
    descriptors: Float32Array
    image_size: tuple[int, int]
    scales: Float32Array | None = None
    orientations: Float32Array | None = None
    quarter_turns: int = 0
    key: str = field(default="", repr=False)
    shrink_factor: float | None = None

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        require_array("keypoints", self.keypoints, np.float32, (n, 2))
        require_array("scores", self.scores, np.float32, (n,))
        require_array("descriptors", self.descriptors, np.float32, (n, None))
        for name in ("scales", "orientations"):
            if getattr(self, name) is not None:
                require_array(name, getattr(self, name), np.float32, (n,))
        if self.quarter_turns not in range(4):
            raise ValueError(f"quarter_turns: expected 0 to 3, got {self.quarter_turns}")
        _require_inside(self.keypoints, self.image_size)

    def __len__(self) -> int:
        return len(self.keypoints)

    def rows(self, index: IndexArray | BoolArray) -> Features:
        """The features selected by indices or a boolean mask [N], as copies, without `key`."""
        return replace(
            self,
            keypoints=self.keypoints[index],
            scores=self.scores[index],
            descriptors=self.descriptors[index],
            scales=None if self.scales is None else self.scales[index],
            orientations=None if self.orientations is None else self.orientations[index],
            key="",
        )

    @cached_property
    def digest(self) -> str:
        """`key`, or the sha256 of the content if no key was set."""
        if self.key:
            return self.key
        hasher = hashlib.sha256(repr((self.image_size, self.quarter_turns)).encode())
        for array in (self.keypoints, self.scores, self.descriptors, self.scales, self.orientations):
            hasher.update(b"none" if array is None else repr(array.shape).encode() + array.tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """All features of an image: the rows of its `Features` first, in their order, then the additional ones.

    Args:
        keypoints: [N, 2] float32 (x, y) in pixels of the stored image.
        descriptors: [N, D] uint8; a value q stands for (q - zero) * step.
        zero: 0 if no descriptor has negative values, else 128.
        step: of the quantisation; 1/512 for RootSIFT.
        scales: [N] float32 as in `Features`, or None.
        image_size: (width, height) in pixels.
        num_sparse: the first rows are the keypoints of `Features`.
        key: digest of the input of the extraction, set by the store; "" without a store.
        shrink_factor: as in `Features`.

    Raises:
        ValueError: for wrong shapes, types or numbers, or keypoints outside the image.

    Example:
        >>> features = sfm_lightglue.match_images("left.jpg", "right.jpg").features[0]
        >>> dense = sfm_lightglue.DenseFeatures.from_features(features)
        >>> dense.descriptors.dtype.name, dense.num_sparse == len(features)
        ('uint8', True)
    """

    keypoints: Float32Array
    descriptors: UInt8Array
    zero: int
    step: float
    scales: Float32Array | None
    image_size: tuple[int, int]
    num_sparse: int
    key: str = field(default="", repr=False)
    shrink_factor: float | None = None

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        require_array("keypoints", self.keypoints, np.float32, (n, 2))
        require_array("descriptors", self.descriptors, np.uint8, (n, None))
        if self.scales is not None:
            require_array("scales", self.scales, np.float32, (n,))
        if not 0 <= self.num_sparse <= n:
            raise ValueError(f"num_sparse: expected 0 to {n}, got {self.num_sparse}")
        if not (0 <= self.zero <= 255 and 0 < self.step < np.inf):
            raise ValueError(f"zero, step: expected 0 to 255 and a positive number, got {self.zero}, {self.step}")
        _require_inside(self.keypoints, self.image_size)

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def from_features(cls, features: Features, num_sparse: int | None = None) -> DenseFeatures:
        """Quantise the descriptors of features.

        Args:
            features: of one image.
            num_sparse: how many of them, the first, are those that matchers see; None for all.

        Raises:
            ValueError: if a descriptor is not finite.
        """
        descriptors = features.descriptors
        if not np.isfinite(descriptors).all():
            raise ValueError("descriptors: numbers are not finite")
        largest = float(np.abs(descriptors).max(initial=0))
        if descriptors.min(initial=0) < 0:
            zero, step = 128, largest / 127
        else:
            zero, step = 0, max(_ROOT_SIFT_STEP, largest / 255)
        quantised = np.rint(descriptors * np.float32(1 / step) + np.float32(zero)).clip(0, 255).astype(np.uint8)
        return cls(
            features.keypoints,
            quantised,
            zero,
            step,
            features.scales,
            features.image_size,
            len(features) if num_sparse is None else num_sparse,
            shrink_factor=features.shrink_factor,
        )

    def rows(self, index: IndexArray | BoolArray) -> DenseFeatures:
        """The features selected by indices or a boolean mask [N], as copies, without `key`; all count as additional."""
        return replace(
            self,
            keypoints=self.keypoints[index],
            descriptors=self.descriptors[index],
            scales=None if self.scales is None else self.scales[index],
            num_sparse=0,
            key="",
        )

    def unit_descriptors(self) -> Float32Array:
        """Descriptors [N, D] float32 of length 1; one without any value stays zero."""
        values = self.descriptors.astype(np.float32)
        values -= np.float32(self.zero)
        lengths = np.sqrt(np.einsum("nd,nd->n", values, values))
        values /= np.maximum(lengths, np.float32(1e-12))[:, None]
        return values

    def starts_with(self, features: Features) -> bool:
        """Whether the first rows are the keypoints of these features."""
        return self.num_sparse == len(features) and np.array_equal(
            self.keypoints[: self.num_sparse], features.keypoints
        )


_ROOT_SIFT_STEP = 1 / 512
"""As in COLMAP: values of RootSIFT stay below one half."""


def best_spread(keypoints: Float32Array, scores: Float32Array, max_keypoints: int, size: tuple[int, int]) -> IndexArray:
    """Selects keypoints with high scores from all parts of an image.

    Half of the limit is filled with the best keypoints of each cell of a grid, the other half with the best of
    the others, regardless of position.

    Args:
        keypoints: [N, 2] in pixels of the image.
        scores: [N].
        max_keypoints: the limit.
        size: (width, height) of the image in pixels.

    Returns:
        Indices [min(N, max_keypoints)], best score first.
    """
    order = np.lexsort((keypoints[:, 1], keypoints[:, 0], -scores))
    if len(order) <= max_keypoints:
        return order
    side = max(size) / _GRID_CELLS_PER_SIDE
    columns = int(np.ceil(size[0] / side))
    rows = int(np.ceil(size[1] / side))
    cells = np.clip(keypoints[order] // side, 0, (columns - 1, rows - 1)).astype(np.int64)
    cell = cells[:, 1] * columns + cells[:, 0]
    by_cell = np.argsort(cell, kind="stable")
    first_of_cell = np.searchsorted(cell[by_cell], cell[by_cell])
    rank_in_cell = np.empty(len(order), dtype=np.int64)
    rank_in_cell[by_cell] = np.arange(len(order)) - first_of_cell
    quota = max_keypoints // 2 // (columns * rows)
    chosen = rank_in_cell < quota
    rest = np.flatnonzero(~chosen)[: max_keypoints - int(chosen.sum())]
    chosen[rest] = True
    return order[chosen]


_GRID_CELLS_PER_SIDE = 8


def _require_inside(keypoints: Float32Array, image_size: tuple[int, int]) -> None:
    width, height = image_size
    if len(keypoints) > 0 and not ((keypoints >= -1).all() and (keypoints <= (width + 1, height + 1)).all()):
        raise ValueError(f"keypoints: some lie outside the image of {width} x {height} pixels")
