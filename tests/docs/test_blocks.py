"""Every shell and Python block of the README and of the documentation runs, on a small rendered scene."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.synthetic import SyntheticScene, write_scene
from tests.helpers.doc_blocks import Block, Page, blocks_of, copy_of_scene, pages, write_programs

REASONS = {
    "installs software": 10,
    "needs a GPU": 2,
    "needs Open3D": 1,
    "opens a window": 7,
    "needs the network": 5,
    "needs the program colmap": 1,
    "needs data of a benchmark": 4,
    "needs a package of its own": 1,
    "needs a video": 5,
    "needs masks of photos": 1,
    "needs photos with GPS positions": 1,
    "needs other machines": 2,
    "takes minutes": 22,
}
"""Why blocks are not run, and how many have each reason. A new block without a test changes a number here."""

LANGUAGES = {"bash", "python", "toml", "json", "text"}

BLOCKS = [block for page in pages() for block in blocks_of(page)]


NUM_IMAGES = 4


@pytest.fixture(scope="session")
def documented_scene(small_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the documentation uses: a reconstructed scene, the same as the demo's, and two of its images."""
    from sfm_lightglue.reconstruction.run import reconstruct

    root = tmp_path_factory.mktemp("documented_scene")
    names = sorted(small_scene.images)[:NUM_IMAGES]
    poses = {name: small_scene.cam_from_world_from_name[name] for name in names}
    images = {name: small_scene.images[name] for name in names}
    write_scene(replace(small_scene, images=images, cam_from_world_from_name=poses), root / "demo_scene")
    shutil.copytree(root / "demo_scene" / "images", root / "photos")
    reconstruct(root / "photos", config=ReconstructConfig())
    copy_of_scene(root / "photos" / "reconstruction", root / "demo_scene" / "reconstruction")
    for name, source in {"left": "view_00.jpg", "right": "view_02.jpg"}.items():
        shutil.copy2(root / "photos" / source, root / f"{name}.jpg")
    for name, source in {"img1": "view_00.jpg", "img2": "view_02.jpg"}.items():
        Image.open(root / "photos" / source).save(root / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def page_of(documented_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Page]]:
    """The page of a name, with a working folder of its own."""
    root = tmp_path_factory.mktemp("pages")
    programs = write_programs(root / "bin")
    found: dict[str, Page] = {}

    def get(name: str) -> Page:
        if name not in found:
            folder = copy_of_scene(documented_scene, root / name.replace("/", "_").removesuffix(".md"))
            found[name] = Page([block for block in BLOCKS if block.page == name], folder, programs)
        return found[name]

    yield get
    shutil.rmtree(root)


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.is_run], ids=lambda block: block.location)
def test_block_runs(block: Block, page_of: Callable[[str], Page], monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(block.page)
    monkeypatch.chdir(page.folder)
    monkeypatch.syspath_prepend(page.folder)
    page.run(block)


def test_blocks_that_are_not_run_name_a_known_reason() -> None:
    unknown = [f"{block.location}: {block.reason}" for block in BLOCKS if block.reason and block.reason not in REASONS]
    assert not unknown
    assert Counter(block.reason for block in BLOCKS if block.reason) == {k: n for k, n in REASONS.items() if n > 0}


def test_every_block_states_a_known_language() -> None:
    assert not [block.location for block in BLOCKS if block.language not in LANGUAGES]


@pytest.mark.parametrize(
    "block", [one for one in BLOCKS if one.language in {"toml", "json"}], ids=lambda block: block.location
)
def test_block_of_data_can_be_read(block: Block) -> None:
    tomllib.loads(block.code) if block.language == "toml" else json.loads(block.code)
