"""OpenCV's USAC framework: MAGSAC++, and plain RANSAC."""

from __future__ import annotations

import cv2
import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.two_view.estimators.base import Sampling, usable_matrix


class RansacEstimator:
    """RANSAC: the model with the most inliers, without local optimisation. OpenCV fits it to the inliers at the end.

    Source: Fischler and Bolles, Random sample consensus, 1981 (by OpenCV's USAC, which accepts a seed; cv2.RANSAC does
        not).
    """

    @property
    def version(self) -> str:
        """Version of OpenCV, then of this class."""
        return f"opencv-{cv2.__version__}-ransac-2"

    def essential(
        self, points0: Float64Array, points1: Float64Array, focal_px: float, sampling: Sampling
    ) -> Float64Array | None:
        """Estimate E from samples of five points."""
        K = np.diag([focal_px, focal_px, 1.0])
        no_distortion = np.zeros(0)
        try:
            matrix, _ = cv2.findEssentialMat(
                points0, points1, K, K, no_distortion, no_distortion, self._essential_parameters(sampling)
            )
        except cv2.error:
            return None  # OpenCV's solvers throw on some degenerate samples
        return usable_matrix(matrix)

    def fundamental(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """Estimate F from samples of seven points."""
        try:
            matrix, _ = cv2.findFundamentalMat(points0, points1, self._parameters(sampling))
        except cv2.error:
            return None
        return usable_matrix(matrix)

    def homography(self, points0: Float64Array, points1: Float64Array, sampling: Sampling) -> Float64Array | None:
        """Estimate H from samples of four points."""
        try:
            matrix, _ = cv2.findHomography(points0, points1, self._parameters(sampling))
        except cv2.error:
            return None
        return usable_matrix(matrix)

    def _essential_parameters(self, sampling: Sampling) -> cv2.UsacParams:
        return self._parameters(sampling)

    def _parameters(self, sampling: Sampling) -> cv2.UsacParams:
        parameters = cv2.UsacParams()
        parameters.threshold = sampling.max_error_px
        parameters.confidence = sampling.confidence
        parameters.maxIterations = sampling.max_iterations
        parameters.randomGeneratorState = sampling.seed
        parameters.sampler = cv2.SAMPLING_PROSAC if sampling.highest_first else cv2.SAMPLING_UNIFORM
        parameters.score = cv2.SCORE_METHOD_RANSAC
        parameters.loMethod = cv2.LOCAL_OPTIM_NULL
        parameters.final_polisher = cv2.NONE_POLISHER
        return parameters


class MagsacEstimator(RansacEstimator):
    """MAGSAC++: a score that is marginalised over the noise, with local optimisation and a final refinement.

    An essential matrix is searched by truncated squared errors (MSAC) alone: the verification optimises it afterwards,
    by smaller errors in less time.

    Source: Barath et al., MAGSAC++, a fast, reliable and accurate robust estimator, 2020; Torr and Zisserman, MLESAC,
        2000, section 3 (both by OpenCV's USAC).
    """

    @property
    def version(self) -> str:
        """Version of OpenCV, then of this class."""
        return f"opencv-{cv2.__version__}-magsac-2"

    def _essential_parameters(self, sampling: Sampling) -> cv2.UsacParams:
        parameters = super()._parameters(sampling)
        parameters.score = cv2.SCORE_METHOD_MSAC
        return parameters

    def _parameters(self, sampling: Sampling) -> cv2.UsacParams:
        parameters = super()._parameters(sampling)
        parameters.score = cv2.SCORE_METHOD_MAGSAC
        parameters.loMethod = cv2.LOCAL_OPTIM_SIGMA
        parameters.loIterations = 10
        parameters.loSampleSize = 50
        parameters.final_polisher = cv2.MAGSAC
        return parameters
