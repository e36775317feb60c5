"""Depth maps, and the projection of keypoints with them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import as_pycolmap, normalized_from_pixels
from sfm_lightglue.types import Camera


@lru_cache(maxsize=128)
def read_depth(path: Path) -> Float64Array:
    """Read a depth map [H, W] in metres, 0 if unknown, from a 16-bit PNG in millimetres.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        with PilImage.open(path) as image:
            return np.asarray(image, dtype=np.float64) / 1000
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the depth map cannot be read ({error})") from error


def project_by_depth(
    pixels: Float64Array, depth0: Float64Array, camera0: Camera, camera1: Camera, cam1_from_cam0: Rigid3
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Project pixels of image 0 into image 1.

    Args:
        pixels: [N, 2] in image 0, COLMAP convention.
        depth0: [H, W] of image 0, z in the unit of the pose, 0 if unknown.
        camera0: intrinsics.
        camera1: intrinsics.
        cam1_from_cam0: pose.

    Returns:
        Pixels [N, 2] in image 1, depths [N] there, and a mask [N] of the pixels whose depth in image 0 is known.
    """
    height, width = depth0.shape
    columns = np.clip(np.floor(pixels[:, 0]).astype(int), 0, width - 1)
    rows = np.clip(np.floor(pixels[:, 1]).astype(int), 0, height - 1)
    z0 = depth0[rows, columns]
    points = cam1_from_cam0 @ (homogeneous(normalized_from_pixels(camera0, pixels)) * z0[:, None])
    safe = np.where(points[:, 2:] > 1e-9, points, np.array([0.0, 0.0, 1.0]))
    return np.asarray(as_pycolmap(camera1).img_from_cam(safe)), points[:, 2], z0 > 0
