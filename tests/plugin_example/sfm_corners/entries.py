"""Locations of the components for `sfm_lightglue`. This module does not import the components."""

from sfm_lightglue.registry import Entry

CORNERS = Entry("sfm_corners.corners:CornersConfig", "sfm_corners.corners:CornersExtractor")

CORRELATION = Entry("sfm_corners.correlation:CorrelationConfig", "sfm_corners.correlation:CorrelationMatcher")

STRIDES = Entry("sfm_corners.strides:StridesConfig", "sfm_corners.strides:StridedPairs")
