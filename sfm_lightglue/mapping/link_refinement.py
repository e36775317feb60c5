"""The similarity between two models is refined on their links by Levenberg and Marquardt's method."""

from __future__ import annotations

import math

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Sim3, project_to_rotation, rotation_from_rotvec
from sfm_lightglue.mapping.point_links import LinkSide, PointLinks

_LOSS_PX = 2.0
"""Residuals from which the soft L1 loss grows linearly."""

_MAX_TRIALS = 20
"""Steps that are tried."""

_SMALL_GAIN, _MAX_DAMPING = 1e-7, 1e6
"""Relative decrease of the cost, and damping, from which nothing is gained any more."""


def minimised(links: PointLinks, start: Sim3, rows: BoolArray) -> Sim3:
    """The similarity with the smallest soft L1 loss of all residuals.

    Args:
        links: between the models.
        start: `target_from_source`.
        rows: [K] the matches that take part.
    """
    similarity, damping = start, 1e-4
    residuals, J = linearized(links, similarity, rows)
    cost = _cost(residuals)
    for _ in range(_MAX_TRIALS):
        weighted = J / np.sqrt(1 + (residuals / _LOSS_PX) ** 2)[:, None]
        normal, gradient = weighted.T @ J, weighted.T @ residuals
        damped = normal + damping * np.diag(np.diag(normal)) + 1e-12 * np.trace(normal) * np.eye(7)
        moved = _stepped(similarity, -np.linalg.solve(damped, gradient))
        of_moved = linearized(links, moved, rows)
        moved_cost = _cost(of_moved[0])
        if not moved_cost < cost:
            damping *= 10
            if damping > _MAX_DAMPING:
                break
            continue
        gain, damping = 1 - moved_cost / cost, max(damping / 10, 1e-9)
        similarity, (residuals, J), cost = moved, of_moved, moved_cost
        if gain < _SMALL_GAIN:
            break
    return similarity


def linearized(links: PointLinks, similarity: Sim3, rows: BoolArray) -> tuple[Float64Array, Float64Array]:
    """Residuals in pixels of images of up to 1600 pixels, in both directions, and their derivatives.

    Args:
        links: between the models.
        similarity: `target_from_source`.
        rows: [K] the matches that take part. A keypoint without a point has no residuals in the other image.

    Returns:
        Residuals [M], and derivatives [M, 7] by a rotation vector, a translation in units of that of the similarity,
        and the logarithm of the scale, all applied after it.
    """
    target, source, unit = links.target, links.source, _unit(similarity)
    chosen = np.flatnonzero(rows & source.has_point)
    moved = similarity @ source.xyz[chosen]
    forward = _of_side(target, chosen, moved, _by_step(moved, unit))
    chosen = np.flatnonzero(rows & target.has_point)
    # A step after the similarity is its inverse before the inverse of it.
    inverse, before = similarity.inverse(), -_by_step(target.xyz[chosen], unit)
    backward = _of_side(source, chosen, inverse @ target.xyz[chosen], inverse.scale * inverse.R @ before)
    return np.concatenate([forward[0], backward[0]]), np.concatenate([forward[1], backward[1]])


def _by_step(xyz: Float64Array, unit: float) -> Float64Array:
    """Derivatives [N, 3, 7] of points [N, 3] by the parameters of a step."""
    x, y, z = xyz.T
    zero = np.zeros(len(xyz))
    J = np.empty((len(xyz), 3, 7))
    J[:, :, :3] = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(-1, 3, 3)
    J[:, :, 3:6] = unit * np.eye(3)
    J[:, :, 6] = xyz
    return J


def _of_side(
    side: LinkSide, rows: IndexArray, xyz: Float64Array, by_step: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Residuals [3 N] of points [N, 3] in the world of a side, and their derivatives [3 N, 7]."""
    R, focal = side.R[rows], side.px_per_radian[rows]
    in_camera = np.einsum("kij,kj->ki", R, xyz) + side.t[rows]
    lengths = np.maximum(np.linalg.norm(in_camera, axis=1), 1e-12)
    directions = in_camera / lengths[:, None]
    residuals = (directions - side.rays[rows]) * focal[:, None]
    in_frame = R @ by_step
    across = in_frame - directions[:, :, None] * (directions[:, None, :] @ in_frame)
    return residuals.ravel(), (across * (focal / lengths)[:, None, None]).reshape(-1, 7)


def _cost(residuals: Float64Array) -> float:
    return float((np.sqrt(1 + (residuals / _LOSS_PX) ** 2) - 1).sum())


def _unit(similarity: Sim3) -> float:
    """The length of one unit of the translation of a step."""
    return max(float(np.linalg.norm(similarity.t)), similarity.scale, 1e-6)


def _stepped(similarity: Sim3, step: Float64Array) -> Sim3:
    """A similarity changed by a rotation vector, a translation in units of its size, and the logarithm of a scale."""
    turn, growth = rotation_from_rotvec(step[:3]), math.exp(float(np.clip(step[6], -2, 2)))
    return Sim3(
        growth * similarity.scale,
        project_to_rotation(turn @ similarity.R),
        growth * turn @ similarity.t + _unit(similarity) * step[3:6],
    )
