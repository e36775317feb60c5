"""Digital zoom, crops, lenses and serial numbers in EXIF data."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from sfm_lightglue.images.exif import Exif
from sfm_lightglue.images.image import Image
from tests.helpers.photos import make_exif, textured

DIAGONAL_35MM = np.hypot(36, 24)
SENSOR = {"FocalLength": 6.0, "FocalPlaneXResolution": 1000.0, "FocalPlaneResolutionUnit": 3}
"""A lens of 6 mm before a sensor of 100 pixels per mm: 600 pixels at the size in the EXIF data."""


def exif_of(size: tuple[int, int] = (80, 60), **details: Any) -> Exif:
    buffer = io.BytesIO()
    PilImage.fromarray(textured(*size)).save(buffer, "jpeg", exif=make_exif(**details))
    return Image("photo.jpg", buffer.getvalue()).exif


def stated(width: int, height: int) -> dict[str, int]:
    """The size in the EXIF data."""
    return {"ExifImageWidth": width, "ExifImageHeight": height}


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.0, 1), (1.0, 1), (1.0004, 1), (0.5, 1), (1.7, 1.7), (4.0, 4), (1e6, 1)]
)
def test_digital_zoom(ratio, expected):
    assert exif_of(DigitalZoomRatio=ratio).digital_zoom == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_no_digital_zoom_leaves_the_camera_as_without_the_tag(ratio):
    details = {"Make": "Maker", **SENSOR, **stated(800, 600)}
    assert exif_of(DigitalZoomRatio=ratio, **details) == exif_of(**details)


def test_digital_zoom_multiplies_the_focal_length_on_the_sensor():
    plain, zoomed = (exif_of(DigitalZoomRatio=ratio, **SENSOR, **stated(800, 600)) for ratio in (1.0, 1.7))
    assert plain.focal_length_px == pytest.approx(60)
    assert zoomed.focal_length_px == pytest.approx(60 * 1.7)
    assert plain.camera_id != zoomed.camera_id
    assert plain.lens_id == zoomed.lens_id


def test_digital_zoom_is_in_the_35_mm_focal_length_by_the_standard():
    plain = exif_of(FocalLengthIn35mmFilm=26)
    zoomed = exif_of(FocalLengthIn35mmFilm=52, DigitalZoomRatio=2.0)
    assert plain.focal_length_px == pytest.approx(26 / DIAGONAL_35MM * 100)
    assert zoomed.focal_length_px == pytest.approx(2 * plain.focal_length_px)


@pytest.mark.parametrize(
    ("size", "full_size"),
    [
        ((80, 60), (80, 60)),
        ((80, 60), (800, 600)),
        ((80, 60), (600, 800)),
        ((60, 80), (800, 600)),
        ((100, 67), (6000, 4000)),
        ((33, 22), (4000, 2667)),
        ((800, 600), (80, 60)),
    ],
)
def test_a_scaled_or_turned_image_is_not_cropped(size, full_size):
    found = exif_of(size, FocalLengthIn35mmFilm=28, Make="Maker", **stated(*full_size))
    assert (found.cropped_from, found.crop_factor, found.magnification) == (None, 1, 1)
    assert found.focal_length_px == pytest.approx(28 / DIAGONAL_35MM * np.hypot(*size))
    assert found.camera_id == "Maker, 28 mm"


@pytest.mark.parametrize(
    ("size", "full_size", "scale"),
    [
        ((80, 45), (80, 60), 1),  # height cropped
        ((60, 60), (80, 60), 1),  # width cropped
        ((70, 40), (80, 60), 1),  # both cropped
        ((45, 80), (80, 60), 1),  # a portrait image, cropped
        ((40, 40), (400, 300), 1),  # a small part
        ((160, 90), (80, 60), 2),  # cropped and enlarged
    ],
)
def test_the_focal_length_of_a_crop_refers_to_the_whole_image(size, full_size, scale):
    whole = np.hypot(*full_size) * scale
    found = exif_of(size, FocalLengthIn35mmFilm=28, Make="Maker", **stated(*full_size))
    assert found.cropped_from == full_size
    assert found.focal_length_px == pytest.approx(28 / DIAGONAL_35MM * whole)
    assert found.crop_factor == pytest.approx(scale * max(full_size) / max(size))
    assert exif_of(size, **SENSOR, **stated(*full_size)).focal_length_px == pytest.approx(600 * scale)


def test_a_crop_is_another_camera_than_the_whole_image():
    whole, crop = (exif_of(size, Make="Maker", FocalLength=6.0, **stated(80, 60)) for size in ((80, 60), (80, 45)))
    assert crop.camera_id == f"{whole.camera_id}, cropped from 80 x 60"
    assert exif_of((80, 45), **stated(80, 60)).camera_id == "", "a size identifies no camera"


@pytest.mark.parametrize("details", [{}, {"ExifImageWidth": 800}, {"ExifImageWidth": 0, "ExifImageHeight": 0}])
def test_without_a_size_in_the_exif_data_nothing_is_cropped(details):
    assert exif_of((80, 40), **details).cropped_from is None


@pytest.mark.parametrize(
    "change",
    [
        {"LensModel": "Fix"},
        {"LensMake": "Other"},
        {"BodySerialNumber": "43"},
        {"LensSerialNumber": "8"},
        {"DigitalZoomRatio": 2.0},
        {"FocalLengthIn35mmFilm": 50},
    ],
)
def test_all_that_changes_the_intrinsics_changes_the_camera(change):
    full = {"Make": "Maker", "Model": "M 1", "LensModel": "Zoom", "FocalLength": 24.0, "FocalLengthIn35mmFilm": 36}
    full |= {"LensMake": "Maker", "BodySerialNumber": "42", "LensSerialNumber": "7"}
    assert exif_of(**full).camera_id == exif_of(**full).camera_id
    assert exif_of(**full).camera_id != exif_of(**full | change).camera_id


def test_the_specification_of_a_lens_stands_in_for_its_name():
    zoom, fixed = (24.0, 70.0, 2.8, 4.0), (50.0, 50.0, 1.4, 1.4)
    assert exif_of(LensSpecification=zoom).camera_id == "lens 24 70 2.8 4"
    assert exif_of(LensSpecification=zoom).camera_id != exif_of(LensSpecification=fixed).camera_id
    assert exif_of(LensSpecification=zoom, LensModel="Zoom").camera_id == "Zoom"


@pytest.mark.parametrize(
    ("lens", "expected"),
    [
        ("EF8-15mm f/4L FISHEYE USM", True),
        ("AF Fisheye-Nikkor 16mm f/2.8D", True),
        ("Samyang 8mm f/3.5 Fish-eye CS", True),
        ("EF24-70mm f/2.8L USM", False),
        ("", False),
    ],
)
def test_a_fisheye_lens_is_known_by_its_name(lens, expected):
    assert exif_of(LensModel=lens).has_fisheye_lens is expected


def test_a_crop_is_another_camera_also_where_only_the_focal_length_is_known():
    whole, crop = (exif_of((80, 45), FocalLengthIn35mmFilm=28, **size) for size in ({}, stated(80, 60)))
    assert whole.camera_id != crop.camera_id
