"""Photos of a rig with known poses: the model has frames of several images, and the size of the rig."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from pipelines.reconstruct import build_parser, config_values
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.reconstructions import one_thread


def rig_scene(small_scene: SyntheticScene, small_scene_dir: Path, root: Path) -> tuple[Path, Path]:
    """The small scene as if two of its photos were taken together; returns the folder and the file of the rig."""
    photos = sorted(small_scene.cam_from_world_from_name)
    for number, name in enumerate(photos):
        folder = root / "images" / ("right" if number == 1 else "left")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(small_scene_dir / "images" / name, folder / ("00.jpg" if number < 2 else name))
    left, right = (small_scene.cam_from_world_from_name[name] for name in photos[:2])
    right_from_left = right @ left.inverse()
    path = root / "rig_config.json"
    cameras = [
        {"image_prefix": "left/", "ref_sensor": True},
        {
            "image_prefix": "right/",
            "cam_from_rig_rotation": pycolmap.Rotation3d(right_from_left.R).quat[[3, 0, 1, 2]].tolist(),
            "cam_from_rig_translation": right_from_left.t.tolist(),
        },
    ]
    path.write_text(json.dumps([{"cameras": cameras}]))
    return root / "images", path


def test_a_reconstruction_has_the_size_of_the_rig(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    images, rig = rig_scene(small_scene, small_scene_dir, tmp_path)
    config = one_thread(rig=str(rig), cameras={"mode": "per-folder"}, density={"level": "sparse"})
    result = reconstruct(images, tmp_path / "out", config)
    model = read_model(tmp_path / "out")
    assert model.num_reg_images() == model.num_reg_frames() + 1
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as database:
        assert database.num_rigs() == 1
    poses, truth = poses_of_model(model), small_scene.cam_from_world_from_name
    last = max(truth)
    distances = [
        np.linalg.norm(each[first].center - each[second].center)
        for each, first, second in ((poses, "left/00.jpg", f"left/{last}"), (truth, min(truth), last))
    ]
    assert distances[0] == pytest.approx(distances[1], rel=0.02)
    again = reconstruct(images, tmp_path / "out", config)
    assert again.summary.cache["by_kind"]["models"]["misses"] == 0
    assert result.summary.num_registered == again.summary.num_registered


def test_a_rig_that_does_not_fit_is_refused_before_anything_is_computed(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    images, rig = rig_scene(small_scene, small_scene_dir, tmp_path)
    with pytest.raises(DataError, match=r"need one camera.*`cameras\.mode` per-folder"):
        reconstruct(images, tmp_path / "out", one_thread(rig=str(rig), cameras={"mode": "per-image"}))
    assert not (tmp_path / "out").exists()


def test_the_flag_is_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rig_config.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    values = config_values(build_parser().parse_args(["photos", "--rig", "rig_config.json"]), ReconstructConfig)
    assert values["rig"] == str(tmp_path / "rig_config.json")
    assert ReconstructConfig.from_mapping(values).rig_file == tmp_path / "rig_config.json"
