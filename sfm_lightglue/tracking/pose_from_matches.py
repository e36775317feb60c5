"""The pose of a frame from its matches with one keyframe, few of which may have points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.tracking.absolute_pose import AbsolutePose, absolute_pose
from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.relative_motion import epipolar_errors_px, relative_pose_of, scaled_pose
from sfm_lightglue.types import Camera

_MIN_SURE_SHARE = 0.3
"""A pose by points alone must fit this fraction of them."""

_FEW_POINTS = 12
_FEW_POINTS_SHARE = 0.6
"""A pose by fewer points than usual must fit so many, and this fraction of them."""

_MIN_POINTS = 5
_MIN_POINT_SHARE = 0.4
"""Number and fraction of the points that a pose must fit which other matches confirm."""

_POINT_FACTOR = 2.0
"""Factor on the limit of the points then: they are young, and the lines determine most of the pose."""

_MAX_RESIDUAL = 20.0
"""Largest error that counts in the refinement, as a multiple of the limit."""

_MIN_MATCHES = 40
_MIN_MATCH_SHARE = 0.5
"""Number and fraction of the matches that must confirm such a pose."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchesWithPoints:
    """Matches of a frame with a keyframe.

    Args:
        camera: of both.
        keyframe_from_world: pose of the keyframe.
        pixels0: [N, 2] in the keyframe.
        pixels1: [N, 2] in the frame.
        xyz: [N, 3] points of the map, NaN without.
        limit_px: largest error of an inlier.
    """

    camera: Camera
    keyframe_from_world: Rigid3
    pixels0: Float64Array
    pixels1: Float64Array
    xyz: Float64Array
    limit_px: float

    @property
    def known(self) -> BoolArray:
        """Which matches [N] have a point."""
        return ~np.isnan(self.xyz[:, 0])

    def fit(self, cam_from_world: Rigid3, point_factor: float = 1.0) -> BoolArray:
        """Which matches [N] fit a pose: by the reprojection of their point, else by their epipolar line.

        Args:
            cam_from_world: the pose.
            point_factor: factor on the limit for points.
        """
        by_point, by_line = self.errors_px(cam_from_world)
        return np.where(self.known, by_point <= point_factor * self.limit_px, by_line <= self.limit_px)

    def errors_px(self, cam_from_world: Rigid3) -> tuple[Float64Array, Float64Array]:
        """Errors [N] of the reprojected points, infinite without, and distances [N] from the epipolar lines."""
        motion = cam_from_world @ self.keyframe_from_world.inverse()
        by_line = epipolar_errors_px(self.camera, motion, self.pixels0, self.pixels1)
        return reprojection_errors_px(self.camera, cam_from_world, self.xyz, self.pixels1), by_line


def pose_from_matches(matches: MatchesWithPoints, min_inliers: int, seed: int) -> AbsolutePose | None:
    """Estimate the pose of a frame.

    Args:
        matches: with a keyframe.
        min_inliers: number of points that determine a pose without other matches. With fewer ones, all matches must
            confirm the pose, and five points are enough.
        seed: of RANSAC.

    Returns:
        The pose and the matches [N] that fit; None if too few do.
    """
    known = matches.known
    xyz, pixels = matches.xyz[known], matches.pixels1[known]
    by_points = absolute_pose(pixels, xyz, matches.camera, seed, matches.limit_px)
    if by_points is not None and _is_sure(by_points.num_inliers, int(known.sum()), min_inliers):
        return AbsolutePose(by_points.cam_from_world, matches.fit(by_points.cam_from_world))
    relative = relative_pose_of(matches.pixels0, matches.pixels1, matches.camera, seed)
    scaled = scaled_pose(relative, matches.camera, matches.keyframe_from_world @ xyz, pixels, matches.limit_px)
    candidates = [] if by_points is None else [by_points.cam_from_world]
    if scaled is not None:
        candidates.append(scaled @ matches.keyframe_from_world)
    refined = [_refined(matches, pose) for pose in candidates]
    fits = [AbsolutePose(pose, matches.fit(pose, _POINT_FACTOR)) for pose in refined]
    confirmed = [one for one in fits if _is_confirmed(one.inlier_mask, known)]
    return max(confirmed, key=lambda one: one.num_inliers, default=None)


def _is_sure(num_inliers: int, num_points: int, min_inliers: int) -> bool:
    return num_inliers >= max(min_inliers, _MIN_SURE_SHARE * num_points) or (
        num_inliers >= max(_FEW_POINTS, _FEW_POINTS_SHARE * num_points)
    )


def _refined(matches: MatchesWithPoints, start: Rigid3) -> Rigid3:
    """The pose with the smallest errors of points and epipolar lines together, with a robust loss."""

    def moved(step: Float64Array) -> Rigid3:
        turn = rotation_from_rotvec(step[:3])
        return Rigid3(turn @ start.R, turn @ start.t + depth * step[3:])

    def residuals(step: Float64Array) -> Float64Array:
        by_point, by_line = matches.errors_px(moved(step))
        errors = np.concatenate([by_point[known], by_line[usable]]) / matches.limit_px
        return np.minimum(errors, _MAX_RESIDUAL)

    from scipy.optimize import least_squares  # see `load_solver`

    known = matches.known
    usable = np.isfinite(matches.errors_px(start)[1])
    depth = float(np.median((start @ matches.xyz[known])[:, 2]))
    solution = least_squares(residuals, np.zeros(6), loss="cauchy", x_scale=1e-2, max_nfev=20)
    return moved(solution.x)


def _is_confirmed(fit: BoolArray, known: BoolArray) -> bool:
    num_points = int((fit & known).sum())
    return bool(
        num_points >= max(_MIN_POINTS, _MIN_POINT_SHARE * known.sum())
        and fit.sum() >= max(_MIN_MATCHES, _MIN_MATCH_SHARE * len(fit))
    )


def load_solver() -> None:
    """Import the solver of poses that few points determine: half a second that an urgent frame would wait otherwise."""
    import scipy.optimize  # noqa: F401
