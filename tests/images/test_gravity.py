"""Gravity in the maker note of a phone: in the axes of the camera, whichever way the phone was held."""

import numpy as np
import pytest

from sfm_lightglue.images.gravity import find_gravity
from sfm_lightglue.images.image import Image
from tests.helpers.encoded_photos import coloured, encoded
from tests.helpers.phone_notes import apple_note, phone_exif

HELD = {
    "upright": ((0.0, -1.0, 0.0), 6),
    "on its left side": ((-1.0, 0.0, 0.0), 1),
    "on its right side": ((1.0, 0.0, 0.0), 3),
    "upside down": ((0.0, 1.0, 0.0), 8),
}
"""Gravity in the axes of the phone (x right, y to its upper side, z out of the screen), and the orientation of its
photo. The right side of a stored image is the lower side of the phone."""

DOWN = {1: (0, 1), 3: (0, -1), 6: (1, 0), 8: (-1, 0)}
"""The side of the stored image that is below, by orientation (CIPA DC-008)."""

TURNS = {1: 0, 3: 2, 6: 1, 8: 3}


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("held", HELD)
def test_gravity_is_on_the_lower_side_of_the_image(held: str, order: str) -> None:
    acceleration, orientation = HELD[held]
    photo = encoded(coloured(64, 48), "JPEG", phone_exif(apple_note(acceleration, order), orientation))
    found = Image("a.jpg", photo)
    assert found.exif.gravity == pytest.approx((*DOWN[orientation], 0.0))


@pytest.mark.parametrize("held", HELD)
def test_a_phone_that_looks_down_has_gravity_in_front_of_it(held: str) -> None:
    """The back of the phone points to the ground: gravity pulls into the screen, and along the viewing axis."""
    acceleration, orientation = HELD[held]
    leaning = 0.6 * np.array(acceleration) + (0, 0, -0.8)
    found = find_gravity(apple_note(leaning), "", TURNS[orientation])
    assert found == pytest.approx((*(0.6 * np.array(DOWN[orientation])), 0.8), abs=1e-3)
    assert find_gravity(apple_note((0, 0, -1)), "", TURNS[orientation]) == pytest.approx((0, 0, 1))


@pytest.mark.parametrize(
    ("note", "lens", "turns"),
    [
        (apple_note((0, -1, 0)), "iPhone 12 front camera 2.71mm f/2.2", 1),
        (apple_note((0, -1.4, 0)), "", 1),
        (apple_note((0, -1, 0)), "", 0),
        (apple_note((0, -1, 0))[:40], "", 1),
        (apple_note((0, -1, 0))[:60], "", 1),
        (apple_note((0, 0, 0), denominator=0), "", 1),
        (b"Apple iOS\0", "", 1),
        (b"Nikon\0" + apple_note((0, -1, 0)), "", 1),
        ("text", "", 1),
        (None, "", 1),
    ],
    ids=["front", "moved", "pixels turned", "cut", "cut values", "no number", "empty", "other", "text", "none"],
)
def test_what_is_not_sure_is_not_told(note: object, lens: str, turns: int) -> None:
    assert find_gravity(note, lens, turns) is None
