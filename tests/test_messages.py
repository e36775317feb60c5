"""Messages that name an extra: the extra exists, and the command to install it comes from one function."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from sfm_lightglue.messages import Extra, install_hint
from tests.helpers.checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted(
    path
    for top in ("sfm_lightglue", "pipelines", "datasets")
    for path in (ROOT / top).rglob("*.py")
    if path.name != "messages.py"
)


@pytest.mark.parametrize("extra", get_args(Extra))
def test_the_command_names_the_package_and_an_existing_extra(extra: Extra) -> None:
    found = re.fullmatch(r'pip install "([\w-]+)\[([\w-]+)\]"', install_hint(extra))
    assert found is not None
    assert found[1] == PROJECT["name"]
    assert found[2] in PROJECT["optional-dependencies"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_command_has_one_spelling(path: Path) -> None:
    """A docstring may repeat the command; a message calls `install_hint`."""
    spelt = re.findall(r"pip install [^\n`]*\[\w+\]\"?", path.read_text(encoding="utf-8"))
    assert set(spelt) <= {install_hint(extra) for extra in get_args(Extra)}
