"""GPS positions: read from EXIF data and written into databases like COLMAP's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.images.image import Image
from sfm_lightglue.scene.folder import load_scene
from tests.helpers.shared_data import shared_data

LATITUDE, LONGITUDE = (50.0, 30.0, 0.0), (8.0, 15.0, 30.0)
GPS = ExifTags.GPS
WHOLE = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: LATITUDE,
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: LONGITUDE,
    GPS.GPSAltitude: 12.5,
}


def write(path: Path, gps: dict[int, object]) -> Path:
    picture = PilImage.fromarray(np.zeros((60, 80, 3), np.uint8))
    exif = picture.getexif()
    exif[ExifTags.IFD.GPSInfo] = gps
    picture.save(path, exif=exif)
    return path


def without(*tags: int) -> dict[int, object]:
    return {tag: value for tag, value in WHOLE.items() if tag not in tags}


@pytest.mark.parametrize(
    ("gps", "expected"),
    [
        (WHOLE, (50.5, 8 + 15.5 / 60, 12.5)),
        (WHOLE | {GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W"}, (-50.5, -8 - 15.5 / 60, 12.5)),
        (WHOLE | {GPS.GPSAltitudeRef: b"\x01"}, (50.5, 8 + 15.5 / 60, -12.5)),
        (WHOLE | {GPS.GPSAltitudeRef: b"\x00"}, (50.5, 8 + 15.5 / 60, 12.5)),
        (without(GPS.GPSAltitude), None),
        (without(GPS.GPSLatitudeRef), None),
        (without(GPS.GPSLongitude), None),
        (WHOLE | {GPS.GPSLatitude: (95.0, 0.0, 0.0)}, None),
        (WHOLE | {GPS.GPSLatitude: (50.0, 30.0)}, None),
        (WHOLE | {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)}, None),
        ({}, None),
    ],
)
def test_the_gps_position_of_an_image(tmp_path, gps, expected):
    found = Image.read(write(tmp_path / "photo.jpg", gps)).exif.gps_position
    assert found == (None if expected is None else pytest.approx(expected))


def priors(database: Path) -> dict[str, tuple[np.ndarray, object]]:
    with pycolmap.Database.open(database) as opened:
        name_from_data_id = {str(image.data_id): image.name for image in opened.read_all_images()}
        return {
            name_from_data_id[str(prior.corr_data_id)]: (prior.position, prior.coordinate_system)
            for prior in opened.read_all_pose_priors()
        }


def compare_with_colmap(folder: Path, tmp_path: Path) -> int:
    with DatabaseWriter(tmp_path / "ours.db") as writer:
        for image in load_scene(folder).images:
            writer.add_image(image, np.zeros((1, 2), np.float32))
    pycolmap.Database.open(tmp_path / "theirs.db").close()
    pycolmap.import_images(tmp_path / "theirs.db", folder)
    ours, theirs = priors(tmp_path / "ours.db"), priors(tmp_path / "theirs.db")
    assert ours.keys() == theirs.keys()
    for name, (position, system) in ours.items():
        assert position == pytest.approx(theirs[name][0], abs=1e-9), name
        assert system == theirs[name][1]
    return len(ours)


def test_databases_have_the_pose_priors_of_colmap(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder / "north.jpg", WHOLE)
    write(folder / "deep.jpg", WHOLE | {GPS.GPSAltitudeRef: b"\x01"})
    write(folder / "flat.jpg", without(GPS.GPSAltitude))
    write(folder / "nowhere.jpg", {})
    assert compare_with_colmap(folder, tmp_path) == 2


def test_databases_of_real_images_have_the_pose_priors_of_colmap(tmp_path):
    assert compare_with_colmap(shared_data("scenes", "lund_gps", "images"), tmp_path) > 20


def test_positions_in_a_frame_of_their_own_are_priors_too(tmp_path):
    """They replace those of the EXIF data."""
    write(tmp_path / "photo.jpg", WHOLE)
    (image,) = load_scene(tmp_path).images
    with DatabaseWriter(tmp_path / "given.db") as writer:
        writer.add_image(replace(image, xyz_m=(1.0, -2.0, 30.5)), np.zeros((1, 2), np.float32))
    ((position, system),) = priors(tmp_path / "given.db").values()
    assert list(position) == [1.0, -2.0, 30.5]
    assert system == pycolmap.PosePriorCoordinateSystem.CARTESIAN
