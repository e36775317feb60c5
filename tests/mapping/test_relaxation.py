"""A scene of which the usual thresholds build no model gets one, and the user is told."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import IncrementalMapper, adjustment_like
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import UP, ExactScene, ring_scene, write_database


def slow_walk() -> ExactScene:
    """A video whose camera moves by a third of a degree between two images."""
    poses = {
        f"{idx:02d}.jpg": Rigid3.look_at(np.array([0.05 * idx, -8.0, 1.0]), np.array([0.05 * idx, 0, 0]), UP)
        for idx in range(8)
    }
    return ExactScene(poses, np.random.default_rng(0).uniform(-1, 1, (120, 3)) * [3, 3, 2], noise_px=0.1)


def task_of(scene: ExactScene, folder: Path, window: int) -> MappingTask:
    names = sorted(scene.poses)
    pairs = [ImagePair(*pair) for step in range(1, window + 1) for pair in zip(names, names[step:], strict=False)]
    database = write_database(folder / "database.db", scene, pairs)
    (folder / "work").mkdir()
    return MappingTask(database, folder / "work", len(names), frozenset({1}))


def test_small_angles_build_a_model_that_is_noted(tmp_path: Path) -> None:
    scene = slow_walk()
    task = task_of(scene, tmp_path, 2)
    (model,) = IncrementalMapper().map(task)
    poses = poses_of_model(model)
    assert len(poses) == 8
    assert align_poses(poses, scene.poses).max_center_error < 0.02, "the walk has a length of 0.35"
    assert task.notes == [
        "a model was built with relaxed thresholds only (triangulation angles from 0.5 degrees, 15 points per image):"
        " check it"
    ]


def test_scenes_that_need_no_relaxation_are_not_noted(tmp_path: Path) -> None:
    task = task_of(ring_scene(8), tmp_path, 7)
    (model,) = IncrementalMapper().map(task)
    assert model.num_reg_images() == 8
    assert task.notes == []


def test_the_first_relaxation_is_tried_before_the_further_ones(tmp_path: Path) -> None:
    """It builds the same model of wider windows as before, and the later adjustment keeps its points."""
    task = task_of(slow_walk(), tmp_path, 5)
    (model,) = IncrementalMapper().map(task)
    assert task.notes == []
    num_points = model.num_points3D()
    adjustment_like(None, task)(model)
    assert model.num_points3D() > 0.95 * num_points
    folders = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert folders == ["mapping-0", "mapping-1"] or folders == ["mapping-0"]


def walk_ahead(first: int, num_images: int = 8) -> tuple[dict[str, Rigid3], np.ndarray]:
    """Cameras that move straight ahead, far away from the origin, and the points that they see."""
    start = np.array([1000.0, 0.0, 0.0])
    poses = {}
    for step in range(num_images):
        center = start + np.array([1.2 * step, 0.02 * np.sin(step), 0.0])
        poses[f"{first + step:02d}.jpg"] = Rigid3.look_at(center, center + np.array([1.0, 0, 0]), UP)
    rng = np.random.default_rng(1)
    points = start + np.column_stack([rng.uniform(4, 25, 500), rng.uniform(-3, 3, (500, 2))])
    return poses, points


def test_another_scene_of_the_folder_gets_the_relaxation_that_it_gets_alone(tmp_path: Path) -> None:
    """The larger scene needs none, so that the folder as a whole would end without the smaller one."""
    ring = ring_scene(20)
    poses, points = walk_ahead(20)
    scene = ExactScene(ring.poses | poses, np.concatenate([ring.points, points]), noise_px=0.1)
    apart = [sorted(ring.poses), sorted(poses)]
    pairs = [ImagePair(*pair) for names in apart for pair in combinations(names, 2)]
    database = write_database(tmp_path / "database.db", scene, pairs)
    (tmp_path / "work").mkdir()
    task = MappingTask(database, tmp_path / "work", 28, frozenset({1}))
    models = IncrementalMapper().map(task)
    assert [sorted(poses_of_model(model)) for model in models] == apart
    for model in models:
        found = poses_of_model(model)
        assert align_poses(found, {name: scene.poses[name] for name in found}).max_center_error < 0.05
    assert (tmp_path / "work" / "mapping-left-over-0").is_dir()


def test_few_images_that_are_left_over_make_no_model_of_their_own(tmp_path: Path) -> None:
    ring = ring_scene(20)
    poses, points = walk_ahead(20, num_images=4)
    scene = ExactScene(ring.poses | poses, np.concatenate([ring.points, points]), noise_px=0.1)
    pairs = [ImagePair(*pair) for names in (ring.poses, poses) for pair in combinations(sorted(names), 2)]
    database = write_database(tmp_path / "database.db", scene, pairs)
    (tmp_path / "work").mkdir()
    (model,) = IncrementalMapper().map(MappingTask(database, tmp_path / "work", 24, frozenset({1})))
    assert sorted(poses_of_model(model)) == sorted(ring.poses)
