"""Lists of pairs: what is no list, names of every kind, and lines that name no image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.image_pair.pair_list import read_listed_pairs
from tests.helpers.pair_lists import NAMES, read_lines, run, write_list


@pytest.fixture
def images(small_scene_dir: Path) -> Path:
    return small_scene_dir / "images"


@pytest.mark.parametrize(
    ("pairs", "images", "told"),
    [
        ("none.txt", ".", "--batch {folder}/none.txt: no such file; give a text file with a pair a line: name0 name1"),
        (".", ".", "--batch {folder}: is a folder; give a text file"),
        ("pairs.txt", "none", "--images {folder}/none: no such folder; the names in the list are relative to it"),
        ("latin.txt", ".", "{folder}/latin.txt:1: the list of pairs is not UTF-8 text"),
    ],
)
def test_a_missing_list_or_folder_is_told_with_what_to_give(
    tmp_path: Path, pairs: str, images: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}")
    (tmp_path / "latin.txt").write_bytes("ü.jpg a.jpg".encode("latin-1"))
    assert run(tmp_path / pairs, tmp_path / images) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"error: {told.format(folder=tmp_path)}")
    assert "Errno" not in error


def test_lists_that_hold_nothing(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.txt", images) == 3
    assert "none.txt" in capsys.readouterr().err
    with pytest.raises(DataError, match="lists no pair"):
        read_listed_pairs(write_list(tmp_path, "# nothing"), images)
    assert run(write_list(tmp_path, "a.jpg b.jpg", "c.jpg d.jpg"), images) == 3
    assert "none of the 2 pairs" in capsys.readouterr().err


def test_names_with_spaces_and_names_of_digits(tmp_path: Path) -> None:
    for name in ("my left.jpg", "my right.jpg"):
        (tmp_path / name).write_bytes(b"x")
    pairs = read_listed_pairs(
        write_list(tmp_path, "my left.jpg my right.jpg", '"my left.jpg" "my right.jpg" 0 0', "1 2", "1\t2"), tmp_path
    )
    assert [pair.names for pair in pairs] == [("my left.jpg", "my right.jpg")] * 2 + [("1", "2")] * 2
    assert not any(pair.error for pair in pairs)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_whatever_a_line_names_the_others_are_matched(images: Path, tmp_path: Path) -> None:
    for name in NAMES[:2]:
        shutil.copy(images / name, tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    bad = [
        "a\0b.jpg",
        "x" * 5000,
        "pipe.jpg",
        "folder.jpg",
        "empty.jpg",
        "loop.jpg",
        "/dev/zero",
        "../..",
        "\u2028.jpg",
    ]
    lines = [f"{NAMES[0]} {name}" for name in bad] + ["many words " * 5000, f"{NAMES[0]} {NAMES[1]}"]
    assert run(write_list(tmp_path, *lines), tmp_path, "--out", tmp_path / "out.jsonl", "--max-keypoints", 300) == 0
    found = read_lines(tmp_path / "out.jsonl")
    assert [bool(line["error"]) for line in found] == [True] * (len(bad) + 1) + [False]
    assert all(len(str(line)) < 25_000 and "Error" not in (line["error"] or "") for line in found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_list_may_be_a_pipe_and_none_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="lists no pair"):  # no process writes into it
        read_listed_pairs(tmp_path / "pipe", tmp_path)
    reading, writing = os.pipe()
    os.write(writing, b"a.jpg b.jpg\n")
    os.close(writing)
    (pair,) = read_listed_pairs(Path(f"/dev/fd/{reading}"), tmp_path)
    os.close(reading)
    assert pair.names == ("a.jpg", "b.jpg")
    for path in ("/dev/zero", "/dev/full", "."):
        with pytest.raises(DataError, match="cannot be read"):
            read_listed_pairs(Path(path), tmp_path)
