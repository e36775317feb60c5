"""Two runs of one command on one output at the same time."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")

TWO_AT_ONCE = """
import importlib, json, os, sys
name, *arguments = json.loads(sys.argv[1])
main = importlib.import_module(f"pipelines.{name}").main
children = []
for _ in range(2):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1); os.dup2(writing, 2)
        code = main(arguments)
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    children.append((child, reading))
results = []
for child, reading in children:
    printed = open(reading).read()
    results.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed])
print(json.dumps(results))
"""


def run_twice_at_once(*words: object) -> list[tuple[int, str]]:
    """Exit code and output of two processes that run a command at the same time, sorted."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TWO_AT_ONCE, json.dumps([str(word) for word in words])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return sorted((code, printed) for code, printed in json.loads(done.stdout))


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
