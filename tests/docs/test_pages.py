"""Links lead to files, and pages that list parts of the code list all of them."""

from __future__ import annotations

import re

import pytest

from sfm_lightglue import errors
from sfm_lightglue.weights.catalog import CATALOG
from tests.helpers.checkout import ROOT
from tests.helpers.doc_blocks import pages
from tests.test_layers import LAYERS

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_VERSION = re.compile(r"^(_?(?:[A-Z]+_)*VERSION)\b[^=\n]*=", re.MULTILINE)

GENERATED = {"reference/configuration.md", "reference/api.md", "contributing.md", "changelog.md"}


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*pages(), "CHANGELOG.md"])
def test_links_lead_to_files(name: str) -> None:
    missing = []
    for link in _LINK.finditer(page(name)):
        target = link["target"].partition("#")[0]
        if not target or target.startswith(("http://", "https://")):
            continue
        path = ((ROOT / name).parent / target).resolve()
        generated = path.is_relative_to(ROOT / "docs") and path.relative_to(ROOT / "docs").as_posix() in GENERATED
        if not generated and not path.exists():
            missing.append(link["target"])
    assert not missing


def test_the_page_of_versions_names_every_version_constant() -> None:
    lines = page("docs/explanation/versions.md").splitlines()
    missing, num_constants = [], 0
    for path in sorted((ROOT / "sfm_lightglue").rglob("*.py")):
        for name in _VERSION.findall(path.read_text(encoding="utf-8")):
            num_constants += 1
            wanted = f"`{name}`", f"`{path.relative_to(ROOT).as_posix()}`"
            if not any(all(part in line for part in wanted) for line in lines):
                missing.append(f"{wanted[1]}: {name}")
    assert num_constants >= 6
    assert not missing


def test_the_page_of_the_architecture_names_every_package() -> None:
    text = page("docs/explanation/architecture.md")
    packages = [path.parent.name for path in (ROOT / "sfm_lightglue").glob("*/__init__.py")]
    assert len(packages) > 20
    assert [name for name in packages if f"`{name}/`" not in text] == []


def test_the_page_of_the_architecture_has_the_order_of_imports() -> None:
    stated = [
        {name.removesuffix(".py").replace("/", ".") for name in re.findall(r"`([^`]+)`", line)}
        for line in page("docs/explanation/architecture.md").splitlines()
        if re.match(r"\d+\. `\w+`", line) and "(`" not in line
    ]
    library = ROOT / "sfm_lightglue"
    here = {path.stem for path in library.iterdir()} | {"pairs.base", "sfm_lightglue"}
    here |= {path.name for path in ROOT.iterdir() if path.is_dir()}
    existing = [layer & here for layer in LAYERS]
    assert stated == [layer for layer in existing if layer]


def test_the_page_of_commands_has_every_exit_code() -> None:
    text = page("docs/reference/commands.md")
    for error in errors.SfmError.__subclasses__():
        assert f"| {error.exit_code} | `{error.__name__}` |" in text


def test_the_page_of_weights_names_all_of_them() -> None:
    text = page("docs/reference/weights.md")
    assert [name for name in CATALOG if f"`{name}`" not in text] == []
