"""A finished model whose dense layer is of another version or of other options is not extended."""

import json
import shutil

import pytest

from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.extractors import sift
from sfm_lightglue.reconstruction.extend import extend, extend_or_reconstruct
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.stages import cached
from tests.helpers.reconstructions import one_thread, tree
from tests.helpers.sparse_maps import EXTRACTOR

ADDED = "view_04.jpg"
OPTIONS = {"extractor": EXTRACTOR, "refine": {"mode": "off"}}
CONFIG = one_thread(**OPTIONS)


@pytest.fixture(scope="module")
def dense_scene(small_scene_dir, tmp_path_factory):
    """Three images with a dense model."""
    root = tmp_path_factory.mktemp("dense_scene")
    (root / "images").mkdir()
    for image in sorted((small_scene_dir / "images").iterdir())[:3]:
        shutil.copy(image, root / "images")
    reconstruct(root, config=CONFIG)
    return root


@pytest.fixture
def with_added(dense_scene, small_scene_dir, tmp_path):
    shutil.copytree(dense_scene, tmp_path / "scene")
    shutil.copy(small_scene_dir / "images" / ADDED, tmp_path / "scene" / "images")
    return tmp_path / "scene"


def record(scene):
    return json.loads((scene / "reconstruction" / "run.json").read_text())


def test_a_model_of_another_version_is_mapped_anew(with_added, monkeypatch, caplog):
    monkeypatch.setattr(sift, "_DENSE_CONTRAST", 0.8)
    monkeypatch.setattr(cached, "DENSE_VERSION", -1)
    before = tree(with_added / "reconstruction" / "sparse")
    with pytest.raises(ReconstructionError, match=r"of another version or of other options.*once without extending"):
        extend(with_added, config=CONFIG)
    assert tree(with_added / "reconstruction" / "sparse") == before
    result = extend_or_reconstruct(with_added, config=CONFIG)
    assert "all images are mapped anew" in caplog.text
    assert result.summary.num_registered == 4
    assert "extension" not in record(with_added)


def test_options_that_change_the_dense_layer_do_not_rebuild_a_model(with_added):
    before = tree(with_added / "reconstruction" / "sparse")
    other = one_thread(**OPTIONS, density={"level": "sparse"})
    with pytest.raises(ReconstructionError, match="give the options of its run"):
        extend_or_reconstruct(with_added, config=other)
    assert tree(with_added / "reconstruction" / "sparse") == before
    assert extend_or_reconstruct(with_added, config=CONFIG).summary.num_registered == 4
    assert record(with_added)["extension"]["added"] == [ADDED]
