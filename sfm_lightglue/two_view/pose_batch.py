"""Several candidates for the relative pose of a pair at once: errors, cheirality and robust least squares.

Arrays have a leading dimension B, the candidates. NumPy needs microseconds for every call, whatever its size: a batch
of eight candidates takes hardly longer than one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Rigid3, cross_matrix
from sfm_lightglue.kernels import poses as kernels
from sfm_lightglue.kernels.library import compiled
from sfm_lightglue.two_view.correspondences import Correspondences

LOSS_SCALE = 0.5
"""Residual at which the soft L1 loss of the refinement changes from quadratic to linear, as a fraction of the error
limit."""

_CROSS = np.stack([cross_matrix(axis) for axis in np.eye(3)])
"""[3, 3, 3] matrices of the cross products with the axes."""

_TURNS_OF_STEP = np.zeros((5, 6))
"""Rotation vectors of R and of the basis of t from a step of five values. The last two move t, the third vector of the
basis, along the first and the second vector."""
_TURNS_OF_STEP[[0, 1, 2, 3, 4], [0, 1, 2, 4, 3]] = (1.0, 1.0, 1.0, 1.0, -1.0)

_QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

_MAX_STEP = 0.3
"""Longest step of a fit, in radians."""

_MIN_GAIN = 1e-4
"""A fit ends when a step reduces the cost by a smaller fraction."""


@dataclass(frozen=True, eq=False, slots=True)
class PointPairs:
    """Matched points in the layout of batches: one column per match.

    Args:
        monomials: [15, N] homogeneous normalised points of image 0 and of image 1, three rows each, and the nine
            products x1 x0ᵀ, row by row, so that x1ᵀ E x0 is a product with E.
        rays0: [3, N] points of image 0 with length 1.
        rays1: [3, N] points of image 1 with length 1.
        max_error: largest Sampson error of an inlier, in normalised units.
    """

    monomials: Float64Array
    rays0: Float64Array
    rays1: Float64Array
    max_error: float

    @classmethod
    def of(cls, data: Correspondences) -> PointPairs:
        """Prepare matches."""
        monomials = np.ones((15, len(data.points0)))
        x0, x1 = monomials[:3], monomials[3:6]
        x0[:2], x1[:2] = data.points0.T, data.points1.T
        np.multiply(x1[:, None], x0[None], out=monomials[6:].reshape(3, 3, -1))
        rays0, rays1 = (x / np.sqrt(np.einsum("in,in->n", x, x)) for x in (x0, x1))
        return cls(monomials, rays0, rays1, data.max_error)


@dataclass(frozen=True, eq=False, slots=True)
class Poses:
    """Candidates for `cam1_from_cam0`.

    Args:
        R: [B, 3, 3].
        t: [B, 3] of length 1.
    """

    R: Float64Array
    t: Float64Array

    @classmethod
    def of(cls, *poses: Rigid3) -> Poses:
        """Make a batch of poses."""
        return cls(np.stack([pose.R for pose in poses]), np.stack([pose.t for pose in poses]))

    @property
    def essentials(self) -> Float64Array:
        """The essential matrices [B, 3, 3]."""
        return _cross_matrices(self.t) @ self.R

    def __getitem__(self, idx: int) -> Rigid3:
        """One of the candidates."""
        return Rigid3(self.R[idx], self.t[idx])

    def rows(self, rows: AnyArray) -> Poses:
        """Some of the candidates, by a mask [B] or by indices."""
        return Poses(self.R[rows], self.t[rows])

    def where(self, mask: BoolArray, other: Poses) -> Poses:
        """These poses where the mask [B] is true, else the other ones."""
        return Poses(np.where(mask[:, None, None], self.R, other.R), np.where(mask[:, None], self.t, other.t))


def squared_errors(points: PointPairs, matrices: Float64Array) -> Float64Array:
    """Squared Sampson errors [B, N] of matrices [B, 3, 3], in normalised units."""
    library = compiled()
    if library is not None:
        return kernels.sampson_errors(library, points.monomials, matrices)
    linear, inverse_norm = _sampson_terms(points, matrices)
    residuals: Float64Array = linear[:, 4] * inverse_norm
    return residuals * residuals


def in_front(points: PointPairs, poses: Poses) -> BoolArray:
    """[B, N] whether a point lies in front of both cameras, or its rays are parallel within the error limit."""
    library, max_sine = compiled(), 2 * points.max_error
    if library is not None:
        return kernels.find_in_front(library, (points.rays0, points.rays1), (poses.R, poses.t), max_sine)
    cosine, depth0, depth1 = _depths(points, poses)
    parallel = (cosine > 0) & (1 - cosine**2 <= max_sine**2)
    mask: BoolArray = ((depth0 > 0) & (depth1 > 0)) | parallel
    return mask


def inlier_masks(points: PointPairs, poses: Poses) -> BoolArray:
    """[B, N] whether a match lies near its epipolar line and in front of both cameras."""
    near = squared_errors(points, poses.essentials) <= points.max_error**2
    return near & in_front(points, poses)


def model_qualities(squared: Float64Array, counted: BoolArray, scores: Float32Array) -> Float64Array:
    """[B] sums of scores times (1 - squared error) over the matches that count.

    Args:
        squared: [B, N] errors as fractions of the limit, squared.
        counted: [B, N] the inliers.
        scores: [N] of the matches, in [0, 1].
    """
    sums: Float64Array = np.where(counted, scores.astype(np.float64) * (1 - squared), 0.0).sum(axis=1)
    return sums


def pose_qualities(points: PointPairs, poses: Poses, scores: Float32Array) -> Float64Array:
    """[B] `model_qualities` of poses."""
    squared = squared_errors(points, poses.essentials) / points.max_error**2
    return model_qualities(squared, (squared <= 1) & in_front(points, poses), scores)


def poses_from_essentials(
    points: PointPairs, matrices: Float64Array, masks: BoolArray | None = None
) -> tuple[Poses, IndexArray]:
    """Of the four poses of each essential matrix, the one with most points in front of both cameras.

    Args:
        points: of all matches.
        matrices: [B, 3, 3].
        masks: [B, N] the matches that count; None for all.

    Returns:
        The poses, and [B] the number of points in front.

    Source: Hartley and Zisserman, Multiple View Geometry, result 9.19.
    """
    U, _, Vt = np.linalg.svd(matrices)
    U, Vt = (part * np.linalg.det(part)[:, None, None] for part in (U, Vt))
    both = Poses(
        np.stack([U @ _QUARTER_TURN @ Vt, U @ _QUARTER_TURN.T @ Vt], axis=1).reshape(-1, 3, 3),
        np.repeat(U[:, :, 2], 2, axis=0),
    )
    _, depth0, depth1 = _depths(points, both)  # [2 B, N]; the opposite translation changes both signs
    counted = np.ones_like(depth0, np.bool_) if masks is None else np.repeat(masks, 2, axis=0)
    counts = [(counted & (sign * depth0 > 0) & (sign * depth1 > 0)).sum(axis=1) for sign in (1, -1)]
    by_pose = np.stack(counts, axis=1).reshape(-1, 4)
    best = by_pose.argmax(axis=1)
    signs = np.where(best % 2 == 0, 1.0, -1.0)
    rows = 2 * np.arange(len(matrices)) + best // 2
    return Poses(both.R[rows], signs[:, None] * both.t[rows]), by_pose.max(axis=1)


def fit_poses(
    points: PointPairs, poses: Poses, masks: BoolArray, max_residual: float | None = None, num_steps: int = 10
) -> Poses:
    """Minimise the Sampson errors over rotation and direction of translation, by Levenberg-Marquardt steps.

    Args:
        points: of all matches.
        poses: where the fits start.
        masks: [B, N] the matches that count for each of them.
        max_residual: error, as a fraction of the limit, from which a match has no weight; None for the soft L1 loss
            with `LOSS_SCALE`.
        num_steps: most steps.

    Source: Triggs et al., Bundle adjustment, a modern synthesis, 2000 (iteratively reweighted least squares).
    """
    is_truncated = max_residual is not None
    scale = points.max_error * (LOSS_SCALE if max_residual is None else max_residual)
    turns = np.stack([poses.R, _bases(poses.t)], axis=1)
    library = compiled()
    if library is not None:
        return _of_turns(kernels.fit_poses(library, points.monomials, masks, turns, scale, is_truncated, num_steps))
    damping = np.full(len(masks), 1e-3)
    terms = _sampson_terms(points, poses.essentials)
    cost, weights = _loss(terms, scale, masks, is_truncated)
    for _ in range(num_steps):
        moved = _stepped(points, turns, terms, weights, damping)
        terms_after = _sampson_terms(points, _of_turns(moved).essentials)
        cost_after, weights_after = _loss(terms_after, scale, masks, is_truncated)
        better = cost_after < cost
        is_done = bool((cost - cost_after <= _MIN_GAIN * np.abs(cost)).all())
        if better.all():
            turns, terms, cost, weights = moved, terms_after, cost_after, weights_after
        else:
            each, wide = better[:, None], better[:, None, None]
            turns = np.where(wide[..., None], moved, turns)
            terms = np.where(wide, terms_after[0], terms[0]), np.where(each, terms_after[1], terms[1])
            cost, weights = np.where(better, cost_after, cost), np.where(each, weights_after, weights)
        damping *= np.where(better, 0.1, 10.0)
        if is_done:
            break
    return _of_turns(turns)


_Terms = tuple[Float64Array, Float64Array]
"""[B, 5, N] normals (x, y) of the epipolar lines in image 1 and in image 0, and x1ᵀ E x0; and [B, N] one over the norm
of the four normals together. The fifth row times the second array is the Sampson error."""


def _sampson_terms(points: PointPairs, matrices: Float64Array) -> _Terms:
    linear = _coefficients(matrices) @ points.monomials
    squared = np.einsum("bin,bin->bn", linear[:, :4], linear[:, :4])
    return linear, 1 / np.sqrt(np.maximum(squared, 1e-24))


def _coefficients(matrices: Float64Array) -> Float64Array:
    """[..., 5, 15] the first of `_Terms` as linear functions of the monomials, for matrices [..., 3, 3]."""
    coefficients = np.zeros((*matrices.shape[:-2], 5, 15))
    coefficients[..., :2, :3] = matrices[..., :2, :]
    coefficients[..., 2:4, 3:6] = matrices.swapaxes(-1, -2)[..., :2, :]
    coefficients[..., 4, 6:] = matrices.reshape(*matrices.shape[:-2], 9)
    return coefficients


def _loss(terms: _Terms, scale: float, masks: BoolArray, is_truncated: bool) -> tuple[Float64Array, Float64Array]:
    """Costs [B], and weights [B, N] of the squared errors."""
    squared = terms[0][:, 4] * terms[1]
    squared *= squared
    squared *= 1 / scale**2
    if is_truncated:
        counted = masks & (squared < 1)
        return np.where(counted, squared - 1, 0.0).sum(axis=1), counted.astype(np.float64)
    root = np.sqrt(1 + squared)
    return np.where(masks, 2 * (root - 1), 0.0).sum(axis=1), masks / root


def _stepped(
    points: PointPairs, turns: Float64Array, terms: _Terms, weights: Float64Array, damping: Float64Array
) -> Float64Array:
    """The poses after one step each.

    A pose is a pair of rotations [B, 2, 3, 3]: R, and a basis whose third vector is t. Five angles turn them.
    """
    (linear, inverse_norm), (R, basis) = terms, (turns[:, 0], turns[:, 1])
    # Derivatives of E with respect to a rotation vector and to a step of t on the sphere.
    turned = _cross_matrices(basis[:, :, 2])[:, None] @ _CROSS @ R[:, None]
    shifted = _cross_matrices(basis.swapaxes(1, 2)[:, :2]) @ R[:, None]
    coefficients = _coefficients(np.concatenate([turned, shifted], axis=1))
    moved = (coefficients.reshape(-1, 25, 15) @ points.monomials).reshape(len(R), 5, 5, -1)
    # Residual r = c / s with s² the squared norm of the normals n: dr = (dc - c / s² n·dn) / s.
    residuals = linear[:, 4] * inverse_norm
    along = np.einsum("bin,bpin->bpn", linear[:, :4] * (residuals * inverse_norm)[:, None], moved[:, :, :4])
    J = (moved[:, :, 4] - along) * inverse_norm[:, None]  # [B, 5, N]
    weighted = J * weights[:, None]
    hessian = weighted @ J.swapaxes(1, 2)
    gradient = weighted @ residuals[:, :, None]
    diagonal = np.einsum("bii->bi", hessian).copy()
    added = damping[:, None] * diagonal + 1e-12 * diagonal.sum(axis=1)[:, None] + 1e-300
    hessian.reshape(-1, 25)[:, ::6] += added
    step: Float64Array = -np.linalg.solve(hessian, gradient)[:, :, 0].astype(np.float64, copy=False)
    step *= np.minimum(1, _MAX_STEP / np.maximum(np.sqrt(np.einsum("bp,bp->b", step, step)), 1e-12))[:, None]
    by_step = _rotations((step @ _TURNS_OF_STEP).reshape(-1, 2, 3))
    return np.stack([by_step[:, 0] @ R, basis @ by_step[:, 1]], axis=1)


def _of_turns(turns: Float64Array) -> Poses:
    return Poses(turns[:, 0], turns[:, 1, :, 2])


def _depths(points: PointPairs, poses: Poses) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Cosines of the angles between the rays, and values with the signs of the depths in camera 0 and 1, [B, N] each.

    With unit rays r1 and R r0 in the frame of camera 1, the depths have the signs of (t × r1)·(r1 × R r0) and
    (t × R r0)·(r1 × R r0).
    """
    rotated = poses.R @ points.rays0
    cosine = np.einsum("in,bin->bn", points.rays1, rotated)
    along1, along0 = poses.t @ points.rays1, np.einsum("bi,bin->bn", poses.t, rotated)
    return cosine, cosine * along1 - along0, along1 - cosine * along0


def _cross_matrices(vectors: Float64Array) -> Float64Array:
    """Matrices [..., 3, 3] of the cross products with vectors [..., 3]."""
    matrices: Float64Array = (vectors @ _CROSS.reshape(3, 9)).reshape(*vectors.shape, 3)
    return matrices


def _bases(t: Float64Array) -> Float64Array:
    """Rotations [B, 3, 3] whose third column is t [B, 3].

    Source: Duff et al., Building an orthonormal basis, revisited, 2017.
    """
    x, y, z = t.T
    sign = np.copysign(1.0, z)
    a = -1 / (sign + z)
    b = x * y * a
    columns: Float64Array = np.array(
        [[1 + sign * x * x * a, sign * b, -sign * x], [b, sign + y * y * a, -y], [x, y, z]]
    )
    return columns.transpose(2, 1, 0)


def _rotations(vectors: Float64Array) -> Float64Array:
    """Rotations [..., 3, 3] about vectors [..., 3]; the angle is twice the arc tangent of half of the length.

    Source: Cayley's formula for rotations.
    """
    K = _cross_matrices(vectors)
    scale = 4 / (4 + np.einsum("...i,...i->...", vectors, vectors))[..., None, None]
    rotations: Float64Array = np.eye(3) + scale * (K + 0.5 * (K @ K))
    return rotations
