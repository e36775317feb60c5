"""pycolmap exports the functions of its own zlib: Python's zlib must be loaded before it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.checkout import ROOT

COMPRESS = """
for _ in range(50):
    stream = zlib.compressobj(6, zdict=b"abcdefgh" * 50)
    assert len(stream.compress(bytes(5000)) + stream.flush()) < 200
print("compressed")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def test_zlib_works_after_both_were_imported_in_this_order() -> None:
    done = run(f"import sfm_lightglue, pycolmap, zlib{COMPRESS}")
    assert done.stdout == "compressed\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="symbols of libraries are shared on Linux only")
def test_pycolmap_before_zlib_is_told() -> None:
    done = run("import pycolmap\nimport sfm_lightglue")
    assert done.returncode == 1
    assert "import sfm_lightglue before pycolmap" in done.stderr


def test_pycolmap_first_is_no_harm_if_zlib_is_there() -> None:
    done = run(f"import zlib, pycolmap, sfm_lightglue{COMPRESS}")
    assert done.stdout == "compressed\n", done.stderr
