"""Mapping goes on with added pairs: which images may come into a model, and what the keys of models depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pycolmap
import pytest

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import ImageVerdict, ModelVerdict
from sfm_lightglue.reconstruction import second_chance
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.second_chance import second_look_identity
from sfm_lightglue.reconstruction.second_mapping import doubtful_without
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.types import ImagePair, Scene
from tests.helpers.reconstructions import one_thread


def test_a_doubtful_image_with_an_added_pair_may_come_into_a_model() -> None:
    images = {"a": ImageVerdict("registered"), "b": ImageVerdict("doubtful"), "c": ImageVerdict("doubtful")}
    judged = [
        JudgedModel(pycolmap.Reconstruction(), ModelVerdict("accepted", {}, images, ())),
        JudgedModel(pycolmap.Reconstruction(), ModelVerdict("rejected", {}, {"d": ImageVerdict("doubtful")}, ())),
    ]
    assert doubtful_without(judged, ()) == {"b", "c"}
    assert doubtful_without(judged, {ImagePair("a", "b")}) == {"c"}


@pytest.fixture(scope="module")
def scene(small_scene: SyntheticScene, small_scene_dir: Path) -> Scene:
    found = load_scene(small_scene_dir)
    return replace(found, images=found.images[:2])


def test_models_depend_on_positions_and_on_another_extractor(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    usual_config = one_thread()

    def key(config: ReconstructConfig = usual_config, scene: Scene = scene) -> str:
        return make_key(second_look_identity(config, scene))

    monkeypatch.setattr(second_chance, "locate_weights", lambda entry: None)
    usual = key()
    moved = replace(scene, images=(scene.images[0], replace(scene.images[1], xyz_m=(1.0, 2.0, 3.0))))
    assert key(scene=moved) != usual
    off = one_thread(second_chance={"max_images": 0})
    without = key(off)
    monkeypatch.setattr(second_chance, "locate_weights", lambda entry: Path("weights"))
    monkeypatch.setattr(second_chance.EXTRACTORS, "build", lambda choice, device: SiftExtractor())
    assert key() != usual
    assert key(off) == without, "no image is helped"
    usual = key()
    monkeypatch.setattr(second_chance, "JOINT_HYPOTHESES_VERSION", -1)
    assert key() != usual


def test_after_an_alteration_was_taken_back_the_keypoints_are_counted_again(scene: Scene, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    usual, few = (CachedExtractor(SiftExtractor(SiftConfig(max_keypoints=num)), store) for num in (128, 32))
    features = SceneFeatures(scene, usual)
    features.extract()
    name = scene.images[0].name
    before = len(features[name])
    features.alter(name, few)
    assert features.num_keypoints_from_name[name] == 32 < before
    features.alter(name, None)
    assert features.num_keypoints_from_name[name] == before
