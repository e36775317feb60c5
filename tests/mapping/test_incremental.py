"""The final robust bundle adjustment, on noisy observations of known points by known cameras."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, StoreError
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import IncrementalMapper, MappingConfig, adjust_robustly, mapper_options
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.reconstructions import one_thread


def noisy_model(seed: int, coarse_share: float = 0.15) -> tuple[pycolmap.Reconstruction, dict]:
    """A model adjusted by least squares to keypoints of which a fraction is less accurate, and its true poses."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 8
    options.num_points3D = 150
    pycolmap.set_random_seed(seed)
    model = pycolmap.synthesize_dataset(options)
    truth = poses_of_model(model)
    generator = np.random.default_rng(seed)
    for image_id in sorted(model.images):
        for point in model.image(image_id).points2D:
            sigma = 1.0 if generator.random() < coarse_share else 0.1
            point.xy = point.xy + generator.normal(scale=sigma, size=2)
    plain = pycolmap.BundleAdjustmentOptions()
    plain.print_summary = False
    pycolmap.bundle_adjustment(model, plain)
    return model, truth


def adjust(model: pycolmap.Reconstruction, max_error_px: float = 4.0, constant: frozenset[int] = frozenset()) -> None:
    options = mapper_options(MappingConfig(max_reprojection_error_px=max_error_px), 8, constant, 1, 0)
    adjust_robustly(model, 0.5, options)


def center_error(model: pycolmap.Reconstruction, truth: dict) -> float:
    return align_poses(poses_of_model(model), truth).mean_center_error


def test_a_robust_loss_improves_cameras_if_some_keypoints_are_coarse() -> None:
    ratios = []
    for seed in range(5):
        model, truth = noisy_model(seed)
        before = center_error(model, truth)
        adjust(model)
        ratios.append(center_error(model, truth) / before)
    assert np.median(ratios) < 0.75


def test_a_robust_loss_does_no_harm_if_all_keypoints_are_equally_accurate() -> None:
    ratios = []
    for seed in range(5):
        model, truth = noisy_model(seed, coarse_share=0.0)
        before = center_error(model, truth)
        adjust(model)
        ratios.append(center_error(model, truth) / before)
    assert max(ratios) < 1.1


def test_given_intrinsics_are_kept_and_large_errors_removed() -> None:
    model, _ = noisy_model(0)
    (camera_id,) = model.cameras
    before, num_before = list(model.camera(camera_id).params), model.compute_num_observations()
    adjust(model, 1.5, frozenset({camera_id}))
    assert list(model.camera(camera_id).params) == before
    assert model.compute_num_observations() < num_before
    for point in model.points3D.values():
        errors = []
        for element in point.track.elements:
            image = model.image(element.image_id)
            errors.append(np.linalg.norm(image.project_point(point.xyz) - image.points2D[element.point2D_idx].xy))
        assert max(errors) <= 1.5
        assert point.error == pytest.approx(np.mean(errors))
    adjust(model, 1.5)
    assert list(model.camera(camera_id).params) != before


@pytest.mark.parametrize("num_photos", [2, 6])
def test_a_reconstruction_ends_with_robust_adjustment(small_scene_dir: Path, tmp_path: Path, num_photos: int) -> None:
    """Also with two images."""
    images = tmp_path / "images"
    images.mkdir()
    for photo in sorted((small_scene_dir / "images").iterdir())[:num_photos]:
        shutil.copy(photo, images)
    models = []
    for loss_px in (0.0, 0.5):
        output = tmp_path / f"output-{loss_px}"
        reconstruct(images, output, one_thread(mapping={"robust_loss_px": loss_px}))
        models.append(read_model(output))
    plain, robust = models
    assert plain.num_reg_images() == robust.num_reg_images() == num_photos
    errors = [np.sort([point.error for point in model.points3D.values()]) for model in models]
    assert len(errors[0]) != len(errors[1]) or not np.allclose(*errors, rtol=1e-3)


def test_a_negative_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="robust_loss_px"):
        MappingConfig(robust_loss_px=-1)


@pytest.fixture
def task(tmp_path: Path) -> MappingTask:
    """Eight images of known matches."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 8
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        pycolmap.synthesize_dataset(options, database)
    return MappingTask(tmp_path / "database.db", tmp_path / "work", 8, frozenset(), 1, 0, silent)


def test_rare_global_adjustments_lead_to_the_poses_of_frequent_ones(tmp_path: Path) -> None:
    """The defaults of COLMAP adjust the whole model more often; after the last adjustment the errors are the same."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 20
    options.num_points3D = 300
    pycolmap.set_random_seed(1)
    database = tmp_path / "database.db"
    with pycolmap.Database.open(database) as opened:
        model = pycolmap.synthesize_dataset(options, opened)
        pycolmap.synthesize_noise(pycolmap.SyntheticNoiseOptions(point2D_stddev=0.5), model, opened)
    truth = poses_of_model(model)
    task = MappingTask(database, tmp_path / "work", 20, frozenset(), 1, 0, silent)
    rare = IncrementalMapper().map(task)[0]
    often, defaults = mapper_options(MappingConfig(), 20, frozenset(), 1, 0), pycolmap.IncrementalPipelineOptions()
    for name in ("ba_global_frames_ratio", "ba_global_points_ratio", "ba_global_max_refinements"):
        assert getattr(often, name) != getattr(defaults, name)
        setattr(often, name, getattr(defaults, name))
    (tmp_path / "often").mkdir()
    frequent = pycolmap.incremental_mapping(database, tmp_path, tmp_path / "often", often)[0]
    adjust_robustly(frequent, 0.5, often)
    assert rare.num_reg_images() == frequent.num_reg_images() == 20
    assert 0 < center_error(rare, truth) < 1.05 * center_error(frequent, truth)


def test_a_damaged_database_is_an_error_of_the_work_folder(task: MappingTask) -> None:
    content = task.database.read_bytes()
    task.database.write_bytes(content[:8192] + bytes(32768) + content[40960:])
    with pytest.raises(StoreError, match=r"the mapper cannot read or write its files .*malformed"):
        IncrementalMapper().map(task)


def test_a_folder_that_disappears_is_an_error_of_the_work_folder(task: MappingTask) -> None:
    def remove(stage: str, num_done: int, num_total: int) -> None:
        if num_done > 1:
            shutil.rmtree(task.work, ignore_errors=True)

    with pytest.raises(StoreError, match=r"the mapper cannot read or write its files .*mapping-0/0"):
        IncrementalMapper().map(replace(task, progress=remove))


def test_other_errors_are_passed_on(task: MappingTask) -> None:
    def fail(stage: str, num_done: int, num_total: int) -> None:
        if num_done > 1:
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        IncrementalMapper().map(replace(task, progress=fail))
