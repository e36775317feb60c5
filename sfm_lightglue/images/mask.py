"""Masks: the pixels of an image that may have keypoints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.encoded import decode_nonzero, read_encoded, stored_size
from sfm_lightglue.messages import shown_path


@dataclass(frozen=True, eq=False)
class Mask:
    """Which pixels of an image may have keypoints.

    Args:
        allowed: [h, w] bool, of the same field of view as the stored image; the resolution can differ.
        digest: sha256 of the bytes of the file; "" for pixels in memory.
    """

    allowed: BoolArray
    digest: str = ""

    @classmethod
    def read(cls, path: Path, image_size: tuple[int, int], quarter_turns: int) -> Mask:
        """Read a mask file: black pixels have no keypoints.

        Args:
            path: of the mask.
            image_size: (width, height) of the stored image.
            quarter_turns: clockwise turns that turn the stored image upright.

        Raises:
            DataError: if the file cannot be read, or does not fit the image.
        """
        data, name = read_encoded(path), shown_path(path)
        nonzero = decode_nonzero(data, name)
        size = nonzero.shape[1], nonzero.shape[0]
        turns = turns_of_mask(size, image_size, quarter_turns, name)
        return cls(np.rot90(nonzero, turns), hashlib.sha256(data).hexdigest())

    def allows(self, points: AnyArray, image_size: tuple[int, int]) -> BoolArray:
        """Whether the pixel of each point may have keypoints.

        Args:
            points: [N, 2] in pixels of the stored image, COLMAP convention.
            image_size: (width, height) of the stored image.
        """
        height, width = self.allowed.shape
        cells = np.floor(points * (width / image_size[0], height / image_size[1])).astype(np.int64)
        columns, rows = np.clip(cells, 0, (width - 1, height - 1)).T
        return np.asarray(self.allowed[rows, columns])

    def resized(self, size: tuple[int, int]) -> BoolArray:
        """The mask with another resolution [H, W], by the nearest pixel.

        Args:
            size: (width, height).
        """
        height, width = self.allowed.shape
        columns = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(np.int64)
        rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(np.int64)
        return np.ascontiguousarray(self.allowed[rows[:, None], columns])


def digest_of_mask(path: Path, image_size: tuple[int, int], quarter_turns: int) -> str:
    """sha256 of the bytes of a mask file, whose header is checked against the image.

    Args:
        path: of the mask.
        image_size: (width, height) of the stored image.
        quarter_turns: clockwise turns that turn the stored image upright.

    Raises:
        DataError: if the file cannot be read, or does not fit the image.
    """
    data, name = read_encoded(path), shown_path(path)
    turns_of_mask(stored_size(data, name), image_size, quarter_turns, name)
    return hashlib.sha256(data).hexdigest()


def turns_of_mask(mask_size: tuple[int, int], image_size: tuple[int, int], quarter_turns: int, name: str) -> int:
    """Clockwise turns of a mask against the stored image: 0, or those of the upright image if it fits only that one.

    Raises:
        DataError: if the mask has the aspect of neither.
    """
    if _has_aspect(mask_size, image_size):
        return 0
    if quarter_turns % 2 and _has_aspect(mask_size, (image_size[1], image_size[0])):
        return quarter_turns
    raise DataError(
        f"{name}: {mask_size[0]} x {mask_size[1]} pixels, which is another aspect than that of the photo"
        f" ({image_size[0]} x {image_size[1]})"
    )


def _has_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """The sides of a scaled image are rounded, so a difference of one pixel of the smaller image is none."""
    small, large = sorted((size, other))
    return abs(small[0] - large[0] * small[1] / large[1]) <= 1 or abs(small[1] - large[1] * small[0] / large[0]) <= 1
