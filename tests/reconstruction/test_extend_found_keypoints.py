"""A finished model whose images have keypoints that the refinement found is extended like one without them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pycolmap
import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.mapping.cached_models import load_models
from sfm_lightglue.reconstruction import extend as extend_module
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.extend import extend
from sfm_lightglue.reconstruction.extend_base import ExtensionBase
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.reconstruction.run_record import RecordedResults
from sfm_lightglue.store.store import Store
from tests.helpers.reconstructions import one_thread
from tests.helpers.sparse_maps import EXTRACTOR

ADDED = ("view_04.jpg", "view_05.jpg")


def num_keypoints(model: pycolmap.Reconstruction) -> dict[str, int]:
    return {image.name: image.num_points2D() for image in model.images.values()}


def num_found(scene: Path) -> dict[str, int]:
    output = scene / "reconstruction"
    with Store(output) as store:
        models = load_models(store, RecordedResults.read(output).keys["model"])
    assert models is not None
    return models.statistics.num_found


def reconstruct_without_added(source: Path, scene: Path, config: ReconstructConfig) -> None:
    """Reconstruct the photos of a scene but those that are to come in."""
    (scene / "images").mkdir(parents=True)
    for path in sorted((source / "images").iterdir()):
        if path.name not in ADDED:
            shutil.copy(path, scene / "images")
    reconstruct(scene, config=config)


@pytest.mark.parametrize("level", ["sparse", "normal"])
def test_found_keypoints_stay_and_others_are_matched(level: str, small_scene_dir: Path, tmp_path: Path) -> None:
    config = one_thread(extractor=EXTRACTOR, density={"level": level})
    scene, output = tmp_path / "scene", tmp_path / "scene" / "reconstruction"
    reconstruct_without_added(small_scene_dir, scene, config)
    before, found = read_model(output / "sparse" / "0"), num_found(scene)
    assert sum(found.values()) > 10
    for name in ADDED:
        shutil.copy(small_scene_dir / "images" / name, scene / "images")
        assert extend(scene, config=config).summary.num_registered == before.num_reg_images() + ADDED.index(name) + 1
        after, database = read_model(output / "sparse" / "0"), read_database(output / "database.db")
        assert num_keypoints(after).items() >= num_keypoints(before).items()
        assert num_found(scene) == found
        for image_name, number in num_keypoints(after).items():
            assert len(database.features_from_name[image_name]) == number
    last = [image for image in after.images.values() if found.get(image.name, 0) > 0]
    observing = [sum(point.has_point3D() for point in image.points2D[-found[image.name] :]) for image in last]
    assert sum(observing) > 0.8 * sum(found.values()), "the observations of earlier images stay"


def test_an_image_of_another_model_comes_in_with_its_found_keypoints(
    small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = one_thread(extractor=EXTRACTOR, density={"level": "sparse"})
    scene, output = tmp_path / "scene", tmp_path / "scene" / "reconstruction"
    reconstruct_without_added(small_scene_dir, scene, config)
    found = num_found(scene)
    other = max(found, key=lambda name: (found[name], name))
    original = extend_module.base_of_output

    def without_other(folder: Path, store: Store, work: Path) -> ExtensionBase:
        """As if the image were in another model of the run only."""
        base = original(folder, store, work)
        for image_id in list(base.model.reg_image_ids()):
            if base.model.images[image_id].name == other:
                base.model.deregister_frame(base.model.images[image_id].frame_id)
        (work / "without").mkdir()
        base.model.write(work / "without")
        return replace(base, model=read_model(work / "without"))

    shutil.copy(small_scene_dir / "images" / ADDED[0], scene / "images")
    with monkeypatch.context() as patch:
        patch.setattr(extend_module, "base_of_output", without_other)
        extend(scene, config=config)
    before = num_keypoints(read_model(output / "sparse" / "0"))
    assert other in before
    shutil.copy(small_scene_dir / "images" / ADDED[1], scene / "images")
    extend(scene, config=config)
    after, database = read_model(output / "sparse" / "0"), read_database(output / "database.db")
    assert num_keypoints(after).items() >= before.items(), "the keypoints are still ours"
    for name, number in num_keypoints(after).items():
        assert len(database.features_from_name[name]) == number
