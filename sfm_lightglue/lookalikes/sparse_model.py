"""Poses, points and observations of a model as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray

if TYPE_CHECKING:
    import pycolmap

_MAX_POINTS_PER_IMAGE = 400
"""Number of points per image, on average, that are looked at."""

_MAX_PROJECTIONS = 30_000_000
"""Largest product of the numbers of points and images: with more images, fewer points are looked at."""


@dataclass(frozen=True, eq=False, slots=True)
class SparseModel:
    """A model, or a part of its points.

    Args:
        names: of the registered images, sorted.
        cam_from_world: [n, 3, 4] their poses.
        cameras: of each image.
        points: [P, 3] positions.
        image_rows: [K] the image of each observation, ascending.
        point_rows: [K] its point.
        pixels: [K, 2] where the image shows it.
        step: every step-th point of the model is among the points.
    """

    names: tuple[str, ...]
    cam_from_world: Float64Array
    cameras: tuple[pycolmap.Camera, ...]
    points: Float64Array
    image_rows: IndexArray
    point_rows: IndexArray
    pixels: Float64Array
    step: int = 1

    @classmethod
    def from_model(cls, model: pycolmap.Reconstruction) -> SparseModel:
        """The arrays of a model; of a large one, every k-th point is taken."""
        images = sorted((model.images[image_id] for image_id in model.reg_image_ids()), key=lambda image: image.name)
        point_ids = sorted(model.point3D_ids())
        most = min(_MAX_POINTS_PER_IMAGE * len(images), _MAX_PROJECTIONS // max(len(images), 1))
        step = max(-(-len(point_ids) // max(most, 1)), 1)
        point_ids = point_ids[::step]
        row_from_id = {point_id: row for row, point_id in enumerate(point_ids)}
        observed = [
            [
                (row_from_id[one.point3D_id], one.xy)
                for one in image.get_observation_points2D()
                if one.point3D_id in row_from_id
            ]
            for image in images
        ]
        flat = [one for own in observed for one in own]
        return cls(
            tuple(image.name for image in images),
            np.array([image.cam_from_world().matrix() for image in images], np.float64).reshape(-1, 3, 4),
            tuple(model.cameras[image.camera_id] for image in images),
            np.array([model.points3D[point_id].xyz for point_id in point_ids], np.float64).reshape(-1, 3),
            np.repeat(np.arange(len(images)), [len(own) for own in observed]).astype(np.int64),
            np.array([row for row, _ in flat], np.int64),
            np.array([pixel for _, pixel in flat], np.float64).reshape(-1, 2),
            step,
        )

    @property
    def centers(self) -> Float64Array:
        """Camera centres [n, 3] in the world."""
        rotations, translations = self.cam_from_world[:, :, :3], self.cam_from_world[:, :, 3]
        centers: Float64Array = -np.einsum("nji,nj->ni", rotations, translations)
        return centers

    def num_common(self, is_counted: BoolArray | None = None) -> IndexArray:
        """Number [n, n] of the points that two images have in common, also from different directions.

        Args:
            is_counted: [P] the points that count; None for all.
        """
        shape = len(self.names), len(self.points)
        ones = np.ones(len(self.point_rows), np.int64)
        if is_counted is not None:
            ones = is_counted[self.point_rows].astype(np.int64)
        seen = csr_array((ones, (self.image_rows, self.point_rows)), shape)
        common: IndexArray = (seen @ seen.T).toarray()
        return common * self.step

    def weighted_common(self, weights: Float64Array) -> Float64Array:
        """Sum [n, n] of the weights [P] of the points that two images have in common."""
        shape = len(self.names), len(self.points)
        seen = csr_array((np.sqrt(weights)[self.point_rows], (self.image_rows, self.point_rows)), shape)
        common: Float64Array = (seen @ seen.T).toarray()
        return common

    def project(self, image: int, margin: float) -> tuple[IndexArray, Float64Array, Float64Array]:
        """The points that lie inside an image.

        Args:
            image: its row.
            margin: width of a border that does not count, as a fraction of the longer side.

        Returns:
            Rows [M] of the points, their pixels [M, 2], and all depths [P].
        """
        camera, matrix = self.cameras[image], self.cam_from_world[image]
        in_camera = self.points @ matrix[:, :3].T + matrix[:, 3]
        depths: Float64Array = in_camera[:, 2]
        size = np.array([camera.width, camera.height], np.float64)
        border = margin * size.max()
        # Distortion can fold points from far outside into the image, so those are left out before.
        reach = size.max() / camera.mean_focal_length()
        rows = np.flatnonzero((depths > 1e-9) & (np.abs(in_camera[:, :2]).max(axis=1, initial=0) < reach * depths))
        pixels = np.asarray(camera.img_from_cam(in_camera[rows]), np.float64).reshape(-1, 2)
        with np.errstate(invalid="ignore"):
            inside: BoolArray = ((pixels > border) & (pixels < size - border)).all(axis=1)
        return rows[inside], pixels[inside], depths
