"""Bundle adjustment with NumPy: poses, points and, if wanted, shared intrinsics.

pycolmap's adjuster holds Python's global lock while it solves, so no frame could be tracked meanwhile. The operations
of NumPy on large arrays release it.

The residual of an observation is f * (x / z - u): the distance in pixels of an image without distortion, where u is the
observation on the plane z = 1. Points are eliminated by the Schur complement, which is summed over blocks of points.

Source: Triggs, McLauchlan, Hartley and Fitzgibbon, Bundle Adjustment: A Modern Synthesis, 2000, section 6.1; robust
loss by iterated reweighting, section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.types import Camera

_BLOCK_POINTS = 1024
"""Points whose part of the Schur complement is computed at a time."""

_MAX_REJECTED = 6
"""Steps in a row that do not lower the cost, after which the adjustment ends."""

_MIN_DEPTH = 1e-6
"""Depths are taken as at least this, in the unit of the map."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Poses, points and observations.

    Args:
        R: rotations [C, 3, 3] of `cam_from_world`.
        t: translations [C, 3].
        xyz: points [P, 3]; each has an observation.
        cams: [M] row of the pose of each observation.
        points: [M] row of its point, in ascending order.
        pixels: [M, 2] observed position.
        is_free: [C] whether a pose is adjusted.
        camera: of all images.
        sigmas: [M] standard deviations of the observations: residuals are divided by them where the cost is computed.
            None: all are 1 px.
    """

    R: Float64Array
    t: Float64Array
    xyz: Float64Array
    cams: IndexArray
    points: IndexArray
    pixels: Float64Array
    is_free: BoolArray
    camera: Camera
    sigmas: Float64Array | None = None

    def errors_px(self) -> Float64Array:
        """Lengths [M] of the residuals; infinite for points behind the camera, and for pixels without ray."""
        in_cam = _in_cams(self.R, self.t, self.xyz, self)
        observed = _observed(self.camera, self.pixels, None)
        residuals, _ = _residuals(in_cam, observed)
        errors: Float64Array = np.sqrt((residuals**2).sum(axis=1))
        errors[~(in_cam[:, 2] > _MIN_DEPTH) | np.isnan(observed.normalized[:, 0])] = np.inf
        return errors


class _Observed(NamedTuple):
    """Observations [M, 2] on the plane z = 1, and the residuals [M] per distance there: the focal length over sigma."""

    normalized: Float64Array
    scales: Float64Array


class _Linear(NamedTuple):
    """Weighted residuals [M, 2] and their derivatives by pose [M, 2, 6], point [M, 2, 3] and intrinsics [M, 2, K]."""

    residuals: Float64Array
    by_pose: Float64Array
    by_point: Float64Array
    by_camera: Float64Array


def adjust(
    bundle: Bundle,
    loss_px: float,
    max_iterations: int,
    refined_params: tuple[int, ...] = (),
    min_decrease: float = 1e-3,
) -> Bundle:
    """Minimise the Huber loss of all residuals by Levenberg and Marquardt's method.

    Args:
        bundle: the start.
        loss_px: residuals, over their sigmas, beyond it count linearly.
        max_iterations: accepted steps at most.
        refined_params: indices of the camera's parameters that are adjusted too.
        min_decrease: ends when a step lowers the cost by a smaller fraction.

    Returns:
        The adjusted bundle; constant poses are the same numbers. Observations of points that are behind their camera
        at the start take no part.
    """
    is_behind = np.isinf(bundle.errors_px())
    if is_behind.any():
        return adjust_without(bundle, is_behind, loss_px, max_iterations, refined_params, min_decrease)
    if len(bundle.points) == 0:
        return bundle
    layout = _Layout(bundle, len(refined_params))
    observed = _observed(bundle.camera, bundle.pixels, bundle.sigmas)
    damping, cost, num_rejected = 1e-4, _cost(bundle, observed, loss_px), 0
    linear = _linearized(bundle, observed, loss_px, refined_params)
    for _ in range(2 * max_iterations):
        try:
            moved = _stepped(bundle, layout.step(linear, damping), layout, refined_params)
            of_moved = _observed(moved.camera, moved.pixels, moved.sigmas) if refined_params else observed
            moved_cost = _cost(moved, of_moved, loss_px)
        except np.linalg.LinAlgError:
            moved_cost = np.inf
        if not moved_cost < cost:
            damping, num_rejected = damping * 10, num_rejected + 1
            if num_rejected == _MAX_REJECTED:
                break
            continue
        decrease = (cost - moved_cost) / cost
        bundle, observed, cost, damping, num_rejected = moved, of_moved, moved_cost, max(damping / 10, 1e-9), 0
        max_iterations -= 1
        if decrease < min_decrease or max_iterations == 0:
            break
        linear = _linearized(bundle, observed, loss_px, refined_params)
    return bundle


def adjust_without(
    bundle: Bundle,
    is_left_out: BoolArray,
    loss_px: float,
    max_iterations: int,
    refined_params: tuple[int, ...] = (),
    min_decrease: float = 1e-3,
) -> Bundle:
    """As `adjust`, without some observations [M], and without points that lose all of theirs."""
    used = ~is_left_out
    present, points = np.unique(bundle.points[used], return_inverse=True)
    part = replace(
        bundle,
        xyz=bundle.xyz[present],
        cams=bundle.cams[used],
        points=points,
        pixels=bundle.pixels[used],
        sigmas=None if bundle.sigmas is None else bundle.sigmas[used],
    )
    adjusted = adjust(part, loss_px, max_iterations, refined_params, min_decrease)
    xyz = bundle.xyz.copy()
    xyz[present] = adjusted.xyz
    return replace(bundle, R=adjusted.R, t=adjusted.t, xyz=xyz, camera=adjusted.camera)


def _observed(camera: Camera, pixels: Float64Array, sigmas: Float64Array | None) -> _Observed:
    scales = focal_length_px(camera) / (np.ones(len(pixels)) if sigmas is None else sigmas)
    return _Observed(normalized_from_pixels(camera, pixels), scales)


def _in_cams(R: Float64Array, t: Float64Array, xyz: Float64Array, bundle: Bundle) -> Float64Array:
    """Points [M, 3] of the observations in the frames of their cameras."""
    in_cam: Float64Array = np.einsum("mij,mj->mi", R[bundle.cams], xyz[bundle.points]) + t[bundle.cams]
    return in_cam


def _residuals(in_cam: Float64Array, observed: _Observed) -> tuple[Float64Array, Float64Array]:
    """Residuals [M, 2] in pixels or sigmas, 0 for a pixel without ray, and the inverse depths [M]."""
    inverse_depths = 1 / np.maximum(in_cam[:, 2], _MIN_DEPTH)
    residuals: Float64Array = observed.scales[:, None] * (in_cam[:, :2] * inverse_depths[:, None] - observed.normalized)
    residuals[np.isnan(residuals)] = 0
    return residuals, inverse_depths


def _cost(bundle: Bundle, observed: _Observed, loss_px: float) -> float:
    residuals, _ = _residuals(_in_cams(bundle.R, bundle.t, bundle.xyz, bundle), observed)
    squares = (residuals**2).sum(axis=1)
    lengths = np.sqrt(squares)
    return float(np.where(lengths <= loss_px, squares, loss_px * (2 * lengths - loss_px)).sum())


def _linearized(bundle: Bundle, observed: _Observed, loss_px: float, refined_params: tuple[int, ...]) -> _Linear:
    in_cam = _in_cams(bundle.R, bundle.t, bundle.xyz, bundle)
    residuals, inverse_depths = _residuals(in_cam, observed)
    lengths = np.sqrt((residuals**2).sum(axis=1))
    weights = np.sqrt(loss_px / np.maximum(lengths, loss_px))
    scale = weights * observed.scales * inverse_depths
    x, y = in_cam[:, 0] * inverse_depths, in_cam[:, 1] * inverse_depths
    by_cam = np.zeros((len(x), 2, 3))  # by the point in the frame of the camera
    by_cam[:, 0, 0] = by_cam[:, 1, 1] = scale
    by_cam[:, 0, 2], by_cam[:, 1, 2] = -scale * x, -scale * y
    by_pose = np.empty((len(x), 2, 6))  # rotation vector and translation, applied after the pose
    by_pose[:, :, 3:] = by_cam
    X, Y, Z = (in_cam[:, axis, None] for axis in range(3))
    by_pose[:, :, 0] = by_cam[:, :, 2] * Y - by_cam[:, :, 1] * Z
    by_pose[:, :, 1] = by_cam[:, :, 0] * Z - by_cam[:, :, 2] * X
    by_pose[:, :, 2] = by_cam[:, :, 1] * X - by_cam[:, :, 0] * Y
    by_camera = np.empty((len(x), 2, len(refined_params)))
    for column, index in enumerate(refined_params):
        step = 1e-4 * max(1.0, abs(bundle.camera.params[index]))
        changed = _observed(_changed(bundle.camera, (index,), np.array([step])), bundle.pixels, bundle.sigmas)
        by_camera[:, :, column] = weights[:, None] * (_residuals(in_cam, changed)[0] - residuals) / step
    return _Linear(weights[:, None] * residuals, by_pose, by_cam @ bundle.R[bundle.cams], by_camera)


def _changed(camera: Camera, refined_params: tuple[int, ...], change: Float64Array) -> Camera:
    params = np.array(camera.params)
    params[list(refined_params)] += change
    return replace(camera, params=tuple(params))


class _Step(NamedTuple):
    """Changes of the free poses [F, 6], the intrinsics [K] and the points [P, 3]."""

    poses: Float64Array
    camera: Float64Array
    points: Float64Array


class _Layout:
    """Which observation belongs to which block of the normal equations."""

    def __init__(self, bundle: Bundle, num_params: int) -> None:
        self.free_cams = np.flatnonzero(bundle.is_free)
        slots = np.full(len(bundle.is_free), -1)
        slots[self.free_cams] = np.arange(len(self.free_cams))
        self._slots = slots[bundle.cams]
        self._of_free = np.flatnonzero(self._slots >= 0)
        self._of_slot = [np.flatnonzero(self._slots == slot) for slot in range(len(self.free_cams))]
        self._points = bundle.points
        self._starts = np.searchsorted(bundle.points, np.arange(len(bundle.xyz)))
        self._num_params = num_params

    def step(self, linear: _Linear, damping: float) -> _Step:
        """Solve the damped normal equations."""
        J, residuals = linear.by_point, linear.residuals
        V = self._by_point(_products(J, J))
        diagonal = np.arange(3)
        V[:, diagonal, diagonal] *= 1 + damping
        V[:, diagonal, diagonal] += 1e-9
        roots = _inverse_lower(np.asarray(np.linalg.cholesky(V), np.float64))  # V⁻¹ = rootsᵀ roots
        by_residual = J[:, 0] * residuals[:, :1] + J[:, 1] * residuals[:, 1:]
        halves = np.einsum("pab,pb->pa", roots, self._by_point(by_residual))
        free = self._of_free
        coupling = linear.by_pose[free].transpose(0, 2, 1) @ J[free]
        coupling = coupling @ roots[self._points[free]].transpose(0, 2, 1)  # [*, 6, 3]
        of_camera = self._by_point(_products(linear.by_camera, J)) @ roots.transpose(0, 2, 1)
        S, gradient = self._of_poses(linear, damping)
        self._eliminate_points(S, gradient, coupling, of_camera, halves)
        solution = np.linalg.solve(S, -gradient) if len(S) else np.zeros(0)
        poses, camera = np.split(solution, [6 * len(self.free_cams)])
        poses = poses.reshape(-1, 6)
        by_observation = np.zeros((len(self._points), 3))
        by_observation[free] = np.einsum("mab,ma->mb", coupling, poses[self._slots[free]])
        seen = self._by_point(by_observation) + np.einsum("pka,k->pa", of_camera, camera)
        return _Step(poses, camera, -np.einsum("pba,pb->pa", roots, halves + seen))

    def _by_point(self, values: Float64Array) -> Float64Array:
        """Sums [P, ...] over the observations of each point."""
        sums: Float64Array = np.add.reduceat(values, self._starts, axis=0)
        return sums

    def _of_poses(self, linear: _Linear, damping: float) -> tuple[Float64Array, Float64Array]:
        """Damped matrix and gradient of the poses and the intrinsics, without the part of the points."""
        first = 6 * len(self.free_cams)
        size = first + self._num_params
        S, gradient = np.zeros((size, size)), np.zeros(size)
        by_camera = linear.by_camera.reshape(2 * len(self._slots), self._num_params)
        S[first:, first:] = by_camera.T @ by_camera
        gradient[first:] = by_camera.T @ linear.residuals.ravel()
        for slot, rows in enumerate(self._of_slot):
            block = slice(6 * slot, 6 * slot + 6)
            J = linear.by_pose[rows].reshape(-1, 6)
            S[block, block] = J.T @ J
            S[block, first:] = J.T @ linear.by_camera[rows].reshape(2 * len(rows), self._num_params)
            S[first:, block] = S[block, first:].T
            gradient[block] = J.T @ linear.residuals[rows].ravel()
        S[np.diag_indices(size)] += damping * S.diagonal() + 1e-9
        return S, gradient

    def _eliminate_points(
        self,
        S: Float64Array,
        gradient: Float64Array,
        coupling: Float64Array,
        of_camera: Float64Array,
        halves: Float64Array,
    ) -> None:
        """Subtract the Schur complement of the points, a block of points at a time."""
        first = 6 * len(self.free_cams)
        points, slots = self._points[self._of_free], self._slots[self._of_free]
        for begin in range(0, len(halves), _BLOCK_POINTS):
            end = min(begin + _BLOCK_POINTS, len(halves))
            rows = slice(*np.searchsorted(points, [begin, end]))
            present, local = np.unique(slots[rows], return_inverse=True)
            num_poses = 6 * len(present)
            dense = np.zeros((num_poses + self._num_params, end - begin, 3))
            dense[:num_poses].reshape(-1, 6, end - begin, 3)[local, :, points[rows] - begin] = coupling[rows]
            dense[num_poses:] = of_camera[begin:end].transpose(1, 0, 2)
            flat = dense.reshape(len(dense), -1)
            columns = np.concatenate(
                [(6 * present[:, None] + np.arange(6)).ravel(), np.arange(first, first + self._num_params)]
            )
            S[np.ix_(columns, columns)] -= flat @ flat.T
            gradient[columns] -= flat @ halves[begin:end].ravel()


def _products(A: Float64Array, B: Float64Array) -> Float64Array:
    """AᵀB [M, a, b] of A [M, 2, a] and B [M, 2, b]; for 3 columns faster than a product of matrices."""
    return A[:, 0, :, None] * B[:, 0, None, :] + A[:, 1, :, None] * B[:, 1, None, :]


def _inverse_lower(L: Float64Array) -> Float64Array:
    """Inverses of lower triangular matrices [P, 3, 3]: much faster than `np.linalg.inv`."""
    inverse = np.zeros_like(L)
    for axis in range(3):
        inverse[:, axis, axis] = 1 / L[:, axis, axis]
    inverse[:, 1, 0] = -L[:, 1, 0] * inverse[:, 0, 0] * inverse[:, 1, 1]
    inverse[:, 2, 1] = -L[:, 2, 1] * inverse[:, 1, 1] * inverse[:, 2, 2]
    inverse[:, 2, 0] = -(L[:, 2, 0] * inverse[:, 0, 0] + L[:, 2, 1] * inverse[:, 1, 0]) * inverse[:, 2, 2]
    return inverse


def _stepped(bundle: Bundle, step: _Step, layout: _Layout, refined_params: tuple[int, ...]) -> Bundle:
    R, t = bundle.R.copy(), bundle.t.copy()
    turns = _rotations(step.poses[:, :3])
    R[layout.free_cams] = turns @ R[layout.free_cams]
    t[layout.free_cams] = np.einsum("cij,cj->ci", turns, t[layout.free_cams]) + step.poses[:, 3:]
    camera = _changed(bundle.camera, refined_params, step.camera) if refined_params else bundle.camera
    xyz = bundle.xyz + step.points
    depths = _in_cams(R, t, xyz, bundle)[:, 2]
    passed = bundle.points[~(depths > _MIN_DEPTH)]  # a point that would pass through a camera stays for this step
    xyz[passed] = bundle.xyz[passed]
    return replace(bundle, R=R, t=t, xyz=xyz, camera=camera)


def _rotations(rotvecs: Float64Array) -> Float64Array:
    """Rotation matrices [F, 3, 3] of rotation vectors [F, 3], by Rodrigues' formula."""
    angles = np.linalg.norm(rotvecs, axis=1)[:, None, None]
    safe = np.maximum(angles, 1e-12)
    K = np.zeros((len(rotvecs), 3, 3))
    K[:, 2, 1], K[:, 0, 2], K[:, 1, 0] = rotvecs.T
    K -= K.transpose(0, 2, 1)
    rotations: Float64Array = np.eye(3) + np.sin(safe) / safe * K + (1 - np.cos(safe)) / safe**2 * (K @ K)
    return rotations
