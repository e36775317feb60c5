"""Rigid and similarity transforms, with NumPy only.

Transforms are named `target_from_source`, so that equal names are neighbours in a product:
`cam1_from_cam0 = cam1_from_world @ world_from_cam0`. Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array


def is_rotation(R: Float64Array) -> bool:
    """Whether a matrix [3, 3] differs from a rotation by at most 1e-4.

    Written for many matrices one by one: a fiftieth of the time of `np.allclose` and `np.linalg.det`.
    """
    (a, b, c), (d, e, f), (g, h, i) = R.tolist()
    lengths = a * a + b * b + c * c - 1, d * d + e * e + f * f - 1, g * g + h * h + i * i - 1
    products = a * d + b * e + c * f, a * g + b * h + c * i, d * g + e * h + f * i
    if not all(-1e-4 <= value <= 1e-4 for value in (*lengths, *products)):  # also for numbers that are not finite
        return False
    return bool(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g) > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Rigid3:
    """A rotation followed by a translation: x_target = R @ x_source + t.

    Args:
        R: rotation matrix [3, 3].
        t: translation [3], in the unit of the target frame.

    Raises:
        ValueError: for wrong shapes, or if R differs from a rotation by more than 1e-4.

    Example:
        >>> cam_from_world = sfm_lightglue.Rigid3.from_rotvec([0, 0, 0], [0, 0, 2])
        >>> cam_from_world.center.tolist()
        [0.0, 0.0, -2.0]
        >>> (cam_from_world @ cam_from_world.inverse()).t.tolist()
        [0.0, 0.0, 0.0]
    """

    R: Float64Array
    t: Float64Array

    def __post_init__(self) -> None:
        R = np.asarray(self.R, dtype=np.float64)
        t = np.asarray(self.t, dtype=np.float64)
        if R.shape != (3, 3) or t.shape != (3,):
            raise ValueError(f"Rigid3: expected R [3, 3] and t [3], got {R.shape} and {t.shape}")
        if not is_rotation(R):
            raise ValueError("Rigid3: R is not a rotation matrix")
        object.__setattr__(self, "R", R)
        object.__setattr__(self, "t", t)

    @classmethod
    def identity(cls) -> Rigid3:
        """The identity transform."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_matrix(cls, matrix: AnyArray) -> Rigid3:
        """Make a transform from a matrix [3, 4] or [4, 4]."""
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.shape not in {(3, 4), (4, 4)}:
            raise ValueError(f"Rigid3: expected a matrix [3, 4] or [4, 4], got {matrix.shape}")
        return cls(matrix[:3, :3], matrix[:3, 3])

    @classmethod
    def from_rotvec(cls, rotvec: AnyArray, t: AnyArray) -> Rigid3:
        """Make a transform from a rotation vector [3] (axis times angle in radians) and a translation [3]."""
        return cls(rotation_from_rotvec(np.asarray(rotvec, dtype=np.float64)), np.asarray(t))

    @classmethod
    def look_at(cls, center: AnyArray, target: AnyArray, up: AnyArray) -> Rigid3:
        """`cam_from_world` of a camera at `center` [3] that looks at `target` [3]; `up` [3] points up in its image."""
        z = np.asarray(target, dtype=np.float64) - center
        z = z / np.linalg.norm(z)
        x = np.cross(z, up)
        x = x / np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        return cls(R, -R @ center)

    def as_matrix(self) -> Float64Array:
        """The transform as a matrix [4, 4]."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.R
        matrix[:3, 3] = self.t
        return matrix

    @property
    def center(self) -> Float64Array:
        """Origin [3] of the target frame in the source frame; for a `cam_from_world`, the camera centre."""
        return -self.R.T @ self.t

    def inverse(self) -> Rigid3:
        """`source_from_target`."""
        return Rigid3(self.R.T, self.center)

    @overload
    def __matmul__(self, other: Rigid3) -> Rigid3: ...
    @overload
    def __matmul__(self, other: AnyArray) -> Float64Array: ...
    def __matmul__(self, other: Rigid3 | AnyArray) -> Rigid3 | Float64Array:
        """Compose with a transform, or transform points [..., 3]."""
        if isinstance(other, Rigid3):
            return Rigid3(self.R @ other.R, self.R @ other.t + self.t)
        return np.asarray(other, dtype=np.float64) @ self.R.T + self.t


@dataclass(frozen=True, slots=True, eq=False)
class Sim3:
    """A similarity: x_target = scale * R @ x_source + t.

    Args:
        scale: positive factor.
        R: rotation matrix [3, 3].
        t: translation [3], in the unit of the target frame.
    """

    scale: float
    R: Float64Array
    t: Float64Array

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"Sim3: the scale must be positive, got {self.scale}")
        Rigid3(self.R, self.t)

    @classmethod
    def identity(cls) -> Sim3:
        """The identity similarity."""
        return cls(1.0, np.eye(3), np.zeros(3))

    def inverse(self) -> Sim3:
        """`source_from_target`."""
        return Sim3(1.0 / self.scale, self.R.T, -self.R.T @ self.t / self.scale)

    @overload
    def __matmul__(self, other: Sim3) -> Sim3: ...
    @overload
    def __matmul__(self, other: AnyArray) -> Float64Array: ...
    def __matmul__(self, other: Sim3 | AnyArray) -> Sim3 | Float64Array:
        """Compose with a similarity, or transform points [..., 3]."""
        if isinstance(other, Sim3):
            return Sim3(self.scale * other.scale, self.R @ other.R, self.scale * self.R @ other.t + self.t)
        return self.scale * (np.asarray(other, dtype=np.float64) @ self.R.T) + self.t


def rotation_from_rotvec(rotvec: Float64Array) -> Float64Array:
    """Convert a rotation vector [3] (axis times angle in radians) to a matrix [3, 3] by Rodrigues' formula."""
    angle = float(np.linalg.norm(rotvec))
    K = cross_matrix(rotvec)
    if angle < 1e-8:
        return project_to_rotation(np.eye(3) + K)
    rotation: Float64Array = np.eye(3) + np.sin(angle) / angle * K + (1 - np.cos(angle)) / angle**2 * (K @ K)
    return rotation


def cross_matrix(v: AnyArray) -> Float64Array:
    """The skew-symmetric matrix [3, 3] whose product with a vector x is v × x."""
    x, y, z = (float(value) for value in v)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def project_to_rotation(matrix: AnyArray) -> Float64Array:
    """The rotation [3, 3] nearest to a matrix [3, 3] in the Frobenius norm."""
    U, _, Vt = np.linalg.svd(matrix)
    rotation: Float64Array = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    return rotation


def rotation_angle_deg(R: AnyArray) -> float:
    """Angle of a rotation matrix [3, 3] in degrees."""
    return float(rotation_angles_deg(R))


def rotation_angles_deg(R: AnyArray) -> Float64Array:
    """Angles [...] of rotation matrices [..., 3, 3] in degrees. Small angles keep their full precision."""
    axis = np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], axis=-1)
    cosine = (np.trace(R, axis1=-2, axis2=-1) - 1) / 2
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1) / 2, cosine)))


def direction_angle_deg(a: AnyArray, b: AnyArray) -> float:
    """Angle between two vectors [3] in degrees, 0 to 180; 90 if one of them is zero."""
    return float(direction_angles_deg(a, b))


def direction_angles_deg(a: AnyArray, b: AnyArray) -> Float64Array:
    """Angles [...] between vectors [..., 3] in degrees, 0 to 180; 90 if one of the two is zero."""
    a, b = np.asarray(a), np.asarray(b)
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1)))
    return np.where(a.any(axis=-1) & b.any(axis=-1), angles, 90.0)


def relative_pose_error_deg(cam1_from_cam0: Rigid3, truth: Rigid3) -> tuple[float, float]:
    """Errors of a relative pose in degrees: of the rotation, and of the direction of the translation.

    Two images do not determine the length of the translation, so it is not compared.
    """
    return (
        rotation_angle_deg(cam1_from_cam0.R @ truth.R.T),
        direction_angle_deg(cam1_from_cam0.t, truth.t),
    )


def umeyama(source: AnyArray, target: AnyArray, with_scale: bool = True) -> Sim3:
    """The similarity `target_from_source` that aligns corresponding points with least squared distances.

    Args:
        source: points [N, 3], N >= 3.
        target: points [N, 3].
        with_scale: estimate the scale; if False, the scale is 1.

    Raises:
        ValueError: for fewer than three points, unequal shapes, or source points that all coincide.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ValueError(f"umeyama: expected two arrays [N >= 3, 3], got {source.shape} and {target.shape}")
    mean_source, mean_target = source.mean(0), target.mean(0)
    centred_source, centred_target = source - mean_source, target - mean_target
    variance = (centred_source**2).sum() / len(source)
    if variance == 0:
        raise ValueError("umeyama: all source points coincide")
    U, D, Vt = np.linalg.svd(centred_target.T @ centred_source / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = U @ np.diag(signs) @ Vt
    scale = float((D * signs).sum() / variance) if with_scale else 1.0
    return Sim3(scale, R, mean_target - scale * R @ mean_source)
