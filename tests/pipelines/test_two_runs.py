"""Two runs of one command on one output at the same time."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pycolmap
import pytest

from tests.helpers.checkout import ROOT
from tests.helpers.file_server import CONTENT, file_server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")

TWO_AT_ONCE = """
import importlib, json, os, sys
given = json.loads(sys.argv[1])
exec(given["before"])
names = {name for runs in given["groups"] for name, *_ in runs}
mains = {name: importlib.import_module(f"pipelines.{name}").main for name in names}
results = []
for runs in given["groups"]:
    children = []
    for name, *arguments in runs:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1); os.dup2(writing, 2)
            code = mains[name](arguments)
            sys.stdout.flush(); sys.stderr.flush()
            os._exit(code)
        os.close(writing)
        children.append((child, reading))
    printed = [open(reading).read() for _, reading in children]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in children]
    results.append(list(zip(codes, printed)))
print(json.dumps(results))
"""


def run_at_once(*groups: Sequence[Sequence[object]], before: str = "") -> list[list[tuple[int, str]]]:
    """Exit code and output of each command of each group; the commands of a group run at the same time.

    Args:
        groups: lists of commands; a command is its name and its arguments.
        before: Python code that is run first.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [[[str(word) for word in command] for command in group] for group in groups]
    command = [sys.executable, "-c", TWO_AT_ONCE, json.dumps({"groups": words, "before": before})]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [[(code, printed) for code, printed in group] for group in json.loads(done.stdout)]


def run_twice_at_once(*words: object) -> list[tuple[int, str]]:
    """Exit code and output of two processes that run a command at the same time, sorted."""
    return sorted(run_at_once([words, words])[0])


QUICK = ("--matcher", "nearest", "--max-keypoints", 400)


def test_the_second_batch_finds_the_results_of_the_first(small_scene_dir: Path, tmp_path: Path) -> None:
    names = [f"view_0{i}.jpg" for i in range(4)]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(f"{a} {b}" for a in names for b in names if a < b))
    out = tmp_path / "out.jsonl"
    results = run_twice_at_once("match", "--batch", pairs, "--images", small_scene_dir / "images", "--out", out, *QUICK)
    assert [code for code, _ in results] == [0, 0], results
    printed = "".join(text for _, text in results)
    assert "another run writes" in printed
    assert printed.count("(6 from an earlier run)") == 1
    assert len({json.loads(line)["key"] for line in out.read_text().splitlines()}) == 6
    assert len(out.read_text().splitlines()) == 6
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "pairs.txt"]


def test_the_second_run_on_a_database_begins_after_the_first(small_scene_dir: Path, tmp_path: Path) -> None:
    database = tmp_path / "new.db"
    first, second = run_twice_at_once("colmap", database, small_scene_dir / "images", "--quiet", *QUICK)
    assert (first[0], second[0]) == (0, 2), (first, second)
    assert "another run writes" in second[1]
    assert "has features or matches of 6 of the images already" in second[1]
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT COUNT(*) FROM keypoints").fetchone() == (6,)
    assert sorted(os.listdir(tmp_path)) == ["new.db", "new.db.store"]


def test_two_drawings_or_two_tables_at_once_are_those_of_one_run(small_scene_dir: Path, tmp_path: Path) -> None:
    """The two files that a command writes are of the same run: that of one order of the photos, or of one estimate."""
    photos = [small_scene_dir / "images" / f"view_0{i}.jpg" for i in (0, 1)]
    for i in (0, 1):
        poses = "".join(f"{t} {t} {i * t**3} {t * t} 0 0 0 1\n" for t in range(9))
        (tmp_path / f"poses{i}.txt").write_text(poses)

    def commands(i: int, out: Path) -> list[list[object]]:
        files = ["--reference", tmp_path / "poses0.txt", "--estimate", tmp_path / f"poses{i}.txt"]
        return [
            ["match", *(photos if i == 0 else photos[::-1]), "--out", out / "a.png", *QUICK[:3], 150],
            ["evaluate", "trajectory", *files, "--json", out / "b.json", "--markdown", out / "b.md"],
        ]

    def files(out: Path) -> tuple[tuple[object, ...], tuple[object, ...]]:
        drawing, record = (out / "a.png").read_bytes(), json.loads((out / "a.json").read_text())
        table, results = (out / "b.md").read_text(), json.loads((out / "b.json").read_text())["results"]
        return (drawing, record["images"]), (table, results)

    alone = [tmp_path / "alone0", tmp_path / "alone1"]
    both = tmp_path / "both"
    groups = [[*commands(0, alone[0]), *commands(1, alone[1])], [*commands(0, both), *commands(1, both)]]
    before = "import datasets.trajectory, sfm_lightglue.drawing.matches, sfm_lightglue.extractors.sift\n"
    before += "from sfm_lightglue.evaluation import scenes, tables, trajectory, trajectory_errors"
    results = run_at_once(*groups, before=before)
    assert [code for group in results for code, _ in group] == [0] * 8, results
    for kind, found in enumerate(files(both)):
        assert found in [files(out)[kind] for out in alone]
    assert sorted(os.listdir(both)) == ["a.json", "a.png", "b.json", "b.md"]


def test_two_screenshots_and_two_downloads_at_once_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions()).write_binary(tmp_path / "model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SFM_LIGHTGLUE_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    digest = hashlib.sha256(CONTENT).hexdigest()
    with file_server() as server:
        before = (
            "from sfm_lightglue.viewer import show\n"
            "from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry\n"
            "show.require_open3d = lambda: None\n"
            "def draw(contents, folder, job, limit_s):\n"
            "    (folder / show.picture_name(0)).write_bytes(bytes([os.getpid() % 256]) * 10**6)\n"
            "show._run_worker = draw\n"
            f"CATALOG['tested'] = WeightsEntry('tested', 'tested.pth', {server.url!r}, 'free', 'tests', True,"
            f" {len(CONTENT)}, {digest!r})\n"
        )
        screenshot = ["view", tmp_path / "model", "--screenshot", tmp_path / "out" / "a.png"]
        (results,) = run_at_once([screenshot, screenshot, *[["weights", "fetch", "tested"]] * 2], before=before)
        assert [code for code, _ in results] == [0] * 4, results
        assert len(server.requests) == 1
    content = (tmp_path / "out" / "a.png").read_bytes()
    assert len(content) == 10**6 and len(set(content)) == 1
    assert os.listdir(tmp_path / "out") == ["a.png"]
    cache = tmp_path / "cache" / "sfm_lightglue"
    assert (cache / "tested.pth").read_bytes() == CONTENT
    assert all(str(cache / "tested.pth") in printed for _, printed in results[2:])
