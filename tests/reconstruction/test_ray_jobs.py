"""A Ray cluster: tasks of lost workers are done again, few run at a time, and the bytes are those of one process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.identity import Identity
from sfm_lightglue.reconstruction.ray_jobs import RayExecutor
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.stages.distributed import PairWork
from tests.helpers.checkout import ROOT
from tests.helpers.reconstructions import one_thread, tree

HAS_RAY = importlib.util.find_spec("ray") is not None

needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'sfm-lightglue[cluster]'")

ON_A_CLUSTER = """
import json, os, sys
import ray
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.config import ExecutorConfig
from sfm_lightglue.execution.ray_executor import RayTasks
from sfm_lightglue.reconstruction import ray_jobs
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers import ray_tasks
from tests.helpers.reconstructions import one_thread

scene, folder = sys.argv[1:]
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
found = {}
with RayTasks(ExecutorConfig(name="ray", max_tasks=3)) as tasks:
    num_taken, num_ahead = 0, []
    def calls():
        global num_taken
        for value in range(20):
            num_taken += 1
            yield value, (value,)
    found["double"] = []
    for tag, result in tasks.run(ray_tasks.double, calls()):
        found["double"].append([tag, result])
        num_ahead.append(num_taken - len(found["double"]))
    found["num_ahead"] = max(num_ahead)
    marker = os.path.join(folder, "die")
    found["died"] = sorted(tasks.run(ray_tasks.die_once, ((value, (marker, value)) for value in range(4))))
    shared = [tasks.share("a", lambda: [1, 2]), tasks.share("a", lambda: [3])]
    found["shared"] = sorted(tasks.run(ray_tasks.sum_of, enumerate((one, 10) for one in shared)))
    try:
        list(tasks.run(ray_tasks.fail, ((value, (value,)) for value in range(6))))
    except DataError as error:
        found["error"] = str(error)
ray_jobs.match_and_verify = ray_tasks.match_after_dying_once
options = {"name": "ray", "images_per_batch": 2, "pairs_per_batch": 4}
summary = reconstruct(scene, os.path.join(folder, "out"), one_thread(executor=options)).summary
found["cache"] = summary.cache["by_kind"]
found["has_died"] = os.path.exists(os.path.join(folder, "match"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def on_a_cluster(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a reconstruction, and what a process with a cluster of two workers found."""
    folder = tmp_path_factory.mktemp("cluster")
    more = {"PYTHONPATH": str(ROOT), "SFM_LIGHTGLUE_TEST_FOLDER": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", ON_A_CLUSTER, str(small_scene_dir), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | more, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


@needs_ray
def test_tasks_are_bounded_and_those_of_a_lost_worker_are_done_again(
    on_a_cluster: tuple[Path, dict[str, Any]],
) -> None:
    _, found = on_a_cluster
    assert sorted(found["double"]) == [[value, 2 * value] for value in range(20)]
    assert found["num_ahead"] <= 3
    assert found["died"] == [[value, value] for value in range(4)]
    assert found["shared"] == [[0, 13], [1, 13]], "a value is shared once"
    assert found["error"] == "photo.jpg: no picture"


@needs_ray
def test_the_bytes_are_those_of_one_process(on_a_cluster: tuple[Path, dict[str, Any]], finished: Path) -> None:
    folder, found = on_a_cluster
    assert found["has_died"]
    assert tree(folder / "out" / "sparse") == tree(finished / "sparse")
    assert (folder / "out" / "database.db").read_bytes() == (finished / "database.db").read_bytes()
    assert found["cache"]["matches"]["misses"] == 0, "the workers have left no pair to this process"


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_the_message_names_the_extra(small_scene_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'needs Ray: pip install "sfm-lightglue\[cluster\]"'):
        reconstruct(small_scene_dir, tmp_path / "out", one_thread(executor={"name": "ray"}))


def test_pairs_of_another_matcher_are_left_to_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(RayExecutor, "_match", lambda self, work, progress: asked.append(work))
    executor = object.__new__(RayExecutor)  # a cluster is not needed for it
    monkeypatch.setattr(executor, "_matcher_identity", Identity("lightglue", 1, (40.0,)), raising=False)
    for options in ((40.0,), (80.0,)):
        matcher = SimpleNamespace(identity=Identity("lightglue", 1, options))
        executor.fill(PairWork((), 48, {}, str, {}, matcher, None, list))  # type: ignore[arg-type]
    assert [work.matcher.identity.config for work in asked] == [(40.0,)]
