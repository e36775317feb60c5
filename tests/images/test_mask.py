"""Masks of any kind of file say which pixels may have keypoints."""

import io

import numpy as np
import pytest
from PIL import Image as PilImage

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.mask import Mask, digest_of_mask

BLACK_LEFT = np.where(np.arange(40) < 25, 0, 255)[None].repeat(30, 0).astype(np.uint8)


def palette(grey):
    image = PilImage.fromarray((grey > 0).astype(np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0] + [7] * 750)
    return image


KINDS = {
    "grey": PilImage.fromarray,
    "bits": lambda grey: PilImage.fromarray(grey > 0),
    "zero and one": lambda grey: PilImage.fromarray((grey > 0).astype(np.uint8)),
    "16 bits": lambda grey: PilImage.fromarray((grey > 0).astype(np.uint16)),
    "RGB": lambda grey: PilImage.fromarray(grey).convert("RGB"),
    "opaque": lambda grey: PilImage.fromarray(grey).convert("RGBA"),
    "transparent": lambda grey: PilImage.fromarray(np.dstack([grey, grey, grey, 0 * grey])),
    "palette": palette,
}


@pytest.mark.parametrize("kind", KINDS)
def test_black_pixels_are_those_of_value_0(tmp_path, kind):
    KINDS[kind](BLACK_LEFT).save(tmp_path / "mask.png")
    mask = Mask.read(tmp_path / "mask.png", (40, 30), 0)
    np.testing.assert_array_equal(mask.allowed, BLACK_LEFT > 0)
    points = np.array([[24.9, 3.0], [25.1, 3.0], [0.0, 0.0], [40.0, 30.0], [-0.4, 30.4]])
    np.testing.assert_array_equal(mask.allows(points, (40, 30)), [False, True, False, True, False])
    assert mask.allows(np.zeros((0, 2)), (40, 30)).shape == (0,)


def test_a_mask_of_another_resolution_is_scaled_by_the_nearest_pixel(tmp_path):
    PilImage.fromarray(BLACK_LEFT).save(tmp_path / "mask.png")
    mask = Mask.read(tmp_path / "mask.png", (400, 300), 0)
    points = np.array([[249.0, 3.0], [251.0, 3.0]])
    np.testing.assert_array_equal(mask.allows(points, (400, 300)), [False, True])
    for width, height in ((400, 300), (8, 6)):
        resized = mask.resized((width, height))
        assert resized.shape == (height, width)
        np.testing.assert_array_equal(resized[0], np.arange(width) >= width * 25 / 40)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_mask_of_the_upright_photo_is_turned(tmp_path, turns):
    """Photos turned by their EXIF data are shown upright, so masks drawn on them are upright."""
    stored = BLACK_LEFT.copy()
    stored[:10] = 255
    PilImage.fromarray(np.rot90(stored, -turns)).save(tmp_path / "mask.png")
    mask = Mask.read(tmp_path / "mask.png", (40, 30), turns)
    np.testing.assert_array_equal(mask.allowed, stored > 0)


def test_masks_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "mask.png"
    PilImage.fromarray(BLACK_LEFT).save(path)
    for size, turns in (((30, 40), 0), ((40, 40), 0), ((40, 20), 1), ((30, 40), 2)):
        for read in (Mask.read, digest_of_mask):
            with pytest.raises(DataError, match=r"mask\.png: 40 x 30 pixels, which is another aspect"):
                read(path, size, turns)
    # Sides of scaled images are rounded.
    assert digest_of_mask(path, (4000, 2999), 0) == digest_of_mask(path, (30, 40), 1)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"mask\.png: "):
        Mask.read(path, (40, 30), 0)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"mask\.png: the file is empty"):
        digest_of_mask(path, (40, 30), 0)


def test_a_jpeg_as_a_mask(tmp_path):
    buffer = io.BytesIO()
    PilImage.fromarray(BLACK_LEFT).save(buffer, "JPEG", quality=95)
    (tmp_path / "mask.png").write_bytes(buffer.getvalue())
    assert Mask.read(tmp_path / "mask.png", (40, 30), 0).allowed[:, 32:].all()
