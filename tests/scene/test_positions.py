"""Tables of positions: columns by their header, what they replace, and what is wrong with a table."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.scene.listed_names import ListedNames
from sfm_lightglue.scene.positions import GivenPositions, read_positions
from sfm_lightglue.types import Camera, SceneImage

NAMES = ("a.jpg", "my photo, 2.jpg", "sub/ü.png")
PLACE = (-12.5, 179.25, -3.0)


def read(tmp_path: Path, text: str) -> GivenPositions:
    path = tmp_path / "positions.csv"
    path.write_bytes(text.encode())
    return read_positions(path, ListedNames.from_names(NAMES, tmp_path / "photos"))


@pytest.mark.parametrize(
    "text",
    [
        "name,latitude,longitude,altitude\na.jpg,-12.5,179.25,-3",
        "name;lat;lon;alt\na.jpg;-12.5;179.25;-3",
        "Altitude\tName\tLongitude\tLatitude\n-3\ta.jpg\t179.25\t-12.5",
        "\ufeff# name, latitude, longitude, altitude, accuracy\r\n\r\n# on foot\r\na.jpg, -12.5, 179.25, -3, 0.5\r\n",
        "# from the logger\nfilename,lat,lng,height\n./a.jpg,-1.25e1,179.25,-3.0\n",
    ],
)
def test_the_header_decides_which_column_is_which(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == GivenPositions(True, {"a.jpg": PLACE})


def test_local_positions_and_names_of_all_kinds(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "sub/ü.png")
    found = read(tmp_path, f'name,x,y,z\n"my photo, 2.jpg",1,2,3\nphotos/{decomposed},4,5,6\n')
    assert found == GivenPositions(False, {"my photo, 2.jpg": (1.0, 2.0, 3.0), "sub/ü.png": (4.0, 5.0, 6.0)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"positions\.csv: no positions; expected a header such as name,latitude,longitude,altitude or name,x,y,z"),
        ("a.jpg,1,2,3", r"positions\.csv:1: expected a header .* got 'a\.jpg,1,2,3'"),
        ("name,latitude,longitude\na.jpg,1,2", r"positions\.csv:1: expected a header"),
        ("name,x,y,z\n", r"positions\.csv: no positions below the header"),
        ("name,x,y,z\n\na.jpg,1,2", r"positions\.csv:3: expected 4 columns as in the header, got 3 \('a\.jpg,1,2'\)"),
        ("name,x,y,z\na.jpg,1,two,3", r"positions\.csv:2: y: expected a number, got 'two'"),
        ("name,x,y,z\na.jpg,1,,3", r"positions\.csv:2: y: expected a number, got ''"),
        ("name,x,y,z\na.jpg,1,nan,3", r"positions\.csv:2: y: expected a finite number, got 'nan'"),
        ("name,lat,lon,alt\na.jpg,91,2,3", r"positions\.csv:2: latitude 91 lies outside \[-90, 90\]"),
        ("name,lat,lon,alt\na.jpg,1,181,3", r"positions\.csv:2: longitude 181 lies outside \[-180, 180\]"),
        ("name,x,y,z\na.jpg,1,2,3\n./a.jpg,1,2,3", r"positions\.csv:3: 'a\.jpg' has a position in line 2 already"),
        (
            "name,x,y,z\naa.jpg,1,2,3",
            r"positions\.csv:2: no image 'aa\.jpg' in .*photos; the closest names are 'a\.jpg'",
        ),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(("before", "line"), [("", 1), ("name,x,y,z\na.jpg,1,2,", 2)])
def test_a_line_that_no_table_has_is_told(tmp_path: Path, before: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"positions\.csv:{line}: not a line of a table of positions \(.*limit.*\)"):
        read(tmp_path, before + "3" * 131_073)


def test_names_of_other_images_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read(tmp_path, "name,x,y,z\na.jpg,1,2,3\nb.jpg,1,2,3\nc.jpg,1,2,3\n")
    assert set(found.from_name) == {"a.jpg"}
    assert "positions.csv: 2 of 3 names are not used; line 3: no image 'b.jpg' in" in caplog.text


def test_geographic_positions_replace_those_that_are_given_and_local_ones_all() -> None:
    camera = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))
    images = [SceneImage(name, Path(name), camera, 0, "", gps_position=(1.0, 2.0, 3.0)) for name in "ab"]
    geographic = GivenPositions(True, {"a": PLACE}).applied_to(images)
    assert [image.gps_position for image in geographic] == [PLACE, (1.0, 2.0, 3.0)]
    local = GivenPositions(False, {"a": (7.0, 8.0, 9.0)}).applied_to(images)
    assert [(image.gps_position, image.xyz_m) for image in local] == [(None, (7.0, 8.0, 9.0)), (None, None)]
