"""Readers of published formats convert them to the conventions of this library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from datasets import SceneTruth, read_scene
from datasets.colmap import read_eth3d
from datasets.homographies import hpatches_pairs, read_homographies, read_homography
from datasets.image_pairs import folder_pairs, scene_pairs
from datasets.imc import read_covisible_pairs, read_imc
from datasets.sequences import read_kitti, read_tum
from datasets.strecha import read_camera_file, read_strecha
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera
from tests.helpers.photos import textured, write_photo
from tests.helpers.shared_data import shared_data

SIZE = (64, 48)
"""(width, height) of the images of these tests."""


def photo(path: Path) -> Path:
    return write_photo(path, textured(*SIZE))


def numbers(values: object) -> str:
    return " ".join(repr(float(value)) for value in np.asarray(values).ravel())


def some_pose(seed: int) -> Rigid3:
    generator = np.random.default_rng(seed)
    return Rigid3(rotation_from_rotvec(generator.normal(size=3)), generator.normal(size=3))


def assert_poses(truth: SceneTruth, poses: dict[str, Rigid3], atol: float = 1e-12) -> None:
    assert truth.names == tuple(sorted(poses))
    for name, pose in poses.items():
        np.testing.assert_allclose(truth.cam_from_world_from_name[name].as_matrix(), pose.as_matrix(), atol=atol)
        assert (truth.image_root / name).is_file()


# --- Strecha --------------------------------------------------------------------------------------------


def camera_text(pose: Rigid3, distortion: tuple[float, ...] = (0, 0, 0), size: tuple[int, int] = SIZE) -> str:
    """The text of a file of Strecha's: R is world_from_cam, followed by the camera centre."""
    rows = [(50, 0, 31.5), (0, 51, 23.5), (0, 0, 1), distortion, *pose.R.T, pose.center, size]
    return "\n".join(numbers(row) for row in rows) + "\n"


@pytest.mark.parametrize(
    ("cameras", "images"), [("", "images"), ("fountain_dense_cameras", "urd"), ("gt_dense_cameras", "images"), ("", "")]
)
def test_strecha_scenes_project_as_documented(tmp_path: Path, cameras: str, images: str) -> None:
    poses = {f"{i:04d}.png": some_pose(i) for i in range(3)}
    for name, pose in poses.items():
        photo(tmp_path / images / name)
        (tmp_path / cameras).mkdir(exist_ok=True)
        (tmp_path / cameras / f"{name}.camera").write_text(camera_text(pose))
    truth = read_scene(tmp_path)
    assert_poses(truth, poses)
    assert truth.is_metric and truth.image_root == tmp_path / images
    assert truth.camera_from_name["0000.png"] == Camera("PINHOLE", *SIZE, (50, 51, 32, 24))
    # x ~ K [Rᵀ | -Rᵀ c] X with R and c of the file
    X = np.array([[0.3, -0.2, 5.0]]) @ poses["0001.png"].R + poses["0001.png"].center
    values = np.array((tmp_path / cameras / "0001.png.camera").read_text().split(), dtype=float)
    K, R, c = values[:9].reshape(3, 3), values[12:21].reshape(3, 3), values[21:24]
    expected = K @ (R.T @ X[0] - R.T @ c)
    seen = as_pycolmap(truth.camera_from_name["0001.png"]).img_from_cam(truth.cam_from_world_from_name["0001.png"] @ X)
    np.testing.assert_allclose(seen[0], expected[:2] / expected[2] + 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "expected 26 numbers"),
        (camera_text(some_pose(0)).replace("51.0", "many"), "could not convert"),
        (camera_text(some_pose(0), distortion=(0.1, 0, 0)), "distortion"),
        (camera_text(some_pose(0), size=(0, 48)), "size must be positive"),
        (camera_text(some_pose(0)).replace("31.5", "nan"), "finite"),
    ],
)
def test_damaged_camera_files_are_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "0000.png.camera"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"0000\.png\.camera.*{message}"):
        read_camera_file(path)


def test_a_camera_file_without_its_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0007.png.camera").write_text(camera_text(some_pose(0)))
    with pytest.raises(DataError, match=r"0007\.png\.camera: its image is missing"):
        read_strecha(tmp_path)


def test_fountain_in_strecha_files_equals_the_shared_fountain(tmp_path: Path) -> None:
    truth = read_scene(shared_data("scenes", "fountain_p11"))
    (tmp_path / "images").symlink_to(truth.image_root)
    for name in truth.names:
        pose, camera = truth.cam_from_world_from_name[name], truth.camera_from_name[name]
        fx, fy, cx, cy = camera.params
        rows = [(fx, 0, cx - 0.5), (0, fy, cy - 0.5), (0, 0, 1), (0, 0, 0), *pose.R.T, pose.center, camera.size]
        (tmp_path / f"{name}.camera").write_text("\n".join(numbers(row) for row in rows))
    again = read_scene(tmp_path)
    # The published rotations have six digits, so a translation of 15 m is not more accurate.
    assert_poses(again, dict(truth.cam_from_world_from_name), atol=1e-4)
    assert again.camera_from_name == truth.camera_from_name


# --- ETH3D and the Image Matching Challenge -------------------------------------------------------------


def write_text_model(folder: Path, poses: dict[str, Rigid3]) -> None:
    """COLMAP's text format as in ETH3D: two lines per image, the second one empty."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text("# CAMERA_ID, MODEL, ...\n0 PINHOLE 64 48 50 51 32.25 23.75\n")
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    for image_id, (name, pose) in enumerate(poses.items()):
        x, y, z, w = pycolmap.Rotation3d(pose.R).quat
        lines += [f"{image_id} {numbers([w, x, y, z])} {numbers(pose.t)} 0 {name}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("# nothing\n")


def test_eth3d_scenes_are_colmap_models_beside_their_images(tmp_path: Path) -> None:
    poses = {f"dslr_images_undistorted/DSC_{i:04d}.JPG": some_pose(i) for i in range(3)}
    scene = tmp_path / "courtyard"
    write_text_model(scene / "dslr_calibration_undistorted", poses)
    for name in poses:
        photo(scene / "images" / name)
    photo(scene / "images" / "dslr_images" / "DSC_0000.JPG")
    truth = read_scene(scene)
    assert_poses(truth, poses)
    assert (truth.name, truth.is_metric) == ("courtyard", True)
    assert set(truth.camera_from_name.values()) == {Camera("PINHOLE", *SIZE, (50, 51, 32.25, 23.75))}
    with pytest.raises(DataError, match="not a scene of ETH3D"):
        read_eth3d(tmp_path)


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_scenes_of_the_challenge_since_2023_are_models_in_sfm(tmp_path: Path, prefix: str) -> None:
    poses = {f"{prefix}photo_{i}.png": some_pose(i) for i in range(2)}
    write_text_model(tmp_path / "sfm", poses)
    for name in poses:
        photo(tmp_path / "images" / Path(name).name)
    assert_poses(read_scene(tmp_path), poses)


def write_imc(scene: Path, poses: dict[str, Rigid3]) -> None:
    rows = ["image_id,camera_intrinsics,rotation_matrix,translation_vector"]
    for name, pose in poses.items():
        photo(scene / "images" / f"{name}.jpg")
        K = [50, 0, 32, 0, 50, 24, 0, 0, 1]
        rows.append(f"{name},{numbers(K)},{numbers(pose.R)},{numbers(pose.t)}")
    (scene / "calibration.csv").write_text("\n".join(rows) + "\n")


def test_scenes_of_the_challenge_of_2022(tmp_path: Path) -> None:
    poses = {f"{i}_{i}": some_pose(i) for i in range(3)}
    scene = tmp_path / "brandenburg_gate"
    write_imc(scene, poses)
    truth = read_scene(scene)
    assert_poses(truth, {f"{name}.jpg": pose for name, pose in poses.items()})
    assert set(truth.camera_from_name.values()) == {Camera("SIMPLE_PINHOLE", *SIZE, (50, 32, 24))}
    assert not truth.is_metric
    (tmp_path / "scaling_factors.csv").write_text("scene,scaling_factor\nother,3\nbrandenburg_gate,2.5\n")
    metric = read_scene(scene)
    assert metric.is_metric
    np.testing.assert_allclose(metric.centers, 2.5 * truth.centers)


def test_pairs_of_the_challenge_have_enough_covisibility(tmp_path: Path) -> None:
    write_imc(tmp_path, {name: some_pose(i) for i, name in enumerate("abc")})
    listed = "pair,covisibility,fundamental_matrix\nb-a,0.5,1 2 3\nc-a,0.05,1 2 3\nc-b,0.1,1 2 3\n"
    (tmp_path / "pair_covisibility.csv").write_text(listed)
    assert read_covisible_pairs(tmp_path) == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]
    assert [(pair.path0.name, pair.path1.name) for pair in folder_pairs(tmp_path)] == read_covisible_pairs(tmp_path)
    (tmp_path / "pair_covisibility.csv").write_text("pair,covisibility\nb-a,0.5\nb-z,0.5\n")
    with pytest.raises(DataError, match=r"pair_covisibility\.csv:3: pair 'b-z'"):
        read_covisible_pairs(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_id,", "name,", r"calibration\.csv:1: the column image_id is missing"),
        ("\na,", "\nabsent,", r"calibration\.csv:2: no image absent"),
        ("50.0", "fifty", r"calibration\.csv:2: camera_intrinsics"),
        ("50.0 0.0 32.0", "50.0 32.0", r"calibration\.csv:2: expected 9 numbers"),
        ("50.0", "-50.0", r"calibration\.csv:2: focal lengths must be positive"),
    ],
)
def test_damaged_calibrations_are_errors(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_imc(tmp_path, {"a": some_pose(0)})
    path = tmp_path / "calibration.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_imc(tmp_path)


# --- sequences ------------------------------------------------------------------------------------------


def test_a_tum_sequence_takes_the_pose_nearest_in_time(tmp_path: Path) -> None:
    sequence = tmp_path / "rgbd_dataset_freiburg2_desk"
    half = np.sqrt(0.5)
    (sequence / "rgb").mkdir(parents=True)
    (sequence / "groundtruth.txt").write_text(
        f"# timestamp tx ty tz qx qy qz qw\n10.00 1 2 3 0 0 0 1\n10.03 4 5 6 0 0 {half} {half}\n20.0 0 0 0 0 0 0 1\n"
    )
    (sequence / "rgb.txt").write_text(
        "# timestamp filename\n10.004 rgb/a.png\n10.02 rgb/b.png\n15.0 rgb/c.png\n16.0 rgb/not_downloaded.png\n"
    )
    for name in "abc":
        photo(sequence / "rgb" / f"{name}.png")
    truth = read_scene(sequence)
    assert truth.names == ("a.png", "b.png") and truth.is_metric  # no pose is near the time of c
    np.testing.assert_allclose(truth.centers, [[1, 2, 3], [4, 5, 6]])
    # The camera is rotated by 90 degrees about z: its x axis points along the world's y.
    np.testing.assert_allclose(truth.cam_from_world_from_name["b.png"].R.T @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    camera = truth.camera_from_name["a.png"]
    assert camera.model == "FULL_OPENCV" and camera.params[:4] == (520.9, 521.0, 325.6, 250.2)


def test_a_sequence_of_unknown_camera_has_poses_only(tmp_path: Path) -> None:
    (tmp_path / "groundtruth.txt").write_text("1.5 0 0 0 0 0 0 1\n2.5 1 0 0 0 0 0 1\n")
    for stamp in ("1.500000", "2.510000", "thumbnail"):
        photo(tmp_path / "images" / f"{stamp}.png")
    truth = read_tum(tmp_path)
    assert truth.names == ("1.500000.png", "2.510000.png") and not truth.camera_from_name
    assert truth.only(truth.names[:1]).names == ("1.500000.png",)
    with pytest.raises(DataError, match="intrinsics of scene"):
        scene_pairs(truth, "group")


def test_shared_tum_frames_are_read_by_their_time_stamps(tmp_path: Path) -> None:
    """The poses nearest in time equal those of the shared `cameras.json`, up to rounding and time differences."""
    sequence = shared_data("sequences", "tum_fr2_desk")
    expected = read_scene(sequence)
    (tmp_path / "tum_fr2_desk").mkdir()
    for name in ("images", "groundtruth.txt"):
        (tmp_path / "tum_fr2_desk" / name).symlink_to(sequence / name)
    truth = read_scene(tmp_path / "tum_fr2_desk")
    assert truth.names == expected.names and truth.camera_from_name == expected.camera_from_name
    np.testing.assert_allclose(truth.centers, expected.centers, atol=5e-3)
    for name, pose in truth.cam_from_world_from_name.items():
        np.testing.assert_allclose(pose.R, expected.cam_from_world_from_name[name].R, atol=5e-3)


def write_kitti(root: Path, folder: str, num_frames: int) -> Path:
    sequence = root / "sequences" / "03"
    (root / "poses").mkdir()
    lines = []
    for i in range(num_frames):
        photo(sequence / folder / f"{i:06d}.png")
        lines.append(numbers(np.hstack([rotation_from_rotvec(np.array([0, 0.1 * i, 0])), [[i], [0], [2 * i]]])))
    (root / "poses" / "03.txt").write_text("\n".join(lines) + "\n")
    P0 = [50, 0, 31.5, 0, 0, 50, 23.5, 0, 0, 0, 1, 0]
    P2 = [50, 0, 31.5, 25 + 31.5 * 0.5, 0, 50, 23.5, 23.5 * 0.5, 0, 0, 1, 0.5]
    (sequence / "calib.txt").write_text(f"P0: {numbers(P0)}\nP2: {numbers(P2)}\n")
    return sequence


def test_a_kitti_sequence_has_the_poses_of_its_left_camera(tmp_path: Path) -> None:
    sequence = write_kitti(tmp_path, "image_0", 3)
    photo(sequence / "image_0" / "000003.png")  # a frame beyond the last pose
    truth = read_scene(sequence)
    assert truth.names == ("000000.png", "000001.png", "000002.png") and truth.is_metric
    np.testing.assert_allclose(truth.centers, [[0, 0, 0], [1, 0, 2], [2, 0, 4]])
    # world_from_cam rotates by 0.1 rad about y: the viewing direction has a positive x.
    np.testing.assert_allclose(
        truth.cam_from_world_from_name["000001.png"].R.T @ [0, 0, 1], [np.sin(0.1), 0, np.cos(0.1)]
    )
    assert truth.camera_from_name["000000.png"] == Camera("SIMPLE_PINHOLE", *SIZE, (50, 32, 24))


def test_another_kitti_camera_has_the_offset_of_its_projection(tmp_path: Path) -> None:
    """P2 = K [I | (0.5, 0, 0.5)] moves points in the frame of the left grey camera by this vector."""
    truth = read_kitti(write_kitti(tmp_path, "image_2", 2))
    np.testing.assert_allclose(truth.centers[0], [-0.5, 0, -0.5], atol=1e-12)


def test_damaged_kitti_sequences_are_errors(tmp_path: Path) -> None:
    sequence = write_kitti(tmp_path, "image_0", 2)
    poses = tmp_path / "poses" / "03.txt"
    poses.write_text(poses.read_text() + "1 2 3\n")
    with pytest.raises(DataError, match=r"03\.txt:3: expected 12 numbers"):
        read_scene(sequence)
    poses.unlink()
    with pytest.raises(DataError, match="no poses found"):
        read_scene(sequence)

    (sequence / "calib.txt").write_text("P1: 0\n")
    poses.write_text(numbers(np.eye(3, 4)) + "\n")
    with pytest.raises(DataError, match=r"calib\.txt: no line P0:"):
        read_scene(sequence)


# --- homographies ---------------------------------------------------------------------------------------


def write_hpatches(folder: Path, H: object, number: int = 2) -> None:
    for name in ("1", str(number)):
        photo(folder / f"{name}.ppm")
    (folder / f"H_1_{number}").write_text(numbers(H))


def test_hpatches_are_grouped_by_illumination_and_viewpoint(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "i_ajuntament", np.eye(3))
    write_hpatches(tmp_path / "v_abstract", np.diag([2.0, 2.0, 1.0]))
    write_hpatches(tmp_path / "v_abstract", np.diag([0.5, 0.5, 1.0]), number=6)
    write_hpatches(tmp_path / "v_talent", np.eye(3))
    pairs = read_homographies(tmp_path)
    assert [(pair.group, pair.path0.name, pair.path1.name) for pair in pairs] == [
        ("illumination", "1.ppm", "2.ppm"),
        ("viewpoint", "1.ppm", "2.ppm"),
        ("viewpoint", "1.ppm", "6.ppm"),
    ]
    # The centre of the first pixel, OpenCV's (0, 0), does not move: it is COLMAP's (0.5, 0.5).
    assert pairs[1].H is not None
    np.testing.assert_allclose(pairs[1].H @ [0.5, 0.5, 1], [0.5, 0.5, 1])
    np.testing.assert_allclose(pairs[1].H @ [1.5, 0.5, 1], [2.5, 0.5, 1])
    assert len(read_homographies(tmp_path, all_scenes=True)) == 4
    assert len(read_homographies(tmp_path / "v_talent")) == 1


def test_damaged_homographies_are_errors(tmp_path: Path) -> None:
    write_hpatches(tmp_path / "v_a", np.eye(3))
    path = tmp_path / "v_a" / "H_1_2"
    for text, message in (("1 2 3", "expected 9 numbers"), (numbers(np.zeros((3, 3))), "no inverse")):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"H_1_2.*{message}"):
            read_homography(path)
    path.write_text(numbers(np.eye(3)))
    (tmp_path / "v_a" / "1.ppm").unlink()
    with pytest.raises(DataError, match="not its image 1"):
        hpatches_pairs(tmp_path / "v_a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no homographies here"):
        read_homographies(tmp_path / "empty")


def test_graf_is_one_group_of_five_pairs() -> None:
    pairs = read_homographies(shared_data("homographies", "graf"))
    assert {pair.group for pair in pairs} == {"graf"}
    assert [pair.path1.stem for pair in pairs] == [f"img{i}" for i in range(2, 7)]
