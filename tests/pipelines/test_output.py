"""Standard output that is ASCII, closed or full: nothing that was computed is lost, and one line tells the cause."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.__main__ import main as all_commands
from pipelines.output import make_streams_safe, say, say_json
from tests.helpers.checkout import ROOT

QUICK = ("--matcher", "nearest", "--max-keypoints", "800")

NAME = "é_\udcff.jpg" if sys.platform == "linux" else "é.jpg"
"""A name that ASCII does not have, and bytes that are no UTF-8 where the system allows them."""


@pytest.fixture
def scene(small_scene_dir: Path, tmp_path: Path) -> Path:
    """Photos whose folder and names are not ASCII."""
    folder = tmp_path / "Übung"
    shutil.copytree(small_scene_dir / "images", folder)
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(f"ü{path.name}"))
    shutil.copy(folder / "üview_01.jpg", tmp_path / NAME)
    return folder


def with_ascii_output(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Standard output as Python makes it for ASCII, and standard error likewise.

    It is no fixture, because pytest sets its own streams between the fixtures and the test.
    """
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    return written


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("match", ["--json"]),
        ("match", []),
        ("batch", ["--json"]),
        ("batch", []),
        ("reconstruct", ["--json"]),
        ("colmap", []),
        ("weights", ["--json"]),
        ("weights", []),
    ],
)
def test_ascii_is_enough_for_every_command(
    command: str,
    flags: list[str],
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "é"))
    (tmp_path / "list.txt").write_text("üview_00.jpg üview_01.jpg\nüview_00.jpg 写真.jpg\n", encoding="utf-8")
    arguments = {
        "match": ["match", scene / "üview_00.jpg", tmp_path / NAME, "--out", tmp_path / "é.png", *QUICK],
        "batch": ["match", "--batch", tmp_path / "list.txt", "--images", scene, *QUICK],
        "reconstruct": ["reconstruct", scene, *QUICK],
        "colmap": ["colmap", tmp_path / "é.db", scene, *QUICK],
        "weights": ["weights", "list"],
    }[command]
    output = with_ascii_output(monkeypatch)
    assert all_commands([*map(str, arguments), *flags]) == 0
    sys.stdout.flush()
    text = output.getvalue().decode("ascii")
    assert text
    if flags:
        for line in [text] if command == "weights" else text.splitlines():
            json.loads(line)
    if command == "match":
        written = json.loads((tmp_path / "é.json").read_bytes())
        assert written["images"][1].endswith(NAME)


def run_shell(words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"exec {sys.executable} -m pipelines {words} {redirection}"
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a shell and /dev/full")
@pytest.mark.parametrize("words", ["weights list --json", "weights path lightglue_sift", "--help", "weights --help"])
@pytest.mark.parametrize(
    ("redirection", "told"),
    [
        (">&-", "error: standard output: cannot be written (Bad file descriptor)\n"),
        (">/dev/full", "error: standard output: cannot be written (No space left on device)\n"),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_output_that_cannot_be_written_is_an_error(words: str, redirection: str, told: str) -> None:
    done = run_shell(words, redirection)
    assert (done.returncode, done.stderr) == (6, told)


def test_an_error_of_the_command_comes_before_that_of_the_output() -> None:
    done = run_shell("weights path unheard-of", ">&-")
    assert done.returncode == 4
    assert done.stderr.startswith("error: unheard-of: no such file")


def test_say_escapes_what_the_stream_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    output = with_ascii_output(monkeypatch)
    make_streams_safe()
    say("写真 \udcff")
    say_json({"写真": "\udcff"}, flush=True)
    assert output.getvalue() == b'\\u5199\\u771f \\udcff\n{"\\u5199\\u771f": "\\udcff"}\n'


@pytest.mark.skipif(os.name != "posix", reason="closes a pipe")
def test_the_work_goes_on_if_nobody_reads_the_warnings(small_scene_dir: Path, tmp_path: Path) -> None:
    """As after `2>&1 | head`: exit code 0 means that there is a model."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pipelines.reconstruct", str(small_scene_dir), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *QUICK],
        stdout=subprocess.PIPE,
        stderr=writer,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    os.close(writer)
    assert done.returncode == 0
    assert b"6 of 6 images registered" in done.stdout
    assert (tmp_path / "out" / "sparse" / "0" / "points3D.bin").exists()
