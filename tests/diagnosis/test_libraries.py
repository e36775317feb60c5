"""Libraries that are missing, broken, too old, or that end the process; wheels that overwrite each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm_lightglue.diagnosis import child, libraries
from sfm_lightglue.diagnosis import requirements as of_project
from sfm_lightglue.diagnosis.child import Imported, ask_torch, try_imports
from sfm_lightglue.diagnosis.libraries import (
    library_findings,
    mend_of_import,
    opencv_findings,
    rendering_finding,
    require_known_modules,
)
from sfm_lightglue.diagnosis.requirements import Requirement, parsed, pinned_versions, requirements

SHARED_OBJECT = "libusb-1.0.so.0: cannot open shared object file: No such file or directory"


@pytest.fixture
def blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules come first in other processes."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_each_import_is_tried_also_after_one_that_ends_the_process(blocked: Path) -> None:
    (blocked / "fine.py").write_text("__version__ = '1.2'\nprint('noise')")
    (blocked / "crashing.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (blocked / "leaving.py").write_text("import os; os._exit(3)")
    (blocked / "lacking.py").write_text(f"raise ImportError({SHARED_OBJECT!r})")
    found = try_imports(["fine", "crashing", "lacking", "leaving", "no_such_module"])
    assert found["fine"] == Imported("1.2", "")
    assert found["crashing"].error == "the process was ended by SIGSEGV"
    assert found["lacking"].error == f"ImportError: {SHARED_OBJECT}"
    assert found["leaving"].error.startswith("the process ended with code 3")
    assert found["no_such_module"].error == "ModuleNotFoundError: No module named 'no_such_module'"


def test_only_the_import_that_hangs_is_too_slow(blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_LIMIT_S", 3.0)
    (blocked / "first.py").write_text("")
    (blocked / "hanging.py").write_text("import time; time.sleep(60)")
    (blocked / "last.py").write_text("__version__ = '2'")
    found = try_imports(["first", "hanging", "last"])
    assert found == {
        "first": Imported("", ""),
        "hanging": Imported("", "did not end within 3 s"),
        "last": Imported("2", ""),
    }


def test_missing_and_broken_libraries_come_with_what_mends_them(blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        Requirement("numpy", ">=1.0"),
        Requirement("scipy", ">=1.0"),
        Requirement("tqdm", ">=999"),
        Requirement("jinja2", ">=3"),
        Requirement("open3d", ">=0.20", "viewer"),
        Requirement("ray", ">=2", "cluster"),
        Requirement("pytest", ">=8", "test"),
    ]
    here = {"numpy": "2.4", "scipy": "1.17", "tqdm": "4.70", "open3d": "0.20.0"}
    monkeypatch.setattr(libraries, "requirements", lambda: asked)
    monkeypatch.setattr(libraries, "installed_version", here.get)
    for name, code in {
        "numpy": "",
        "scipy": "import os; os.abort()",
        "tqdm": "",
        "jinja2": "raise ModuleNotFoundError(\"No module named 'jinja2'\")",
        "open3d": f"raise ImportError({SHARED_OBJECT!r})",
    }.items():
        (blocked / f"{name}.py").write_text(code)
    found = {one.name: one for one in library_findings()}
    assert found.keys() == {"numpy", "scipy", "tqdm", "jinja2", "viewer (open3d)", "cluster (ray)"}
    assert found["numpy"].state == "ok" and found["numpy"].text.startswith("2.4 (wants >=1.0")
    assert found["scipy"].state == "broken" and "SIGABRT" in found["scipy"].text
    assert found["tqdm"].state == "broken" and found["tqdm"].mend == 'pip install -U "tqdm>=999"'
    assert found["jinja2"].state == "missing" and found["jinja2"].mend == 'pip install "jinja2>=3"'
    assert found["viewer (open3d)"].state == "broken"
    assert found["viewer (open3d)"].mend == "apt-get install libusb-1.0-0"
    assert found["cluster (ray)"].mend == 'pip install "sfm-lightglue[cluster]"'
    assert {name for name, one in found.items() if one.stops} == {"scipy", "tqdm", "jinja2"}


def test_open3d_that_cannot_render_is_told(blocked: Path) -> None:
    libraries_found = [libraries.Finding("extras", "viewer (open3d)", "ok", "0.20")]
    folder = blocked / "open3d" / "visualization"
    folder.mkdir(parents=True)
    (blocked / "open3d" / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder / "rendering.py").write_text("import os; os.abort()")
    (one,) = rendering_finding(libraries_found)
    assert (one.state, one.stops) == ("broken", False)
    assert "SIGABRT" in one.text and "mesa-vulkan-drivers" in one.mend
    assert rendering_finding([]) == []


def test_wheels_of_opencv_that_overwrite_each_other() -> None:
    assert opencv_findings(["opencv-python-headless"]) == []
    (one,) = opencv_findings(["opencv-python", "opencv-python-headless"])
    assert one.state == "broken"
    assert one.mend == "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "apt-get install libgl1"),
        ("OSError: libodd-7.so.2: cannot open shared object file", "install the library libodd-7.so of the system"),
        ("ValueError: numpy.dtype size changed", ""),
    ],
)
def test_a_library_of_the_system_is_named_by_its_package(error: str, mend: str) -> None:
    assert mend_of_import(error) == mend


@pytest.mark.parametrize(
    ("text", "name", "bounds", "extra"),
    [
        ("numpy>=2.0", "numpy", ">=2.0", ""),
        ("pycolmap<5,>=4.2", "pycolmap", "<5,>=4.2", ""),
        ("faiss-cpu>=1.9; extra == 'dev'", "faiss-cpu", ">=1.9", "dev"),
        ('mkdocstrings[python]>=0.30; extra == "docs"', "mkdocstrings", ">=0.30", "docs"),
        ("scipy-stubs", "scipy-stubs", "", ""),
        ("tomli>=2; python_version < '3.11'", "tomli", ">=2", ""),
        ("torch>=2; sys_platform == 'linux' and extra == 'gpu'", "torch", ">=2", "gpu"),
    ],
)
def test_requirements_are_read(text: str, name: str, bounds: str, extra: str) -> None:
    assert parsed(text) == Requirement(name, bounds, extra)


@pytest.mark.parametrize(
    ("bounds", "version", "is_met"),
    [
        (">=4.10", "4.9.1", False),
        (">=4.10", "4.10", True),
        (">=4.10", "5.0.0.93", True),
        (">=4.2,<5", "5.0", False),
        (">=4.2,<5", "4.2.1", True),
        (">=2.4", "2.13.0+cpu", True),
        ("==1.0", "1.0.0", True),
        ("==1.2.*", "1.2.7", True),
        ("~=1.4", "1.9", True),
        ("~=1.4", "2.0", False),
        ("!=3.1", "3.1", False),
        ("", "0.1", True),
    ],
)
def test_bounds_compare_numbers(bounds: str, version: str, is_met: bool) -> None:
    assert Requirement("some", bounds).is_met_by(version) is is_met


def test_the_requirements_of_the_project_are_known_and_pinned() -> None:
    asked = requirements()
    assert {"torch", "pycolmap", "opencv-python-headless"} <= {one.name for one in asked if not one.extra}
    assert {"viewer", "video"} <= {one.extra for one in asked}
    assert pinned_versions()["open3d"]
    require_known_modules()


@pytest.mark.parametrize("text", ['[project]\nname = "other"\ndependencies = []', "[tool.other]", "no = = toml"])
def test_the_project_of_another_wheel_is_not_ours(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "constraints.txt").write_text("torch==1.0")
    monkeypatch.setattr(of_project, "_ROOT", tmp_path)
    monkeypatch.setattr(of_project.importlib.metadata, "requires", lambda name: ["numpy>=2.0"])
    assert requirements() == [Requirement("numpy", ">=2.0")]
    assert pinned_versions() == {}


def test_torch_tells_of_the_machine() -> None:
    told = ask_torch()
    assert told["num_threads"] >= 1
    assert isinstance(told["cuda"], list) and told["capability"]
