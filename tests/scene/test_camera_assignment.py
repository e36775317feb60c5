"""Cameras are grouped by all that the EXIF data tell: zoom, crop, lens, serial numbers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.image import Image
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.scene.cameras import mean_focal_length
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.types import SceneImage
from tests.helpers.photos import textured, write_photo

PHONE = {"Make": "Maker", "Model": "Phone", "FocalLength": 5.4}
SENSOR = {"FocalPlaneXResolution": 1000.0, "FocalPlaneResolutionUnit": 3, "ExifImageWidth": 64, "ExifImageHeight": 48}
DIAGONAL_35MM = np.hypot(36, 24)


def write(root: Path, name: str, size: tuple[int, int] = (64, 48), **details: Any) -> None:
    write_photo(root / name, textured(*size), **details)


def images_of(root: Path, **options: Any) -> tuple[SceneImage, ...]:
    return load_scene(root, CameraConfig(**options)).images


def idxs(root: Path, **options: Any) -> list[int]:
    return [image.camera_idx for image in images_of(root, **options)]


def focals(root: Path, **options: Any) -> list[float]:
    return [mean_focal_length(image.camera) for image in images_of(root, **options)]


@pytest.mark.parametrize("known", [{}, {"FocalLengthIn35mmFilm": 26}, SENSOR])
def test_digital_zoom_makes_another_camera_with_a_longer_focal_length(tmp_path, known):
    """Also where the 35 mm focal length does not change with the zoom, and where the focal length is only guessed."""
    for i, ratio in enumerate((1.0, 1.7, 0.0, 1.7)):
        write(tmp_path, f"{i}.jpg", **PHONE, **known, DigitalZoomRatio=ratio)
    write(tmp_path, "4.jpg", **PHONE, **known)
    assert idxs(tmp_path) == [0, 1, 0, 1, 0]
    plain, zoomed, *_ = focals(tmp_path)
    assert zoomed / plain == pytest.approx(1.7)


def test_a_35_mm_focal_length_that_changes_with_the_zoom_includes_it(tmp_path):
    """It is a whole number, so the ratio is that of the zoom only roughly."""
    for name, focal, ratio in (("a", 26, 1.0), ("b", 44, 1.7), ("c", 31, 1.2)):
        write(tmp_path, f"{name}.jpg", **PHONE, FocalLengthIn35mmFilm=focal, DigitalZoomRatio=ratio)
    assert idxs(tmp_path) == [0, 1, 2]
    assert focals(tmp_path) == pytest.approx([focal / DIAGONAL_35MM * 80 for focal in (26, 44, 31)])


def test_a_35_mm_focal_length_is_compared_among_images_of_one_lens_only(tmp_path):
    """The second lens has a longer focal length and a digital zoom of its own."""
    write(tmp_path, "a.jpg", **PHONE, FocalLengthIn35mmFilm=26)
    write(tmp_path, "b.jpg", **PHONE | {"FocalLength": 2.2}, FocalLengthIn35mmFilm=26, DigitalZoomRatio=2.0)
    assert focals(tmp_path) == pytest.approx([26 / DIAGONAL_35MM * 80] * 2)


def test_another_35_mm_focal_length_is_another_camera(tmp_path):
    for name, focal in (("a", 26), ("b", 52), ("c", 26)):
        write(tmp_path, f"{name}.jpg", **PHONE, FocalLengthIn35mmFilm=focal)
    assert idxs(tmp_path) == [0, 1, 0]
    assert focals(tmp_path)[1] == pytest.approx(2 * focals(tmp_path)[0])


@pytest.mark.parametrize("mode", ["single", "per-folder"])
def test_a_stated_single_camera_stays_one(tmp_path, mode):
    write(tmp_path, "a.jpg", **PHONE)
    write(tmp_path, "b.jpg", **PHONE, DigitalZoomRatio=1.7)
    assert idxs(tmp_path, mode=mode) == [0, 0]


def test_cropped_images_share_cameras_with_equal_crops_only(tmp_path):
    whole = {"ExifImageWidth": 64, "ExifImageHeight": 48, **PHONE, "FocalLengthIn35mmFilm": 26}
    write(tmp_path, "a.jpg", **whole)
    write(tmp_path, "b.jpg", (64, 36), **whole)
    write(tmp_path, "c.jpg", (64, 36), **whole)
    write(tmp_path, "d.jpg", (50, 48), **whole)
    write(tmp_path, "e.jpg", (64, 36), **PHONE, FocalLengthIn35mmFilm=26)  # a video frame of the whole width
    assert idxs(tmp_path) == [0, 1, 1, 2, 3]
    whole_px, *crops_px, video_px = focals(tmp_path)
    assert crops_px == pytest.approx([whole_px] * 3)
    assert video_px == pytest.approx(26 / DIAGONAL_35MM * np.hypot(64, 36))


def test_the_guess_for_a_crop_refers_to_the_whole_image(tmp_path):
    size = {"ExifImageWidth": 64, "ExifImageHeight": 48, **PHONE}
    write(tmp_path, "a.jpg", **size)
    write(tmp_path, "b.jpg", (40, 20), **size)
    assert idxs(tmp_path) == [0, 1]
    assert focals(tmp_path)[1] == pytest.approx(focals(tmp_path)[0])
    assert {image.camera.source for image in images_of(tmp_path)} == {"guessed"}


def test_a_crop_without_camera_data_shares_no_camera_with_whole_images(tmp_path):
    write(tmp_path, "a.jpg", (64, 36))
    write(tmp_path, "b.jpg", (64, 36), ExifImageWidth=64, ExifImageHeight=48)
    assert idxs(tmp_path) == [0, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"BodySerialNumber": "11"}, {"BodySerialNumber": "12"}),
        ({"LensModel": "Zoom", "LensSerialNumber": "1"}, {"LensModel": "Zoom", "LensSerialNumber": "2"}),
        ({"LensMake": "A", "LensModel": "50 mm"}, {"LensMake": "B", "LensModel": "50 mm"}),
        ({"LensSpecification": (24.0, 70.0, 2.8, 2.8)}, {"LensSpecification": (18.0, 55.0, 3.5, 5.6)}),
    ],
)
def test_two_bodies_or_lenses_are_two_cameras(tmp_path, first, second):
    for i, details in enumerate((first, second, first)):
        write(tmp_path, f"{i}.jpg", **PHONE, **details)
    assert idxs(tmp_path) == [0, 1, 0]


FISHEYE = {**PHONE, "LensModel": "AF Fisheye-Nikkor 16mm f/2.8D"}


def test_a_fisheye_lens_with_a_plain_model_is_told(tmp_path, caplog):
    write(tmp_path, "a.jpg", **FISHEYE)
    write(tmp_path, "b.jpg", **FISHEYE)
    write(tmp_path, "c.jpg", **PHONE)
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        images_of(tmp_path)
    assert "2 photos have a fisheye lens by their EXIF data (a.jpg, b.jpg)" in caplog.text
    assert "SIMPLE_RADIAL" in caplog.text
    assert "set `cameras.model` to OPENCV_FISHEYE" in caplog.text


@pytest.mark.parametrize(
    "options",
    [{"model": "opencv_fisheye"}, {"model": "RADIAL_FISHEYE"}, {"model": "PINHOLE", "params": (70, 71, 30, 20)}],
)
def test_nothing_is_told_of_a_fisheye_lens_where_the_model_fits_or_the_intrinsics_are_known(tmp_path, caplog, options):
    write(tmp_path, "a.jpg", **FISHEYE)
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        images_of(tmp_path, **options)
    assert caplog.text == ""


def test_a_panorama_has_no_camera(tmp_path):
    write(tmp_path, "pano.jpg", (64, 32), Make="RICOH", Model="RICOH THETA V")
    with pytest.raises(DataError, match=r"pano\.jpg: a panorama of 360 degrees.*perspective views"):
        camera_of_image(Image.read(tmp_path / "pano.jpg", "pano.jpg"), CameraConfig())


def test_the_camera_of_a_single_zoomed_image(tmp_path):
    write(tmp_path, "a.jpg", **PHONE)
    write(tmp_path, "b.jpg", **PHONE, DigitalZoomRatio=1.7)
    plain, zoomed = (camera_of_image(Image.read(tmp_path / name), CameraConfig()) for name in ("a.jpg", "b.jpg"))
    assert mean_focal_length(zoomed) == pytest.approx(1.7 * mean_focal_length(plain))
