"""The public names: imported lazily, documented, with examples that run."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest

import sfm_lightglue
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct

NAMES = [name for name in sfm_lightglue.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def folder(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, reconstructed, and two images left.jpg and right.jpg."""
    root = tmp_path_factory.mktemp("examples")
    images = sorted((small_scene_dir / "images").iterdir())[:4]
    (root / "photos" / "images").mkdir(parents=True)
    for image in images:
        shutil.copy(image, root / "photos" / "images" / image.name)
    shutil.copy(images[0], root / "left.jpg")
    shutil.copy(images[2], root / "right.jpg")
    reconstruct(root / "photos", config=ReconstructConfig.from_mapping({"matcher": {"name": "nearest"}}))
    return root


def examples_of(name: str) -> doctest.DocTest:
    docstring = getattr(sfm_lightglue, name).__doc__ or ""
    return doctest.DocTestParser().get_doctest(docstring, {"sfm_lightglue": sfm_lightglue}, name, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example_that_runs(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    test = examples_of(name)
    assert len(test.examples) > 0, f"the docstring of {name} has no example"
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    result = runner.run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_every_public_name_is_listed_and_found():
    assert set(sfm_lightglue.__all__) <= set(dir(sfm_lightglue))
    for name in NAMES:
        assert getattr(sfm_lightglue, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sfm_lightglue.nothing  # noqa: B018


def test_reconstruct_is_the_function_even_after_its_module_was_imported():
    import sfm_lightglue.reconstruction.run

    assert sfm_lightglue.reconstruct is sfm_lightglue.reconstruction.run.reconstruct


def test_the_former_modules_are_gone():
    for module in ("sfm_lightglue.reconstruct", "sfm_lightglue.keypoint_matching"):
        with pytest.raises(ModuleNotFoundError):
            __import__(module)
