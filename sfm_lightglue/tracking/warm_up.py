"""What takes time at its first use is used once before the first frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from sfm_lightglue.execution.threads import on_one_core
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.pose_from_matches import load_solver

_BLANK_PX = 64
"""Side of the image by which the components are tried."""


def warm_up(extractor: Extractor, matcher: Matcher) -> None:
    """Load networks, and import what is imported at its first use: two seconds that frames would wait otherwise.

    Args:
        extractor: is tried on a blank image.
        matcher: is tried on the features of that image, of which there are none.

    Raises:
        Exception: that a component raises, with a note that says what was tried.
    """
    blank = Image.from_array(np.zeros((_BLANK_PX, _BLANK_PX), np.uint8), "blank image")
    with on_one_core():
        with _told(extractor):
            features = extractor.extract(blank)
        with _told(matcher):
            matcher.match(features, features)
        load_solver()


@contextlib.contextmanager
def _told(component: object) -> Iterator[None]:
    """Tell in an error what was tried: components of the caller may fail only at such an image."""
    try:
        yield
    except Exception as error:
        name, size = type(component).__name__, f"{_BLANK_PX} x {_BLANK_PX}"
        error.add_note(f"{name} was tried on a blank grey image of {size} pixels, to load it before the first frame")
        raise
