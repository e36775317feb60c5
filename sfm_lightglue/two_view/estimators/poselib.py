"""PoseLib's LO-RANSAC, an extra: `pip install "sfm-lightglue[poselib]"`."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3, project_to_rotation
from sfm_lightglue.messages import install_hint
from sfm_lightglue.two_view.estimators.base import Sampling, usable_matrix


class PoselibEstimator:
    """LO-RANSAC with a truncated loss, then least squares on the inliers.

    Source: Larsson et al., PoseLib, minimal solvers for camera pose estimation.

    Raises:
        ConfigError: if PoseLib is not installed.
    """

    def __init__(self) -> None:
        try:
            import poselib
        except ImportError as error:
            raise ConfigError(
                f"the estimator poselib needs a library that is not installed: {install_hint('poselib')}"
            ) from error
        self._poselib: Any = poselib

    @property
    def version(self) -> str:
        """Version of PoseLib, then of this class."""
        return f"poselib-{importlib.metadata.version('poselib')}-2"

    def essential(
        self, points0: Float64Array, points1: Float64Array, focal_px: float, sampling: Sampling
    ) -> Float64Array | None:
        """Estimate E by PoseLib's relative pose, from samples of five points."""
        if _num_different(points0, points1) < 5:
            return None  # PoseLib would return its initial pose
        side = 2 * int(np.ceil(max(np.abs(points0).max(initial=1), np.abs(points1).max(initial=1))))
        camera = {"model": "SIMPLE_PINHOLE", "width": side, "height": side, "params": [focal_px, 0.0, 0.0]}
        pose, _ = self._poselib.estimate_relative_pose(
            points0, points1, camera, camera, _options(sampling, "max_epipolar_error"), {}
        )
        if not (np.isfinite(pose.R).all() and np.isfinite(pose.t).all() and np.any(pose.t)):
            return None
        return essential_from_pose(Rigid3(project_to_rotation(pose.R), pose.t / np.linalg.norm(pose.t)))

    def fundamental(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """Estimate F from samples of seven points."""
        if _num_different(points0, points1) < 7:
            return None
        matrix, _ = self._poselib.estimate_fundamental(points0, points1, _options(sampling, "max_epipolar_error"), {})
        return usable_matrix(matrix)

    def homography(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """Estimate H from samples of four points."""
        if _num_different(points0, points1) < 4:
            return None
        matrix, _ = self._poselib.estimate_homography(points0, points1, _options(sampling, "max_reproj_error"), {})
        return usable_matrix(matrix)


def _num_different(points0: Float64Array, points1: Float64Array) -> int:
    """Number of different correspondences, rounded to a hundredth of a pixel."""
    return len(np.unique(np.concatenate([points0, points1], axis=1).round(2), axis=0))


def _options(sampling: Sampling, limit: str) -> dict[str, Any]:
    return {
        limit: sampling.max_error_px,
        "success_prob": sampling.confidence,
        "max_iterations": sampling.max_iterations,
        "min_iterations": min(100, sampling.max_iterations),
        "seed": sampling.seed,
        "progressive_sampling": sampling.highest_first,
    }
