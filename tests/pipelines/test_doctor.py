"""`doctor` and `--version` as users and scripts meet them, also where libraries are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import doctor, versions
from pipelines.__main__ import main as all_commands
from pipelines.doctor import as_text, main
from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.version import __version__
from sfm_lightglue.weights.catalog import SHIPPED_SHA256
from tests.helpers.checkout import ROOT

OK = Finding("libraries", "numpy", "ok", "2.4")
NO_VIEWER = Finding("extras", "viewer (open3d)", "missing", "not installed", 'pip install "sfm-lightglue[viewer]"')
NO_TORCH = Finding("libraries", "torch", "broken", "cannot be imported", "pip install torch", 2)
NO_DISK = Finding("storage", "folder", "broken", "no space left", "remove files", 6)


@pytest.mark.parametrize(
    ("found", "code"), [((OK, NO_VIEWER), 0), ((OK, NO_DISK), 6), ((NO_TORCH, NO_DISK), 2), ((OK,), 0)]
)
def test_the_exit_code_is_that_of_the_work_that_is_stopped(
    found: tuple[Finding, ...], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "diagnose", lambda folder, progress: found)
    assert main(["--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == code
    assert [one["name"] for one in told["findings"]] == [one.name for one in found]
    assert told["weights"] == SHIPPED_SHA256
    assert main(["--quiet"]) == code
    assert (capsys.readouterr().out == "") is (code == 0)


def test_each_line_has_its_state_and_what_mends_it() -> None:
    lines = as_text([OK, NO_TORCH, NO_VIEWER]).splitlines()
    assert lines[0] == "libraries:"
    assert lines[1].split() == ["ok", "numpy", "2.4"]
    assert lines[2].split()[:2] == ["broken", "torch"]
    assert lines[3].strip() == "-> pip install torch"
    assert lines[4] == "extras:"
    assert lines[-1] == "`reconstruct` cannot work here: torch"


@pytest.fixture
def blocked(tmp_path: Path) -> dict[str, str]:
    """An environment in which no other package can be imported, and the wheel of torch ends the process."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    for name in (
        "numpy",
        "scipy",
        "cv2",
        "pycolmap",
        "PIL",
        "safetensors",
        "tqdm",
        "threadpoolctl",
        "jinja2",
        "open3d",
    ):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\")")
    (folder / "torch.py").write_text("import os; os.abort()")
    hidden = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    return hidden | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def run_blocked(blocked: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=blocked, cwd=folder, timeout=300, check=False)


def test_it_works_where_nothing_else_does(blocked: dict[str, str], tmp_path: Path) -> None:
    done = run_blocked(blocked, tmp_path, "doctor")
    assert done.returncode == 2, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("libraries:") and "`reconstruct` cannot work here: " in done.stdout
    done = run_blocked(blocked, tmp_path, "doctor", "--json")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["torch"]["state"] == "broken" and "SIGABRT" in found["torch"]["text"]
    assert found["numpy"]["state"] in {"missing", "broken"} and found["numpy"]["stops"]
    assert "pip install" in found["numpy"]["mend"]
    assert found["folder"]["state"] == "ok"
    if sys.platform == "linux":
        assert found["display"]["state"] == "missing"


@pytest.mark.parametrize("command", ["reconstruct", "match", "localize"])
def test_a_command_without_its_libraries_ends_with_one_line(
    command: str, blocked: dict[str, str], tmp_path: Path
) -> None:
    done = run_blocked(blocked, tmp_path, command, "x")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "No module named" in line and "doctor` tells what is missing" in line


def test_the_version_of_opencv_is_that_of_the_installed_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"torch": "2.13", "opencv-contrib-python": "5.0"}
    monkeypatch.setattr(versions, "installed_version", here.get)
    assert versions.versions()["libraries"] == {"torch": "2.13", "pycolmap": None, "opencv-contrib-python": "5.0"}
    del here["opencv-contrib-python"]
    assert "opencv-python-headless missing" in versions.versions_text()


def test_the_version_names_libraries_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--version", "-V"):
        assert all_commands([flag]) == 0
        first, second, *rest = capsys.readouterr().out.splitlines()
        assert first == f"sfm-lightglue {__version__}"
        assert second.startswith("python 3.") and "torch 2" in second and "pycolmap 4" in second
        assert [line.split()[::2] for line in rest] == [[name, sha[:12]] for name, sha in SHIPPED_SHA256.items()]
    assert all_commands(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == SHIPPED_SHA256
    assert all_commands(["--version", "--odd"]) == 2
