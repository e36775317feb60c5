"""Altered copies of images: where a spot of the image lies in the copy."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.images.alteration import Alteration
from sfm_lightglue.images.image import Image

SIZE = (200, 120)
SPOTS = ((60.0, 40.0), (150.0, 90.0), (100.0, 20.0))


def spotted() -> np.ndarray:
    """A grey image with smooth bright spots."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    levels = sum((1 + k) * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 18) for k, (u, v) in enumerate(SPOTS))
    return np.rint(40 + 60 * levels).astype(np.uint8)


def centre_of_brightest(pixels: np.ndarray) -> np.ndarray:
    weights = np.maximum(pixels.astype(np.float64) - 180, 0)
    y, x = np.indices(pixels.shape) + 0.5
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("quarter_turns", range(4))
@pytest.mark.parametrize("alteration", [Alteration(0.5), Alteration(angle_deg=45), Alteration(0.7, 200.0)])
def test_a_spot_of_the_copy_is_moved_to_its_place_in_the_image(alteration: Alteration, quarter_turns: int) -> None:
    image = Image.from_array(spotted(), "spots", quarter_turns)
    pixels = alteration.pixels(image, 1000, colour=False)
    matrix = alteration.stored_from_altered(SIZE, quarter_turns, 1000)
    found = matrix[:, :2] @ centre_of_brightest(pixels) + matrix[:, 2]
    assert np.linalg.norm(found - SPOTS[2]) < 0.3


def test_an_angle_turns_clockwise_from_upright() -> None:
    """Upright is after a quarter turn; 90 degrees more show the image upside down."""
    image = Image.from_array(spotted(), "spots", 1)
    turned = Alteration(angle_deg=90).pixels(image, 1000, colour=False)
    assert np.array_equal(turned, np.rot90(spotted(), 2))


def test_large_images_are_shrunk_to_the_size_of_the_detector_first() -> None:
    pixels = Alteration(0.5).pixels(Image.from_array(spotted()), 100, colour=True)
    assert pixels.shape == (30, 50, 3)


def test_equalised_contrast_brings_out_dark_parts() -> None:
    dark = (spotted() // 12).astype(np.uint8)
    equalised = Alteration(equalised=True).pixels(Image.from_array(dark), 1000, colour=False)
    assert equalised.std() > 2 * dark.std()


@pytest.mark.parametrize("values", [{"scale": 0.0}, {"scale": 1.5}, {"angle_deg": float("nan")}])
def test_values_that_mean_no_copy_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Alteration"):
        Alteration(**values)
