"""The wheel: the library and the commands, which work without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.helpers.checkout import copy_of_checkout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, unpacked like by an installer."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = copy_of_checkout(folder / "checkout")
    (wheel,) = WheelBuilder(str(checkout)).build(directory=str(folder / "wheels"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_installed(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_wheel_has_only_our_top_level_names(site: Path) -> None:
    top_level = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert top_level == {"sfm_lightglue", "pipelines"}


def test_the_wheel_is_typed_and_licensed_and_has_its_command(site: Path) -> None:
    (info,) = site.glob("*.dist-info")
    assert (site / "sfm_lightglue" / "py.typed").is_file()
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text()
    assert "sfm-lightglue = pipelines.__main__:main" in (info / "entry_points.txt").read_text()


def test_the_demo_runs_from_the_wheel(site: Path, small_scene_dir: Path, tmp_path: Path) -> None:
    # A copy of the scene saves the time of rendering.
    shutil.copytree(small_scene_dir, tmp_path / "demo_scene")
    where = run_installed(site, tmp_path, "-c", "import sfm_lightglue; print(sfm_lightglue.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(site), where.stderr
    done = run_installed(site, tmp_path, "-m", "pipelines", "reconstruct", "--demo", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["demo"]["max_center_error_percent"] < 0.5
