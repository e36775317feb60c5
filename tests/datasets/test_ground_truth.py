"""Readers convert cameras exactly, and report errors in files."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from datasets import read_cameras_json, read_colmap_truth, read_scene, shared_data_root
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.synthetic import SyntheticScene, write_scene
from sfm_lightglue.types import Camera
from tests.helpers.camera_poses import SIZE, random_poses, random_rotation, write_model
from tests.helpers.shared_data import shared_data


def entry(fx=500.0, fy=510.0, cx=321.0, cy=239.5, dist=(), pose: Rigid3 | None = None) -> dict:
    pose = pose or Rigid3.identity()
    return {
        "width": SIZE[0],
        "height": SIZE[1],
        "K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
        "R": pose.R.tolist(),
        "t": pose.t.tolist(),
        "dist": list(dist),
    }


def write_json(folder: Path, entries: object, name: str = "cameras.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(entries))
    return folder / name


# --- cameras.json -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("camera", "model", "num_params"),
    [
        ({"fy": 500.0}, "SIMPLE_PINHOLE", 3),
        ({}, "PINHOLE", 4),
        ({"fy": 500.0, "dist": [0, 0, 0, 0, 0]}, "SIMPLE_PINHOLE", 3),
        ({"fy": 500.0, "dist": [-0.03, 0, 0, 0]}, "SIMPLE_RADIAL", 4),
        ({"fy": 500.0, "dist": [-0.2, 0.1]}, "RADIAL", 5),
        ({"dist": [-0.2]}, "OPENCV", 8),
        ({"fy": 500.0, "dist": [-0.2, 0.1, 0.002, -0.001]}, "OPENCV", 8),
        ({"fy": 500.0, "dist": [0, 0, 0, 0, 0.05]}, "FULL_OPENCV", 12),
        ({"dist": [0.2312, -0.7849, -0.0033, -0.0001, 0.9172]}, "FULL_OPENCV", 12),
        ({"dist": [0.3, 0.1, 0.001, 0.002, 0.05, 0.2, 0.02, 0.01]}, "FULL_OPENCV", 12),
    ],
)
def test_a_camera_has_the_fewest_parameters_and_projects_as_in_opencv(tmp_path, camera, model, num_params):
    rng = np.random.default_rng(0)
    pose = Rigid3(random_rotation(rng), rng.normal(size=3))
    values = entry(**camera, pose=pose)
    truth = read_cameras_json(write_json(tmp_path, {"a.jpg": values}))
    got = truth.camera_from_name["a.jpg"]
    assert (got.model, len(got.params), got.size, got.source) == (model, num_params, SIZE, "given")

    in_camera = rng.uniform((-0.5, -0.4, 1), (0.5, 0.4, 1), size=(50, 3)) * rng.uniform(1, 5, size=(50, 1))
    in_world = pose.inverse() @ in_camera
    rotvec, t = cv2.Rodrigues(np.array(values["R"]))[0], np.array(values["t"])
    dist = np.array([*values["dist"], *[0.0] * (8 - len(values["dist"]))])
    opencv, _ = cv2.projectPoints(in_world, rotvec, t, np.array(values["K"]), dist)
    seen = truth.cam_from_world_from_name["a.jpg"] @ in_world
    np.testing.assert_allclose(as_pycolmap(got).img_from_cam(seen), opencv[:, 0] + 0.5, atol=1e-8)


def test_cameras_json_round_trip(tmp_path):
    poses = random_poses(np.random.default_rng(1), 5)
    (tmp_path / "scene" / "images").mkdir(parents=True)
    write_json(tmp_path / "scene", {name: entry(pose=pose) for name, pose in poses.items()})
    truth = read_scene(tmp_path / "scene")
    assert truth.name == "scene" and truth.image_root == tmp_path / "scene" / "images"
    assert truth.names == tuple(sorted(poses)) and not truth.is_metric
    for name, pose in poses.items():
        np.testing.assert_array_equal(truth.cam_from_world_from_name[name].as_matrix(), pose.as_matrix())
        assert truth.camera_from_name[name].params == (500, 510, 321.5, 240)
    distances = [np.linalg.norm(a.center - b.center) for a in poses.values() for b in poses.values()]
    assert truth.extent == pytest.approx(max(distances))
    assert truth.only({"01.jpg", "03.jpg", "absent.jpg"}).names == ("01.jpg", "03.jpg")


def test_rotations_of_few_digits_become_the_nearest_ones_but_others_are_refused(tmp_path):
    pose = Rigid3(random_rotation(np.random.default_rng(0)), np.zeros(3))
    values = entry(pose=pose)
    rounded = values | {"R": (pose.R * (1 + 2e-4)).tolist()}
    found = read_cameras_json(write_json(tmp_path, {"a.jpg": rounded})).cam_from_world_from_name["a.jpg"]
    np.testing.assert_allclose(found.R, pose.R, atol=1e-12)
    for wrong in (pose.R * 1.01, pose.R * (1, 1, -1) * (1 + 2e-4)):
        with pytest.raises(DataError, match="not a rotation"):
            read_cameras_json(write_json(tmp_path, {"a.jpg": values | {"R": wrong.tolist()}}))


def test_a_truth_json_is_metric_and_images_may_be_beside_it(tmp_path):
    write_json(tmp_path, {"a.jpg": entry()}, "truth.json")
    truth = read_scene(tmp_path)
    assert truth.is_metric and truth.image_root == tmp_path


def test_synthetic_scenes_are_read_as_they_were_written(tmp_path):
    width, height = SIZE
    focal = 30 * math.hypot(width, height) / math.hypot(36, 24)  # 30 mm equivalent
    camera = Camera("SIMPLE_PINHOLE", width, height, (focal, 320.0, 240.0))
    poses = random_poses(np.random.default_rng(12), 3)
    images = {name: np.zeros((height, width, 3), np.uint8) for name in poses}
    write_scene(SyntheticScene(images, {}, camera, poses, extent_m=1.0), tmp_path)
    truth = read_scene(tmp_path)
    assert truth.is_metric and truth.image_root == tmp_path / "images"
    assert set(truth.camera_from_name.values()) == {camera}
    for name, pose in poses.items():
        np.testing.assert_allclose(truth.cam_from_world_from_name[name].as_matrix(), pose.as_matrix())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": None}, "K: expected finite numbers"),
        ({"K": [[1, 0], [0, 1]]}, "K: expected"),
        ({"K": [[500, 3, 320], [0, 500, 240], [0, 0, 1]]}, "K must be"),
        ({"K": [[500, 0, 320], [0, -500, 240], [0, 0, 1]]}, "focal lengths must be positive"),
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, 2]]}, "R is not a rotation"),
        ({"t": [0, 0, math.nan]}, "t: expected finite"),
        ({"t": [0, 0]}, "t: expected"),
        ({"dist": [0.1] * 9}, "at most 8"),
        ({"dist": ["much"]}, "dist: expected numbers"),
        ({"width": 0}, "size must be positive"),
        ({"height": "480"}, "whole numbers"),
    ],
)
def test_a_bad_entry_is_an_error_with_file_and_image(tmp_path, change, message):
    path = write_json(tmp_path, {"good.jpg": entry(), "bad.jpg": entry() | change})
    with pytest.raises(DataError) as caught:
        read_scene(tmp_path)
    assert all(part in str(caught.value) for part in (str(path), "bad.jpg", message)), caught.value


def test_a_missing_key_and_a_wrong_kind_of_entry_are_errors(tmp_path):
    incomplete = entry()
    del incomplete["t"]
    with pytest.raises(DataError, match=r"cameras\.json: a\.jpg: t is missing"):
        read_cameras_json(write_json(tmp_path, {"a.jpg": incomplete}))
    with pytest.raises(DataError, match=r"a\.jpg: expected a mapping"):
        read_cameras_json(write_json(tmp_path, {"a.jpg": [1, 2]}))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe{}", b"3"])
def test_a_file_that_is_no_mapping_in_json_is_an_error(tmp_path, content):
    (tmp_path / "cameras.json").write_bytes(content)
    with pytest.raises(DataError, match=r"cameras\.json"):
        read_scene(tmp_path)


# --- COLMAP models and folders ------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("model_path", ["sparse/0", "sparse", "."])
def test_colmap_model_round_trip(tmp_path, model_path, text):
    poses = random_poses(np.random.default_rng(2), 4)
    native = pycolmap.Camera(
        camera_id=1, model="OPENCV", width=SIZE[0], height=SIZE[1], params=[500, 510, 321, 239, 0.1, 0.2, 0.01, 0]
    )
    scene = tmp_path / "scene"
    folder = scene / "model" if model_path == "." else scene / model_path
    write_model(folder, poses, native, text)
    (scene / "images").mkdir()
    truth = read_scene(folder if model_path == "." else scene)
    assert truth.name == "scene" and truth.image_root.resolve() == (scene / "images").resolve()
    assert truth.names == tuple(sorted(poses))
    for name, pose in poses.items():
        got = truth.cam_from_world_from_name[name].as_matrix()
        np.testing.assert_allclose(got, pose.as_matrix(), atol=1e-12)
        assert truth.camera_from_name[name] == Camera("OPENCV", *SIZE, tuple(native.params))


def test_a_reconstruction_of_this_library_is_not_ground_truth(tmp_path):
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    write_model(tmp_path / "reconstruction" / "sparse" / "0", random_poses(np.random.default_rng(0), 3), camera)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    truth = read_scene(tmp_path)
    assert truth.names == () and truth.image_root == tmp_path / "images" and truth.extent == 0


def test_damaged_and_empty_models_are_errors(tmp_path):
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    write_model(tmp_path / "empty", {}, camera)
    with pytest.raises(DataError, match=r"empty.* no image"):
        read_colmap_truth(tmp_path / "empty")
    write_model(tmp_path / "torn", random_poses(np.random.default_rng(0), 3), camera)
    torn = (tmp_path / "torn" / "images.bin").read_bytes()
    (tmp_path / "torn" / "images.bin").write_bytes(torn[: len(torn) // 2])
    with pytest.raises(DataError, match="torn"):
        read_colmap_truth(tmp_path / "torn")


def test_folders_without_images_are_errors(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_scene(tmp_path / "absent")
    with pytest.raises(DataError, match="nor images found"):
        read_scene(tmp_path)


def test_the_shared_data_is_found_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SFM_LIGHTGLUE_DATA", str(tmp_path))
    assert shared_data_root() == tmp_path
    monkeypatch.setenv("SFM_LIGHTGLUE_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"absent.*SFM_LIGHTGLUE_DATA"):
        shared_data_root()


@pytest.mark.parametrize(
    ("scene", "num_images", "model", "is_metric"),
    [
        ("scenes/fountain_p11", 11, "PINHOLE", True),
        ("scenes/lund_door", 12, "SIMPLE_RADIAL", False),
        ("sequences/tum_fr2_desk", 20, "FULL_OPENCV", True),
        ("scenes/brighton_beach", 0, "", False),
    ],
)
def test_scenes_of_the_shared_data(scene, num_images, model, is_metric):
    truth = read_scene(shared_data(scene))
    assert len(truth.names) == num_images and truth.is_metric == is_metric
    assert {camera.model for camera in truth.camera_from_name.values()} == ({model} if model else set())
    assert all((truth.image_root / name).is_file() for name in truth.names)
