"""The configuration reference has every option of every component, and the Python API every public name."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import sfm_lightglue
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry import EXTRACTORS, MAPPERS, MATCHERS, PAIR_SELECTORS
from tests.helpers.checkout import ROOT

TABLES = {"extractor": EXTRACTORS, "matcher": MATCHERS, "pairs": PAIR_SELECTORS, "mapping": MAPPERS}


@pytest.fixture(scope="module")
def docs_pages() -> Iterator[ModuleType]:
    """The script that generates the pages, which is no package."""
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "scripts" / "docs_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    yield module


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one."""
    assert f"{heading}\n" in page
    return page.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, registry in TABLES.items() for name in registry.builtin_names]
)
def test_every_option_of_a_component_is_in_the_reference(docs_pages: ModuleType, table: str, name: str) -> None:
    text = section(docs_pages.configuration_page(), f'### `[{table}]` with `name = "{name}"`')
    check_options(text, type(TABLES[table].choose(name).config))


@pytest.mark.parametrize("table", ["cameras", "two_view"])
def test_every_option_of_a_table_is_in_the_reference(docs_pages: ModuleType, table: str) -> None:
    check_options(
        section(docs_pages.configuration_page(), f"## `[{table}]`"), type(getattr(ReconstructConfig(), table))
    )


def check_options(text: str, config_type: type[Any]) -> None:
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [field.name for field in dataclasses.fields(config_type)]
    for row in rows:
        meaning = row.rstrip(" |").rpartition(" | ")[2]
        assert len(meaning) > 10, row


def test_every_field_of_the_configuration_is_in_the_reference(docs_pages: ModuleType) -> None:
    page = docs_pages.configuration_page()
    for field in dataclasses.fields(ReconstructConfig):
        assert f"| `{field.name}` |" in page or f"## `[{field.name}]`" in page


def test_every_public_name_is_in_the_api(docs_pages: ModuleType) -> None:
    page = docs_pages.api_page()
    names = [name for name in sfm_lightglue.__all__ if not name.startswith("__")]
    assert sorted(line.removeprefix("::: ") for line in page.splitlines() if line.startswith("::: ")) == sorted(
        f"sfm_lightglue.{name}" for name in names
    )
    assert "## Further names" not in page, "give the new name a group in scripts/docs_pages.py"
