"""The default viewpoint on a model: behind and above its cameras, robust against outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Rigid3

VERTICAL_FOV_DEG = 40.0
ELEVATION_DEG = 22.0
"""Angle by which the viewing direction points downwards."""
AZIMUTH_DEG = 28.0
"""Angle by which the view is turned sideways; along the cameras' own direction depth would not be visible."""


@dataclass(frozen=True, slots=True, eq=False)
class Viewpoint:
    """A virtual camera, in world units.

    Args:
        eye: [3] its centre.
        target: [3] the point at the centre of the image; the window rotates the scene around it.
        up: [3] unit vector.
        vertical_fov_deg: opening angle of the image from top to bottom.
    """

    eye: Float64Array
    target: Float64Array
    up: Float64Array
    vertical_fov_deg: float = VERTICAL_FOV_DEG

    @property
    def cam_from_world(self) -> Rigid3:
        """Pose of the virtual camera."""
        return Rigid3.look_at(self.eye, self.target, self.up)

    def project(self, positions: AnyArray, size: tuple[int, int]) -> tuple[Float64Array, Float64Array]:
        """Project positions [N, 3] into an image of (width, height) pixels.

        Returns:
            Pixels [N, 2], the corner of the image at (0, 0); depths [N] in world units. Pixels of positions that are
            not in front of the camera are NaN.
        """
        in_camera = self.cam_from_world @ positions
        depths = np.ascontiguousarray(in_camera[:, 2])
        divisors = np.where(depths > 0, depths, np.nan)
        focal_length_px = size[1] / 2 / np.tan(np.radians(self.vertical_fov_deg) / 2)
        pixels: Float64Array = focal_length_px * in_camera[:, :2] / divisors[:, None] + np.array(size) / 2
        return pixels, depths


def near_mask(positions: Float64Array, factor: float = 2.5) -> BoolArray:
    """Mask [N] of the positions [N, 3] that are not outliers.

    Distances are measured from the median. The limit is `factor` times the distance within which three quarters of
    the positions lie, so outliers do not move it while they are less than a quarter.
    """
    if len(positions) == 0:
        return np.zeros(0, dtype=np.bool_)
    distances = np.linalg.norm(positions - np.median(positions, axis=0), axis=1)
    mask: BoolArray = distances <= factor * np.quantile(distances, 0.75, method="lower") + 1e-12
    return mask


def near_mask_of_models(positions: Float64Array, model_of_position: IndexArray) -> BoolArray:
    """Mask [N] of the positions [N, 3] that are not outliers of their own model; those that are not finite are.

    Args:
        positions: of several models.
        model_of_position: [N] number of the model of each.
    """
    mask = np.zeros(len(positions), np.bool_)
    is_finite = np.isfinite(positions).all(axis=1)
    for model in np.unique(model_of_position):
        rows = np.flatnonzero(is_finite & (model_of_position == model))
        mask[rows] = near_mask(positions[rows])
    return mask


def scene_radius(points: Float64Array, centers: Float64Array) -> float:
    """Half the diagonal of the box around points [N, 3] and camera centres [F, 3] without outliers; 1 if it is 0."""
    return half_diagonal(np.concatenate([points[near_mask(points)], centers[near_mask(centers)]]))


def half_diagonal(positions: Float64Array) -> float:
    """Half the diagonal of the box around positions [N, 3]; 1 if it is 0."""
    radius = float(np.linalg.norm(np.ptp(positions, axis=0))) / 2
    return radius if radius > 0 else 1.0


def choose_viewpoint(
    points: Float64Array,
    poses: list[Rigid3],
    seen_vertices: Float64Array,
    aspect: float,
    up: Float64Array | None = None,
    point_mask: BoolArray | None = None,
) -> Viewpoint:
    """The viewpoint behind and above the cameras that is as near as the whole scene fits into the image.

    Args:
        points: [N, 3].
        poses: `cam_from_world` of F cameras without outliers; if there are none, the view is along z with y downwards.
        seen_vertices: [V, 3] further positions that must be in the image.
        aspect: width divided by height of the image.
        up: [3] unit vector; None for the mean of the cameras' own upward directions.
        point_mask: [N] of the points that must be in the image; None for those that are not outliers.

    Raises:
        ValueError: if there is neither a point nor a vertex.
    """
    kept = points[near_mask(points) if point_mask is None else point_mask]
    must_see = np.concatenate([kept, seen_vertices])
    if len(must_see) == 0:
        raise ValueError("choose_viewpoint: expected a point or a vertex to look at")
    forward, up = _mean_forward_and_up(poses, up)
    right = np.cross(forward, up)
    elevation, azimuth = np.radians(ELEVATION_DEG), np.radians(AZIMUTH_DEG)
    level = np.cos(azimuth) * forward - np.sin(azimuth) * right
    direction = np.cos(elevation) * level - np.sin(elevation) * up
    eye = _fit_eye(must_see, direction, up, aspect)
    depth = float(np.median((must_see - eye) @ direction))
    target = eye + direction * depth
    return Viewpoint(eye, target, up)


def _mean_forward_and_up(poses: list[Rigid3], up: Float64Array | None) -> tuple[Float64Array, Float64Array]:
    """Two perpendicular unit vectors [3]: the cameras' mean horizontal viewing direction, and up."""
    if not poses and up is None:
        return np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])
    if not poses:
        poses = [Rigid3.identity()]
    rotations = np.stack([pose.R for pose in poses])  # rows: the camera's x, y and z axis in the world
    forwards, ups = rotations[:, 2], -rotations[:, 1]
    if up is None:
        up = ups.mean(axis=0)
        if np.linalg.norm(up) < 0.2:  # the cameras are rolled in all directions: use the first
            up = ups[0]
        up = up / np.linalg.norm(up)
    # The mean cancels if the cameras look in all directions, as around an object: then use the first camera.
    for candidate in (forwards.mean(axis=0), forwards[0], rotations[0, 1], rotations[0, 0]):
        level = candidate - (candidate @ up) * up
        if np.linalg.norm(level) > 0.2:
            break
    return level / np.linalg.norm(level), up


def _fit_eye(positions: Float64Array, direction: Float64Array, up: Float64Array, aspect: float) -> Float64Array:
    """The eye [3] nearest to positions [N, 3] that has all of them in the image, with a margin of 6 %.

    In the camera's frame, |x - ex| <= a (z - ez) must hold for all positions, a the half width at depth 1;
    the two outermost positions, max(x - a z) and max(-x - a z), give ex and ez. Likewise for y.
    """
    R = Rigid3.look_at(np.zeros(3), direction, up).R
    middle = np.median(positions, axis=0)
    x, y, z = (R @ (positions - middle).T).astype(np.float64)
    half_height = np.tan(np.radians(VERTICAL_FOV_DEG) / 2) * 0.94
    half_width = half_height * aspect
    right, left = (x - half_width * z).max(), (-x - half_width * z).max()
    lower, upper = (y - half_height * z).max(), (-y - half_height * z).max()
    depth = min(-(right + left) / (2 * half_width), -(lower + upper) / (2 * half_height))
    if depth > z.min() - 1e-9:  # all positions coincide, or lie on the line of sight
        depth = z.min() - max(np.ptp(z), 1.0)
    eye: Float64Array = middle + R.T @ np.array([(right - left) / 2, (lower - upper) / 2, depth])
    return eye
