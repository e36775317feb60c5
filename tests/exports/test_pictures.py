"""Images of exports: undistorted ones show what the cameras say, copies are in stored pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pycolmap
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.exports.lens import lens_of
from sfm_lightglue.exports.pictures import copy_images, picture_names
from sfm_lightglue.exports.undistort import undistorted_camera
from sfm_lightglue.images.writing import without_orientation
from sfm_lightglue.reconstruction.export_map import export_map
from sfm_lightglue.scene.cameras import as_pycolmap, make_camera
from tests.helpers.export_scenes import (
    FISHEYE,
    FOV,
    FULL,
    NAMES,
    OFF_CENTER,
    PINHOLE,
    RADIAL,
    SIZE,
    blobs,
    centroid,
    project,
    write_scene,
)
from tests.helpers.format_readers import brown, fisheye

MAX_ERROR_PX = 0.1


@pytest.mark.parametrize("camera", [OFF_CENTER, FISHEYE, FOV], ids=lambda camera: camera.model)
def test_points_project_to_what_the_undistorted_images_show(tmp_path: Path, camera) -> None:
    model, path = write_scene(tmp_path / "map", camera)
    export_map(path, "splatting", tmp_path / "splat", images=tmp_path / "map" / "images")
    again = pycolmap.Reconstruction(tmp_path / "splat" / "sparse" / "0")
    assert {image.name for image in again.images.values()} == set(NAMES)
    for native in again.cameras.values():
        assert native.model_name == "PINHOLE"
        assert list(native.params[2:]) == [native.width / 2, native.height / 2]
    num_blobs = 0
    for image in again.images.values():
        pixels = cv2.imdecode(np.fromfile(tmp_path / "splat" / "images" / image.name, np.uint8), cv2.IMREAD_GRAYSCALE)
        native = again.cameras[image.camera_id]
        assert pixels.shape == (native.height, native.width)
        assert pixels.min() > 20  # no black border
        drawn = {tuple(at) for at in blobs(np.array([p.xy for p in model.find_image_with_name(image.name).points2D]))}
        for point2D, before in zip(image.points2D, model.find_image_with_name(image.name).points2D, strict=True):
            if not point2D.has_point3D():
                continue
            point = again.points3D[point2D.point3D_id].xyz[None]
            at = project(again, image.name, point)[0]
            assert np.abs(at - point2D.xy).max() < 1e-3
            is_within = (at > 10).all() and (at < np.array([native.width, native.height]) - 10).all()
            if tuple(before.xy) in drawn and is_within:
                num_blobs += 1
                assert np.abs(centroid(pixels, at) - at).max() < MAX_ERROR_PX
    assert num_blobs > 40


@pytest.mark.parametrize("camera", [PINHOLE, RADIAL, OFF_CENTER, FULL, FISHEYE], ids=lambda camera: camera.model)
def test_a_lens_projects_as_colmap_does(camera) -> None:
    lens = lens_of(camera)
    assert lens is not None
    rays = np.column_stack([np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2)), np.ones(50)])
    x, y = rays[:, 0], rays[:, 1]
    if lens.family == "fisheye":
        x, y = fisheye(x, y, lens.k)
    else:
        r2 = x * x + y * y
        rational = 1 + lens.k[3] * r2 + lens.k[4] * r2**2 + lens.k[5] * r2**3
        (x0, y0), (dx, dy) = brown(x, y, lens.k[:3]), brown(x, y, (), lens.p)
        x, y = x0 / rational + dx - x, y0 / rational + dy - y
    pixels = np.column_stack([x, y]) * lens.focal + lens.center
    assert np.abs(pixels - as_pycolmap(camera).img_from_cam(rays)).max() < 1e-9


def test_an_undistorted_camera_without_distortion_is_the_camera() -> None:
    assert undistorted_camera(PINHOLE).params == (290, 290, 160, 120)
    assert undistorted_camera(PINHOLE).size == SIZE
    fisheye_180 = make_camera("OPENCV_FISHEYE", SIZE, (100, 100, 160, 120, 0, 0, 0, 0))
    wide = undistorted_camera(fisheye_180)
    half_diagonal = np.hypot(wide.width, wide.height) / 2 / wide.params[0]
    assert np.degrees(np.arctan(half_diagonal)) <= 70


def test_copies_have_the_stored_pixels_and_no_orientation(tmp_path: Path) -> None:
    turned = "right/0.jpg"
    _, path = write_scene(tmp_path / "map", PINHOLE, {turned: 6})
    source = tmp_path / "map" / "images"
    export_map(path, "nerfstudio", tmp_path / "out", images=source)
    with PIL.Image.open(source / turned) as before, PIL.Image.open(tmp_path / "out" / "images" / turned) as after:
        assert before.getexif()[0x0112] == 6
        assert after.getexif().get(0x0112, 1) == 1
        assert after.size == SIZE
        assert np.array_equal(np.asarray(before), np.asarray(after))
    for name in set(NAMES) - {turned}:
        assert (tmp_path / "out" / "images" / name).read_bytes() == (source / name).read_bytes()


def test_jpeg_files_without_distortion_are_not_encoded_again(tmp_path: Path) -> None:
    turned, plain = "right/0.jpg", "right/1.jpg"
    _, path = write_scene(tmp_path / "map", PINHOLE, {turned: 6})
    source = tmp_path / "map" / "images"
    export_map(path, "splatting", tmp_path / "out", images=source)
    assert (tmp_path / "out" / "images" / plain).read_bytes() == (source / plain).read_bytes()
    assert (tmp_path / "out" / "images" / turned).read_bytes() == without_orientation((source / turned).read_bytes())


def test_bytes_that_are_no_exif_data_stay() -> None:
    for data in (b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x10Exif\0\0XX", b"\xff\xd8\xff\xe1\0\x08Exif\0\0"):
        assert without_orientation(data) == data


def test_images_that_trainers_cannot_read_become_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    (tmp_path / "in").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "in" / "a.bmp")
    names = picture_names(["a.bmp"])
    copy_images(tmp_path / "in", tmp_path / "out", names, silent)
    with PIL.Image.open(tmp_path / "out" / "a.bmp.png") as written:
        assert np.array_equal(np.asarray(written), pixels)
    with pytest.raises(DataError, match=r"images a\.bmp and a\.bmp\.png would both be written as a\.bmp\.png"):
        picture_names(["a.bmp", "a.bmp.png"])


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    _, path = write_scene(tmp_path / "map", RADIAL)
    PIL.Image.new("RGB", (64, 48)).save(tmp_path / "map" / "images" / NAMES[0])
    with pytest.raises(DataError, match=r"a b\.png: has 64 x 48 pixels, its camera in the model 320 x 240"):
        export_map(path, "splatting", tmp_path / "out", images=tmp_path / "map" / "images")
    assert list(tmp_path.iterdir()) == [tmp_path / "map"]
