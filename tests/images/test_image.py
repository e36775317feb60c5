"""Images of all formats are read as they are stored, with orientation and focal length from the header."""

import io

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned, resize_to_fit, turn_back
from tests.helpers.photos import make_exif, textured, write_photo

TURNS_FROM_ORIENTATION = {1: 0, 3: 2, 6: 1, 8: 3}
DIAGONAL_35MM = np.hypot(36, 24)


def read(path):
    return Image.read(path, path.name)


def encoded(image, suffix, **options):
    """An image of Pillow, encoded to the bytes of a file, as our `Image`."""
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return Image(f"photo.{suffix}", buffer.getvalue())


def largest_difference(a, b):
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("orientation", TURNS_FROM_ORIENTATION)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_pixels_and_size_are_those_stored(tmp_path, suffix, orientation):
    """Also for TIFF, which Pillow would turn upright."""
    stored = textured(48, 32)
    image = read(write_photo(tmp_path / f"photo{suffix}", stored, orientation))
    tolerance = 12 if suffix == ".jpg" else 1
    assert image.size == (48, 32)
    assert image.quarter_turns == TURNS_FROM_ORIENTATION[orientation]
    assert largest_difference(image.grey(), stored) <= tolerance
    assert largest_difference(image.rgb(), stored[..., None]) <= tolerance
    assert image.size == (48, 32)  # unchanged after decoding


@pytest.mark.parametrize("orientation", [2, 4, 5, 7])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
def test_mirrored_images_are_refused(tmp_path, suffix, orientation):
    image = read(write_photo(tmp_path / f"photo{suffix}", textured(32, 32), orientation))
    with pytest.raises(DataError, match=rf"photo{suffix}: stored mirrored \(EXIF orientation {orientation}\)"):
        _ = image.exif


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(tmp_path, orientation):
    assert read(write_photo(tmp_path / "photo.jpg", textured(32, 32), orientation)).quarter_turns == 0


@pytest.mark.parametrize("orientation", TURNS_FROM_ORIENTATION)
def test_quarter_turns_turn_an_image_upright(tmp_path, orientation):
    """The upright image equals the one that Pillow's transposition gives."""
    path = write_photo(tmp_path / "photo.png", textured(48, 32), orientation)
    image = read(path)
    with PilImage.open(path) as file:
        exif = file.getexif()
        method = {
            3: PilImage.Transpose.ROTATE_180,
            6: PilImage.Transpose.ROTATE_270,
            8: PilImage.Transpose.ROTATE_90,
        }.get(exif.get(ExifTags.Base.Orientation, 1))
        shown = np.asarray(file if method is None else file.transpose(method))
    np.testing.assert_array_equal(quarter_turned(image.grey(), image.quarter_turns), shown)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_a_truncated_file_is_named(tmp_path, suffix, cut):
    path = write_photo(tmp_path / f"cut{suffix}", textured(160, 120))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    image = read(path)
    for decode in (image.grey, image.rgb):
        with pytest.raises(DataError, match=f"^cut{suffix}: "):
            decode()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged headers
def test_noise_in_a_file_never_crashes(tmp_path):
    """A damaged file raises a DataError or is decoded to an image of the right shape."""
    generator = np.random.default_rng(0)
    for suffix in (".jpg", ".png", ".tiff", ".webp"):
        path = write_photo(tmp_path / f"noise{suffix}", textured(64, 48), 6, Make="Maker", FocalLength=4.2)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            start = generator.integers(0, min(len(whole), 400))
            damaged[start : start + generator.integers(1, 8)] = generator.integers(0, 256)
            image = Image(path.name, damaged.tobytes())
            try:
                width, height = image.size
                turns = image.quarter_turns
                pixels = image.grey()
            except DataError as error:
                assert path.name in str(error)
            else:
                assert pixels.shape == (height, width)
                assert turns in range(4)


def test_a_file_that_is_not_an_image_is_named(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.jpg: the file is empty"):
        read(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    for access in (lambda image: image.size, lambda image: image.exif, lambda image: image.grey()):
        with pytest.raises(DataError, match=r"text\.jpg: not an image"):
            access(read(tmp_path / "text.jpg"))
    with pytest.raises(DataError, match=r"missing\.jpg: cannot be read"):
        read(tmp_path / "missing.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_cmyk():
    """A CMYK JPEG of a grey image is decoded to the same grey."""
    grey = textured(64, 48)
    image = encoded(PilImage.fromarray(grey).convert("RGB").convert("CMYK"), "jpeg", quality=95)
    assert largest_difference(image.grey(), grey) <= 12
    assert largest_difference(image.rgb(), grey[..., None]) <= 12


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_deep_grey_keeps_its_contrast(suffix, bits):
    """Values above 255 are not clipped to white, and 12-bit values in 16-bit words are not nearly black."""
    grey = textured(64, 48)
    deep = grey.astype(np.uint16) * 257 >> (16 - bits)
    image = encoded(PilImage.fromarray(deep), suffix)
    found = image.grey().astype(float)
    assert np.corrcoef(found.ravel(), grey.ravel())[0, 1] > 0.99
    assert found.std() > 0.95 * grey.std()
    np.testing.assert_array_equal(image.rgb(), np.repeat(image.grey()[..., None], 3, axis=2))


def test_float_tiff_keeps_its_contrast():
    grey = textured(64, 48)
    for factor in (1 / 255, 1.0, 100.0):
        found = encoded(PilImage.fromarray(grey.astype(np.float32) * factor), "tiff").grey()
        assert np.corrcoef(found.ravel(), grey.ravel())[0, 1] > 0.999
        assert found.std() > 0.5 * grey.std()


def test_transparency_is_dropped_and_not_blended():
    grey = textured(64, 48)
    rgba = np.dstack([grey, grey, grey, np.where(np.arange(64) < 32, 0, 255)[None].repeat(48, 0)]).astype(np.uint8)
    for image in (
        encoded(PilImage.fromarray(rgba), "png"),
        encoded(PilImage.fromarray(np.dstack([grey, rgba[..., 3]])), "png"),
    ):
        assert largest_difference(image.grey(), grey) <= 1
        assert image.rgb().shape == (48, 64, 3)


def test_palettes_and_bits():
    grey = textured(64, 48)
    palette = PilImage.fromarray(grey).quantize(256)
    plain = encoded(palette, "png")
    assert largest_difference(plain.grey(), grey) <= 2
    transparent = encoded(palette, "png", transparency=bytes([0] * 128))  # half of the colours invisible
    np.testing.assert_array_equal(transparent.grey(), plain.grey())
    np.testing.assert_array_equal(transparent.rgb(), plain.rgb())
    bits = encoded(PilImage.fromarray(grey > 128), "png").grey()
    np.testing.assert_array_equal(bits, np.where(grey > 128, 255, 0))


def test_colours_are_converted_to_grey_alike_in_files_and_in_memory():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    file, memory = encoded(PilImage.fromarray(pixels), "png"), Image.from_array(pixels)
    assert largest_difference(file.grey(), memory.grey()) <= 1
    np.testing.assert_array_equal(file.rgb(), memory.rgb())
    assert file.size == memory.size == (48, 32)


@pytest.mark.parametrize("orientation", [1, 6])
def test_focal_length_from_the_35_mm_equivalent(tmp_path, orientation):
    """It refers to the diagonal of the image, so the orientation does not matter."""
    path = write_photo(tmp_path / "photo.jpg", textured(400, 300), orientation, FocalLengthIn35mmFilm=28)
    assert read(path).exif.focal_length_px == pytest.approx(28 / DIAGONAL_35MM * 500)


@pytest.mark.parametrize(("unit", "mm"), [(2, 25.4), (3, 10.0)])
def test_focal_length_from_the_pitch_of_the_sensor(tmp_path, unit, mm):
    """6 mm at 100 pixels per mm are 600 pixels, or 300 if the image was scaled to half its size."""
    details = {
        "FocalLength": 6.0,
        "FocalPlaneXResolution": 100.0 * mm,
        "FocalPlaneResolutionUnit": unit,
        "ExifImageWidth": 800,
        "ExifImageHeight": 600,
    }
    path = write_photo(tmp_path / "photo.jpg", textured(400, 300), **details)
    assert read(path).exif.focal_length_px == pytest.approx(300)
    turned = write_photo(tmp_path / "turned.jpg", textured(300, 400), **details)
    assert read(turned).exif.focal_length_px == pytest.approx(300)
    details |= {"ExifImageWidth": 600, "ExifImageHeight": 800}
    noted = write_photo(tmp_path / "noted.jpg", textured(300, 400), **details)
    assert read(noted).exif.focal_length_px == pytest.approx(300)


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"FocalLength": 6.0},
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLength": 0.0, "FocalPlaneXResolution": 1000.0, "ExifImageWidth": 800},
        {"FocalLength": 6.0, "FocalPlaneXResolution": 1e9, "ExifImageWidth": 800},
        {"FocalLength": 6.0, "FocalPlaneXResolution": 1000.0, "FocalPlaneResolutionUnit": 1, "ExifImageWidth": 800},
    ],
)
def test_a_missing_or_invalid_focal_length_is_none(tmp_path, details):
    assert read(write_photo(tmp_path / "photo.jpg", textured(40, 30), **details)).exif.focal_length_px is None


def test_maker_model_lens_and_focal_length_identify_a_camera(tmp_path):
    def camera_id(**details):
        return read(write_photo(tmp_path / "photo.jpg", textured(40, 30), **details)).exif.camera_id

    assert camera_id() == ""
    full = {"Make": "Maker", "Model": "M 1", "LensModel": "Zoom", "FocalLength": 24.0}
    assert camera_id(**full) == "Maker, M 1, Zoom, 24 mm"
    ids = {camera_id(**full | change) for change in ({}, {"Model": "M 2"}, {"FocalLength": 25.0}, {"LensModel": "Fix"})}
    assert len(ids) == 4


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged headers
def test_a_damaged_header_is_read_as_an_empty_one(tmp_path):
    exif = make_exif(6, Make="Maker").tobytes()
    for broken in (exif[:12], b"Exif\0\0garbage", exif[:-3]):
        buffer = io.BytesIO()
        PilImage.fromarray(textured(40, 30)).save(buffer, "jpeg", exif=broken)
        image = Image("photo.jpg", buffer.getvalue())
        assert image.size == (40, 30)
        assert image.quarter_turns in {0, 1}
        assert image.grey().shape == (30, 40)


@pytest.mark.parametrize("turns", range(4))
def test_turning_points_back_is_the_inverse_of_turning_pixels(turns):
    stored = np.zeros((5, 7), np.uint8)
    stored[1, 4] = 255
    upright = quarter_turned(stored, turns)
    ((row, column),) = np.argwhere(upright)
    size = (upright.shape[1], upright.shape[0])
    # COLMAP's convention: the centre of the pixel in column 4 is at 4.5.
    np.testing.assert_array_equal(turn_back(np.array([[column + 0.5, row + 0.5]]), turns, size), [[4.5, 1.5]])
    corners = turn_back(np.array([[0, 0], size]), turns, size)
    assert sorted(map(tuple, np.abs(corners))) in ([(0, 0), (7, 5)], [(0, 5), (7, 0)])
    assert turn_back(np.zeros((0, 2)), turns, size).shape == (0, 2)


def test_four_quarter_turns_are_none():
    pixels = textured(7, 5)
    np.testing.assert_array_equal(quarter_turned(pixels, 4), pixels)
    np.testing.assert_array_equal(quarter_turned(quarter_turned(pixels, 1), 3), pixels)
    np.testing.assert_array_equal(quarter_turned(pixels, -1), quarter_turned(pixels, 3))
    assert quarter_turned(pixels, 1).flags.c_contiguous


@pytest.mark.parametrize(("width", "height", "limit"), [(100, 60, 50), (60, 100, 33), (1000, 3, 100), (7, 7, 7)])
def test_resize_factors_convert_to_the_full_image(width, height, limit):
    small, factors = resize_to_fit(textured(width, height), limit)
    assert max(small.shape) == limit
    assert small.dtype == np.uint8
    assert (small.shape[1] * factors[0], small.shape[0] * factors[1]) == pytest.approx((width, height))


def test_small_images_are_not_enlarged():
    pixels = textured(40, 30)
    small, factors = resize_to_fit(pixels, 50)
    assert small is pixels
    assert factors == (1.0, 1.0)


def test_resizing_does_not_shift_the_image():
    """The centre of mass of a blob does not move, in COLMAP's pixel convention."""
    y, x = np.mgrid[:400, :600] + 0.5
    blob = (255 * np.exp(-((x - 251.3) ** 2 + (y - 97.6) ** 2) / (2 * 15**2))).astype(np.uint8)
    small, factors = resize_to_fit(blob, 170)
    rows, columns = np.mgrid[: small.shape[0], : small.shape[1]] + 0.5
    weights = small / small.sum()
    assert (columns * weights).sum() * factors[0] == pytest.approx(251.3, abs=0.1)
    assert (rows * weights).sum() * factors[1] == pytest.approx(97.6, abs=0.1)


def test_digests_differ_if_bytes_differ(tmp_path):
    a = read(write_photo(tmp_path / "a.png", textured(40, 30, seed=0)))
    same = Image("another name", a.data)
    b = read(write_photo(tmp_path / "b.png", textured(40, 30, seed=1)))
    assert a.digest == same.digest != b.digest
    pixels = textured(40, 30)
    digests = {
        Image.from_array(pixels).digest,
        Image.from_array(pixels.reshape(40, 30)).digest,
        Image.from_array(pixels, quarter_turns=1).digest,
        Image.from_array(quarter_turned(pixels, 2)).digest,
    }
    assert len(digests) == 4
    assert Image.from_array(pixels[:, ::-1][:, ::-1]).digest == Image.from_array(pixels).digest


def test_pixels_in_memory_are_checked():
    for pixels in (np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            Image.from_array(pixels)
    assert Image.from_array(textured(8, 6), quarter_turns=3).quarter_turns == 3
