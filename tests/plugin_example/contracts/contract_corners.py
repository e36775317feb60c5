"""The contracts of sfm_lightglue, tested on the components of this package."""

from sfm_corners.corners import CornersConfig, CornersExtractor
from sfm_corners.correlation import CorrelationMatcher
from sfm_corners.strides import StridedPairs

from sfm_lightglue.testing import ExtractorContract, MatcherContract, PairSelectorContract


class TestCorners(ExtractorContract):
    @classmethod
    def build(cls):
        return CornersExtractor(CornersConfig(max_keypoints=cls.max_keypoints))


class TestCorrelation(MatcherContract):
    @classmethod
    def build(cls):
        return CorrelationMatcher()

    @classmethod
    def build_extractor(cls):
        return CornersExtractor(CornersConfig(max_keypoints=200))


class TestStrides(PairSelectorContract):
    @classmethod
    def build(cls):
        return StridedPairs()
