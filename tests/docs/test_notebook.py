"""The notebook of the documentation runs from top to bottom, and shows what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.docs_pages import notebook_page
from tests.helpers.checkout import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "first-steps.ipynb"

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install nbclient")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install ipykernel")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook with its outputs, and the folder in which it ran."""
    root = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(root / name.lower()))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        (root / "work").mkdir()
        client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(root / "work")}})
        client.execute()
    return notebook, root / "work" / "notebook_scene"


def outputs(notebook: Any, part: str) -> list[Any]:
    """The outputs of the cell that contains a text."""
    (cell,) = [one for one in notebook.cells if one.cell_type == "code" and part in one.source]
    return list(cell.outputs)


def text_of(found: list[Any]) -> str:
    return "".join(one.get("text", "") + one.get("data", {}).get("text/plain", "") for one in found)


@pytest.mark.parametrize("part", ["pair.plot(height", "epipolar_lines", 'colour="score"'])
def test_pictures_are_shown(part: str, executed: tuple[Any, Path]) -> None:
    pictures = [one["data"]["image/png"] for one in outputs(executed[0], part) if "image/png" in one.get("data", {})]
    assert len(pictures) == 1
    assert len(pictures[0]) > 20_000


def test_the_model_is_shown(executed: tuple[Any, Path]) -> None:
    found = outputs(executed[0], "sfm_lightglue.reconstruct(")
    assert any("<svg" in one.get("data", {}).get("text/html", "") for one in found)
    assert "5 of 5" in text_of(found) or "5 images" in text_of(found)


def test_the_numbers_are_those_of_a_model(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    assert "general" in text_of(outputs(notebook, "pair = "))
    assert text_of(outputs(notebook, "summary.images")).count("registered") == 5
    assert "matches fit" in text_of(outputs(notebook, "localizer.localize")) and "Rigid3" in text_of(
        outputs(notebook, "localizer.localize")
    )
    assert (folder / "cloud.ply").stat().st_size > 10_000
    assert "'sparse'" in text_of(outputs(notebook, "export_map"))


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


def test_the_page_of_the_site_has_every_cell() -> None:
    page = notebook_page()
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert "".join(cell["source"]).rpartition("\n\n")[2] in page
    assert "(notebooks/first-steps.ipynb)" in page
