"""Where cameras looked: the compass of EXIF data, and the gimbal of drones in XMP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.images.image import Image
from sfm_lightglue.images.view_direction import ViewDirection
from sfm_lightglue.scene.folder import load_scene

DIRECTION = ExifTags.GPS.GPSImgDirection


def write(path: Path, gps: dict[int, object], xmp: str = "") -> Path:
    picture = PilImage.fromarray(np.zeros((60, 80, 3), np.uint8))
    exif = picture.getexif()
    exif[ExifTags.IFD.GPSInfo] = gps
    picture.save(path, exif=exif, xmp=xmp.encode())
    return path


@pytest.mark.parametrize(
    ("gps", "xmp", "expected"),
    [
        ({}, "", ViewDirection()),
        ({DIRECTION: 271.5}, "", ViewDirection(271.5)),
        ({DIRECTION: 360.0}, "", ViewDirection(0.0)),
        ({DIRECTION: 400.0}, "", ViewDirection()),
        ({}, 'drone-dji:RelativeAltitude="+80.5" drone-dji:GimbalPitchDegree="-90.00"', ViewDirection(None, 80.5)),
        ({}, "<d:RelativeAltitude>80.5</d:RelativeAltitude><d:GimbalPitchDegree>-75</d:GimbalPitchDegree>",
         ViewDirection(None, 80.5)),
        ({DIRECTION: 20.0}, 'drone-dji:RelativeAltitude="+8" drone-dji:GimbalPitchDegree="-30"', ViewDirection(20.0)),
        ({}, 'drone-dji:RelativeAltitude="-2" drone-dji:GimbalPitchDegree="-90"', ViewDirection()),
        ({}, 'drone-dji:RelativeAltitude="1.2.3" drone-dji:GimbalPitchDegree="-90"', ViewDirection()),
    ],
)  # fmt: skip
def test_the_direction_of_view_of_an_image(
    tmp_path: Path, gps: dict[int, object], xmp: str, expected: ViewDirection
) -> None:
    path = write(tmp_path / "photo.jpg", gps, xmp)
    assert Image.read(path).exif.view == expected
    (image,) = load_scene(tmp_path).images
    assert (image.heading_deg, image.height_above_ground_m) == (expected.heading_deg, expected.height_above_ground_m)
