"""A vocabulary of local features, and what it makes of the features of an image."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, IndexArray, Int8Array, require_array
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.features import Features
from sfm_lightglue.retrieval.vlad import unit_rows, vlad
from sfm_lightglue.weights.array_file import read_arrays
from sfm_lightglue.weights.lookup import find_weights

SIFT_VOCABULARY = "retrieval_sift"
"""Name in the catalogue of weights of the vocabulary that comes with the package."""

NUM_LARGEST = 128
"""Keypoints of an image that are compared with those of another one."""


@dataclass(frozen=True, eq=False, slots=True)
class Signature:
    """What is kept of an image to find similar ones, 12 kB.

    Args:
        vlad: [K L] int8, proportional to its VLAD; zeros without keypoints.
        largest: [M, L] int8, proportional to the reduced local descriptors of its largest keypoints, M at most 128.
    """

    vlad: Int8Array
    largest: Int8Array


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Principal axes and words of local descriptors.

    Args:
        mean: [D] of local descriptors.
        axes: [D, L] principal axes of local descriptors.
        words: [K, L] centres of clusters of reduced local descriptors.

    Raises:
        ValueError: for wrong shapes or types, or numbers that are not finite.
    """

    mean: Float32Array
    axes: Float32Array
    words: Float32Array

    def __post_init__(self) -> None:
        require_array("words", self.words, np.float32, (None, None))
        require_array("mean", self.mean, np.float32, (None,))
        require_array("axes", self.axes, np.float32, (len(self.mean), self.words.shape[1]))
        if not all(np.isfinite(getattr(self, one.name)).all() for one in fields(self)):
            raise ValueError("Vocabulary: numbers are not finite")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray]) -> Vocabulary:
        """From arrays by the names of the fields, of any precision.

        Raises:
            KeyError: if one is missing.
            ValueError: if one is wrong.
        """
        return cls(*(np.ascontiguousarray(arrays[one.name], np.float32) for one in fields(cls)))

    def arrays(self) -> dict[str, AnyArray]:
        """The arrays by the names of the fields."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def digest(self) -> str:
        """The sha256 of all numbers."""
        hasher = hashlib.sha256()
        for name, array in self.arrays().items():
            hasher.update(f"{name} {array.shape}".encode() + array.tobytes())
        return hasher.hexdigest()

    @property
    def dimension(self) -> int:
        """Length K L of a VLAD."""
        return self.words.size

    def reduce(self, descriptors: Float32Array) -> Float32Array:
        """Local descriptors [N, D] along the principal axes [N, L]."""
        reduced = (descriptors - self.mean) @ self.axes
        return reduced.astype(np.float32, copy=False)

    def describe(self, features: Features) -> Signature:
        """The signature of an image. The order of its keypoints does not matter."""
        rows = self.reduce(features.descriptors)
        largest = unit_rows(rows[_largest(features)])
        return Signature(_as_int8(vlad(rows, self.words)[None])[0], _as_int8(largest))


def _largest(features: Features) -> IndexArray:
    """Indices of the largest keypoints, or of those with the highest scores if their sizes are unknown.

    Large keypoints are found again in more distant views. Their descriptors decide between equal ones: they are alike
    in other views too, where positions are not.
    """
    x, y = features.keypoints.T
    sizes = features.scores if features.scales is None else features.scales
    return np.lexsort((y, x, features.descriptors[:, 0], -features.scores, -sizes))[:NUM_LARGEST]


def _as_int8(rows: Float32Array) -> Int8Array:
    """Rows [N, D] multiplied so that the largest number of each is 127."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    quantised: Int8Array = np.rint(rows * (127 / np.maximum(largest, np.float32(1e-12)))).astype(np.int8)
    return quantised


@functools.cache
def sift_vocabulary() -> Vocabulary:
    """The vocabulary for RootSIFT that comes with the package.

    Raises:
        WeightsError: it is missing or damaged.
    """
    path = find_weights(SIFT_VOCABULARY)
    try:
        return Vocabulary.from_arrays(read_arrays(path))
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a vocabulary ({error}); install the package again") from error
