"""Tests that every mapper must pass."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.transforms import Rigid3, umeyama
from sfm_lightglue.mapping.base import Mapper, MappingTask


class MapperContract:
    """Tests of a `Mapper`. A subclass defines how it is built."""

    num_images = 8
    """Images of the synthetic scene that the mapper is given."""

    @classmethod
    def build(cls) -> Mapper:
        """Build the mapper."""
        raise NotImplementedError(f"{cls.__name__} must define `build`")

    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Rigid3]]:
        """A database of synthetic images with exact matches, and their true poses."""
        return write_synthetic_database(tmp_path_factory.mktemp("mapper") / "database.db", cls.num_images)

    @pytest.fixture
    def task(self, truth: tuple[Path, dict[str, Rigid3]], tmp_path: Path) -> MappingTask:
        """The task to map this database."""
        return MappingTask(truth[0], tmp_path, self.num_images, known_poses=self.known_poses(truth[1]))

    @classmethod
    def known_poses(cls, truth: dict[str, Rigid3]) -> dict[str, Rigid3]:
        """The poses that a mapper is given; none, unless a subclass defines otherwise."""
        return {}

    def test_poses_are_the_true_ones_up_to_a_similarity(
        self, task: MappingTask, truth: tuple[Path, dict[str, Rigid3]]
    ) -> None:
        """The observations are exact, so all images are registered, within 0.1 % of the extent of the cameras."""
        models = self.build().map(task)
        poses = poses_of_model(models[0])
        assert set(poses) == set(truth[1])
        estimated = np.array([poses[name].center for name in sorted(poses)])
        true = np.array([truth[1][name].center for name in sorted(poses)])
        errors = np.linalg.norm(umeyama(estimated, true) @ estimated - true, axis=1)
        assert errors.max() < 1e-3 * np.linalg.norm(np.ptp(true, axis=0))

    def test_the_largest_model_comes_first(self, task: MappingTask) -> None:
        """Models are sorted by their number of images."""
        sizes = [model.num_reg_images() for model in self.build().map(task)]
        assert sizes == sorted(sizes, reverse=True)

    def test_one_thread_and_one_seed_give_the_same_bytes(self, task: MappingTask, tmp_path: Path) -> None:
        """Two runs write identical files."""
        contents = []
        for name in ("first", "second"):
            work = tmp_path / name
            (work / "model").mkdir(parents=True)
            self.build().map(dataclasses.replace(task, work=work))[0].write_binary(work / "model")
            contents.append({path.name: path.read_bytes() for path in (work / "model").iterdir()})
        assert contents[0] == contents[1]

    def test_progress_ends_with_all_images(self, task: MappingTask) -> None:
        """The stage is "map", and the numbers never decrease."""
        reports: list[tuple[str, int, int]] = []
        self.build().map(dataclasses.replace(task, progress=lambda *report: reports.append(report)))
        assert {stage for stage, _, _ in reports} == {"map"}
        numbers = [num_done for _, num_done, _ in reports]
        assert numbers == sorted(numbers)
        assert reports[-1] == ("map", self.num_images, self.num_images)

    def test_a_database_without_pairs_gives_no_model(self, tmp_path: Path) -> None:
        """This is a normal outcome, not an error."""
        database, truth = write_synthetic_database(tmp_path / "database.db", 4, with_pairs=False)
        (tmp_path / "work").mkdir()
        task = MappingTask(database, tmp_path / "work", 4, known_poses=self.known_poses(truth))
        assert self.build().map(task) == []

    def test_version_and_configuration_are_part_of_a_key(self) -> None:
        """The version names the mapper, because the key has no other name; the configuration is a dataclass."""
        mapper = self.build()
        assert isinstance(mapper.version, str)
        assert not mapper.version.replace(".", "").isdigit()
        assert dataclasses.is_dataclass(mapper.config)


def write_synthetic_database(path: Path, num_images: int, with_pairs: bool = True) -> tuple[Path, dict[str, Rigid3]]:
    """Write a COLMAP database of synthetic images with exact keypoints and verified pairs.

    Args:
        path: of the new database.
        num_images: number of images.
        with_pairs: False leaves out matches and geometries.

    Returns:
        The path, and the true `cam_from_world` by name of image.
    """
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, num_images
    options.num_points3D, options.num_points2D_without_point3D = 150, 5
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(path) as database:
        truth = pycolmap.synthesize_dataset(options, database)
        if not with_pairs:
            database.clear_two_view_geometries()
            database.clear_matches()
    return path, poses_of_model(truth)
