"""Readers give COLMAP's cameras exactly, and errors are those that were put in."""

import itertools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from shared_data import shared_data

from datasets import (
    NotAligned,
    SceneTruth,
    evaluate_model,
    evaluate_poses,
    read_cameras_json,
    read_colmap_truth,
    read_scene,
    shared_data_root,
)
from sfm_lightglue.alignment import AlignedPoses
from sfm_lightglue.cameras import as_pycolmap
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry import Rigid3, Sim3, relative_pose_error_deg, rotation_from_rotvec
from sfm_lightglue.synthetic import SyntheticScene, write_scene
from sfm_lightglue.types import Camera

SIZE = (640, 480)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    return rotation_from_rotvec(rng.normal(size=3))


def random_poses(rng: np.random.Generator, num_images: int) -> dict[str, Rigid3]:
    poses = {}
    for i in range(num_images):
        R = random_rotation(rng)
        poses[f"{i:02d}.jpg"] = Rigid3(R, -R @ (rng.normal(size=3) * 3))
    return poses


def as_truth(poses: dict[str, Rigid3]) -> SceneTruth:
    camera = Camera("SIMPLE_PINHOLE", *SIZE, (500.0, 320.0, 240.0))
    return SceneTruth("scene", Path("images"), poses, dict.fromkeys(poses, camera))


def transformed(poses: dict[str, Rigid3], new_from_old: Sim3) -> dict[str, Rigid3]:
    """The same cameras, seen from another world frame and in another unit."""
    moved = {}
    for name, pose in poses.items():
        R = pose.R @ new_from_old.R.T
        moved[name] = Rigid3(R, -R @ (new_from_old @ pose.center))
    return moved


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


def write_model(folder: Path, poses: dict[str, Rigid3], camera: pycolmap.Camera, text: bool = False) -> None:
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    for image_id, (name, pose) in enumerate(sorted(poses.items()), start=1):
        image = pycolmap.Image(name=name, camera_id=camera.camera_id, image_id=image_id)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), pose.t))
    folder.mkdir(parents=True)
    (model.write_text if text else model.write_binary)(folder)


# --- cameras.json ---------------------------------------------------------------------------------------


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
def test_a_camera_is_the_smallest_that_projects_as_opencv_does(tmp_path, camera, model, num_params):
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


def test_a_truth_json_is_metric_and_photos_may_lie_beside_it(tmp_path):
    write_json(tmp_path, {"a.jpg": entry()}, "truth.json")
    truth = read_scene(tmp_path)
    assert truth.is_metric and truth.image_root == tmp_path


def test_our_synthetic_scenes_are_read_as_they_were_written(tmp_path):
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
    ("change", "complaint"),
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
def test_a_bad_entry_is_told_with_file_and_image(tmp_path, change, complaint):
    path = write_json(tmp_path, {"good.jpg": entry(), "bad.jpg": entry() | change})
    with pytest.raises(DataError) as caught:
        read_scene(tmp_path)
    assert all(part in str(caught.value) for part in (str(path), "bad.jpg", complaint)), caught.value


def test_a_missing_key_and_a_wrong_kind_of_entry_are_told(tmp_path):
    incomplete = entry()
    del incomplete["t"]
    with pytest.raises(DataError, match=r"cameras\.json: a\.jpg: t is missing"):
        read_cameras_json(write_json(tmp_path, {"a.jpg": incomplete}))
    with pytest.raises(DataError, match=r"a\.jpg: expected a mapping"):
        read_cameras_json(write_json(tmp_path, {"a.jpg": [1, 2]}))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe{}", b"3"])
def test_a_file_that_is_no_mapping_in_json_is_told(tmp_path, content):
    (tmp_path / "cameras.json").write_bytes(content)
    with pytest.raises(DataError, match=r"cameras\.json"):
        read_scene(tmp_path)


# --- COLMAP models and folders --------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("place", ["sparse/0", "sparse", "."])
def test_colmap_model_round_trip(tmp_path, place, text):
    poses = random_poses(np.random.default_rng(2), 4)
    native = pycolmap.Camera(
        camera_id=1, model="OPENCV", width=SIZE[0], height=SIZE[1], params=[500, 510, 321, 239, 0.1, 0.2, 0.01, 0]
    )
    scene = tmp_path / "scene"
    folder = scene / "model" if place == "." else scene / place
    write_model(folder, poses, native, text)
    (scene / "images").mkdir()
    truth = read_scene(folder if place == "." else scene)
    assert truth.name == "scene" and truth.image_root.resolve() == (scene / "images").resolve()
    assert truth.names == tuple(sorted(poses))
    for name, pose in poses.items():
        got = truth.cam_from_world_from_name[name].as_matrix()
        np.testing.assert_allclose(got, pose.as_matrix(), atol=1e-12)
        assert truth.camera_from_name[name] == Camera("OPENCV", *SIZE, tuple(native.params))


def test_our_own_reconstruction_is_not_taken_for_truth(tmp_path):
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    write_model(tmp_path / "reconstruction" / "sparse" / "0", random_poses(np.random.default_rng(0), 3), camera)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    truth = read_scene(tmp_path)
    assert truth.names == () and truth.image_root == tmp_path / "images" and truth.extent == 0


def test_damaged_and_empty_models_are_told(tmp_path):
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    write_model(tmp_path / "empty", {}, camera)
    with pytest.raises(DataError, match=r"empty.* no image"):
        read_colmap_truth(tmp_path / "empty")
    write_model(tmp_path / "torn", random_poses(np.random.default_rng(0), 3), camera)
    torn = (tmp_path / "torn" / "images.bin").read_bytes()
    (tmp_path / "torn" / "images.bin").write_bytes(torn[: len(torn) // 2])
    with pytest.raises(DataError, match="torn"):
        read_colmap_truth(tmp_path / "torn")


def test_folders_with_nothing_are_told(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_scene(tmp_path / "absent")
    with pytest.raises(DataError, match="nor photos"):
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


# --- evaluation -----------------------------------------------------------------------------------------


def accuracy_of(poses: dict[str, Rigid3], truth: SceneTruth) -> AlignedPoses:
    accuracy = evaluate_poses(poses, truth).accuracy
    assert isinstance(accuracy, AlignedPoses)
    return accuracy


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_in_another_frame_and_unit_has_no_error(seed):
    rng = np.random.default_rng(seed)
    poses = random_poses(rng, 8)
    moved = Sim3(float(rng.uniform(0.01, 100)), random_rotation(rng), rng.normal(size=3) * 50)
    evaluation = evaluate_poses(transformed(poses, moved), as_truth(poses))
    accuracy = evaluation.accuracy
    assert isinstance(accuracy, AlignedPoses) and not accuracy.is_collinear
    assert accuracy.max_center_error < 1e-10
    assert max(accuracy.rotation_errors_deg.values()) < 1e-9
    assert accuracy.truth_from_estimate.scale == pytest.approx(1 / moved.scale)
    assert evaluation.pair_errors_deg.shape == (28,) and evaluation.pair_errors_deg.max() < 1e-6
    assert evaluation.auc() == pytest.approx((1, 1, 1, 1), abs=1e-6)


def test_a_displaced_camera_has_the_known_error():
    """Among N cameras the shift of one moves the alignment by a share of 1/N only."""
    rng = np.random.default_rng(0)
    poses = random_poses(rng, 200)
    displaced = dict(poses)
    pose, shift = poses["07.jpg"], np.array([0.3, 0.0, 0.4]) * 1e-2
    displaced["07.jpg"] = Rigid3(pose.R, -pose.R @ (pose.center + shift))
    accuracy = accuracy_of(displaced, as_truth(poses))
    assert accuracy.center_errors["07.jpg"] == pytest.approx(0.5e-2, rel=0.05)
    assert accuracy.median_center_error < 0.05e-2
    assert accuracy.max_center_error == accuracy.center_errors["07.jpg"]
    assert accuracy.mean_center_error == pytest.approx(np.mean(list(accuracy.center_errors.values())))


def test_noise_of_known_size_leaves_the_known_rms_error():
    """Least squares over 3N numbers with 7 unknowns leave a share of 1 - 7 / 3N of the variance."""
    rng = np.random.default_rng(3)
    poses = random_poses(rng, 20)
    squares = []
    for _ in range(100):
        noisy = {
            name: Rigid3(pose.R, -pose.R @ (pose.center + rng.normal(scale=1e-3, size=3)))
            for name, pose in poses.items()
        }
        squares += [error**2 for error in accuracy_of(noisy, as_truth(poses)).center_errors.values()]
    assert math.sqrt(np.mean(squares)) == pytest.approx(1e-3 * math.sqrt(3 * (1 - 7 / 60)), rel=0.05)


def test_a_turned_camera_has_the_known_rotation_and_pair_errors():
    poses = random_poses(np.random.default_rng(4), 6)
    turn = rotation_from_rotvec(np.radians([0.0, 3.0, 0.0]))
    turned = dict(poses)
    pose = poses["02.jpg"]
    turned["02.jpg"] = Rigid3(turn @ pose.R, turn @ pose.t)
    evaluation = evaluate_poses(turned, as_truth(poses))
    assert isinstance(evaluation.accuracy, AlignedPoses)
    errors = evaluation.accuracy.rotation_errors_deg
    assert errors["02.jpg"] == pytest.approx(3)
    assert max(error for name, error in errors.items() if name != "02.jpg") < 1e-9
    assert evaluation.accuracy.median_rotation_error_deg < 1e-9
    # Of 15 pairs, 5 have the turned camera and an error of 3 degrees; its own axes turn the direction less.
    assert np.sort(evaluation.pair_errors_deg) == pytest.approx([0] * 10 + [3] * 5, abs=1e-6)
    assert evaluation.auc((1.0, 3.0, 6.0))[0] == pytest.approx(10 / 15)


def test_unregistered_images_and_images_without_truth_are_counted():
    poses = random_poses(np.random.default_rng(5), 6)
    found = {name: pose for name, pose in poses.items() if name not in {"00.jpg", "03.jpg"}}
    evaluation = evaluate_poses(found | {"new.jpg": Rigid3.identity()}, as_truth(poses))
    assert (evaluation.num_images, evaluation.num_registered, evaluation.num_unregistered) == (6, 4, 2)
    assert evaluation.num_without_truth == 1
    assert isinstance(evaluation.accuracy, AlignedPoses) and set(evaluation.accuracy.center_errors) == set(found)
    # 6 of 15 pairs have both images.
    assert np.isinf(evaluation.pair_errors_deg).sum() == 9
    assert evaluation.auc() == pytest.approx([6 / 15] * 4)


def test_pair_errors_are_those_of_the_relative_poses():
    rng = np.random.default_rng(11)
    poses, guesses = random_poses(rng, 7), random_poses(rng, 7)
    del guesses["02.jpg"]
    expected = [
        max(relative_pose_error_deg(guesses[name1] @ guesses[name0].inverse(), poses[name1] @ poses[name0].inverse()))
        if "02.jpg" not in (name0, name1)
        else math.inf
        for name0, name1 in itertools.combinations(sorted(poses), 2)
    ]
    evaluation = evaluate_poses(guesses, as_truth(poses))
    np.testing.assert_allclose(evaluation.pair_errors_deg, expected, atol=1e-9)


@pytest.mark.parametrize("num_registered", [0, 1, 2])
def test_too_few_images_for_an_alignment_are_told(num_registered):
    poses = random_poses(np.random.default_rng(6), 4)
    evaluation = evaluate_poses(dict(list(poses.items())[:num_registered]), as_truth(poses))
    assert isinstance(evaluation.accuracy, NotAligned)
    assert f"{num_registered} registered" in evaluation.accuracy.reason
    assert evaluation.num_registered == num_registered
    assert evaluation.auc() == pytest.approx([(1 if num_registered == 2 else 0) / 6] * 4)


@pytest.mark.parametrize("which", ["model", "truth"])
def test_cameras_at_one_place_are_told(which):
    poses = random_poses(np.random.default_rng(7), 5)
    coinciding = {name: Rigid3(pose.R, np.zeros(3)) for name, pose in poses.items()}
    model, truth = (coinciding, poses) if which == "model" else (poses, coinciding)
    accuracy = evaluate_poses(model, as_truth(truth)).accuracy
    assert isinstance(accuracy, NotAligned) and "coincide" in accuracy.reason


def test_pairs_from_one_place_are_judged_by_rotation_alone():
    rng = np.random.default_rng(8)
    poses = {f"{i}.jpg": Rigid3(random_rotation(rng), np.zeros(3)) for i in range(3)}
    evaluation = evaluate_poses(poses, as_truth(poses))
    assert evaluation.pair_errors_deg.max() < 1e-9


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-2])
def test_collinear_cameras_keep_their_orientations(noise):
    """The turn around the line is open for the centres; the orientations decide it."""
    rng = np.random.default_rng(9)
    axis = random_rotation(rng)[0]
    poses = {}
    for i in range(6):
        R = random_rotation(rng)
        poses[f"{i}.jpg"] = Rigid3(R, -R @ (i * axis + noise * rng.normal(size=3)))
    moved = transformed(poses, Sim3(0.2, random_rotation(rng), np.ones(3)))
    jitter = {name: Rigid3(pose.R, pose.t + 0.2 * noise * rng.normal(size=3)) for name, pose in moved.items()}
    accuracy = accuracy_of(jitter, as_truth(poses))
    assert accuracy.is_collinear
    assert accuracy.max_center_error < max(10 * noise, 1e-9)
    # The direction of a line of length 5 is known to about noise / 5, the turn around it by the orientations.
    assert max(accuracy.rotation_errors_deg.values()) < max(math.degrees(noise), 1e-6)


def test_a_pycolmap_model_is_evaluated_as_its_poses_are(tmp_path):
    poses = random_poses(np.random.default_rng(10), 5)
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    write_model(tmp_path / "model", dict(list(poses.items())[:4]), camera)
    evaluation = evaluate_model(pycolmap.Reconstruction(tmp_path / "model"), as_truth(poses))
    assert evaluation.num_registered == 4 and evaluation.num_unregistered == 1
    assert isinstance(evaluation.accuracy, AlignedPoses) and evaluation.accuracy.max_center_error < 1e-10
    assert max(evaluation.accuracy.rotation_errors_deg.values()) < 1e-9
