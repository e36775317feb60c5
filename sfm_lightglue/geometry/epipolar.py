"""Epipolar geometry of two views: numpy only."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix


def essential_from_pose(cam1_from_cam0: Rigid3) -> Float64Array:
    """E [3, 3] with x1ᵀ E x0 = 0 for normalised image points; ‖E‖ = √2 ‖t‖."""
    return cross_matrix(cam1_from_cam0.t) @ cam1_from_cam0.R


def homogeneous(points: AnyArray) -> Float64Array:
    """[N, D] -> [N, D + 1] with ones."""
    points = np.asarray(points, dtype=np.float64)
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def squared_sampson_errors(matrix: AnyArray, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """First-order squared distances of correspondences to an epipolar geometry.

    Args:
        matrix: E or F [3, 3] with x1ᵀ matrix x0 = 0.
        points0: [N, 2] in image 0, normalised for E, pixels for F.
        points1: [N, 2] in image 1.

    Returns:
        [N] squared errors in the unit of the points.

    Source: Hartley and Zisserman, Multiple View Geometry, equation 11.9.
    """
    x0, x1 = homogeneous(points0), homogeneous(points1)
    lines1, lines0 = x0 @ matrix.T, x1 @ matrix
    residuals = np.einsum("ni,ni->n", x1, lines1)
    norms = (lines1[:, :2] ** 2).sum(1) + (lines0[:, :2] ** 2).sum(1)
    errors: Float64Array = residuals**2 / np.maximum(norms, 1e-300)
    return errors


def squared_symmetric_epipolar_errors(matrix: AnyArray, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Squared distances of correspondences to their epipolar lines, summed over both images.

    Args and returned shape as in `squared_sampson_errors`.
    """
    x0, x1 = homogeneous(points0), homogeneous(points1)
    lines1, lines0 = x0 @ matrix.T, x1 @ matrix
    residuals = np.einsum("ni,ni->n", x1, lines1)
    inverse = 1 / np.maximum((lines1[:, :2] ** 2).sum(1), 1e-300)
    inverse += 1 / np.maximum((lines0[:, :2] ** 2).sum(1), 1e-300)
    errors: Float64Array = residuals**2 * inverse
    return errors


def triangulate(cam1_from_cam0: Rigid3, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Points in the frame of camera 0 by the linear method.

    Args:
        cam1_from_cam0: relative pose.
        points0: [N, 2] normalised image points of camera 0.
        points1: [N, 2] normalised image points of camera 1.

    Returns:
        [N, 3]; points at infinity have huge coordinates, never NaN.

    Source: Hartley and Zisserman, Multiple View Geometry, section 12.2.
    """
    P0 = np.eye(3, 4)
    P1 = cam1_from_cam0.as_matrix()[:3]
    points0, points1 = np.asarray(points0, dtype=np.float64), np.asarray(points1, dtype=np.float64)
    A = np.stack(
        [
            points0[:, :1] * P0[2] - P0[0],
            points0[:, 1:] * P0[2] - P0[1],
            points1[:, :1] * P1[2] - P1[0],
            points1[:, 1:] * P1[2] - P1[1],
        ],
        axis=1,
    )  # [N, 4, 4]
    X = np.linalg.svd(A)[2][:, -1]
    w = np.where(np.abs(X[:, 3:]) < 1e-12, 1e-12, X[:, 3:])
    points: Float64Array = X[:, :3] / w
    return points
