"""What the refinement finds in further images comes into the models after their judgement, and into the database."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

import sfm_lightglue.reconstruction.finish as finish_module
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.reconstruction.densify_config import DensifyConfig
from sfm_lightglue.reconstruction.densify_map import densify
from sfm_lightglue.reconstruction.finish import Finishing
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.reconstructions import one_thread

FINISH, JUDGE = Finishing.finish, finish_module.judge_models


def judged_twice(self: Finishing, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
    """As if the mapper had made two models of the same images."""
    return FINISH(self, [*judged, replace(judged[0], model=copy.deepcopy(judged[0].model))])


def counts(model: pycolmap.Reconstruction) -> dict[str, int]:
    return {image.name: image.num_points2D() for image in model.images.values()}


def check_database(output: Path, models: Sequence[pycolmap.Reconstruction]) -> None:
    database = read_database(output / "database.db")
    for model in models:
        for image in model.images.values():
            stored = database.features_from_name[image.name].keypoints
            assert len(stored) == image.num_points2D()
            assert np.abs(stored - pixels_of(image)).max() <= 2.1, "refined keypoints are moved by less"


@pytest.mark.parametrize("fails", ["none", "second"])
def test_models_that_share_images_have_the_keypoints_of_the_database(
    small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    at_judgement = []

    def judged(models: Sequence[pycolmap.Reconstruction], *options: object, **more: object) -> list[JudgedModel]:
        at_judgement.append((counts(models[0]), models[0].compute_num_observations()))
        found = JUDGE(models, *options, **more)  # type: ignore[arg-type]
        if fails == "second" and len(at_judgement) == 2:
            return [replace(found[0], verdict=found[0].verdict.as_rejected())]
        return found

    monkeypatch.setattr(Finishing, "finish", judged_twice)
    monkeypatch.setattr(finish_module, "judge_models", judged)
    config = one_thread()
    reconstruct(small_scene_dir, tmp_path, config)
    first, second = (read_model(tmp_path / "sparse" / number) for number in ("0", "1"))
    before, num_observations = at_judgement[0]
    num_first = sum(counts(first).values()) - sum(before.values())
    assert first.compute_num_observations() > num_observations, "added after the judgement"
    assert num_first > 0
    assert counts(first) == counts(second)
    check_database(tmp_path, [first, second])
    images = json.loads((tmp_path / "run.json").read_text())["summary"]["images"]
    assert {name: image["num_points"] for name, image in images.items()} == {
        image.name: image.num_points3D for image in first.images.values()
    }
    of_second = {image.name: point_ids_of(image)[before[image.name] :] for image in second.images.values()}
    of_first = {image.name: point_ids_of(image)[before[image.name] :] for image in first.images.values()}
    for name in before:
        assert not ((of_first[name] >= 0) & (of_second[name] >= 0)).any(), "each keypoint was found for one model"
    num_second = sum(int((ids >= 0).sum()) for ids in of_second.values())
    assert (num_second > 0) == (fails == "none"), "what a model that fails had found is in no model"
    (tmp_path / "database.db").unlink()
    reconstruct(small_scene_dir, tmp_path, config)
    check_database(tmp_path, [first, second])


def test_a_densified_model_has_longer_tracks_with_what_is_found(
    small_scene_dir: Path, finished: Path, tmp_path: Path
) -> None:
    lengths = []
    shutil.copytree(finished, tmp_path / "out")  # its store gets more features
    for completes in (False, True):
        values = {"num_threads": 1, "density": {"level": "dense"}, "refine": {"complete_tracks": completes}}
        config = DensifyConfig.from_mapping(values)
        output = tmp_path / str(completes)
        densify(tmp_path / "out", images=small_scene_dir / "images", output=output, config=config)
        lengths.append(read_model(output / "sparse" / "0").compute_mean_track_length())
    assert lengths[1] > lengths[0]
