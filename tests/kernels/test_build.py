"""The kernels are compiled where there is a compiler, and never used with other sources than those of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from sfm_lightglue.diagnosis.machine import kernel_finding
from sfm_lightglue.kernels import build, library
from sfm_lightglue.kernels.build import KernelBuildError, compile_kernels, source_digest
from tests.helpers.checkout import copy_of_checkout

HAS_COMPILER = library.compiled() is not None
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="the kernels are not compiled here")


@pytest.mark.skipif(shutil.which("cc") is None or os.name == "nt", reason="there is no C compiler")
def test_with_a_compiler_the_kernels_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, all tests of the kernels would be skipped after a failed build."""
    monkeypatch.delenv(library.VARIABLE, raising=False)
    assert library.load_kernels.__wrapped__().reason == "", "run `python -m sfm_lightglue.kernels.build`"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the C sources, from which this process compiles and loads."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    for path in build.FOLDER.glob("*.[ch]"):
        shutil.copy(path, folder)
    monkeypatch.setattr(build, "FOLDER", folder)
    monkeypatch.setattr(build, "LIBRARY", folder / build.LIBRARY.name)
    return folder


@needs_compiler
def test_only_the_library_is_left_by_a_build(sources: Path) -> None:
    before = set(sources.iterdir())
    built = compile_kernels()
    assert set(sources.iterdir()) - before == {built}
    loaded = library.load_kernels.__wrapped__()
    assert loaded.reason == ""
    assert loaded.library is not None and all(hasattr(loaded.library, name) for name in build.FUNCTIONS)


@needs_compiler
def test_a_library_of_other_sources_is_not_used(sources: Path) -> None:
    compile_kernels()
    with (sources / "sift.c").open("a") as file:
        file.write("/* another version */\n")
    loaded = library.load_kernels.__wrapped__()
    assert loaded.library is None and "other sources" in loaded.reason


def test_the_ends_of_lines_do_not_change_the_digest(sources: Path) -> None:
    before = source_digest()
    for path in sources.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert source_digest() == before


@pytest.mark.skipif(os.name == "nt", reason="the variable CC is for other systems")
def test_a_failing_compiler_leaves_the_older_library(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.LIBRARY.write_bytes(b"older")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(KernelBuildError, match="no-such-compiler"):
        compile_kernels()
    assert build.LIBRARY.read_bytes() == b"older"
    assert not list(sources.glob(".build-*"))


def test_a_file_that_is_no_library_is_told(sources: Path) -> None:
    build.LIBRARY.write_bytes(b"no library")
    loaded = library.load_kernels.__wrapped__()
    assert loaded.library is None and "cannot be loaded" in loaded.reason


def test_the_variable_switches_the_kernels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.VARIABLE, "off")
    loaded = library.load_kernels.__wrapped__()
    assert loaded.library is None and library.VARIABLE in loaded.reason
    monkeypatch.setattr("sfm_lightglue.diagnosis.machine.load_kernels", lambda: loaded)
    found = kernel_finding()
    assert found.state == "missing" and library.VARIABLE in found.text and not found.stops


@needs_compiler
def test_the_doctor_tells_that_they_are_used() -> None:
    assert kernel_finding().state == "ok"


@pytest.mark.skipif(os.name == "nt", reason="the variable CC is for other systems")
@pytest.mark.parametrize("has_compiler", [pytest.param(True, marks=needs_compiler), False])
def test_a_wheel_has_the_library_if_there_is_a_compiler(
    has_compiler: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of_checkout(tmp_path / "checkout")
    if not has_compiler:
        monkeypatch.setenv("CC", "no-such-compiler")
    (wheel,) = WheelBuilder(str(root)).build(directory=str(tmp_path / "wheels"))
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name for name in archive.namelist() if "/kernels/" in name}
    assert (build.LIBRARY.name in names) == has_compiler
    assert {"sift.c", "kernels.h", "library.py"} <= names
    tag = build.platform_tag() if has_compiler else "any"
    assert Path(wheel).name.endswith(f"-py3-none-{tag}.whl")


def test_the_command_that_compiles_tells_why_it_cannot(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    shutil.copytree(build.FOLDER, folder, ignore=shutil.ignore_patterns("*.so", "*.dll", "__pycache__", ".*"))
    command = [sys.executable, str(folder / "build.py")]
    environment = os.environ | {"CC": "no-such-compiler"}
    if os.name != "nt":
        failed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert failed.returncode == 1 and "cannot be compiled" in failed.stderr
    if HAS_COMPILER:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and Path(done.stdout.splitlines()[-1]).is_file()
