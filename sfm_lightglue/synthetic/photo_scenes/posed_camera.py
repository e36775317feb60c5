"""A pinhole camera with a pose, used for rendering and for labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3

Box = tuple[int, int, int, int]
"""Part of an image in pixels: x0, y0, x1, y1; x1 and y1 are excluded."""

MIN_DEPTH_M = 0.05
"""Points with a smaller depth are not visible."""


@dataclass(frozen=True, slots=True, eq=False)
class PosedCamera:
    """A pinhole camera without distortion whose principal point is the image centre.

    Args:
        focal_px: focal length in pixels.
        size: (width, height) in pixels.
        cam_from_world: pose in metres.
    """

    focal_px: float
    size: tuple[int, int]
    cam_from_world: Rigid3

    @property
    def K(self) -> Float64Array:
        """Calibration matrix [3, 3] in COLMAP's pixel convention."""
        width, height = self.size
        return np.array([[self.focal_px, 0, width / 2], [0, self.focal_px, height / 2], [0, 0, 1]])

    @property
    def whole(self) -> Box:
        """The box of the whole image."""
        return 0, 0, self.size[0], self.size[1]

    def project(self, points: AnyArray) -> tuple[Float64Array, Float64Array]:
        """World points [N, 3] -> pixels [N, 2] and depths [N] in metres.

        The pixels of points with a depth below `MIN_DEPTH_M` are meaningless.
        """
        seen = self.cam_from_world @ points
        depths = seen[:, 2]
        divisors = np.maximum(depths, MIN_DEPTH_M)[:, None]
        pixels = seen[:, :2] / divisors * self.focal_px + np.asarray(self.size) / 2
        return pixels, depths

    def unproject(self, pixels: AnyArray, depths: AnyArray) -> Float64Array:
        """Pixels [N, 2] with depths [N] in metres -> world points [N, 3]."""
        rays = (np.asarray(pixels, np.float64) - np.asarray(self.size) / 2) / self.focal_px
        depths = np.asarray(depths, np.float64)[:, None]
        return self.cam_from_world.inverse() @ np.concatenate([rays * depths, depths], axis=1)

    def scaled(self, factor: float) -> PosedCamera:
        """The same view in a smaller or larger image."""
        width, height = (max(1, round(side * factor)) for side in self.size)
        return PosedCamera(self.focal_px * width / self.size[0], (width, height), self.cam_from_world)
