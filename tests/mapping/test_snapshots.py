"""A mapping that is cut off goes on from its last snapshot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping import snapshots
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import IncrementalMapper
from sfm_lightglue.mapping.snapshots import Snapshots
from sfm_lightglue.types import Matches
from tests.helpers.exact_scenes import ExactScene, ring_scene, write_database

NUM_IMAGES = 14


class Killed(Exception):
    """Ends a mapping in the middle."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots every three images, for small scenes too."""
    monkeypatch.setattr(snapshots, "MIN_IMAGES", 5)
    monkeypatch.setattr(snapshots, "_MIN_INTERVAL", 3)


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene(NUM_IMAGES, 150)


@pytest.fixture
def task(scene: ExactScene, tmp_path: Path) -> MappingTask:
    return task_of(scene, tmp_path)


def task_of(scene: ExactScene, folder: Path) -> MappingTask:
    database = write_database(folder / "database.db", scene)
    return MappingTask(database, folder / "work-0", len(scene.poses), snapshots=folder / "snapshots")


def cut_off(task: MappingTask, num_images: int, work: str = "work-cut") -> None:
    """Map until a number of images is registered."""

    def kill(stage: str, num_done: int, num_total: int) -> None:
        if num_done == num_images:
            raise Killed

    with pytest.raises(Killed):
        IncrementalMapper().map(replace(task, work=task.work.with_name(work), progress=kill))


def progress_of_resumed(task: MappingTask) -> tuple[list[pycolmap.Reconstruction], list[int]]:
    numbers: list[int] = []
    models = IncrementalMapper().map(replace(task, progress=lambda _, num_done, __: numbers.append(num_done)))
    return models, numbers


def test_a_mapping_goes_on_from_its_last_snapshot(scene: ExactScene, task: MappingTask) -> None:
    cut_off(task, 11)
    models, numbers = progress_of_resumed(task)
    assert numbers[0] == 0
    assert 8 <= numbers[1] <= 11, "there is a snapshot after every three images"
    assert numbers == sorted(numbers)
    assert numbers[-1] == NUM_IMAGES
    (model,) = models
    poses = poses_of_model(model)
    assert len(poses) == NUM_IMAGES
    assert align_poses(poses, scene.poses).max_center_error < 0.05, "the ring has a diameter of 16"


def test_a_mapping_can_be_cut_off_repeatedly(scene: ExactScene, task: MappingTask) -> None:
    cut_off(task, 8)
    cut_off(task, 12, "work-again")
    models, numbers = progress_of_resumed(task)
    assert numbers[1] > 8
    assert [model.num_reg_images() for model in models] == [NUM_IMAGES]


def test_a_torn_snapshot_is_not_used(task: MappingTask) -> None:
    cut_off(task, 11)
    before, newest = sorted((task.snapshots / "mapping-0" / "current").iterdir())
    images = newest / "images.bin"
    images.write_bytes(images.read_bytes()[:-100])
    num_before = pycolmap.Reconstruction(before).num_reg_images()
    models, numbers = progress_of_resumed(task)
    assert numbers[1] == num_before
    assert [model.num_reg_images() for model in models] == [NUM_IMAGES]


def test_snapshots_change_no_result(task: MappingTask, tmp_path: Path) -> None:
    contents = []
    for name, folder in (("with", task.snapshots), ("without", None)):
        (model,) = IncrementalMapper().map(replace(task, work=tmp_path / name, snapshots=folder))
        (tmp_path / f"model-{name}").mkdir()
        model.write_binary(tmp_path / f"model-{name}")
        contents.append([path.read_bytes() for path in sorted((tmp_path / f"model-{name}").iterdir())])
    assert contents[0] == contents[1]


def test_another_run_may_remove_all_snapshots(task: MappingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ended; its snapshots are those of the same mapping."""

    def after_removal(method: Callable[[Snapshots], object]) -> Callable[[Snapshots], object]:
        def remove_first(of_run: Snapshots) -> object:
            shutil.rmtree(of_run.folder, ignore_errors=True)
            return method(of_run)

        return remove_first

    for name in ("prune", "_newest"):
        monkeypatch.setattr(Snapshots, name, after_removal(getattr(Snapshots, name)))
    (model,) = IncrementalMapper().map(task)
    assert model.num_reg_images() == NUM_IMAGES


def test_snapshots_may_go_while_they_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_run = Snapshots(tmp_path / "snapshots", 3)
    of_run.prune()
    assert of_run.found() == []
    newest = of_run.current / "0001"
    newest.mkdir()

    def content_of(path: Path) -> frozenset[int]:
        shutil.rmtree(of_run.folder)
        return frozenset({1})

    monkeypatch.setattr(snapshots, "_image_ids", content_of)
    of_run.start()
    assert list(of_run.current.iterdir()) == []


def test_few_snapshots_are_kept(task: MappingTask) -> None:
    IncrementalMapper().map(task)
    assert 1 <= len(list((task.snapshots / "mapping-0" / "current").iterdir())) <= 3


def test_all_models_of_a_cut_off_mapping_are_continued(tmp_path: Path) -> None:
    """Four scenes in one database; the second one was begun when the mapping was cut off."""
    task = task_of(SeparateScenes(*(moved_scene(number) for number in range(4))), tmp_path)
    cut_off(task, 12)
    models, numbers = progress_of_resumed(task)
    assert sorted(model.num_reg_images() for model in models) == [5, 6, 7, 8]
    assert numbers[-1] == 26


def moved_scene(number: int, num_points: int = 150) -> ExactScene:
    """A scene of 8 - `number` images that is far from those of other numbers."""
    scene, shift = ring_scene(8 - number, num_points), Rigid3.from_rotvec([0, 0, 0], [90.0 * number, 0, 0])
    return ExactScene(
        {f"{number}{name}": pose @ shift.inverse() for name, pose in scene.poses.items()}, shift @ scene.points
    )


@pytest.mark.parametrize("num_images", [5, 10])
def test_models_that_share_images_are_built_after_a_cut_too(tmp_path: Path, num_images: int) -> None:
    """Three images see enough points of either model, and those of the other one too few in each of them.

    The third model is the one with fewest matches.
    """
    scene = SeparateScenes(TwoGroups(ring_scene(14, 150).poses, ring_scene(14, 150).points), moved_scene(1, 70))
    (tmp_path / "straight").mkdir()
    whole = IncrementalMapper().map(replace(task_of(scene, tmp_path / "straight"), snapshots=None))
    task = task_of(scene, tmp_path)
    cut_off(task, num_images)
    models, _ = progress_of_resumed(task)
    names = [sorted(poses_of_model(model)) for model in whole]
    assert sum(map(len, names)) > len(scene.poses)
    assert [sorted(poses_of_model(model)) for model in models] == names


class TwoGroups(ExactScene):
    """Images of two groups match in 16 points only, others in each image of the second group."""

    def matches(self, pair):
        found = super().matches(pair)
        first, second = (sorted(self.poses).index(name) for name in (pair.name0, pair.name1))
        if first >= 8 or second < 8:
            return found
        rows = found.indices[:, 0]
        kept = (rows % 6 == second - 8) & (rows < 96) & (first >= 5)
        return Matches(np.ascontiguousarray(found.indices[kept]), found.scores[kept])

    @property
    def pairs(self):
        return [pair for pair in super().pairs if len(self.matches(pair)) > 0]


class SeparateScenes(ExactScene):
    """Scenes that see nothing of each other. Their images have different names."""

    def __init__(self, *parts: ExactScene) -> None:
        super().__init__({name: pose for part in parts for name, pose in part.poses.items()}, parts[0].points)
        object.__setattr__(self, "observed", {name: seen for part in parts for name, seen in part.observed.items()})
        object.__setattr__(self, "parts", parts)

    def matches(self, pair):
        return next(part for part in self.parts if pair.name0 in part.poses).matches(pair)

    @property
    def pairs(self):
        return [pair for part in self.parts for pair in part.pairs]


def test_short_mappings_write_no_snapshots(monkeypatch: pytest.MonkeyPatch, task: MappingTask) -> None:
    monkeypatch.setattr(snapshots, "MIN_IMAGES", NUM_IMAGES + 1)
    IncrementalMapper().map(task)
    assert task.snapshots is not None
    assert not task.snapshots.exists()


def test_the_interval_grows_with_the_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = [Snapshots.of_run(tmp_path, num_images) for num_images in (99, 100, 2000)]
    assert [each.interval if each else None for each in found] == [None, 25, 100]
    watched = [Snapshots.of_run(tmp_path, num_images, is_watched=True) for num_images in (100, 2000)]
    assert [each.interval if each else None for each in watched] == [2, 40], "as many as a viewer shows"
    assert Snapshots.of_run(None, 500) is None


def test_a_mapping_that_is_watched_writes_its_snapshots_more_often(
    task: MappingTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_MIN_INTERVAL", NUM_IMAGES + 1)
    cut_off(task, 11)
    assert list((task.snapshots / "mapping-0" / "current").iterdir()) == []
    (tmp_path / "growth").mkdir()
    cut_off(replace(task, growth=tmp_path / "growth"), 11, "work-watched")
    assert len(list((task.snapshots / "mapping-0" / "current").iterdir())) >= 2
    assert list((tmp_path / "growth").iterdir()) == [], "the viewer watches the snapshots of the run"
