"""Lists of images restrict a scene: spellings of names, and what is wrong with a list."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.scene.folder import load_scene
from tests.helpers.photos import textured, write_photo

PIXELS = textured(64, 48)
NAMES = ("a.jpg", "b.jpg", "sub/ü ö.png", "#1.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        write_photo(tmp_path / "photos" / name, PIXELS)
    return tmp_path / "photos"


def listed(folder: Path, text: str) -> tuple[str, ...]:
    path = folder.parent / "list.txt"
    path.write_bytes(text.encode())
    return load_scene(folder, image_list=path).names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.jpg\nb.jpg\n", ("a.jpg", "b.jpg")),
        ("\ufeffb.jpg\r\na.jpg\r\n\r\n", ("a.jpg", "b.jpg")),
        ("  b.jpg  \n# a comment\nb.jpg", ("b.jpg",)),
        ("#1.jpg", ("#1.jpg",)),
        ("photos/a.jpg\n./b.jpg", ("a.jpg", "b.jpg")),
        ('"sub/ü ö.png"', ("sub/ü ö.png",)),
        (unicodedata.normalize("NFD", "sub/ü ö.png"), ("sub/ü ö.png",)),
    ],
)
def test_only_the_images_of_the_list_are_in_the_scene(folder: Path, text: str, names: tuple[str, ...]) -> None:
    assert listed(folder, text) == names


def test_a_name_of_no_image_is_told_with_its_line_and_the_closest_names(folder: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt:3: no image 'bb\.jpg' in .*photos; the closest names are 'b\.jpg'"):
        listed(folder, "a.jpg\n\nbb.jpg\n")
    with pytest.raises(DataError, match=r"list\.txt:1: no image 'ü ö\.png' .* 'sub/ü ö\.png'"):
        listed(folder, "ü ö.png")


def test_a_list_without_a_name_and_one_that_cannot_be_read_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt: lists no image"):
        listed(folder, "# nothing\n")
    with pytest.raises(DataError, match=r"missing\.txt: cannot be read"):
        load_scene(folder, image_list=tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes("ü.jpg".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt:1: the list of images is not UTF-8 text"):
        load_scene(folder, image_list=tmp_path / "latin.txt")


def test_files_outside_the_list_are_not_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "broken.jpg").write_bytes(b"no photo")
    scene_list = folder.parent / "list.txt"
    scene_list.write_text("a.jpg\nb.jpg\n")
    scene = load_scene(folder, image_list=scene_list)
    assert scene.skipped == ()
    assert not caplog.records
    scene_list.write_text("a.jpg\nbroken.jpg\n")
    scene = load_scene(folder, image_list=scene_list)
    assert (scene.names, [photo.name for photo in scene.skipped]) == (("a.jpg",), ["broken.jpg"])
    assert re.search(r"left out broken\.jpg", caplog.text)
