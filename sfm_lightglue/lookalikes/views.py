"""What the cues of a scene are computed from: keypoints of its images, and inliers of its verified pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, UInt8Array


@dataclass(frozen=True, eq=False, slots=True)
class ImageView:
    """The keypoints of an image.

    Args:
        keypoints: [N, 2] (x, y) in pixels.
        size: (width, height) in pixels.
        scales: [N] diameters of the keypoints in pixels; None if the extractor has none.
        focal_px: focal length in pixels; None if it is not known.
        position_m: [3] known position in metres; None if it is not known.
        number: position in the order of all images of the scene; None if it is not known.
        folder: of the image; the order says nothing about images of different folders.
    """

    keypoints: Float32Array
    size: tuple[int, int]
    scales: Float32Array | None = None
    focal_px: float | None = None
    position_m: Float64Array | None = None
    number: int | None = None
    folder: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class PairView:
    """The inliers of a verified pair of images.

    Args:
        image0: index of the first image.
        image1: index of the second image.
        rows: [K, 2] keypoints of the inliers, by their rows in both images; integers of any size.
        num_matches: number of matches, inliers or not.
        num_distinctive: number of distinctive matches.
        num_distinctive_inliers: number of distinctive inliers.
        mean_score: of the inliers.
        rotation: [3, 3] of `cam1_from_cam0`.
        asked0: bits of the keypoints of the first image that the matcher compared with others, see `is_asked`; None for
            all.
        asked1: likewise of the second image.
    """

    image0: int
    image1: int
    rows: AnyArray
    num_matches: int
    num_distinctive: int
    num_distinctive_inliers: int
    mean_score: float
    rotation: Float64Array
    asked0: UInt8Array | None = None
    asked1: UInt8Array | None = None

    def is_asked(self, side: int, num_keypoints: int) -> BoolArray:
        """The keypoints [N] of an image that were compared with others. That others have no match is no evidence.

        Args:
            side: 0 for the first image, 1 for the second.
            num_keypoints: N.
        """
        bits = self.asked1 if side else self.asked0
        if bits is None:
            return np.ones(num_keypoints, np.bool_)
        return np.unpackbits(bits, count=num_keypoints).astype(np.bool_)
