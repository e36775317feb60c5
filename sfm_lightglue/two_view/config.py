"""Thresholds of two-view geometry."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.two_view.estimators.base import ESTIMATOR_NAMES, EstimatorName


@dataclass(frozen=True, slots=True)
class TwoViewConfig:
    """Options of the two-view verification."""

    max_error_px: float = 2.0
    """Largest distance of an inlier to its epipolar line, in pixels of the full-resolution images; for larger
    images than `reference_size_px` in proportion, since their keypoints are as much coarser."""

    reference_size_px: float = 1600.0
    """Longer side of an image up to which `max_error_px` is taken as it is."""

    min_inliers: int = 15
    """Fewer make the pair `Rejected`."""

    min_inlier_ratio: float = 0.1
    """A smaller share of inliers makes the pair `Rejected`: chance agrees with as many."""

    confidence: float = 0.9999
    """Probability that the best geometry was found."""

    max_iterations: int = 10000
    """Upper limit on the samples drawn in one search; where matches disagree, parts of them are searched too."""

    max_homography_ratio: float = 0.8
    """A homography that explains a larger share of the inliers makes the pair planar or a pure rotation."""

    min_parallax_deg: float = 0.5
    """A larger median angle between the rays is parallax, however well a rotation explains the matches."""

    estimator: EstimatorName = "opencv-magsac"
    """What finds the matrices: opencv-magsac, opencv-ransac, or poselib (an extra)."""

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATOR_NAMES:
            raise ConfigError(f"two_view: estimator {self.estimator!r}: expected one of {', '.join(ESTIMATOR_NAMES)}")
        for name in ("max_error_px", "reference_size_px", "max_iterations"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"two_view: {name} must be positive, got {getattr(self, name)}")
        for name in ("min_inlier_ratio", "max_homography_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"two_view: {name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.min_parallax_deg <= 180:
            raise ConfigError(f"two_view: min_parallax_deg must lie in [0, 180], got {self.min_parallax_deg}")
        if self.min_inliers < 5:
            raise ConfigError(f"two_view: min_inliers must be at least 5, got {self.min_inliers}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"two_view: confidence must lie in (0, 1), got {self.confidence}")
