"""The poses of a model and the keypoints of its images, in whole arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.kernels import points as kernels
from sfm_lightglue.kernels.library import compiled


@dataclass(frozen=True, eq=False, slots=True)
class Observers:
    """Cameras with known poses, and the rays of their keypoints.

    Rows are read by `take`: indexing with an array of rows takes five times as long.

    Args:
        R: [I, 3, 3] rotations, camera from world.
        t: [I, 3].
        focal_px: [I] mean focal length in pixels.
        limits_px: [I] largest reprojection error in pixels.
        image: [K] image of each keypoint; the keypoints of all images are numbered together.
        points: [K, 2] normalised image points; NaN where the distortion cannot be undone.
    """

    R: Float64Array
    t: Float64Array
    focal_px: Float64Array
    limits_px: Float64Array
    image: IndexArray
    points: Float64Array

    def rays(self, keypoints: IndexArray) -> Float64Array:
        """Unit directions [N, 3] in the world."""
        rays = np.concatenate([self.points.take(keypoints, axis=0), np.ones((len(keypoints), 1))], axis=1)
        rays = np.einsum("nji,nj->ni", self.R.take(self.image.take(keypoints), axis=0), rays)
        unit: Float64Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        return unit

    def centers(self) -> Float64Array:
        """Centres [I, 3] of the cameras in the world."""
        return np.asarray(-np.einsum("iba,ib->ia", self.R, self.t))

    def residuals(self, xyz: Float64Array, keypoints: IndexArray) -> tuple[Float64Array, Float64Array]:
        """Reprojection errors [N, 2] as fractions of the limit, and depths [N], of a point for each keypoint."""
        image = self.image.take(keypoints)
        in_camera = np.einsum("nij,nj->ni", self.R.take(image, axis=0), xyz) + self.t.take(image, axis=0)
        depth = in_camera[:, 2]
        scale = (self.focal_px / self.limits_px).take(image)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (in_camera[:, :2] / depth[:, None] - self.points.take(keypoints, axis=0)) * scale, depth

    def squared_errors(
        self, xyz: Float64Array, point: IndexArray, keypoint: IndexArray
    ) -> tuple[Float64Array, Float64Array]:
        """Squared reprojection errors [N] as fractions of the limit, and depths [N], by rows of both arrays."""
        library = compiled()
        if library is not None:
            scale = self.focal_px / self.limits_px
            seen = kernels.SeenKeypoints(self.image, self.points, self.R, self.t, scale)
            return kernels.squared_errors(library, seen, xyz, point, keypoint)
        error, depth = self.residuals(xyz.take(point, axis=0), keypoint)
        return (error**2).sum(axis=1), depth
