"""Very large images are decoded at reduced size where their format allows it, and positions stay exact."""

import numpy as np
import pytest

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images import encoded as encoded_module
from sfm_lightglue.images.image import Image
from tests.helpers.encoded_photos import encoded


def blob(width, height, x, y, sigma=20.0):
    """A bright blob whose centre is at (x, y), in COLMAP's pixel convention, in RGB."""
    columns, rows = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    grey = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


def centre(grey):
    weights = grey / grey.sum()
    rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]] + 0.5
    return np.array([(columns * weights).sum(), (rows * weights).sum()])


@pytest.fixture
def every_image_is_large(monkeypatch):
    monkeypatch.setattr(encoded_module, "REDUCED_ABOVE_PIXELS", 1000)


@pytest.mark.parametrize("size", [(400, 304), (403, 301), (415, 319)])
@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "MPO", "PNG"])
def test_reduced_images_are_not_shifted(every_image_is_large, kind, size):
    image = Image("photo", encoded(blob(*size, 181.3, 137.6), kind))
    for colour in (False, True):
        pixels, factors = image.to_fit(60, colour)
        assert max(pixels.shape) == 60
        found = centre(pixels if pixels.ndim == 2 else pixels[..., 1]) * factors
        np.testing.assert_allclose(found, (181.3, 137.6), atol=0.25)
        pixels, factor = image.at_least(100, colour)
        assert pixels.shape[:2] == (int(size[1] / factor), int(size[0] / factor))
        found = centre(pixels if pixels.ndim == 2 else pixels[..., 1]) * factor
        np.testing.assert_allclose(found, (181.3, 137.6), atol=0.25)
        if kind in {"JPEG", "MPO"} or (kind == "JPEG2000" and size == (400, 304)):
            assert factor == 4
        assert max(pixels.shape) >= 100
    assert image.size == size
    assert image.grey().shape == (size[1], size[0])


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_smaller_images_are_decoded_as_before(kind):
    image = Image("photo", encoded(blob(400, 304, 181.3, 137.6), kind))
    pixels, factor = image.at_least(50, colour=False)
    assert factor == 1
    np.testing.assert_array_equal(pixels, image.grey())


def test_keypoints_of_a_reduced_image_are_in_pixels_of_the_full_one(every_image_is_large):
    image = Image("photo", encoded(blob(803, 601, 381.3, 237.6, sigma=40), "JPEG"))
    found = SiftExtractor(SiftConfig(max_image_size=160)).extract(image)
    assert found.image_size == (803, 601)
    assert found.shrink_factor == pytest.approx(803 / 160)
    distances = np.linalg.norm(found.keypoints - (381.3, 237.6), axis=1)
    assert distances.min() < 0.5


def test_pixels_in_memory_fit_too():
    pixels = blob(200, 100, 90, 50)
    small, factors = Image.from_array(pixels).to_fit(50, colour=True)
    assert small.shape == (25, 50, 3)
    assert factors == (4, 4)
    assert Image.from_array(pixels).to_fit(50, colour=False)[0].shape == (25, 50)
