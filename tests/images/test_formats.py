"""Photographs of every format are recognised by their content, and read with the right brightness and orientation."""

import hashlib
import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from sfm_lightglue.errors import DataError
from sfm_lightglue.images import opening
from sfm_lightglue.images.formats import find_format
from sfm_lightglue.images.image import Image
from sfm_lightglue.messages import install_hint
from tests.helpers.encoded_photos import coloured, encoded, encoded_deep, png_of_grey_and_alpha
from tests.helpers.photos import make_exif

FORMATS = ["AVIF", "BMP", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"]


def needs(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_recognised_by_its_first_bytes(kind):
    needs(kind)
    pixels = coloured(64, 48)
    data = encoded(pixels, kind)
    assert find_format(data[:64]) == ("JPEG" if kind == "MPO" else kind)
    image = Image("photo", data)
    assert image.size == (64, 48)
    found = image.rgb().astype(float)
    assert np.corrcoef(found.ravel(), pixels.ravel())[0, 1] > 0.98
    assert abs(found.mean() - pixels.mean()) < 2
    assert image.grey().shape == (48, 64)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"BM is how this text begins, and it goes on", None),
        (b"P6 is a chapter", "PPM"),  # only decoding tells
        (b"P7\nWIDTH 3", None),
        (b"%PDF-1.7", None),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", None),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "RAW"),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (b"\0\0\1\0\1\0\x10\x10", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_other_files_are_told_apart(head, kind):
    assert find_format(head) == kind


@pytest.mark.parametrize("kind", ["AVIF", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_stored_pixels_and_orientation(kind, orientation, turns):
    pixels = coloured(64, 48)
    image = Image("photo", encoded(pixels, kind, exif=make_exif(orientation)))
    assert (image.size, image.quarter_turns) == ((64, 48), turns)
    assert np.corrcoef(image.rgb().ravel(), pixels.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_upright_already(orientation):
    """The decoder applies the orientation, so the stored image is the upright one. EXIF data stay."""
    needs("HEIF")
    upright = coloured(64, 48)
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    stored = np.ascontiguousarray(np.rot90(upright, turns))
    exif = make_exif(orientation, Make="Maker", FocalLengthIn35mmFilm=28)
    image = Image("photo", encoded(stored, "HEIF", exif=exif))
    assert (image.size, image.quarter_turns) == ((64, 48), 0)
    assert np.corrcoef(image.rgb().ravel(), upright.ravel())[0, 1] > 0.98
    assert image.exif.camera_id.startswith("Maker")
    assert image.exif.focal_length_px == pytest.approx(28 / np.hypot(36, 24) * 80)


def test_without_pillow_heif_the_message_names_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError) as caught:
        _ = Image("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").size
    assert str(caught.value).startswith("a.heic: ")
    assert install_hint("heif") in str(caught.value)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("kind", [".png", ".tiff", ".ppm", ".jp2"])
@pytest.mark.parametrize("colour", [True, False])
def test_deep_colour_keeps_its_brightness(kind, bits, colour):
    """10 and 12 bits in 16-bit words too, of which the high byte is nearly black."""
    pixels = coloured(64, 48) if colour else coloured(64, 48)[..., 0]
    image = Image("photo", encoded_deep(pixels, kind, bits))
    found = (image.rgb() if colour else image.grey()).astype(float)
    assert abs(found.mean() - pixels.mean()) < 2
    assert np.abs(found - pixels).max() < 6
    assert image.grey().shape == (48, 64)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_colour_with_transparency(bits):
    pixels = coloured(64, 48)
    opaque = np.full((48, 64, 1), 65535, np.uint16)
    for kind in (".png", ".tiff"):
        found = Image("photo", encoded_deep(pixels, kind, bits, opaque)).rgb()
        assert np.abs(found.astype(int) - pixels).max() < 2
    grey = Image("photo", png_of_grey_and_alpha(pixels[..., 0], bits)).grey()
    assert np.abs(grey.astype(int) - pixels[..., 0]).max() < 2


@pytest.mark.parametrize("depth", [10, 12])
def test_deep_avif(depth):
    pixels = coloured(64, 48)
    deep = (pixels.astype(np.uint32) * (2**depth - 1) // 255).astype(np.uint16)
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    data = cv2.imencode(".avif", deep[..., ::-1], options)[1].tobytes()
    assert np.abs(Image("photo", data).rgb().astype(int) - pixels).max() < 3


@pytest.mark.parametrize("factor", [1 / 255, 1.0])
def test_colours_of_floats(factor):
    """Pillow has no mode for them."""
    pixels = coloured(64, 48)
    data = cv2.imencode(".tiff", (pixels[..., ::-1] * factor).astype(np.float32))[1].tobytes()
    image = Image("photo", data)
    assert image.size == (64, 48)
    assert np.abs(image.rgb().astype(int) - pixels).max() < 2


def test_only_deep_colour_changes_the_digest():
    """Results of other images in stores of earlier versions stay valid; those of deep colour were too dark."""
    for kind, data in (("PNG", encoded(coloured(64, 48), "PNG")), ("deep", encoded_deep(coloured(64, 48), ".png", 12))):
        is_of_bytes = Image("photo", data).digest == hashlib.sha256(data).hexdigest()
        assert is_of_bytes == (kind == "PNG")


def test_the_limit_of_megapixels_is_ours(monkeypatch):
    data = encoded(coloured(64, 48), "PNG")
    monkeypatch.setattr(PilImage, "MAX_IMAGE_PIXELS", 100)  # more than twice as many are an error for Pillow
    for kind in ("AVIF", "BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF"):
        image = Image("photo", encoded(coloured(64, 48), kind))
        assert image.size == (64, 48)
        assert image.grey().shape == image.rgb().shape[:2] == (48, 64)
    monkeypatch.setattr(opening, "MAX_MEGAPIXELS", 0.003)
    with pytest.raises(DataError, match=r"photo: 64 x 48 pixels; at most 0\.003 megapixels are read"):
        _ = Image("photo", data).size


@pytest.mark.parametrize("size", [(20000, 20000), (4000, 4000)])
def test_a_header_that_claims_too_many_pixels_takes_no_memory(size):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(2000)))
    with pytest.raises(DataError, match="photo: damaged or cut off"):
        _ = Image("photo", data + chunk(b"IEND", b"")).size
    even = PilImage.new("L", (4000, 3000))  # compressed by nearly as much as possible
    buffer = io.BytesIO()
    even.save(buffer, "PNG", compress_level=9)
    assert Image("even", buffer.getvalue()).size == even.size


@pytest.mark.filterwarnings("ignore")  # Pillow warns of the damage
def test_damaged_mpo_files_are_read_as_jpeg():
    """The list of the further images does not matter."""
    data = encoded(coloured(64, 48), "MPO")
    start = data.index(b"MPF\0")
    for offset in range(start + 4, start + 60, 3):
        damaged = data[:offset] + b"\xff\xff" + data[offset + 2 :]
        assert Image("photo", damaged).grey().shape == (48, 64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes_name_the_file(kind):
    """Whatever a decoder raises: TypeError, struct.error, KeyError, MemoryError, ..."""
    needs(kind)
    generator = np.random.default_rng(1)
    whole = np.frombuffer(encoded(coloured(32, 24), kind), np.uint8)
    for _ in range(40):
        damaged = whole.copy()
        where = generator.integers(0, min(len(whole), 500), 3)
        damaged[where] = generator.integers(0, 256, 3)
        image = Image("photo", damaged.tobytes())
        try:
            width, height = image.size
            assert image.exif is not None
            assert image.rgb().shape == (height, width, 3)
        except DataError as error:
            assert str(error).startswith("photo: ")


@pytest.mark.parametrize("colour", [True, False])
def test_floats_keep_their_contrast_if_highlights_exceed_one(colour):
    pixels = coloured(96, 64) if colour else coloured(96, 64)[..., 1]
    shares = (pixels[..., ::-1] if colour else pixels).astype(np.float32) / 255
    shares[3, 5] = 1.4
    data = cv2.imencode(".tiff", shares)[1].tobytes()
    image = Image("a.tiff", data)
    found = (image.rgb() if colour else image.grey()).astype(float)
    wanted = pixels.astype(float)
    wanted[3, 5] = 255
    assert np.abs(found - wanted).max() <= 1
