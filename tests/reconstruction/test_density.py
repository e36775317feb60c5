"""The density of a model: what `density.level` changes, what is kept, and what happens to a model that gets worse."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

import sfm_lightglue.reconstruction.finish as finish_module
import sfm_lightglue.reconstruction.job as job_module
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.mapping.densify import DensifyResult
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.reconstructions import one_thread, tree

SPARSE = {"density": {"level": "sparse"}, "refine": {"mode": "off"}}


def test_normal_density_has_many_more_points_and_as_exact_cameras(
    small_scene: SyntheticScene, small_scene_dir: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    sparse = reconstruct(small_scene_dir, tmp_path / "out", one_thread(**SPARSE))
    dense = read_model(finished / "sparse" / "0")
    assert sparse.summary.cache["by_kind"]["mapped"] == {"hits": 1, "misses": 0}
    assert sparse.summary.seconds["densify"] == sparse.summary.seconds["refine"] == 0
    assert dense.num_points3D() > 2 * sparse.summary.num_points
    assert min(point.track.length() for point in dense.points3D.values()) == DensityConfig().min_track_length
    errors = []
    for model in (sparse.model, dense):
        aligned = align_poses(poses_of_model(model), small_scene.cam_from_world_from_name)
        errors.append(aligned.mean_center_error)
    assert errors[1] < 1.2 * errors[0]


def test_the_record_tells_the_times_of_the_stages(finished: Path) -> None:
    seconds = json.loads((finished / "run.json").read_text())["summary"]["seconds"]
    assert seconds["densify"] > 0
    assert set(seconds) >= {"map", "densify", "refine", "write"}


def test_the_database_has_the_keypoints_of_the_model(finished: Path) -> None:
    model, database = read_model(finished / "sparse" / "0"), read_database(finished / "database.db")
    for image in model.images.values():
        keypoints = database.features_from_name[image.name].keypoints
        assert len(keypoints) == len(image.points2D)
        pixels = np.array([point.xy for point in image.points2D])
        assert np.abs(pixels - keypoints).max() <= 2.1  # refined keypoints are moved by less


def test_a_database_that_is_made_again_has_the_same_bytes(
    small_scene_dir: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "out" / "database.db").unlink()
    reconstruct(small_scene_dir, tmp_path / "out", one_thread())
    assert (tmp_path / "out" / "database.db").read_bytes() == (finished / "database.db").read_bytes()


def test_an_interrupted_run_maps_nothing_again(
    small_scene_dir: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def interrupted(*arguments: object, **options: object) -> DensifyResult:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finish_module, "densify_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(small_scene_dir, output, one_thread())
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "map_and_judge", None)
        reconstruct(small_scene_dir, output, one_thread())
    assert tree(output / "sparse") == tree(finished / "sparse")


def test_a_model_that_gets_worse_stays_as_the_mapping_made_it(
    small_scene_dir: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)

    def bent(model: pycolmap.Reconstruction, *arguments: object, **options: object) -> DensifyResult:
        model = pycolmap.Reconstruction(model)
        for image_id in sorted(model.images)[:3]:
            frame = model.images[image_id].frame
            turned = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.2, 0.0, 0.0])), np.array([0.3, 0.0, 0.0]))
            frame.rig_from_world = turned * frame.rig_from_world
        return DensifyResult(model, 0, 0, 1)

    monkeypatch.setattr(finish_module, "densify_model", bent)
    config = replace(one_thread(refine={"mode": "off"}), seed=0)
    with caplog.at_level(logging.WARNING):
        summary = reconstruct(small_scene_dir, output, config).summary
    assert "only before it was densified" in caplog.text
    database, model = read_database(output / "database.db"), read_model(output / "sparse" / "0")
    for image in model.images.values():  # COLMAP compares the numbers
        assert len(image.points2D) == len(database.features_from_name[image.name].keypoints)
    monkeypatch.undo()
    sparse = reconstruct(small_scene_dir, tmp_path / "sparse", one_thread(**SPARSE)).summary
    assert summary.num_points == sparse.num_points
    assert summary.num_registered == 6


def test_an_extractor_without_a_dense_layer_is_densified_by_its_features(small_scene_dir: Path, tmp_path: Path) -> None:
    config = one_thread(extractor={"name": "sift", "max_keypoints_dense": 0})
    summary = reconstruct(small_scene_dir, tmp_path / "out", config).summary
    assert summary.num_registered == 6
    assert not (tmp_path / "out" / "dense_features").exists()


def test_dense_asks_for_twice_as_many_keypoints() -> None:
    normal, dense = (one_thread(density={"level": level}).max_keypoints_dense for level in ("normal", "dense"))
    assert (normal, dense) == (8192, 16384)
    assert one_thread(density={"level": "sparse"}).max_keypoints_dense == 0
