"""Finished models that grow: photos come in, and ids and poses of the others stay."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError, ReconstructionError
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.reconstruction import extend as extend_module
from sfm_lightglue.reconstruction.extend import extend, extend_or_reconstruct
from sfm_lightglue.reconstruction.extend_judgement import ExtensionJudge
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.foreign_models import with_other_keypoints, write_model
from tests.helpers.reconstructions import one_thread, tree
from tests.helpers.sparse_maps import EXTRACTOR

ADDED = ("view_04.jpg", "view_05.jpg")
CONFIG = one_thread(extractor=EXTRACTOR, density={"level": "sparse"}, refine={"mode": "off"})


def add_photos(scene: Path, source: Path, names: tuple[str, ...] = ADDED) -> None:
    for name in names:
        shutil.copy(source / "images" / name, scene / "images" / name)


def sparse(scene: Path):
    return read_model(scene / "reconstruction" / "sparse" / "0")


def record(scene: Path) -> dict:
    return json.loads((scene / "reconstruction" / "run.json").read_text())


def largest_errors(model, truth) -> tuple[float, float]:
    """Largest rotation error in degrees, and of the centres in parts of the largest distance of two cameras."""
    aligned = align_poses(poses_of_model(model), truth)
    centers = np.array([pose.center for pose in truth.values()])
    return max(aligned.rotation_errors_deg.values()), aligned.mean_center_error / np.ptp(centers, axis=0).max()


def largest_move(before, after) -> float:
    """Largest change of an entry of the pose of an earlier image."""
    moved = [
        after.images[i].cam_from_world().matrix() - before.images[i].cam_from_world().matrix()
        for i in before.reg_image_ids()
    ]
    return float(np.abs(moved).max())


def assert_old_images_stay(before, after, tolerance: float = 0.01) -> None:
    """Ids, cameras and frame; poses of images that others touch move by less than the tolerance."""
    poses = poses_of_model(after)
    for image_id in before.reg_image_ids():
        image = before.images[image_id]
        assert after.images[image_id].name == image.name
        assert len(after.images[image_id].points2D) >= len(image.points2D)
    assert largest_move(before, after) <= tolerance
    assert set(poses) >= {before.images[image_id].name for image_id in before.reg_image_ids()}
    assert {i: c.params.tolist() for i, c in before.cameras.items()} == {
        i: c.params.tolist() for i, c in after.cameras.items() if i in before.cameras
    }


def test_photos_come_in_and_everything_else_stays(own_scene, small_scene_dir, small_scene):
    before = sparse(own_scene)
    add_photos(own_scene, small_scene_dir)
    result = extend(own_scene, config=CONFIG)
    after = sparse(own_scene)
    assert result.summary.num_registered == 6
    extension = record(own_scene)["extension"]
    assert extension["added"] == list(ADDED)
    names = {before.images[image_id].name for image_id in before.reg_image_ids()}
    assert set(extension["adjusted"]) <= names
    assert len(extension["adjusted"]) > 1
    assert_old_images_stay(before, after)
    assert largest_move(before, after) > 0, "the photos touch the others"
    kept = set(before.point3D_ids()) & set(after.point3D_ids())
    assert len(kept) > 0.9 * before.num_points3D()
    assert after.num_points3D() > before.num_points3D()
    rotation_deg, center = largest_errors(after, small_scene.cam_from_world_from_name)
    assert rotation_deg < 0.5
    assert center < 0.01


def test_the_database_has_the_ids_of_the_model(own_scene, small_scene_dir):
    before = read_database(own_scene / "reconstruction" / "database.db")
    add_photos(own_scene, small_scene_dir)
    extend(own_scene, config=CONFIG)
    model, after = sparse(own_scene), read_database(own_scene / "reconstruction" / "database.db")
    pairs = set(after.matches_from_pair) - set(before.matches_from_pair)
    assert set(before.matches_from_pair) < set(after.matches_from_pair)
    assert all(set(ADDED) & {pair.name0, pair.name1} for pair in pairs)
    for image in model.images.values():
        assert len(image.points2D) == len(after.features_from_name[image.name])


def test_a_model_grows_again_and_a_finished_extension_computes_nothing(own_scene, small_scene_dir):
    before = sparse(own_scene)
    add_photos(own_scene, small_scene_dir, ADDED[:1])
    extend(own_scene, config=CONFIG)
    add_photos(own_scene, small_scene_dir, ADDED[1:])
    extend(own_scene, config=CONFIG)
    assert_old_images_stay(before, sparse(own_scene))
    files = tree(own_scene)
    again = extend(own_scene, config=CONFIG)
    assert again.summary.num_registered == 6
    assert tree(own_scene) == files


class Told:
    """A `WorkProgress` that keeps what it is told last of each stage."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int, int]] = {}

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        raise AssertionError("`advance` is called instead")

    def advance(self, stage: str, *counts: int) -> None:
        self.last[stage] = counts


def test_the_progress_tells_found_features_from_extracted_ones(own_scene, small_scene_dir):
    add_photos(own_scene, small_scene_dir)
    told = Told()
    extend(own_scene, config=CONFIG, progress=told)
    num_images = len(list((own_scene / "images").iterdir()))
    assert told.last["extract"] == (num_images, num_images, num_images - len(ADDED))


def test_dense_points_of_the_photos_are_added_and_refined(small_scene_dir, small_scene, tmp_path):
    config = one_thread()
    for name in sorted(path.name for path in (small_scene_dir / "images").iterdir()):
        (tmp_path / "images").mkdir(exist_ok=True)
        if name not in ADDED:
            shutil.copy(small_scene_dir / "images" / name, tmp_path / "images" / name)
    reconstruct(tmp_path, config=config)
    before = sparse(tmp_path)
    add_photos(tmp_path, small_scene_dir)
    result = extend(tmp_path, config=config)
    after = sparse(tmp_path)
    assert_old_images_stay(before, after)
    assert largest_move(before, after) > 0
    assert after.num_points3D() > 1.2 * before.num_points3D()
    assert result.summary.mean_reprojection_error_px < 0.15
    assert all(np.any(point.color != 0) for point in after.points3D.values())
    rotation_deg, center = largest_errors(after, small_scene.cam_from_world_from_name)
    assert rotation_deg < 0.1
    assert center < 0.002


def test_an_interrupted_extension_goes_on_to_the_same_bytes(own_scene, small_scene_dir, tmp_path, monkeypatch):
    add_photos(own_scene, small_scene_dir)
    shutil.copytree(own_scene, tmp_path / "straight")
    extend(tmp_path / "straight", config=CONFIG)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(extend_module, "publish", killed)
        extend(own_scene, config=CONFIG)
    assert sparse(own_scene).num_reg_images() == 4
    result = extend(own_scene, config=CONFIG)
    assert result.summary.cache["by_kind"]["matches"]["misses"] == 0
    assert result.summary.cache["by_kind"]["models"]["misses"] == 0
    paths = ["sparse/0/images.bin", "sparse/0/points3D.bin", "points.ply", "database.db"]
    files, straight = (tree(scene / "reconstruction") for scene in (own_scene, tmp_path / "straight"))
    assert [files[path] == straight[path] for path in paths] == [True] * len(paths)


def test_a_worse_model_is_not_published_and_told(own_scene, small_scene_dir, monkeypatch, caplog):
    before = tree(own_scene / "reconstruction" / "sparse")
    add_photos(own_scene, small_scene_dir)
    monkeypatch.setattr(ExtensionJudge, "problem", lambda *arguments: "it is bent")
    result = extend(own_scene, config=CONFIG)
    assert tree(own_scene / "reconstruction" / "sparse") == before
    assert "it is bent" in caplog.text
    assert "it is bent" in result.summary.pairs
    assert record(own_scene)["extension"]["added"] == []
    assert set(result.summary.unregistered) == set(ADDED)


def test_a_photo_of_something_else_stays_out_with_a_reason(own_scene, small_scene_dir, small_scene, caplog):
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (360, 480, 3), dtype=np.uint8)
    Image.fromarray(noise).save(own_scene / "images" / "noise.png")
    before = tree(own_scene / "reconstruction" / "sparse")
    result = extend(own_scene, config=CONFIG)
    assert result.summary.images["noise.png"]["reason"] == "no_matches"
    extension = record(own_scene)["extension"]
    assert extension["left_out"] == {"noise.png": "no_matches"}
    assert extension["adjusted"] == []
    assert tree(own_scene / "reconstruction" / "sparse") == before
    assert "no image came into the model" in caplog.text


def test_a_model_of_another_tool_keeps_its_poses_and_points(own_scene, small_scene_dir, small_scene, tmp_path):
    before = with_other_keypoints(sparse(own_scene))
    folder = write_model(before, tmp_path / "elsewhere")
    scene = tmp_path / "photos"
    shutil.copytree(small_scene_dir / "images", scene / "images")
    result = extend(scene, config=CONFIG, model=folder)
    after = sparse(scene)
    assert result.summary.num_registered == 6
    assert_old_images_stay(before, after, 0.0)
    image = next(iter(before.images.values()))
    for old, kept in zip(image.points2D, after.images[image.image_id].points2D, strict=False):
        assert np.allclose(old.xy, kept.xy)
    rotation_deg, center = largest_errors(after, small_scene.cam_from_world_from_name)
    assert rotation_deg < 0.5
    assert center < 0.01


def test_without_a_finished_model_the_message_says_what_to_do(small_scene_dir, tmp_path):
    with pytest.raises(ReconstructionError, match="without extending"):
        extend(small_scene_dir, tmp_path / "none", CONFIG)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReconstructionError, match="no finished model"):
        extend(small_scene_dir, tmp_path / "empty", CONFIG)


def test_a_missing_image_of_the_model_is_named(own_scene, small_scene_dir):
    add_photos(own_scene, small_scene_dir)
    (own_scene / "images" / "view_01.jpg").unlink()
    with pytest.raises(DataError, match=r"missing.*view_01\.jpg"):
        extend(own_scene, config=CONFIG)


def test_auto_extends_a_finished_model_or_reconstructs(own_scene, small_scene_dir, tmp_path):
    before = sparse(own_scene)
    add_photos(own_scene, small_scene_dir)
    extend_or_reconstruct(own_scene, config=CONFIG)
    assert_old_images_stay(before, sparse(own_scene))
    shutil.copytree(own_scene / "images", tmp_path / "fresh" / "images")
    result = extend_or_reconstruct(tmp_path / "fresh", config=CONFIG)
    assert result.summary.num_registered == 6
    assert "extension" not in record(tmp_path / "fresh")
