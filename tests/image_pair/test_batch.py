"""`python -m pipelines.match --batch`: one line a pair, whatever becomes of the others; killed and continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from pipelines.match import main
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.image_pair.pair_list import read_listed_pairs
from sfm_lightglue.images.image import Image
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.types import Features
from tests.helpers.pair_lists import NAMES, read_lines, run, write_list


@pytest.fixture
def images(small_scene_dir: Path) -> Path:
    return small_scene_dir / "images"


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the images that SIFT was run on."""
    names: list[str] = []
    original = SiftExtractor.extract

    def extract(self: SiftExtractor, image: Image) -> Features:
        names.append(image.name)
        return original(self, image)

    monkeypatch.setattr(SiftExtractor, "extract", extract)
    yield names


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if not key.startswith("seconds")} for line in lines]


def test_each_line_is_what_the_command_says_of_the_pair_alone(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extracted: list[str]
) -> None:
    pairs = write_list(tmp_path, "# a comment", "", *(f"{NAMES[0]} {name}" for name in NAMES[1:]))
    assert run(pairs, images, "--json", "--quiet") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["images"] for line in lines] == [[NAMES[0], name] for name in NAMES[1:]]
    assert sorted(extracted) == NAMES  # each once
    assert main([str(images / NAMES[0]), str(images / NAMES[2]), "--matcher", "nearest", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    for name in ("cam1_from_cam0", "verdict", "num_matches", "num_inliers", "uncertainty", "cameras"):
        assert lines[1][name] == alone[name], name


def test_a_bad_pair_is_a_line_with_its_error(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    for name in NAMES[:2]:
        (tmp_path / name).write_bytes((images / name).read_bytes())
    pairs = write_list(
        tmp_path,
        f"{NAMES[0]} missing.jpg",
        f"{NAMES[0]} {NAMES[1]}",
        f"broken.jpg {NAMES[1]}",
        "one_word",
        f"{NAMES[0]} {NAMES[1]} 0 0 0 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 1",
        f"{NAMES[0]} {NAMES[1]} 7 0",
        f"{NAMES[1]} {NAMES[0]}",
    )
    out = tmp_path / "results.jsonl"
    assert main(["--batch", str(pairs), "--matcher", "nearest", "--out", str(out)]) == 0  # --images: the list's folder
    assert "5 failed, 2 general" in capsys.readouterr().out
    lines = read_lines(out)
    assert [line["error"] is None for line in lines] == [False, True, False, False, False, False, True]
    for line, said in zip(
        lines, ["missing.jpg", None, "broken.jpg", "pairs.txt:4", "focal", "rot0", None], strict=True
    ):
        assert said is None or said in line["error"]


def test_intrinsics_and_truth_of_a_line(
    small_scene: SyntheticScene, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SuperGlue's format; its K has the first pixel centre at 0, COLMAP's parameters at 0.5."""
    focal, cx, cy = small_scene.camera.params[:3]
    K = f"{focal} 0 {cx - 0.5} 0 {focal} {cy - 0.5} 0 0 1"
    poses = small_scene.cam_from_world_from_name
    truth = (poses[NAMES[2]] @ poses[NAMES[0]].inverse()).as_matrix()
    T = " ".join(map(str, truth.ravel()))
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[2]} 0 0 {K} {K} {T}", f"{NAMES[0]} {NAMES[2]} {K} {K}")
    assert run(pairs, images, "--json", "--quiet") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        for camera in line["cameras"]:
            assert camera["model"] == "PINHOLE"
            assert camera["params"] == pytest.approx([focal, focal, cx, cy])
            assert camera["source"] == "given"
    assert 0 < max(lines[0]["truth_error_deg"].values()) < 1
    assert lines[1]["truth_error_deg"] is None


def test_flags_hold_where_a_line_states_no_intrinsics(
    small_scene: SyntheticScene, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given for the first photo, they hold for both, as for a single pair."""
    focal, cx, cy = small_scene.camera.params[:3]
    flags = ("--camera-model0", "SIMPLE_PINHOLE", "--camera-params0", f"{focal},{cx},{cy}")
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}")
    assert run(pairs, images, "--json", "--quiet", *flags) == 0
    cameras = json.loads(capsys.readouterr().out)["cameras"]
    assert [camera["params"] for camera in cameras] == [[focal, cx, cy]] * 2
    assert [camera["source"] for camera in cameras] == ["given"] * 2


def test_a_stated_turn_is_taken_instead_of_exif(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo turned clockwise and without EXIF data stands upright after one turn counter-clockwise."""
    (tmp_path / NAMES[0]).write_bytes((images / NAMES[0]).read_bytes())
    with PilImage.open(images / NAMES[1]) as picture:
        picture.rotate(-90, expand=True).save(tmp_path / "turned.png")
    pairs = write_list(tmp_path, f"{NAMES[0]} turned.png 0 1")
    (pair,) = read_listed_pairs(pairs, tmp_path)
    assert pair.rotations == (0, 1)
    assert run(pairs, tmp_path, "--json", "--quiet") == 0
    line = json.loads(capsys.readouterr().out)
    R = np.array(line["cam1_from_cam0"]["R"])
    assert abs(R[1, 0]) > 0.9  # still the pose of the stored picture: x of the first camera is y of the second


def test_a_killed_batch_continues_where_it_stopped(
    images: Path, tmp_path: Path, extracted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_list(
        tmp_path, f"{NAMES[0]} {NAMES[1]}", f"{NAMES[0]} {NAMES[2]}", f"{NAMES[0]} no.jpg", f"{NAMES[2]} {NAMES[3]}"
    )
    out = tmp_path / "results.jsonl"
    assert run(pairs, images, "--out", out) == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 4
    for torn in (b"", lines[3][:50], lines[3][:-1]):
        out.write_bytes(b"".join(lines[:3]) + torn)
        extracted.clear()
        assert run(pairs, images, "--out", out) == 0
        assert "2 from an earlier run" in capsys.readouterr().out
        assert sorted(extracted) == NAMES[2:]  # only the fourth pair
        assert without_times(read_lines(out)) == without_times([json.loads(line) for line in lines])
        assert out.read_bytes().splitlines(keepends=True)[:3] == lines[:3]
    extracted.clear()
    before = out.read_bytes()
    assert run(pairs, images, "--out", out) == 0
    assert not extracted
    assert out.read_bytes() == before


@pytest.mark.parametrize("problem", [MemoryError("out of memory"), RuntimeError("CUDA out of memory")])
def test_an_unexpected_error_is_tried_again_and_the_lines_keep_their_order(
    images: Path, tmp_path: Path, extracted: list[str], monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """One photo fails once, in the middle of the list; the next run computes that pair alone."""
    names = [f"{NAMES[0]} {NAMES[1]}", f"{NAMES[2]} {NAMES[1]}", f"{NAMES[0]} {NAMES[3]}", f"{NAMES[0]} {NAMES[1]}"]
    pairs = write_list(tmp_path, *names)
    out = tmp_path / "results.jsonl"
    with monkeypatch.context() as patch:
        original = SiftExtractor.extract

        def extract(self: SiftExtractor, image: Image) -> Features:
            if image.name == NAMES[2]:
                raise problem
            return original(self, image)

        patch.setattr(SiftExtractor, "extract", extract)
        assert run(pairs, images, "--out", out) == 0
    first = read_lines(out)
    assert [line["error"] is None for line in first] == [True, False, True, True]
    assert str(problem) in first[1]["error"]
    extracted.clear()
    assert run(pairs, images, "--out", out) == 0
    assert sorted(extracted) == NAMES[1:3]
    lines = read_lines(out)
    assert [" ".join(line["images"]) for line in lines] == names
    assert all(line["error"] is None for line in lines)
    assert [lines[0], *lines[2:]] == [first[0], *first[2:]]


def test_how_a_line_is_written_does_not_matter(images: Path, tmp_path: Path, extracted: list[str]) -> None:
    K = "500 0 240 0 500 180 0 0 1"
    out = tmp_path / "results.jsonl"
    assert run(write_list(tmp_path, f"{NAMES[0]} {NAMES[1]} {K} {K}", "one_word"), images, "--out", out) == 0
    before = out.read_bytes()
    extracted.clear()
    spaced = f'  "{NAMES[0]}"   {NAMES[1]}\t0 0 {K.replace("500", "5e2")}  {K} '
    assert run(write_list(tmp_path, spaced, "one_word"), images, "--out", out) == 0
    assert not extracted
    assert out.read_bytes() == before
    other = f"{NAMES[0]} {NAMES[1]} {K} {K.replace('500', '501')}"
    assert run(write_list(tmp_path, other, "one_word"), images, "--out", out) == 2
    assert out.read_bytes() == before


def test_a_bad_line_is_never_taken_for_a_good_one_of_the_same_names(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    assert run(write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}"), images, "--out", out) == 0
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]} 7 0", f"{NAMES[0]} {NAMES[1]}")
    assert run(pairs, images, "--out", out) == 0
    assert [line["error"] is None for line in read_lines(out)] == [False, True]


def test_a_shorter_list_leaves_one_line_a_pair(images: Path, tmp_path: Path, extracted: list[str]) -> None:
    """A pair that was listed twice, and now is once."""
    out = tmp_path / "results.jsonl"
    line = f"{NAMES[0]} {NAMES[1]}"
    assert run(write_list(tmp_path, line, line), images, "--out", out) == 0
    first = read_lines(out)
    extracted.clear()
    assert run(write_list(tmp_path, line), images, "--out", out) == 0
    assert read_lines(out) == first[:1]
    assert not extracted


def test_one_camera_of_all_photos_without_exif(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES[:3:2]:
        with PilImage.open(images / name) as picture:
            picture.save(tmp_path / name, quality=97)
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[2]}")
    sources = []
    for flags in ((), ("--same-camera",)):
        assert run(pairs, tmp_path, "--json", "--quiet", *flags) == 0
        sources.append([camera["source"] for camera in json.loads(capsys.readouterr().out)["cameras"]])
    assert sources == [["guessed"] * 2, ["estimated"] * 2]


def test_a_longer_list_adds_to_the_results_and_a_repaired_pair_replaces_its_error(
    images: Path, tmp_path: Path, extracted: list[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES[:2]:
        (folder / name).write_bytes((images / name).read_bytes())
    out = tmp_path / "results.jsonl"
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}", f"{NAMES[0]} {NAMES[2]}")
    assert run(pairs, folder, "--out", out) == 0
    first = read_lines(out)
    assert first[1]["error"] is not None
    (folder / NAMES[2]).write_bytes((images / NAMES[2]).read_bytes())
    pairs = write_list(tmp_path, *(f"{NAMES[0]} {name}" for name in NAMES[1:3]), f"{NAMES[1]} {NAMES[2]}")
    extracted.clear()
    assert run(pairs, folder, "--out", out) == 0
    lines = read_lines(out)
    assert lines[0] == first[0]
    assert [line["images"][1] for line in lines] == [NAMES[1], NAMES[2], NAMES[2]]
    assert all(line["error"] is None for line in lines)


@pytest.mark.parametrize(
    "flags", [("--seed", 1), ("--same-camera",), ("--max-keypoints", 500), ("--estimator", "opencv-ransac")]
)
def test_results_of_other_options_are_never_taken_for_these(
    images: Path, tmp_path: Path, flags: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}")
    out = tmp_path / "results.jsonl"
    assert run(pairs, images, "--out", out) == 0
    before = out.read_bytes()
    assert run(pairs, images, "--out", out, *flags) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_file_of_something_else_is_left_alone(images: Path, tmp_path: Path) -> None:
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}")
    out = tmp_path / "results.jsonl"
    out.write_text('{"my": "notes"}\n')
    assert run(pairs, images, "--out", out) == 2
    assert out.read_text() == '{"my": "notes"}\n'


@pytest.mark.parametrize("text", ["one line without an end", '{"my": "notes"}', "{", '{"key": "'])
def test_a_foreign_file_without_a_last_newline_is_no_torn_line_of_ours(
    images: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a kill left behind begins as our lines do; anything else is somebody's."""
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}")
    out = tmp_path / "results.jsonl"
    out.write_text(text)
    if '{"key": "'.startswith(text):
        assert run(pairs, images, "--out", out) == 0
        assert len(read_lines(out)) == 1
    else:
        assert run(pairs, images, "--out", out) == 2
        assert "results.jsonl:1: not a result of this command; choose another --out" in capsys.readouterr().err
        assert out.read_text() == text


def test_the_list_is_never_written_to(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_list(tmp_path, f"{NAMES[0]} {NAMES[1]}").rename(tmp_path / "pairs.jsonl")
    before = pairs.read_bytes()
    assert run(pairs, images, "--out", pairs) == 2
    assert "is the list itself" in capsys.readouterr().err
    assert pairs.read_bytes() == before
