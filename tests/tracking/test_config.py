"""Options of tracking: limits in pixels grow with the image."""

import pytest

from sfm_lightglue.tracking.config import pixel_factor


@pytest.mark.parametrize(
    ("size", "factor"), [((320, 240), 1.0), ((480, 640), 1.0), ((1280, 376), 2.0), ((3, 960), 1.5)]
)
def test_limits_in_pixels_are_for_640_px(size, factor):
    assert pixel_factor(size) == factor
