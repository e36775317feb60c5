"""An unknown focal length: votes of pairs, and a given camera."""

from dataclasses import dataclass, replace

import pytest

from sfm_lightglue.scene.cameras import default_camera, mean_focal_length
from sfm_lightglue.tracking.config import InitializationConfig
from sfm_lightglue.tracking.intrinsics import FocalLengthVotes, with_focal_length
from sfm_lightglue.types import Camera

GUESSED = default_camera("SIMPLE_RADIAL", (640, 480), None)
CONFIG = InitializationConfig()


@dataclass
class Pair:
    """What the votes need of a relative pose."""

    cameras: tuple[Camera, Camera]


def pair(focal_px):
    camera = GUESSED if focal_px is None else with_focal_length(GUESSED, focal_px)
    return Pair((camera, camera))


def test_a_given_camera_is_kept():
    given = replace(GUESSED, source="given")
    assert FocalLengthVotes(given, CONFIG).camera is given


def test_the_median_of_the_estimates_is_used():
    votes = FocalLengthVotes(GUESSED, CONFIG)
    for number, focal_px in enumerate((500.0, 505.0, 700.0, 495.0, 502.0, None)):
        votes.add(number / 30, pair(focal_px))
    camera = votes.camera
    assert camera is not None and camera.source == "estimated"
    assert mean_focal_length(camera) == pytest.approx(502.0, rel=0.005)


def test_more_pairs_are_awaited_but_not_for_ever():
    votes = FocalLengthVotes(GUESSED, CONFIG)
    votes.add(0.0, pair(None))
    assert votes.camera is None
    votes.add(CONFIG.max_focal_wait_s + 0.1, pair(None))
    assert votes.camera == replace(GUESSED, source="estimated"), "a later start would vote again"
