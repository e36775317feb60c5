"""Estimate a homography from matches, and compare it with the true one."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.estimators.base import Sampling, load_estimator
from sfm_lightglue.types import Features, Matches

SHORT_SIDE_PX = 480.0
"""Corner errors are in pixels of an image with this shorter side, as in LightGlue's paper, section 5.1."""

MIN_MATCHES = 4


def estimate_homography(
    features0: Features, features1: Features, matches: Matches, config: TwoViewConfig, seed: int = 0
) -> Float64Array | None:
    """Robustly estimate H [3, 3] from pixels of image 0 to pixels of image 1; None if there is no estimate.

    Raises:
        ConfigError: if the estimator's library is not installed.
    """
    if len(matches) < MIN_MATCHES:
        return None
    features = (features0, features1)
    centers = [np.array(one.image_size) / 2 for one in features]
    points0, points1 = (
        one.keypoints[matches.indices[:, side]].astype(np.float64) - centers[side] for side, one in enumerate(features)
    )
    max_side = max(max(one.image_size) for one in features)
    sampling = Sampling(
        config.max_error_px * max(1.0, max_side / config.reference_size_px),
        config.confidence,
        config.max_iterations,
        seed % (1 << 31),
    )
    centred = load_estimator(config.estimator).homography(points0, points1, sampling)
    if centred is None:
        return None
    H: Float64Array = _shift(centers[1]) @ centred @ _shift(-centers[0])
    return H


def corner_error(H: Float64Array | None, truth: Float64Array, size0: tuple[int, int], size1: tuple[int, int]) -> float:
    """Mean distance between the corners of image 0 mapped by the homography and mapped by the true one.

    Args:
        H: [3, 3] from pixels of image 0 to pixels of image 1, or None.
        truth: [3, 3].
        size0: (width, height) of image 0.
        size1: (width, height) of image 1.

    Returns:
        Pixels of image 1 after a resize of its shorter side to `SHORT_SIDE_PX`; infinity if H is None, or maps a
        corner beyond the horizon.
    """
    if H is None:
        return np.inf
    width, height = size0
    corners = homogeneous(np.array([[0, 0], [width, 0], [width, height], [0, height]]))
    mapped, true = corners @ H.T, corners @ truth.T
    # The third coordinate has the same sign in the whole image as at its centre, unless the horizon crosses the image.
    depths = mapped[:, 2] * np.sign(H[2] @ [width / 2, height / 2, 1])
    if (depths <= 1e-9 * np.abs(H[2, 2])).any():
        return np.inf
    distances = np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - true[:, :2] / true[:, 2:], axis=1)
    return float(distances.mean() * SHORT_SIDE_PX / min(size1))


def _shift(by: Float64Array) -> Float64Array:
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])
