"""The contract of pair selectors, for each pair selector of the registry that needs no file."""

import pytest

from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.registry.builtin import PAIR_SELECTORS
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.testing import PairSelectorContract
from sfm_lightglue.testing.photos import textured, write_photo
from tests.helpers.random_features import random_sift


class TestExhaustive(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("exhaustive"))


class TestSequential(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("sequential", {"window": 2}))


class TestAuto(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("auto"))


class TestUnion(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("sequential+exhaustive", {"window": 2}))


class TestSpatial(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("spatial", {"num_neighbors": 2}))

    @pytest.fixture
    def scene(self, tmp_path):
        """Twelve images, a metre apart."""
        names = [f"photo {index}.png" for index in range(12)]
        for name in names:
            write_photo(tmp_path / "photos" / name, textured(64, 48))
        lines = [f"{name},{index},0,0" for index, name in enumerate(names)]
        (tmp_path / "positions.csv").write_text("\n".join(["name,x,y,z", *lines]))
        return load_scene(tmp_path / "photos", positions=tmp_path / "positions.csv")


class TestRetrieval(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("retrieval", {"num_neighbors": 2}))

    def context(self, scene):
        return PairContext(scene, {image.name: random_sift(i, 30) for i, image in enumerate(scene.images)})


def test_all_selectors_without_files_are_tested():
    with_files = {"file", "covisibility"}  # the pairs by frusta, which need poses, have a test of their own
    assert set(PAIR_SELECTORS.builtin_names) - with_files == {
        "frusta",
        "auto",
        "exhaustive",
        "sequential",
        "spatial",
        "retrieval",
    }


def test_the_error_for_a_contract_without_a_component_names_build():
    with pytest.raises(NotImplementedError, match="PairSelectorContract must define `build`"):
        PairSelectorContract.build()
