"""The global, the hierarchical and the automatic mapper beside the incremental one, on noisy keypoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.mapping.auto_mapper import AutoMapper, AutoMappingConfig, known_focal_share
from sfm_lightglue.mapping.base import Mapper, MappingTask
from sfm_lightglue.mapping.database_pairs import remove_geometries
from sfm_lightglue.mapping.global_mapper import GlobalMapper
from sfm_lightglue.mapping.hierarchical_mapper import HierarchicalMapper, HierarchicalMappingConfig
from sfm_lightglue.mapping.incremental import IncrementalMapper, MappingConfig, mapper_options
from sfm_lightglue.mapping.mapper_run import register_left_out
from sfm_lightglue.mapping.waiting import run_polled
from sfm_lightglue.types import Camera, ImagePair
from tests.helpers.exact_scenes import EXIF, GIVEN, GUESSED, ExactScene, ring_scene, write_database

IN_PARTS = HierarchicalMappingConfig(max_part_size=9, part_overlap=5)


def task_of(scene: ExactScene, folder: Path, constant: frozenset[int] = frozenset()) -> MappingTask:
    folder.mkdir(exist_ok=True)
    (folder / "work").mkdir()
    database = write_database(folder / "database.db", scene)
    return MappingTask(database, folder / "work", len(scene.poses), constant)


def content(path: Path) -> tuple[list[float], list[str]]:
    """The parameters of the camera, and the geometries."""
    with pycolmap.Database.open(path) as database:
        return list(database.read_camera(1).params), [str(each) for each in database.read_two_view_geometries()[1]]


def center_error(scene: ExactScene, model: pycolmap.Reconstruction) -> float:
    poses = poses_of_model(model)
    assert set(poses) == set(scene.poses)
    return align_poses(poses, scene.poses).mean_center_error


@pytest.mark.parametrize("camera", [GIVEN, GUESSED], ids=["given", "guessed"])
@pytest.mark.parametrize("mapper", [GlobalMapper(), HierarchicalMapper(IN_PARTS)], ids=["global", "hierarchical"])
def test_poses_are_as_accurate_as_those_of_the_incremental_mapper(
    mapper: Mapper, camera: Camera, tmp_path: Path
) -> None:
    scene = ring_scene(12, 200, camera)
    constant = frozenset({1}) if camera is GIVEN else frozenset()
    task = task_of(scene, tmp_path, constant)
    (incremental,) = IncrementalMapper().map(replace(task, work=tmp_path))
    before = content(task.database)
    (model,) = mapper.map(task)
    assert center_error(scene, model) < 1.15 * center_error(scene, incremental)
    assert (task.work / ("global" if isinstance(mapper, GlobalMapper) else "hierarchical")).is_dir()
    assert np.array_equal(model.cameras[1].params, GIVEN.params) == (camera is GIVEN)
    assert content(task.database) == before, "the two-view geometries are judged later"


def test_the_global_mapper_keeps_the_given_cameras_of_several(tmp_path: Path) -> None:
    """COLMAP's refines all cameras or none."""
    scene = ring_scene(12)
    task = task_of(scene, tmp_path)
    with pycolmap.Database.open(task.database) as database:
        second = database.read_camera(1)
        second.camera_id = 2
        second.params = [720, 400, 300, 0]
        second.has_prior_focal_length = True
        database.write_camera(second, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=2)
        rig.add_ref_sensor(second.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        for image in database.read_all_images()[6:]:
            frame = database.read_frame(image.frame_id)
            image.camera_id = 2
            moved = pycolmap.Frame(frame_id=frame.frame_id, rig_id=2)
            moved.add_data_id(image.data_id)
            database.update_frame(moved)
            database.update_image(image)
    (model,) = GlobalMapper().map(replace(task, constant_camera_ids=frozenset({1})))
    assert list(model.cameras[1].params) == [700, 400, 300, 0]
    assert model.cameras[2].params[0] == pytest.approx(700, rel=0.01)


@pytest.mark.parametrize("mapper", [GlobalMapper(), HierarchicalMapper(IN_PARTS)], ids=["global", "hierarchical"])
def test_a_given_first_pair_is_left_to_the_incremental_mapper(mapper: Mapper, tmp_path: Path) -> None:
    scene = ring_scene(10, 100)
    task = task_of(scene, tmp_path)
    pair = ImagePair("03.jpg", "06.jpg")
    models = mapper.map(replace(task, initial_pair=pair))
    assert models[0].num_reg_images() == 10
    assert [path.name for path in task.work.iterdir()] == ["mapping-0"]


def test_a_given_first_pair_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COLMAP tries the same pair 200 times before it relaxes its limits: seconds, for a pair of neighbours."""
    given: list[pycolmap.IncrementalPipelineOptions] = []
    original = pycolmap.incremental_mapping

    def recorded(*arguments: Any, **options: Any) -> Any:
        given.append(arguments[3])
        return original(*arguments, **options)

    monkeypatch.setattr(pycolmap, "incremental_mapping", recorded)
    scene = ring_scene(30, 200)
    task = task_of(scene, tmp_path)
    pair = ImagePair("03.jpg", "04.jpg")
    (model,) = IncrementalMapper().map(replace(task, initial_pair=pair))
    assert center_error(scene, model) < 0.01
    assert [options.init_num_trials for options in given] == [1]
    assert given[0].mapper.init_min_tri_angle > 12, "the limit of the pair, which is a ring of 30"


def test_two_images_are_left_to_the_incremental_mapper(tmp_path: Path) -> None:
    """The global mapper uses points that three images see."""
    task = task_of(ring_scene(2), tmp_path)
    (model,) = GlobalMapper().map(task)
    assert model.num_reg_images() == 2


@pytest.mark.parametrize("mapper", [GlobalMapper(), HierarchicalMapper(IN_PARTS)], ids=["global", "hierarchical"])
def test_progress_is_told_in_between(mapper: Mapper, tmp_path: Path) -> None:
    numbers: list[int] = []
    task = task_of(ring_scene(12), tmp_path)
    mapper.map(replace(task, progress=lambda _, num_done, __: numbers.append(num_done)))
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, 12)
    assert any(0 < number < 12 for number in numbers)
    (folder,) = task.work.iterdir()
    assert not (folder / "snapshots").exists()


@pytest.mark.parametrize("mapper", [GlobalMapper(), HierarchicalMapper(IN_PARTS)], ids=["global", "hierarchical"])
def test_an_interrupt_ends_the_mapper(mapper: Mapper, tmp_path: Path) -> None:
    """As one that is raised in the thread that waits."""

    def interrupt(stage: str, num_done: int, num_total: int) -> None:
        if 0 < num_done < num_total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapper.map(replace(task_of(ring_scene(12), tmp_path), progress=interrupt))


def test_errors_of_a_call_in_a_thread_are_raised() -> None:
    def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run_polled(fail, lambda: None)
    assert run_polled(lambda: 3, lambda: None) == 3


@pytest.mark.parametrize(
    ("camera", "limits", "expected"),
    [
        (EXIF, (8, 8), IncrementalMapper),
        (EXIF, (7, 8), GlobalMapper),
        (GUESSED, (7, 8), IncrementalMapper),
        (GUESSED, (7, 7), HierarchicalMapper),
        (EXIF, (8, 7), IncrementalMapper),
    ],
)
def test_size_and_focal_lengths_decide(
    camera: Camera, limits: tuple[int, int], expected: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    for each in (IncrementalMapper, GlobalMapper, HierarchicalMapper):
        monkeypatch.setattr(each, "map", lambda self, task: called.append(self) or [])
    config = AutoMappingConfig(
        max_incremental=limits[0], max_incremental_uncalibrated=limits[1], max_reprojection_error_px=3.0
    )
    AutoMapper(config).map(task_of(ring_scene(8, 50, camera), tmp_path))
    (mapper,) = called
    assert type(mapper) is expected
    assert mapper.config.max_reprojection_error_px == 3.0


def test_given_cameras_count_as_known(tmp_path: Path) -> None:
    database = task_of(ring_scene(4, 50, GUESSED), tmp_path).database
    assert known_focal_share(database, frozenset()) == 0
    assert known_focal_share(database, frozenset({1})) == 1


@pytest.mark.parametrize("overlap", [2, 100])
def test_parts_must_overlap(overlap: int) -> None:
    with pytest.raises(ConfigError, match=r"mapping\.part_overlap"):
        HierarchicalMappingConfig(max_part_size=100, part_overlap=overlap)


def test_limits_are_not_negative() -> None:
    with pytest.raises(ConfigError, match=r"mapping\.max_incremental"):
        AutoMappingConfig(max_incremental=-1)


def test_left_out_images_are_registered_in_the_largest_model(tmp_path: Path) -> None:
    scene = ring_scene(10, 150)
    task = task_of(scene, tmp_path, frozenset({1}))
    (model,) = IncrementalMapper().map(task)
    manager = pycolmap.ObservationManager(model)
    for image_id in sorted(model.reg_image_ids())[-2:]:
        manager.deregister_frame(model.images[image_id].frame_id)
    model.tear_down()
    options = mapper_options(MappingConfig(), 10, frozenset({1}), 1, 0)
    (extended,) = register_left_out([model], task, tmp_path, options)
    assert center_error(scene, extended) < 0.05, "the ring has a diameter of 16"
    (tmp_path / "again").mkdir()
    assert register_left_out([extended], task, tmp_path / "again", options) == [extended], "nothing is left out"
    assert register_left_out([], task, tmp_path, options) == []


def test_a_model_with_an_image_whose_pairs_were_taken_out_stays_as_it_is(tmp_path: Path) -> None:
    """COLMAP cannot go on from it: the image is missing in its cache of the database."""
    scene = ring_scene()
    task = task_of(scene, tmp_path / "scene", frozenset({1}))
    (model,) = IncrementalMapper().map(task)
    manager = pycolmap.ObservationManager(model)
    left_out, without_pairs = sorted(model.reg_image_ids())[-2:]
    manager.deregister_frame(model.images[left_out].frame_id)
    names = {image_id: model.images[image_id].name for image_id in model.images}
    remove_geometries(
        task.database,
        [ImagePair.from_names(names[without_pairs], name) for name in names.values() if name != names[without_pairs]],
    )
    options = mapper_options(MappingConfig(), 10, frozenset({1}), 1, 0)
    assert register_left_out([model], task, tmp_path, options) == [model]
