"""The mapper of known poses: it changes none, triangulates, and refines intrinsics that are not known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import adjustment_like
from sfm_lightglue.mapping.known_poses_mapper import KnownPosesMapper
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ring_scene, write_database

SCENE = ring_scene(6)


@pytest.fixture
def task(tmp_path: Path) -> MappingTask:
    database = write_database(tmp_path / "database.db", SCENE)
    return MappingTask(database, tmp_path, 6, frozenset({1}), known_poses=SCENE.poses)


def set_focal_length(database: Path, focal: float) -> None:
    with pycolmap.Database.open(database) as opened:
        (camera,) = opened.read_all_cameras()
        camera.params = [focal, *camera.params[1:]]
        opened.update_camera(camera)


def assert_same_poses(model: pycolmap.Reconstruction) -> None:
    poses = poses_of_model(model)
    for name, pose in poses.items():
        assert np.abs(pose.as_matrix() - SCENE.poses[name].as_matrix()).max() < 1e-12


def test_no_pose_changes(task: MappingTask) -> None:
    (model,) = KnownPosesMapper().map(task)
    assert model.num_reg_images() == 6
    assert_same_poses(model)
    assert model.num_points3D() > 150
    adjustment_like(KnownPosesMapper().config, task)(model)  # as after densifying and judging
    assert_same_poses(model)
    errors = [np.linalg.norm(SCENE.points - point.xyz, axis=1).min() for point in model.points3D.values()]
    assert np.median(errors) < 0.01


def test_known_intrinsics_stay_and_others_are_refined(task: MappingTask) -> None:
    set_focal_length(task.database, 690.0)
    (kept,) = KnownPosesMapper().map(task)
    assert kept.cameras[1].params[0] == 690
    work = task.work / "again"
    work.mkdir()
    (refined,) = KnownPosesMapper().map(replace(task, work=work, constant_camera_ids=frozenset()))
    assert refined.cameras[1].params[0] == pytest.approx(700, abs=1)
    assert_same_poses(refined)


def test_images_without_a_pose_are_not_registered(task: MappingTask) -> None:
    some = {name: SCENE.poses[name] for name in sorted(SCENE.poses)[:4]}
    (model,) = KnownPosesMapper().map(replace(task, known_poses=some))
    assert set(poses_of_model(model)) == set(some)
    work = task.work / "again"
    work.mkdir()
    one = dict([next(iter(some.items()))])
    assert KnownPosesMapper().map(replace(task, work=work, known_poses=one)) == []


def test_poses_are_needed_and_another_start_gives_no_other_model(task: MappingTask) -> None:
    with pytest.raises(ConfigError, match=r"`mapping\.name` known_poses needs the poses of the images"):
        KnownPosesMapper().map(replace(task, known_poses={}))
    names = sorted(SCENE.poses)[:2]
    assert KnownPosesMapper().map(replace(task, initial_pair=ImagePair(*names))) == []
