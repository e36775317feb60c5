"""Output on a full or read-only disk: exit code 6 and one line, and what was there before is kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from benchmarks import reconstruction as benchmark
from pipelines.__main__ import main
from sfm_lightglue.stages.run_log import LOG_NAME
from sfm_lightglue.viewer import show
from sfm_lightglue.viewer.open3d_worker import picture_name
from sfm_lightglue.weights import lookup
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from tests.helpers.fake_tracker import use_fake_tracker
from tests.helpers.file_server import CONTENT, file_server
from tests.helpers.full_disk import TOLD, fail_writes
from tests.helpers.videos import panned_images, write_frames, write_video

Command = Callable[[], int]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with a file of an earlier time, on the disk that is full."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kept.txt").write_text("before")
    return folder


@pytest.fixture
def command(
    request: pytest.FixtureRequest, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """The command of a name, which writes into `out`."""
    name = request.param
    words: list[Any] = []
    if name == "match":
        images = request.getfixturevalue("small_scene_dir") / "images"
        photos = [shutil.copy(images / f"view_0{i}.jpg", tmp_path) for i in (0, 1)]
        words = ["match", *photos, "--out", out / "a.png", "--matcher", "nearest", "--max-keypoints", 300]
    elif name == "view":
        (tmp_path / "model").mkdir()
        pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions()).write_binary(tmp_path / "model")
        monkeypatch.setattr(show, "require_open3d", lambda: None)
        monkeypatch.setattr(show, "_run_worker", lambda contents, folder, job, limit_s: draw(folder / picture_name(0)))
        words = ["view", tmp_path / "model", "--screenshot", out / "a.png"]
    elif name.startswith("evaluate"):
        poses = "".join(f"{t} {t} 0 {t * t} 0 0 0 1\n" for t in range(9))
        (tmp_path / "poses.txt").write_text(poses)
        files = ["--reference", tmp_path / "poses.txt", "--estimate", tmp_path / "poses.txt"]
        words = ["evaluate", "trajectory", *files, f"--{name.split()[1]}", out / "a.txt"]
    elif name.startswith("track"):
        use_fake_tracker(monkeypatch)
        frames = panned_images(4, (64, 48))
        source = write_frames(tmp_path / "frames", 4) if name == "track" else write_video(tmp_path / "a.avi", frames)
        words = ["track", source, "--output", out, "--quiet"]
    elif name == "weights":
        server = request.getfixturevalue("server")
        digest = hashlib.sha256(CONTENT).hexdigest()
        entry = WeightsEntry("tested", "tested.pth", server.url, "free", "tests", True, len(CONTENT), digest)
        monkeypatch.setitem(CATALOG, "tested", entry)  # type: ignore[arg-type]
        monkeypatch.setenv("XDG_CACHE_HOME", str(out))
        for variable in lookup.OFFLINE_VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        words = ["weights", "fetch", "tested", "--quiet"]
    else:
        monkeypatch.setattr(benchmark, "open_scene", lambda text, *others: text)
        monkeypatch.setattr(benchmark, "measure", lambda *arguments: [])
        yield lambda: benchmark.main(["scene", "--json", str(out / "a.json")])
        return
    yield lambda: main([str(word) for word in words])


@pytest.fixture
def server() -> Iterator[Any]:
    with file_server() as running:
        yield running


def draw(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(1000))


@pytest.mark.parametrize("error", TOLD)
@pytest.mark.parametrize(
    "command",
    ["match", "view", "evaluate json", "evaluate markdown", "track", "track video", "weights", "benchmark"],
    indirect=True,
)
def test_a_full_or_read_only_disk_is_one_line(
    command: Command, out: Path, error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        fail_writes(patch, out, error)
        code = command()
    *licences, line = capsys.readouterr().err.splitlines()
    assert all("licence: " in each for each in licences)  # of weights, told before they are downloaded
    assert len(licences) <= 1
    assert code == 6
    assert line.startswith(f"error: {out}")
    assert f"cannot be written ({TOLD[error]})" in line
    results = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert {path.name for path in results} - {LOG_NAME} == {"kept.txt"}
    assert command() == 0  # the same command succeeds when there is room again
    assert len([path for path in out.rglob("*") if path.is_file()]) > 1
