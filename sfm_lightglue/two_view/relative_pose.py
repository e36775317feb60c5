"""Matches of two images -> where the second was taken as seen from the first, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.geometry.epipolar import triangulate
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.scene.cameras import calibration_matrix
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import Correspondences, normalize_matches, rays_of
from sfm_lightglue.two_view.focal_length import (
    GUESS_LOG_SIGMA,
    FocalEstimate,
    focal_from_motion,
    focal_from_rotation,
    with_focal_factor,
)
from sfm_lightglue.two_view.pose import num_supporting, poses_from_homography, refine_pose
from sfm_lightglue.two_view.uncertainty import FocalPrior, PoseUncertainty, pose_uncertainty
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import Camera, Features, IntrinsicsSource, Matches, Rejected, TwoViewGeometry

PoseVerdict = Literal["general", "planar", "pure_rotation", "too_few"]

EXIF_LOG_SIGMA = 0.02
"""Standard deviation of the logarithm of a focal length from EXIF data, which is rounded, and nominal."""

POSE_VERSION = 3
"""Part of the keys of results; raised whenever the same input starts to give something else."""


@dataclass(frozen=True, eq=False, slots=True)
class RelativePose:
    """The relative pose of two images, and all that is known of it.

    Args:
        geometry: pose, matrices and inlier mask over all matches; or why there is none.
        cameras: the intrinsics that were used; `source` tells where their focal lengths come from.
        uncertainty: radii that hold 95 % of the errors; None where there is no pose.
        rival: another pose that explains the matches of a plane as well, or None; only more views decide.
        inliers: the matches that fit, as rows of the features.
        keypoints0: [M, 2] pixels of the inliers in image 0, COLMAP convention.
        keypoints1: [M, 2] in image 1.
        points: [P, 3] triangulated inliers in the frame of camera 0; its unit is the distance of the cameras. Those
            whose rays are parallel within the noise are left out, so that there is none for a pure rotation.
        point_inlier_idxs: [P] the inlier (row of `keypoints0`) that each point belongs to.
    """

    geometry: TwoViewGeometry | Rejected
    cameras: tuple[Camera, Camera]
    uncertainty: PoseUncertainty | None
    rival: Rigid3 | None
    inliers: Matches
    keypoints0: Float32Array
    keypoints1: Float32Array
    points: Float64Array
    point_inlier_idxs: IndexArray

    @property
    def verdict(self) -> PoseVerdict:
        """general; planar: the inliers lie on one plane; pure_rotation: t is 0; too_few agree on a pose."""
        return "too_few" if isinstance(self.geometry, Rejected) else self.geometry.kind

    @property
    def cam1_from_cam0(self) -> Rigid3 | None:
        """The pose, with t of length 1 (0 for a pure rotation); None exactly where the verdict is too_few."""
        return None if isinstance(self.geometry, Rejected) else self.geometry.cam1_from_cam0

    @property
    def focal_sources(self) -> tuple[IntrinsicsSource, IntrinsicsSource]:
        """Where the focal lengths come from: given, exif, estimated from the pair, or guessed."""
        return self.cameras[0].source, self.cameras[1].source

    @property
    def num_matches(self) -> int:
        """Number of matches, wrong ones too."""
        return self.geometry.num_matches if isinstance(self.geometry, Rejected) else len(self.geometry.inlier_mask)

    @property
    def num_inliers(self) -> int:
        """Number of matches that fit; of a rejected pair, how many agreed with its best geometry."""
        return self.geometry.num_inliers

    def __repr__(self) -> str:
        return (
            f"RelativePose(verdict={self.verdict!r}, num_inliers={self.num_inliers} of {self.num_matches},"
            f" cam1_from_cam0={self.cam1_from_cam0}, uncertainty={self.uncertainty},"
            f" focal_sources={self.focal_sources}, num_points={len(self.points)})"
        )


def relative_pose_from_matches(
    features0: Features,
    features1: Features,
    matches: Matches,
    camera0: Camera,
    camera1: Camera,
    config: TwoViewConfig | None = None,
    seed: int = 0,
    is_same_camera: bool = False,
) -> RelativePose:
    """Find the pose, with a focal length estimated from the matches where it is only guessed and they show it.

    Args:
        features0: of image 0.
        features1: of image 1.
        matches: between them.
        camera0: intrinsics of image 0.
        camera1: intrinsics of image 1.
        config: thresholds.
        seed: of the random samples; the same seed gives the same result.
        is_same_camera: both images have the same focal length, though it may be unknown; otherwise two unknown ones are
            not estimated, and each makes the pose inexact on its own.

    Raises:
        ConfigError: where the estimator's library is not installed.
    """
    config = config or TwoViewConfig()
    cameras = camera0, camera1
    geometry = estimate_two_view_geometry(features0, features1, matches, *cameras, config, seed)
    estimate = None
    unknown = _unknown_focal_sides(cameras, is_same_camera)
    if isinstance(geometry, TwoViewGeometry) and unknown:
        data, _ = normalize_matches(features0, features1, matches, *cameras, config)
        estimate = _estimate_focal(data.rows(geometry.inlier_mask), geometry, cameras, unknown)
        if estimate is not None:
            better = _with_estimate(cameras, unknown, estimate)
            again = estimate_two_view_geometry(features0, features1, matches, *better, config, seed)
            # A true focal length loses no matches.
            if isinstance(again, TwoViewGeometry) and again.num_inliers >= _MIN_KEPT * geometry.num_inliers:
                geometry, cameras = again, better
    priors = _focal_priors(cameras, is_same_camera, estimate)
    data, usable = normalize_matches(features0, features1, matches, *cameras, config)
    return _describe(geometry, cameras, (features0, features1), matches, data, usable, priors)


_MIN_KEPT = 0.8
"""Share of the inliers without calibration that a calibrated pose must keep."""


def _unknown_focal_sides(cameras: tuple[Camera, Camera], is_same_camera: bool) -> tuple[int, ...]:
    """The images whose one focal length the matches may show; two different unknown ones are too many."""
    sides = tuple(side for side in (0, 1) if cameras[side].source == "guessed")
    return () if len(sides) == 2 and not is_same_camera else sides


def _estimate_focal(
    inliers: Correspondences, geometry: TwoViewGeometry, cameras: tuple[Camera, Camera], sides: tuple[int, ...]
) -> FocalEstimate | None:
    K0, K1 = (calibration_matrix(camera) for camera in cameras)
    estimate = None
    if geometry.kind == "general":
        estimate = focal_from_motion(inliers, K1.T @ geometry.F @ K0, sides)
    elif geometry.kind == "pure_rotation" and geometry.H is not None:
        estimate = focal_from_rotation(inliers, np.linalg.inv(K1) @ geometry.H @ K0, sides)
    # A plane shows no focal length.
    return estimate if estimate is not None and estimate.is_reliable else None


def _with_estimate(
    cameras: tuple[Camera, Camera], sides: tuple[int, ...], estimate: FocalEstimate
) -> tuple[Camera, Camera]:
    camera0, camera1 = (
        with_focal_factor(camera, estimate.factor) if side in sides else camera for side, camera in enumerate(cameras)
    )
    return camera0, camera1


def _focal_priors(
    cameras: tuple[Camera, Camera], is_same_camera: bool, estimate: FocalEstimate | None
) -> list[FocalPrior]:
    """What is not exact: one prior for both images where they share a camera, else one for each."""
    log_sigma_from_source = {
        "given": 0.0,
        "exif": EXIF_LOG_SIGMA,
        "estimated": 0.0 if estimate is None else estimate.log_sigma,
        "guessed": GUESS_LOG_SIGMA,
    }
    sources = [camera.source for camera in cameras]
    groups = [(0, 1)] if is_same_camera and sources[0] == sources[1] else [(0,), (1,)]
    priors = [FocalPrior(group, log_sigma_from_source[sources[group[0]]]) for group in groups]
    return [prior for prior in priors if prior.log_sigma > 0]


def _describe(
    geometry: TwoViewGeometry | Rejected,
    cameras: tuple[Camera, Camera],
    features: tuple[Features, Features],
    matches: Matches,
    data: Correspondences,
    usable: BoolArray,
    priors: list[FocalPrior],
) -> RelativePose:
    if isinstance(geometry, Rejected):
        nowhere = np.zeros((0, 2), np.float32)
        empty = np.zeros((0, 3)), np.zeros(0, np.int64)
        return RelativePose(geometry, cameras, None, None, Matches.empty(), nowhere, nowhere.copy(), *empty)
    mask, pose = geometry.inlier_mask, geometry.cam1_from_cam0
    inliers = data.rows(mask)
    uncertainty = pose_uncertainty(inliers, pose, geometry.kind == "pure_rotation", priors)
    rival = _rival(geometry, cameras, data.rows(usable), uncertainty) if geometry.kind == "planar" else None
    points, idxs = _triangulated(inliers, pose, uncertainty.noise_px / data.focal_px)
    chosen = Matches(matches.indices[mask], matches.scores[mask], matches.stop_layer)
    keypoints0, keypoints1 = (one.keypoints[chosen.indices[:, side]] for side, one in enumerate(features))
    return RelativePose(geometry, cameras, uncertainty, rival, chosen, keypoints0, keypoints1, points, idxs)


def _triangulated(inliers: Correspondences, pose: Rigid3, noise: float) -> tuple[Float64Array, IndexArray]:
    """Points [P, 3] in the frame of camera 0 with their rows, of the inliers whose rays show a depth."""
    if not pose.t.any():
        return np.zeros((0, 3)), np.zeros(0, np.int64)
    angles = np.linalg.norm(np.cross(rays_of(inliers.points1), rays_of(inliers.points0) @ pose.R.T), axis=1)
    points = triangulate(pose, inliers.points0, inliers.points1)
    seen = (points[:, 2] > 0) & ((pose @ points)[:, 2] > 0)
    # Two rays differ by √2 times the noise; three times as much is a depth.
    idxs = np.flatnonzero(seen & (angles > 3 * np.sqrt(2) * noise))
    return points[idxs], idxs


def _rival(
    geometry: TwoViewGeometry, cameras: tuple[Camera, Camera], data: Correspondences, uncertainty: PoseUncertainty
) -> Rigid3 | None:
    """The other pose that a plane's homography allows, where all of the plane lies before the cameras in it too.

    Source: Longuet-Higgins, The reconstruction of a plane surface from two perspective projections, 1986.
    """
    if geometry.H is None:
        return None
    K0, K1 = (calibration_matrix(camera) for camera in cameras)
    H = np.linalg.inv(K1) @ geometry.H @ K0
    pose = geometry.cam1_from_cam0
    min_support = _MIN_RIVAL_SUPPORT * num_supporting(data, pose)
    for other in poses_from_homography(H / np.cbrt(np.linalg.det(H))):
        refined = refine_pose(data, other)
        rotation_deg, direction_deg = relative_pose_error_deg(refined, pose)
        is_other = rotation_deg > 2 * uncertainty.rotation_deg and direction_deg > 1.0
        if is_other and num_supporting(data, refined) >= min_support:
            return refined
    return None


_MIN_RIVAL_SUPPORT = 0.95
"""A pose with fewer inliers than this share of the best one's explains the matches less well."""
