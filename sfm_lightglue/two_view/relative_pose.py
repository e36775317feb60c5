"""Matches of two images -> the relative pose of their cameras, and its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.geometry.epipolar import triangulate
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.correspondences import Correspondences, MatchedPair, rays_of
from sfm_lightglue.two_view.focal_length import (
    GUESS_LOG_SIGMA,
    FocalEstimate,
    focal_from_motion,
    focal_from_rotation,
    with_focal_factor,
)
from sfm_lightglue.two_view.pose import inliers_of_pose, poses_from_homography, refine_pose
from sfm_lightglue.two_view.radial import open_distortion
from sfm_lightglue.two_view.uncertainty import DistortionPrior, FocalPrior, PoseUncertainty, pose_uncertainty
from sfm_lightglue.two_view.verification import VerifiedPair, verify_pair
from sfm_lightglue.types import Camera, Features, IntrinsicsSource, Matches, Rejected, TwoViewGeometry

PoseVerdict = Literal["general", "planar", "pure_rotation", "too_few"]

EXIF_LOG_SIGMA = 0.02
"""Standard deviation of the logarithm of a focal length from EXIF data: a rounded, nominal value."""

POSE_VERSION = 9
"""Part of the keys of results. Raise it when the same input starts to give another result."""

_MIN_KEPT = 0.8
"""Fraction of the inliers without calibration that a calibrated pose must keep."""

_MIN_ALTERNATIVE_INLIERS = 0.95
"""Fraction of the inliers of the best pose that an alternative pose must have."""


@dataclass(frozen=True, eq=False, slots=True)
class RelativePose:
    """The relative pose of two images with its uncertainty, inliers and triangulated points.

    Args:
        geometry: pose, matrices and inlier mask over all matches; or the reason why there is none.
        cameras: the intrinsics that were used; `source` is where their focal lengths come from.
        uncertainty: radii that contain 95 % of the errors; None if there is no pose.
        alternative_pose: a second pose that fits the matches of a plane as well, or None. Two images cannot decide
            between the two poses; a third image can.
        inliers: the matches that fit, as rows of the features.
        keypoints0: [M, 2] pixels of the inliers in image 0, COLMAP convention.
        keypoints1: [M, 2] pixels of the inliers in image 1.
        points: [P, 3] triangulated inliers in the frame of camera 0, in units of the baseline. Inliers whose rays are
            parallel within the noise are left out, so a pure rotation has no points.
        point_inlier_idxs: [P] the inlier (row of `keypoints0`) of each point.

    Example:
        >>> pose = sfm_lightglue.estimate_relative_pose("left.jpg", "right.jpg")
        >>> pose.cam1_from_cam0.R.shape, pose.points.shape[1]
        ((3, 3), 3)
    """

    geometry: TwoViewGeometry | Rejected
    cameras: tuple[Camera, Camera]
    uncertainty: PoseUncertainty | None
    alternative_pose: Rigid3 | None
    inliers: Matches
    keypoints0: Float32Array
    keypoints1: Float32Array
    points: Float64Array
    point_inlier_idxs: IndexArray

    @property
    def verdict(self) -> PoseVerdict:
        """general; planar: the inliers lie on one plane; pure_rotation: t is 0; too_few: no pose has enough inliers."""
        return "too_few" if isinstance(self.geometry, Rejected) else self.geometry.kind

    @property
    def cam1_from_cam0(self) -> Rigid3 | None:
        """The pose, with t of length 1 (0 for a pure rotation); None if and only if the verdict is too_few."""
        return None if isinstance(self.geometry, Rejected) else self.geometry.cam1_from_cam0

    @property
    def focal_sources(self) -> tuple[IntrinsicsSource, IntrinsicsSource]:
        """Source of both focal lengths: given, exif, estimated (from the matches of this pair), or guessed."""
        return self.cameras[0].source, self.cameras[1].source

    @property
    def num_matches(self) -> int:
        """Number of all matches, including outliers."""
        return self.geometry.num_matches if isinstance(self.geometry, Rejected) else len(self.geometry.inlier_mask)

    @property
    def num_inliers(self) -> int:
        """Number of inliers; for a rejected pair, those of its best geometry."""
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
    """Estimate the relative pose. A guessed focal length is estimated too, if the matches determine it.

    Args:
        features0: of image 0.
        features1: of image 1.
        matches: between them.
        camera0: intrinsics of image 0.
        camera1: intrinsics of image 1.
        config: thresholds.
        seed: of the random samples; the same seed gives the same result.
        is_same_camera: whether both images have the same, possibly unknown, focal length. If False, two unknown focal
            lengths are not estimated, and their errors are independent.

    Raises:
        ConfigError: if the estimator's library is not installed.
    """
    config = config or TwoViewConfig()
    pair = MatchedPair((features0, features1), matches, (camera0, camera1))
    verified = verify_pair(pair, config, seed)
    unknown = _unknown_focal_sides(pair.cameras, is_same_camera)
    estimate = _estimate_focal(verified, unknown) if isinstance(verified, VerifiedPair) and unknown else None
    if isinstance(verified, VerifiedPair) and estimate is not None:
        better = replace(pair, cameras=_with_estimate(pair.cameras, unknown, estimate))
        again = verify_pair(better, config, seed)
        # A correct focal length keeps the inliers.
        if isinstance(again, VerifiedPair) and again.geometry.num_inliers >= _MIN_KEPT * verified.geometry.num_inliers:
            verified, pair = again, better
    if isinstance(verified, Rejected):
        return _without_pose(verified, pair.cameras)
    return _with_pose(verified, pair, _focal_priors(pair.cameras, is_same_camera, estimate))


def _unknown_focal_sides(cameras: tuple[Camera, Camera], is_same_camera: bool) -> tuple[int, ...]:
    """The images that have one unknown focal length; none of them if there are two different unknown ones."""
    sides = tuple(side for side in (0, 1) if cameras[side].source == "guessed")
    return () if len(sides) == 2 and not is_same_camera else sides


def _estimate_focal(verified: VerifiedPair, sides: tuple[int, ...]) -> FocalEstimate | None:
    inliers = _inliers(verified)
    estimate = None
    if verified.geometry.kind == "general":
        estimate = focal_from_motion(inliers, verified.matrix, sides)
    elif verified.geometry.kind == "pure_rotation" and verified.H is not None:
        estimate = focal_from_rotation(inliers, verified.H, sides)
    # A plane does not determine a focal length.
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
    """Priors of the inexact focal lengths: one for both images if they share a camera, else one for each."""
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


def _distortion_priors(cameras: tuple[Camera, Camera]) -> list[DistortionPrior]:
    """Priors of the radial distortions that nobody stated: one for both images if they share a camera."""
    return [
        DistortionPrior(group, all(cameras[side].source == "given" for side in group))
        for group in open_distortion(cameras).groups
    ]


def _inliers(verified: VerifiedPair) -> Correspondences:
    """The inliers; of a rotation that was fitted with a lens distortion, without it."""
    data = verified.data if verified.lens is None else verified.lens.without_distortion(verified.data)
    return data.rows(verified.geometry.inlier_mask)


def _without_pose(rejected: Rejected, cameras: tuple[Camera, Camera]) -> RelativePose:
    return RelativePose(
        rejected,
        cameras,
        uncertainty=None,
        alternative_pose=None,
        inliers=Matches.empty(),
        keypoints0=np.zeros((0, 2), np.float32),
        keypoints1=np.zeros((0, 2), np.float32),
        points=np.zeros((0, 3)),
        point_inlier_idxs=np.zeros(0, np.int64),
    )


def _with_pose(verified: VerifiedPair, pair: MatchedPair, priors: list[FocalPrior]) -> RelativePose:
    geometry, matches = verified.geometry, pair.matches
    mask, pose = geometry.inlier_mask, geometry.cam1_from_cam0
    inliers = _inliers(verified)
    distortions = [] if verified.lens is not None else _distortion_priors(pair.cameras)
    uncertainty = pose_uncertainty(inliers, pose, geometry.kind == "pure_rotation", priors, distortions)
    points, idxs = _triangulated(inliers, pose, uncertainty.noise_px / inliers.focal_px)
    chosen = matches.where(mask)
    keypoints0, keypoints1 = (one.keypoints[chosen.indices[:, side]] for side, one in enumerate(pair.features))
    alternative = _alternative_pose(verified, uncertainty)
    return RelativePose(geometry, pair.cameras, uncertainty, alternative, chosen, keypoints0, keypoints1, points, idxs)


def _triangulated(inliers: Correspondences, pose: Rigid3, noise: float) -> tuple[Float64Array, IndexArray]:
    """Triangulate the inliers with parallax: points [P, 3] in the frame of camera 0, and their rows [P]."""
    if not pose.t.any():
        return np.zeros((0, 3)), np.zeros(0, np.int64)
    angles = np.linalg.norm(np.cross(rays_of(inliers.points1), rays_of(inliers.points0) @ pose.R.T), axis=1)
    points = triangulate(pose, inliers.points0, inliers.points1)
    in_front = (points[:, 2] > 0) & ((pose @ points)[:, 2] > 0)
    # The angle between two parallel rays has √2 times the noise; three times as much is parallax.
    idxs = np.flatnonzero(in_front & (angles > 3 * np.sqrt(2) * noise))
    return points[idxs], idxs


def _alternative_pose(verified: VerifiedPair, uncertainty: PoseUncertainty) -> Rigid3 | None:
    """The second pose that a plane's homography allows, if the matches fit it as well as the first.

    Source: Longuet-Higgins, The reconstruction of a plane surface from two perspective projections, 1986.
    """
    if verified.geometry.kind != "planar" or verified.H is None:
        return None
    data, pose = verified.data.rows(verified.usable), verified.geometry.cam1_from_cam0
    min_inliers = _MIN_ALTERNATIVE_INLIERS * inliers_of_pose(data, pose).sum()
    for candidate in poses_from_homography(verified.H):
        refined = refine_pose(data, candidate)
        rotation_deg, direction_deg = relative_pose_error_deg(refined, pose)
        is_other = rotation_deg > 2 * uncertainty.rotation_deg and direction_deg > 1.0
        if is_other and inliers_of_pose(data, refined).sum() >= min_inliers:
            return refined
    return None
