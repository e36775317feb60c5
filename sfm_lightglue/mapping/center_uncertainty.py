"""How well the points of a small model determine its camera centres: standard deviations by their own residuals."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import observed_ids, observing_keypoints, pixels_of

MAX_IMAGES = 20
"""Number of images up to which the uncertainty is estimated. Larger models were not examined."""

_MAX_POINTS = 2000
"""Number of points of which the uncertainty is computed; of more points some are taken, and count several times."""

_STEP = 1e-6
"""Relative step of numeric derivatives."""

_MIN_NOISE_PX = 1e-3
"""Smallest assumed standard deviation of a residual: the rounding of float32 keypoints."""

_DAMPING = 1e-12
"""Added to a matrix before it is inverted, as a fraction of its mean diagonal: what is undetermined gets a large
variance."""


_FOCAL_SIGMA = 0.1
"""Standard deviation of the logarithm of a focal length of EXIF data, before the images tell more."""

_DISTORTION_SIGMA = 0.1
"""The same of a distortion parameter around zero."""

_LOSS_PX = 0.5
"""Scale of the soft L1 loss of the last adjustment, the default of `MappingConfig.robust_loss_px`."""


def center_uncertainty(
    model: pycolmap.Reconstruction,
    constant_camera_ids: Collection[int] = (),
    known_focal_camera_ids: Collection[int] = (),
) -> float | None:
    """The largest standard deviation of a camera centre in any direction, relative to the extent of the centres.

    Poses, points, focal lengths and distortion are unknown together; a similarity of the whole model is no error. The
    variance of the parameters is H⁻¹ (Σ g gᵀ) H⁻¹, where H is the second derivative of the cost without the points,
    and g is the gradient of the observations of one point: errors of the observations of a point may depend on each
    other, and may be larger than usual, as those of wrong matches are. Of the n values that the points leave, the
    cameras take d: adjusted residuals are smaller than errors, so g is scaled by n / (n - d). The variance of equal
    and independent errors, σ² H⁻¹, counts if it is larger: few points tell little of their errors, and nothing where H
    is nearly singular.

    Args:
        model: adjusted; not changed.
        constant_camera_ids: cameras whose intrinsics were not refined.
        known_focal_camera_ids: cameras with a focal length of EXIF data, which is exact to a tenth.

    Returns:
        A fraction of the largest distance between two centres, infinite if that is zero. None for models without
        points, of one image, of more than `MAX_IMAGES`, and of rigs: their poses depend on each other.

    Source: White, Maximum likelihood estimation of misspecified models, Econometrica, 1982 (the estimate of the
        variance); Huber, Robust statistics, 1981, chapter 7 (with a robust loss); Triggs et al., Bundle adjustment: a
        modern synthesis, 2000, sections 6.1 (elimination of the points) and 9 (gauge freedom).
    """
    image_ids = sorted(model.reg_image_ids())
    is_rigged = model.num_reg_frames() < len(image_ids)
    if not 2 <= len(image_ids) <= MAX_IMAGES or is_rigged or model.num_points3D() == 0:
        return None
    centers = np.array([model.images[image_id].projection_center() for image_id in image_ids])
    extent = float(np.linalg.norm(centers[:, None] - centers, axis=2).max())
    if not extent > 0:
        return math.inf
    point_ids = np.array(sorted(model.point3D_ids()), np.int64)
    sampled = point_ids[:: math.ceil(len(point_ids) / _MAX_POINTS)]
    columns = _columns(model, image_ids, constant_camera_ids)
    system = _System.of_points(model, sampled, columns, extent).repeated(len(point_ids) / len(sampled))
    gauge = _gauge((centers - centers.mean(axis=0)) / extent, system.num_parameters)
    covariances = system.covariances(gauge, _prior(model, columns, known_focal_camera_ids))
    if not np.isfinite(covariances).all():
        return math.inf
    starts = [6 * number + 3 for number in range(len(image_ids))]
    largest = max(float(np.linalg.eigvalsh(covariances[:, k : k + 3, k : k + 3]).max()) for k in starts)
    return math.sqrt(max(largest, 0.0))


def _columns(
    model: pycolmap.Reconstruction, image_ids: list[int], constant_camera_ids: Collection[int]
) -> dict[int, IndexArray]:
    """The parameters [6 + K] of each image: turn of its camera, step of its centre, and refined intrinsics."""
    start, of_camera = 6 * len(image_ids), {}
    for camera_id in sorted({model.images[image_id].camera_id for image_id in image_ids}):
        num_refined = 0 if camera_id in constant_camera_ids else len(_refined(model.cameras[camera_id]))
        of_camera[camera_id] = np.arange(start, start + num_refined)
        start += num_refined
    return {
        image_id: np.concatenate([np.arange(6 * k, 6 * k + 6), of_camera[model.images[image_id].camera_id]])
        for k, image_id in enumerate(image_ids)
    }


def _refined(camera: pycolmap.Camera) -> list[int]:
    """Indices of the parameters of a camera that an adjustment refines."""
    return [*camera.focal_length_idxs(), *camera.extra_params_idxs()]


def _prior(
    model: pycolmap.Reconstruction, columns: dict[int, IndexArray], known_focal_camera_ids: Collection[int]
) -> Float64Array:
    """Information [D] of what is known of each parameter before the images tell more: 1 / variance, 0 for nothing."""
    information = np.zeros(max(int(own.max()) for own in columns.values()) + 1)
    for image_id, own in columns.items():
        camera = model.cameras[model.images[image_id].camera_id]
        for column, index in zip(own[6:], _refined(camera), strict=False):
            if index not in camera.focal_length_idxs():
                information[column] = 1 / _DISTORTION_SIGMA**2
            elif camera.camera_id in known_focal_camera_ids:
                information[column] = 1 / _FOCAL_SIGMA**2
    return information


def _gauge(centers: Float64Array, num_parameters: int) -> Float64Array:
    """An orthonormal basis [D, 7] of the changes of all poses by a similarity; centres [N, 3] in the unit extent."""
    basis = np.zeros((num_parameters, 7))
    for number, center in enumerate(centers):
        k = 6 * number
        basis[k + 3 : k + 6, :3] = np.eye(3)
        basis[k : k + 3, 3:6] = np.eye(3)
        basis[k + 3 : k + 6, 3:6] = -_cross_matrices(center[None])[0]  # the turn w moves a centre c by w × c
        basis[k + 3 : k + 6, 6] = center
    return np.asarray(np.linalg.qr(basis)[0])


def _cross_matrices(vectors: Float64Array) -> Float64Array:
    """[v]× [N, 3, 3] of vectors [N, 3]."""
    zeros = np.zeros(len(vectors))
    x, y, z = vectors.T
    rows = [[zeros, -z, y], [z, zeros, -x], [-y, x, zeros]]
    return np.moveaxis(np.array(rows), 2, 0)


@dataclass(frozen=True, eq=False, slots=True)
class _System:
    """The normal equations of an adjustment, without the points.

    Args:
        information: [D, D] of the parameters of all cameras: the second derivative of half the cost.
        gradients: [P, D] of the observations of each point; their sum is zero at the minimum.
        num_values: number of residuals, two for each observation.
        squared_error: sum of the squared derivatives of half the loss by the residuals, over the mean second
            derivative, in px²; without a robust loss, the sum of the squared residuals.
    """

    information: Float64Array
    gradients: Float64Array
    num_values: int
    squared_error: float

    @property
    def num_parameters(self) -> int:
        return len(self.information)

    @classmethod
    def of_points(
        cls,
        model: pycolmap.Reconstruction,
        point_ids: IndexArray,
        columns: dict[int, IndexArray],
        extent: float,
    ) -> _System:
        """Collect the observations of some points, and eliminate the points."""
        num_points, size = len(point_ids), max(int(each.max()) for each in columns.values()) + 1
        xyz = np.array([model.points3D[point_id].xyz for point_id in point_ids.tolist()])
        cameras, points = np.zeros((size, size)), np.zeros((num_points, 3, 3))
        mixed, gradients = np.zeros((num_points, 3, size)), np.zeros((num_points, size))
        of_points, num_values, squared_pulls, sum_of_slopes = np.zeros((num_points, 3)), 0, 0.0, 0.0
        for image_id, own in columns.items():
            seen = _Observations.of_image(model, image_id, point_ids, xyz, len(own) - 6, extent)
            pulls, slopes = _of_loss(seen.residuals)
            by_camera, by_point = slopes @ seen.by_camera, slopes @ seen.by_point
            cameras[np.ix_(own, own)] += np.einsum("nij,nik->jk", by_camera, seen.by_camera)
            np.add.at(points, seen.rows, by_point.transpose(0, 2, 1) @ seen.by_point)
            of_both = by_point.transpose(0, 2, 1) @ seen.by_camera  # [O, 3, 6 + K]
            for axis in range(3):
                np.add.at(mixed[:, axis], (seen.rows[:, None], own), of_both[:, axis])
            np.add.at(gradients, (seen.rows[:, None], own), np.einsum("nij,ni->nj", seen.by_camera, pulls))
            np.add.at(of_points, seen.rows, np.einsum("nij,ni->nj", seen.by_point, pulls))
            num_values += pulls.size
            squared_pulls += float((pulls**2).sum())
            sum_of_slopes += float(np.trace(slopes, axis1=1, axis2=2).sum())
        damping = _DAMPING * np.trace(points, axis1=1, axis2=2) + np.finfo(np.float64).tiny
        solved = np.linalg.solve(points + damping[:, None, None] * np.eye(3), mixed)  # [P, 3, D]
        information = cameras - mixed.reshape(-1, size).T @ solved.reshape(-1, size)
        gradients -= np.einsum("pij,pi->pj", solved, of_points)
        squared_error = squared_pulls * num_values / sum_of_slopes if sum_of_slopes > 0 else 0.0
        return cls(information, gradients, num_values, squared_error)

    def repeated(self, times: float) -> _System:
        """The system of more points, of which these are a sample.

        Args:
            times: number of all points over that of these.
        """
        return replace(self, information=times * self.information, gradients=math.sqrt(times) * self.gradients)

    def covariances(self, gauge: Float64Array, prior: Float64Array) -> Float64Array:
        """Covariances [2, D, D] of the parameters: by the gradients, and by equal and independent errors.

        Args:
            gauge: [D, 7] basis of the changes by similarities, which are left out.
            prior: [D] information of what is known before.
        """
        size = self.num_parameters
        num_of_cameras = self.num_values - 3 * len(self.gradients)  # the points take the others
        num_free = max(num_of_cameras - (size - gauge.shape[1]), 1)
        variance = max(self.squared_error / num_free, _MIN_NOISE_PX**2)  # of a residual, in px²
        information = self.information / variance + np.diag(prior)
        scale, free = np.trace(information) / size, gauge @ gauge.T
        if not scale > 0:  # no point lies in front of a camera
            return np.full((2, size, size), np.inf)
        damped = information + scale * (free + _DAMPING * np.eye(size))
        inverse = np.linalg.inv(damped) - free / (scale * (1 + _DAMPING))
        moved = self.gradients @ inverse * (max(num_of_cameras, 1) / num_free / variance)
        return np.stack([moved.T @ moved + inverse @ (prior[:, None] * inverse), inverse])


@dataclass(frozen=True, eq=False, slots=True)
class _Observations:
    """The observations of an image, with derivatives of their pixels.

    Args:
        rows: [O] of the points.
        residuals: [O, 2] pixels of the projection minus those of the keypoint.
        by_camera: [O, 2, 6 + K] by a turn of the camera (radians), a step of its centre (in the unit extent) and the
            refined intrinsics, each in its own size.
        by_point: [O, 2, 3] by the position of the point.
    """

    rows: IndexArray
    residuals: Float64Array
    by_camera: Float64Array
    by_point: Float64Array

    @classmethod
    def of_image(
        cls,
        model: pycolmap.Reconstruction,
        image_id: int,
        point_ids: IndexArray,
        xyz: Float64Array,
        num_refined: int,
        extent: float,
    ) -> _Observations:
        """The observations of some points, sorted, at positions [P, 3]; those that have no projection are left out."""
        image = model.images[image_id]
        ids, keypoints = observed_ids(image), observing_keypoints(image)
        is_chosen = np.isin(ids, point_ids)
        rows = np.searchsorted(point_ids, ids[is_chosen])
        R = np.asarray(image.cam_from_world().matrix())[:, :3]
        rays = xyz[rows] - image.projection_center()
        camera, in_camera = model.cameras[image.camera_id], rays @ R.T
        residuals = _projected(camera, in_camera) - pixels_of(image)[keypoints[is_chosen]]
        by_direction = _by_position(camera, in_camera) @ R
        # R exp(-[w]×) (X - C - dC) = R (X - C) + R [X - C]× w - R dC, to first order
        by_camera = np.concatenate(
            [
                by_direction @ _cross_matrices(rays),
                -by_direction * extent,
                _by_intrinsics(camera, in_camera, _refined(camera)[:num_refined]),
            ],
            axis=2,
        )
        valid = np.isfinite(by_camera).all(axis=(1, 2)) & np.isfinite(residuals).all(axis=1)
        return cls(rows[valid], residuals[valid], by_camera[valid], by_direction[valid])


def _of_loss(residuals: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The derivative [N, 2] of half the soft L1 loss by residuals [N, 2], and the second derivative [N, 2, 2]."""
    weights = 1 / np.sqrt(1 + (residuals**2).sum(axis=1) / _LOSS_PX**2)
    outer = residuals[:, :, None] * residuals[:, None]
    slopes = weights[:, None, None] * np.eye(2) - (weights**3 / _LOSS_PX**2)[:, None, None] * outer
    return weights[:, None] * residuals, slopes


def _projected(camera: pycolmap.Camera, points: Float64Array) -> Float64Array:
    """Pixels [N, 2] of points [N, 3] in the camera."""
    return np.asarray(camera.img_from_cam(points), np.float64).reshape(-1, 2)


def _by_position(camera: pycolmap.Camera, points: Float64Array) -> Float64Array:
    """Derivatives [N, 2, 3] of the pixels by the position in the camera."""
    steps = _STEP * np.maximum(np.abs(points[:, 2:]), np.finfo(np.float64).tiny)
    columns = []
    for axis in np.eye(3):
        after, before = (_projected(camera, points + sign * steps * axis) for sign in (1, -1))
        columns.append((after - before) / (2 * steps))
    return np.stack(columns, axis=2)


def _by_intrinsics(camera: pycolmap.Camera, points: Float64Array, indices: list[int]) -> Float64Array:
    """Derivatives [N, 2, K] of the pixels by parameters of the camera, focal lengths in their own size."""
    derivatives = np.zeros((len(points), 2, len(indices)))
    for column, index in enumerate(indices):
        size = float(camera.params[index]) if index in camera.focal_length_idxs() else 1.0
        moved = []
        for sign in (1, -1):
            params = np.array(camera.params)
            params[index] += sign * _STEP * size
            other = pycolmap.Camera(
                model=camera.model_name, width=camera.width, height=camera.height, params=params.tolist()
            )
            moved.append(_projected(other, points))
        derivatives[:, :, column] = (moved[0] - moved[1]) / (2 * _STEP)
    return derivatives
