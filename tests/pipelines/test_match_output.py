"""`match --out` replaces its own outputs and no other file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image as PilImage

from pipelines.match import main
from pipelines.match_output import output_paths, require_replaceable
from sfm_lightglue.drawing.matches import is_drawing, save_drawing
from sfm_lightglue.errors import ConfigError

FLAGS = ("--matcher", "nearest", "--max-keypoints", "300", "--quiet")


@pytest.fixture
def photos(small_scene_dir: Path, tmp_path: Path) -> list[Path]:
    names = ("view_00.jpg", "view_01.jpg")
    return [Path(shutil.copy(small_scene_dir / "images" / name, tmp_path / name)) for name in names]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("way", ["itself", "beside", "link", "dots"])
def test_a_photo_is_never_written_to(
    photos: list[Path], tmp_path: Path, side: int, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its own name, as the drawing beside a JSON, through a link or through a path with `..`."""
    out = photos[side]
    if way == "beside":
        out = photos[side].with_suffix(".json")
        photos[side] = photos[side].rename(photos[side].with_suffix(".png"))
    elif way == "link":
        out = tmp_path / "link.jpg"
        out.symlink_to(photos[side])
    elif way == "dots":
        (tmp_path / "folder").mkdir()
        out = tmp_path / "folder" / ".." / photos[side].name
    before = content(tmp_path)
    assert main([*map(str, photos), "--out", str(out), *FLAGS]) == 2
    assert "is one of the photos and would be overwritten; choose another name" in capsys.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize("other", ["matches.png", "matches.json"])
def test_a_file_of_another_program_is_not_overwritten(
    photos: list[Path], tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also the JSON beside the drawing, which the user did not name."""
    if other.endswith(".json"):
        (tmp_path / other).write_text('{"my": "cameras"}')
    else:
        PilImage.new("RGB", (20, 20)).save(tmp_path / other)
    before = content(tmp_path)
    for out in (tmp_path, tmp_path / "matches.png", tmp_path / "matches.json"):
        assert main([*map(str, photos), "--out", str(out), *FLAGS]) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / other} exists and was not written by this command; choose another name" in error
        assert content(tmp_path) == before


@pytest.mark.parametrize("out", ["pair.png", "pair.jpg", "pair.webp", "pair.json", "folder"])
def test_an_earlier_output_is_replaced(photos: list[Path], tmp_path: Path, out: str) -> None:
    drawing, record = output_paths(tmp_path / "out" / out)
    for pair in (photos, photos[::-1]):
        assert main([*map(str, pair), "--out", str(tmp_path / "out" / out), *FLAGS]) == 0
        assert is_drawing(drawing)
        assert json.loads(record.read_text())["images"] == list(map(str, pair))


def test_an_empty_file_is_replaced(photos: list[Path], tmp_path: Path) -> None:
    """Programs such as `mktemp` create one to reserve a name."""
    (tmp_path / "pair.png").touch()
    assert main([*map(str, photos), "--out", str(tmp_path / "pair.png"), *FLAGS]) == 0
    assert is_drawing(tmp_path / "pair.png")


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"images": []}', "\x00"])
def test_only_whole_results_are_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "pair.json").write_text(text)
    with pytest.raises(ConfigError, match=r"pair\.json exists"):
        require_replaceable(output_paths(tmp_path / "pair.json"), [])


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_no_drawing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pair.png").write_bytes(data)
    assert not is_drawing(tmp_path / "pair.png")
    assert not is_drawing(tmp_path / "missing.png")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_drawings_are_recognised_in_every_format(tmp_path: Path, file_format: str) -> None:
    image = PilImage.new("RGB", (20, 10), (1, 2, 3))
    with open(tmp_path / "ours", "wb") as file:
        save_drawing(image, file, file_format)
    image.save(tmp_path / "other", file_format)
    assert is_drawing(tmp_path / "ours")
    assert not is_drawing(tmp_path / "other")
