"""A scene whose poses are known: they stay, and its matches are triangulated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, ReconstructionError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.densify_map import densify
from sfm_lightglue.reconstruction.extend import extend
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.reconstructions import copy_scene, one_thread

_FLIPPED = np.diag([1.0, -1.0, -1.0, 1.0])


def write_transforms(path: Path, scene: SyntheticScene, poses: dict[str, Rigid3]) -> Path:
    focal, cx, cy = scene.camera.params
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": (pose.inverse().as_matrix() @ _FLIPPED).tolist()}
        for name, pose in poses.items()
    ]
    path.write_text(json.dumps({"fl_x": focal, "cx": cx, "cy": cy, "frames": frames}))
    return path


def test_known_poses_stay_and_points_are_found(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_scene(small_scene_dir, tmp_path / "scene")
    poses = dict(sorted(small_scene.cam_from_world_from_name.items())[:4])
    path = write_transforms(tmp_path / "transforms.json", small_scene, poses)
    config = one_thread(poses=str(path))
    result = reconstruct(folder, config=config)
    found = poses_of_model(read_model(result.output))
    assert set(found) == set(poses)
    for name, pose in poses.items():
        assert np.abs(found[name].as_matrix() - pose.as_matrix()).max() < 1e-12
    model = read_model(result.output)
    assert model.num_points3D() > 500
    assert model.compute_mean_reprojection_error() < 0.5
    assert next(iter(model.cameras.values())).params[0] == pytest.approx(small_scene.camera.params[0], abs=1e-12)
    assert "no pose of them: view_04.jpg, view_05.jpg" in caplog.text
    recorded = json.loads((result.output / "run.json").read_text())["config"]
    assert (recorded["poses"], recorded["mapping"]["name"], recorded["pairs"]["name"]) == (
        str(path),
        "known_poses",
        "frusta",
    )
    again = reconstruct(folder, config=ReconstructConfig.from_mapping(recorded))
    assert again.summary.cache["misses"] == 0
    dense = poses_of_model(densify(result.output).model)
    assert max(np.abs(dense[name].as_matrix() - pose.as_matrix()).max() for name, pose in poses.items()) < 1e-12
    with pytest.raises(ConfigError, match=r"`poses`.*an extension finds the poses"):
        extend(folder, config=config)


def test_an_image_without_a_pair_keeps_its_known_pose(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    """Nothing else is tried with it: its pose would be found anew, and the others adjusted."""
    folder = tmp_path / "scene"
    poses = dict(sorted(small_scene.cam_from_world_from_name.items())[:4])
    (folder / "images").mkdir(parents=True)
    for name in poses:
        shutil.copyfile(small_scene_dir / "images" / name, folder / "images" / name)
    noise = np.random.default_rng(0).integers(0, 256, (45, 60, 3), np.uint8)
    PIL.Image.fromarray(noise).resize((480, 360), PIL.Image.Resampling.BICUBIC).save(folder / "images" / "other.jpg")
    known = {**poses, "other.jpg": poses["view_03.jpg"]}
    path = write_transforms(tmp_path / "transforms.json", small_scene, known)
    plain = {"density": {"level": "sparse"}, "refine": {"mode": "off"}, "extractor": {"max_keypoints": 512}}
    result = reconstruct(folder, config=one_thread(poses=str(path), **plain))
    assert result.summary.images["other.jpg"]["status"] != "registered"
    assert not any(image["tried"] for image in result.summary.images.values())
    found = poses_of_model(read_model(result.output))
    assert max(np.abs(found[name].as_matrix() - pose.as_matrix()).max() for name, pose in poses.items()) < 1e-12


def test_wrong_poses_are_not_told_as_a_success(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    """Poses that go with other images contradict the matches."""
    folder = copy_scene(small_scene_dir, tmp_path / "scene")
    names = sorted(small_scene.cam_from_world_from_name)
    shifted = dict(
        zip(names, [small_scene.cam_from_world_from_name[name] for name in names[3:] + names[:3]], strict=True)
    )
    path = write_transforms(tmp_path / "transforms.json", small_scene, shifted)
    with pytest.raises(ReconstructionError):
        reconstruct(folder, config=one_thread(poses=str(path), density={"level": "sparse"}, refine={"mode": "off"}))


def test_options_that_contradict_known_poses_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`mapping\.name` incremental finds poses, and `poses` gives them"):
        one_thread(poses="p.json", mapping={"name": "incremental"})
    with pytest.raises(ConfigError, match=r"`mapping\.name` known_poses needs the poses"):
        one_thread(mapping={"name": "known_poses"})
    for name, value in (("rig", "rig.json"), ("positions", "p.csv"), ("cameras", {"params": [500, 240, 180, 0]})):
        with pytest.raises(ConfigError, match=f"`{name}.*` and `poses` exclude each other"):
            one_thread(**{"poses": "p.json", name: value})


def test_limits_and_excluded_pairs_are_kept() -> None:
    config = one_thread(poses="p.json", mapping={"max_reprojection_error_px": 3}, pairs={"exclude": "no.txt"})
    assert config.mapping.config.max_reprojection_error_px == 3
    assert (config.pairs.name, config.pairs.config.exclude) == ("frusta", "no.txt")
    assert one_thread(poses="p.json", pairs={"name": "exhaustive"}).pairs.name == "exhaustive"
    assert ReconstructConfig.from_mapping(config.as_mapping()) == config
