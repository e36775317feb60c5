"""Several processes on one output folder: each computes a part, kills lose nothing, and the bytes are those of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfm_lightglue.colmap.shared_database import SharedDatabase
from sfm_lightglue.store.inventory import take_inventory
from tests.helpers.checkout import ROOT
from tests.helpers.reconstructions import tree

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")

FORKED = """
import contextlib, io, json, os, signal, sys, time
from pathlib import Path
import pipelines.colmap, pipelines.reconstruct
import sfm_lightglue.reconstruction.run as run_module
from sfm_lightglue.stages.cached import CachedVerifier
from sfm_lightglue.store.inventory import take_inventory

given = json.loads(sys.argv[1])
marker = Path(given["folder"]) / "marker"

def start(number, command, change=lambda: None):
    child = os.fork()
    if child == 0:
        change()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = getattr(pipelines, command[0]).main(command[1:])
        (Path(given["folder"]) / f"printed-{number}").write_text(json.dumps([code, printed.getvalue()]))
        os._exit(code)
    return child

def hang_after(function, num_calls):
    calls = []
    def changed(*arguments):
        calls.append(0)
        if len(calls) > num_calls:
            marker.touch()
            time.sleep(100)
        return function(*arguments)
    return changed

def hang_in_verification():
    CachedVerifier.compute = hang_after(CachedVerifier.compute, given["num_calls"])

def hang_in_mapping():
    run_module._build_and_publish = hang_after(run_module._build_and_publish, 0)

if given["hang_in"]:
    killed = start("killed", given["commands"][0], globals()["hang_in_" + given["hang_in"]])
    while not marker.exists():
        time.sleep(0.01)
children = [start(number, command) for number, command in enumerate(given["commands"])]
if given["hang_in"]:
    time.sleep(0.5)
    kept = {one.kind: sorted(one.keys_in_shards) for one in take_inventory(Path(given["output"]), ["two_view"])}
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    print(json.dumps(kept["two_view"]))
for child in children:
    os.waitpid(child, 0)
"""

SPARSE = ("--matcher", "nearest", "--max-keypoints", 400, "--threads", 1)
FINISHED = ("--matcher", "nearest", "--threads", 1)
"""The options of the fixture `finished`."""

FOLDER = ("--executor", "folder", "--set", "executor.images_per_batch=1", "--set", "executor.pairs_per_batch=2")


def run_forked(
    folder: Path, output: Path, commands: list[tuple[object, ...]], hang_in: str = "", num_calls: int = 0
) -> tuple[list[tuple[int, str]], str]:
    """Exit codes and output of commands that run at the same time, and the output of the process that started them.

    Args:
        folder: an existing folder for files of the test.
        output: folder of the store.
        commands: name and arguments of each.
        hang_in: the first command runs once more, hangs there, and is killed while the others run.
        num_calls: number of calls that it makes before.
    """
    words = [[str(word) for word in command] for command in commands]
    given = {
        "folder": str(folder),
        "output": str(output),
        "commands": words,
        "hang_in": hang_in,
        "num_calls": num_calls,
    }
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FORKED, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    printed = [json.loads((folder / f"printed-{number}").read_text()) for number in range(len(commands))]
    return [(code, text) for code, text in printed], done.stdout


def num_misses(printed: list[tuple[int, str]], kind: str) -> list[int]:
    """Entries of a kind that each run has computed."""
    return [summary(text)["cache"]["by_kind"].get(kind, {"misses": 0})["misses"] for _, text in printed]


def summary(text: str) -> dict[str, Any]:
    return dict(json.loads(text[text.index("{") :]))


def test_three_processes_compute_everything_once(small_scene_dir: Path, tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    common = (small_scene_dir, *SPARSE, "--density", "sparse", "--refine", "off", "--json", "--quiet")
    commands = [("reconstruct", *common, "--output", shared, *FOLDER)] * 3
    printed, _ = run_forked(tmp_path, shared, [*commands, ("reconstruct", *common, "--output", alone)])
    assert [code for code, _ in printed] == [0, 0, 0, 0], printed
    del printed[3]
    assert sum(num_misses(printed, "features")) == 6
    assert sum(num_misses(printed, "two_view")) == 15
    assert sum(num_misses(printed, "mapped")) == 1
    assert tree(shared / "sparse") == tree(alone / "sparse")
    assert (shared / "database.db").read_bytes() == (alone / "database.db").read_bytes()
    assert not (shared / "leases").exists()


@pytest.mark.parametrize("hang_in", ["verification", "mapping"])
def test_the_work_of_a_killed_process_is_taken_over(
    small_scene_dir: Path, finished: Path, tmp_path: Path, hang_in: str
) -> None:
    output = tmp_path / "out"
    for kind in ("features", "dense_features"):
        shutil.copytree(finished / kind, output / kind)
    command = ("reconstruct", small_scene_dir, "--output", output, *FINISHED, *FOLDER, "--json", "--quiet")
    printed, before_kill = run_forked(tmp_path, output, [command] * 2, hang_in, num_calls=5)
    assert [code for code, _ in printed] == [0, 0], printed
    kept = set(json.loads(before_kill))
    (inventory,) = take_inventory(output, ["two_view"])
    assert kept <= inventory.keys_in_shards
    if hang_in == "verification":
        assert 4 <= len(kept) < 15, "all of the finished batches, and not the one in which it hung"
        assert sum(num_misses(printed, "two_view")) == 15 - 4
    else:
        assert len(kept) == 15 and sum(num_misses(printed, "two_view")) == 0
    assert sum(num_misses(printed, "mapped")) == 1
    assert tree(output / "sparse") == tree(finished / "sparse")
    assert not (output / "leases").exists()


def test_two_processes_fill_one_database(small_scene_dir: Path, tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone.db", tmp_path / "shared.db"
    images = small_scene_dir / "images"
    one_by_one = ("colmap", alone, images, *SPARSE, "--quiet")
    for more in ((), ("--overwrite",)):
        command = ("colmap", shared, images, *SPARSE, *FOLDER, "--quiet", *more)
        printed, _ = run_forked(tmp_path, tmp_path, [command, command, (*one_by_one, *more)])
        assert [code for code, _ in printed] == [0, 0, 0], printed
        with SharedDatabase(shared) as database:
            assert database.has_content_of(alone)
