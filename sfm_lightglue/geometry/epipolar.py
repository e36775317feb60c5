"""Epipolar geometry of two views, with NumPy only."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix


def essential_from_pose(cam1_from_cam0: Rigid3) -> Float64Array:
    """The essential matrix E [3, 3]: x1ᵀ E x0 = 0 for normalised image points, and ‖E‖ = √2 ‖t‖."""
    return cross_matrix(cam1_from_cam0.t) @ cam1_from_cam0.R


def homogeneous(points: AnyArray) -> Float64Array:
    """Append a column of ones to points: [N, D] -> [N, D + 1]."""
    points = np.asarray(points, dtype=np.float64)
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def squared_sampson_errors(matrix: AnyArray, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Squared Sampson errors: first-order squared distances of correspondences to an epipolar geometry.

    Args:
        matrix: E or F [3, 3] with x1ᵀ matrix x0 = 0.
        points0: [N, 2] in image 0, normalised for E, pixels for F.
        points1: [N, 2] in image 1.

    Returns:
        [N] squared errors in the unit of the points.

    Source: Hartley and Zisserman, Multiple View Geometry, equation 11.9.
    """
    products, squared_norms0, squared_norms1 = _epipolar_terms(matrix, homogeneous(points0), homogeneous(points1))
    errors: Float64Array = products**2 / np.maximum(squared_norms1 + squared_norms0, 1e-300)
    return errors


def sampson_residuals(matrix: AnyArray, x0: Float64Array, x1: Float64Array) -> Float64Array:
    """Signed Sampson errors, the residuals of a least-squares fit.

    Args:
        matrix: E or F [3, 3] with x1ᵀ matrix x0 = 0.
        x0: [N, 3] homogeneous points in image 0, normalised for E, pixels for F.
        x1: [N, 3] in image 1.

    Returns:
        [N] in the unit of the points; their squares are `squared_sampson_errors`.
    """
    products, squared_norms0, squared_norms1 = _epipolar_terms(matrix, x0, x1)
    residuals: Float64Array = products / np.maximum(np.sqrt(squared_norms1 + squared_norms0), 1e-12)
    return residuals


def squared_symmetric_epipolar_errors(matrix: AnyArray, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Squared distances of correspondences to their epipolar lines, summed over both images.

    Arguments and result have the shapes and units of `squared_sampson_errors`.
    """
    products, squared_norms0, squared_norms1 = _epipolar_terms(matrix, homogeneous(points0), homogeneous(points1))
    inverse = 1 / np.maximum(squared_norms1, 1e-300) + 1 / np.maximum(squared_norms0, 1e-300)
    errors: Float64Array = products**2 * inverse
    return errors


def _epipolar_terms(
    matrix: AnyArray, x0: Float64Array, x1: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """x1ᵀ matrix x0 [N], and the squared norms [N] of the normals of the epipolar lines in image 0 and in image 1."""
    lines1, lines0 = x0 @ matrix.T, x1 @ matrix
    products: Float64Array = np.einsum("ni,ni->n", x1, lines1)
    squared_norms0, squared_norms1 = ((lines[:, :2] ** 2).sum(1) for lines in (lines0, lines1))
    return products, squared_norms0, squared_norms1


def triangulate(cam1_from_cam0: Rigid3, points0: AnyArray, points1: AnyArray) -> Float64Array:
    """Triangulate points in the frame of camera 0 by the linear method.

    Args:
        cam1_from_cam0: relative pose.
        points0: [N, 2] normalised image points of camera 0.
        points1: [N, 2] normalised image points of camera 1.

    Returns:
        [N, 3]; points at infinity get very large finite coordinates.

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
