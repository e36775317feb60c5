"""Options of two-view geometry."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.two_view.estimators.base import ESTIMATOR_NAMES, EstimatorName


@dataclass(frozen=True, slots=True)
class TwoViewConfig:
    """Options of the two-view verification."""

    max_error_px: float = 2.0
    """Largest distance of an inlier to its epipolar line, in pixels of the full-resolution images. For images larger
    than `reference_size_px` it grows in proportion, because their keypoints are less exact in pixels."""

    reference_size_px: float = 1600.0
    """Longer side of an image, in pixels, up to which `max_error_px` is used unchanged."""

    min_inliers: int = 15
    """A pair with fewer inliers is `Rejected`."""

    min_inlier_ratio: float = 0.1
    """A pair with a smaller fraction of inliers among its matches is `Rejected`: random matches have as many."""

    max_false_alarms: float = 10.0
    """A pair is `Rejected` if random matches with the same spread over the images would give more geometries with as
    many inliers."""

    confidence: float = 0.9999
    """Probability that the sampling finds the best geometry; a search ends earlier when it is reached."""

    max_iterations: int = 10000
    """Most samples of one search. A pair gets three searches of at most 150 samples each (500 without intrinsics), and
    one of at most 500 for a homography, so only smaller values matter."""

    max_homography_ratio: float = 0.8
    """A pair is planar or a pure rotation if a homography fits at least this fraction of the inliers."""

    min_parallax_deg: float = 0.5
    """A pair with a larger median angle between its rays, in degrees, is never a pure rotation."""

    estimator: EstimatorName = "opencv-magsac"
    """Robust estimator of the matrices: opencv-magsac, opencv-ransac, or poselib (an extra)."""

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATOR_NAMES:
            raise ConfigError(f"`two_view.estimator` {self.estimator!r}: expected one of {', '.join(ESTIMATOR_NAMES)}")
        for name in ("max_error_px", "reference_size_px", "max_iterations", "max_false_alarms"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"`two_view.{name}` must be positive, got {getattr(self, name)}")
        for name in ("min_inlier_ratio", "max_homography_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"`two_view.{name}` must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.min_parallax_deg <= 180:
            raise ConfigError(f"`two_view.min_parallax_deg` must lie in [0, 180], got {self.min_parallax_deg}")
        if self.min_inliers < 5:
            raise ConfigError(f"`two_view.min_inliers` must be at least 5, got {self.min_inliers}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"`two_view.confidence` must lie in (0, 1), got {self.confidence}")
