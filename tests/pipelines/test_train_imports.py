"""Training runs where only torch, numpy, OpenCV, Pillow and safetensors are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.checkout import ROOT
from tests.helpers.rendered_scenes import write_photos

BLOCKED = ("scipy", "pycolmap", "open3d", "matplotlib", "tqdm", "threadpoolctl", "transformers", "onnxruntime")

BLOCKER = f"""
import importlib.abc, sys


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)


sys.meta_path.insert(0, Blocker())
"""

MAKE_A_SHARD = """
import sys, time
from pathlib import Path

import pipelines.train_export, pipelines.train_plan, sfm_lightglue.training.trainer
from sfm_lightglue.training.data.producer import ShardProducer
from tests.helpers.rendered_scenes import CONFIG

if __name__ == "__main__":
    with ShardProducer(Path(sys.argv[1]), Path(sys.argv[2]), 0, 1, 1, CONFIG, scenes_per_shard=1) as producer:
        while not producer.available() and producer.is_working:
            time.sleep(0.1)
        print(*producer.available())
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the libraries cannot be imported, in all of its processes."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )


def test_the_libraries_are_really_missing(tmp_path):
    for name in BLOCKED:
        assert f"{name} is blocked" in run(tmp_path, "-c", f"import {name}").stderr


def test_the_plan_of_a_run_is_printed(tmp_path):
    (tmp_path / "photos").mkdir()
    write_photos(tmp_path / "photos")
    text = (
        "-m pipelines.train --recipe sift --photos photos --output run --max-minutes 9 --dry-run --init lightglue_sift"
    )
    done = run(tmp_path, *text.split())
    assert done.returncode == 0, done.stderr
    assert "warm-up" in done.stdout


def test_a_shard_is_made(tmp_path):
    (tmp_path / "photos").mkdir()
    write_photos(tmp_path / "photos")
    (tmp_path / "make_a_shard.py").write_text(MAKE_A_SHARD)
    done = run(tmp_path, "make_a_shard.py", "photos", "cache")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0"]
