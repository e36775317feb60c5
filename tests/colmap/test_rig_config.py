"""Rigs of COLMAP's configuration file are checked, and a database with them is mapped to the size of the rig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.colmap.rig_config import read_rigs
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.incremental import IncrementalMapper
from sfm_lightglue.types import SceneImage, TwoViewGeometry
from tests.helpers.exact_scenes import GIVEN, ExactScene, ring_scene

RIGHT_FROM_LEFT = Rigid3.from_rotvec([0.02, -0.05, 0.01], [-0.4, 0.02, 0.03])
QUATERNION = pycolmap.Rotation3d(RIGHT_FROM_LEFT.R).quat[[3, 0, 1, 2]].tolist()
LEFT: dict[str, Any] = {"image_prefix": "left/", "ref_sensor": True}
RIGHT: dict[str, Any] = {
    "image_prefix": "right/",
    "cam_from_rig_rotation": QUATERNION,
    "cam_from_rig_translation": RIGHT_FROM_LEFT.t.tolist(),
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "rig_config.json"
    path.write_text(json.dumps(value))
    return path


def images_of(**camera_from_name: int) -> list[SceneImage]:
    return [
        SceneImage(name.replace("_", "/") + ".jpg", Path(name), GIVEN, idx, "")
        for name, idx in camera_from_name.items()
    ]


def test_the_model_has_the_size_of_the_rig(tmp_path: Path) -> None:
    poses = {}
    for name, pose in ring_scene(7).poses.items():
        poses[f"left/{name}"], poses[f"right/{name}"] = pose, RIGHT_FROM_LEFT @ pose
    scene = ExactScene(poses, ring_scene().points)
    images = [SceneImage(name, Path(name), GIVEN, int(name.startswith("right")), "") for name in sorted(poses)]
    database = tmp_path / "database.db"
    with DatabaseWriter(database) as writer:
        for image in images:
            writer.add_image(image, scene.observed[image.name][1].astype(np.float32))
        for pair in scene.pairs:
            matches, pose = scene.matches(pair), scene.relative_pose(pair)
            E = essential_from_pose(pose)
            writer.add_pair(pair, matches, TwoViewGeometry("general", np.ones(len(matches), np.bool_), pose, E, E))
    path = write(tmp_path, [{"cameras": [LEFT, RIGHT]}])
    rigs = read_rigs(path)
    rigs.check(images, path)
    rigs.apply(database)
    (model,) = IncrementalMapper().map(MappingTask(database, tmp_path / "work", 14, frozenset({1, 2})))
    found = poses_of_model(model)
    assert set(found) == set(poses)
    assert model.num_reg_frames() == 7
    for name in ring_scene(7).poses:
        right_from_left = found[f"right/{name}"] @ found[f"left/{name}"].inverse()
        assert np.allclose(right_from_left.as_matrix(), RIGHT_FROM_LEFT.as_matrix(), atol=1e-6)
    lengths = [np.linalg.norm(each["left/00.jpg"].center - each["left/06.jpg"].center) for each in (dict(poses), found)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "expected a list of rigs"),
        ([], "expected a list of rigs"),
        ([{"cameras": [LEFT]}], "rig 1: expected a list `cameras` of two or more"),
        ([{"cameras": [LEFT, LEFT]}], r"exactly one camera must have \"ref_sensor\": true, got 2"),
        ([{"cameras": [RIGHT, RIGHT]}], "exactly one camera .* got 0"),
        ([{"cameras": [LEFT, {"image_prefix": "right/"}]}], "rig 1, camera 2: expected `cam_from_rig_rotation`, 4 num"),
        ([{"cameras": [LEFT, RIGHT | {"cam_from_rig_translation": [1, 2]}]}], "expected `cam_from_rig_translation`, 3"),
        ([{"cameras": [LEFT, RIGHT | {"cam_from_rig_rotation": [1, 1, 0, 0]}]}], "quaternion of length 1"),
        ([{"cameras": [LEFT, RIGHT | {"image_prefix": ""}]}], "start of the names of its images"),
        ([{"cameras": [LEFT, RIGHT | {"image_prefix": "left/a"}]}], "the prefix 'left/' is also that of images"),
        (["rig"], "rig 1: expected a list"),
    ],
)
def test_incomplete_rigs_are_refused(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_rigs(write(tmp_path, value))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rig_config.json").write_text("not JSON")
    with pytest.raises(DataError, match="not a JSON file"):
        read_rigs(tmp_path / "rig_config.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_rigs(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"left_0": 0, "left_1": 0}, "no image has the prefix 'right/'"),
        ({"left_0": 0, "right_1": 1}, "no two images have the same name"),
        ({"left_0": 0, "right_0": 0}, "need one camera"),
        ({"left_0": 0, "left_1": 2, "right_0": 1}, "the prefix 'left/' need one camera"),
    ],
)
def test_rigs_that_do_not_fit_the_images_are_refused(images: dict[str, int], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, [{"cameras": [LEFT, RIGHT]}])
    with pytest.raises(DataError, match=message):
        read_rigs(path).check(images_of(**images), path)


def test_a_camera_of_which_no_image_could_be_read_is_told(tmp_path: Path) -> None:
    path, database = write(tmp_path, [{"cameras": [LEFT, RIGHT]}]), tmp_path / "database.db"
    images = images_of(left_0=0, left_1=0, right_0=1, right_1=1)
    rigs = read_rigs(path)
    rigs.check(images, path)
    with DatabaseWriter(database) as writer:
        for image in images[:2]:
            writer.add_image(image, np.ones((1, 2), np.float32))
    with pytest.raises(DataError, match="none of the images with the prefix 'right/' could be read"):
        rigs.apply(database)
