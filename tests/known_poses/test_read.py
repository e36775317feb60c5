"""Files of poses: each convention by hand, exported files that are read again, and errors that say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.known_poses.read import read_known_images, with_known_poses
from sfm_lightglue.reconstruction.export_map import export_map
from sfm_lightglue.scene.cameras import as_pycolmap, default_camera
from sfm_lightglue.types import Camera, Scene, SceneImage, SkippedImage
from tests.helpers.export_scenes import FISHEYE, FULL, NAMES, OFF_CENTER, PINHOLE, RADIAL, SIZE, write_scene

LEVEL = Rigid3(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3))
"""A camera at the origin that looks along +y of the world; +z of the world is up."""


def scene_of(names=NAMES, root: Path = Path("/photos"), size: tuple[int, int] = SIZE, skipped=()) -> Scene:
    camera = default_camera("SIMPLE_RADIAL", size, None)
    images = tuple(SceneImage(name, root / name, camera, 0, name, (1.0, 2.0, 3.0)) for name in sorted(names))
    return Scene(root, images, skipped)


def assert_looks_along_y(image: SceneImage) -> None:
    """A point ahead is at the centre; one to the right is to the right, and one above is above, by 100 pixels."""
    pose = image.cam_from_world
    assert pose is not None
    points = pose @ np.array([[0.0, 5, 0], [1, 5, 0], [0, 5, 1]])
    pixels = as_pycolmap(image.camera).img_from_cam(points)
    assert np.allclose(pixels, [[160, 120], [260, 120], [160, 20]], atol=1e-9)


WORLD_FROM_GL = [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
"""OpenGL's camera axes: -z looks along +y of the world, and +y is its +z."""


def test_transforms_json_has_opengls_camera_axes(tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    frame = {"file_path": "./images/a", "transform_matrix": WORLD_FROM_GL}
    path.write_text(json.dumps({"camera_angle_x": 2 * np.arctan(160 / 500), "frames": [frame]}))
    (image,) = with_known_poses(scene_of(["a.png"]), path).images
    assert image.camera.model == "PINHOLE"
    assert_looks_along_y(image)
    assert image.gps_position is None


def test_bundler_looks_along_the_negative_z_axis_with_y_up(tmp_path: Path) -> None:
    path = tmp_path / "bundle.out"
    camera = "500 0 0\n1 0 0\n0 0 1\n0 -1 0\n0 0 0\n"
    path.write_text(f"# Bundle file v0.3\n2 0\n{camera}0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n")
    (tmp_path / "list.txt").write_text("./a b.png 0 480.5\nunregistered.png\n")
    (image,) = with_known_poses(scene_of(["a b.png"]), path).images
    assert_looks_along_y(image)


def test_opensfm_has_normalised_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "reconstruction.json"
    camera = {"projection_type": "perspective", "width": 640, "height": 480, "focal": 500 / 320, "k1": 0, "k2": 0}
    shot = {"rotation": [np.pi / 2, 0, 0], "translation": [0, 0, 0], "camera": "c"}
    path.write_text(json.dumps([{"cameras": {"c": camera}, "shots": {"a.png": shot}, "points": {}}]))
    (image,) = with_known_poses(scene_of(["a.png"]), path).images
    assert_looks_along_y(image)


@pytest.mark.parametrize(
    ("name", "camera"),
    [
        ("colmap", FULL),
        ("nerfstudio", OFF_CENTER),
        ("nerfstudio", FISHEYE),
        ("nerfstudio", RADIAL),
        ("bundler", RADIAL),
        ("bundler", PINHOLE),
        ("opensfm", RADIAL),
        ("opensfm", OFF_CENTER),
        ("opensfm", FISHEYE),
    ],
)
def test_an_export_is_read_again(tmp_path: Path, name: str, camera: Camera) -> None:
    model, path = write_scene(tmp_path / "map", camera)
    output = tmp_path / ("out.json" if name == "opensfm" else "out")
    export_map(path, name, output, images=tmp_path / "map" / "images")
    scene = with_known_poses(scene_of(), output)
    assert scene.names == tuple(sorted(NAMES))
    poses = poses_of_model(model)
    rays = np.column_stack([np.random.default_rng(0).uniform(-0.4, 0.4, (30, 2)), np.ones(30)])
    for image in scene.images:
        assert image.cam_from_world is not None
        assert np.abs(image.cam_from_world.as_matrix() - poses[image.name].as_matrix()).max() < 1e-9
        assert (
            np.abs(as_pycolmap(image.camera).img_from_cam(rays) - as_pycolmap(camera).img_from_cam(rays)).max() < 1e-6
        )
        assert image.camera.source == "given"
    shares_cameras = name != "bundler"  # each image of Bundler has a focal length of its own
    assert len({image.camera_idx for image in scene.images}) == (1 if shares_cameras else len(NAMES))


def transforms(folder: Path, names, **more) -> Path:
    frames = [{"file_path": name, "transform_matrix": WORLD_FROM_GL} for name in names]
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 500, **more, "frames": frames}))
    return folder / "transforms.json"


def test_missing_images_are_named(tmp_path: Path) -> None:
    path = transforms(tmp_path, ["images/a.png", "images/b.png", "images/c.png"])
    with pytest.raises(DataError, match=r"2 of its 3 images are not in /photos: images/b\.png, images/c\.png; no"):
        with_known_poses(scene_of(["a.png"]), path)
    assert with_known_poses(scene_of(["a.png"]), path, is_part=True).names == ("a.png",)
    with pytest.raises(DataError, match="3 of its 3 images"):
        with_known_poses(scene_of(["z.png"]), path, is_part=True)
    unreadable = (SkippedImage("b.png", "damaged"), SkippedImage("c.png", "damaged"))
    assert with_known_poses(scene_of(["a.png"], skipped=unreadable), path).names == ("a.png",)


def test_images_without_a_pose_are_left_out(tmp_path: Path) -> None:
    scene = with_known_poses(scene_of(["a.png", "b.png"]), transforms(tmp_path, ["a.png"]))
    assert scene.names == ("a.png",)
    assert scene.skipped == (SkippedImage("b.png", "no pose in transforms.json"),)


def test_names_may_lie_in_another_folder(tmp_path: Path) -> None:
    path = transforms(tmp_path, ["/home/me/x/left/0.png", "/home/me/x/right/0.png"])
    assert with_known_poses(scene_of(["left/0.png", "right/0.png"]), path).names == ("left/0.png", "right/0.png")
    path = transforms(tmp_path, ["C:\\x\\a.png", "C:\\x\\b.png"])
    assert with_known_poses(scene_of(["a.png", "b.png"]), path).names == ("a.png", "b.png")
    with pytest.raises(DataError, match="are the same image, a"):
        with_known_poses(scene_of(["a.png"]), transforms(tmp_path, ["a.png", "./a.png"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"w": 640, "h": 480}, "the file says 640 x 480 pixels, the image has 320 x 240"),
        ({"fl_x": "x"}, "fl_x is 'x', expected a number"),
        ({"fl_x": -5}, "the focal length must be positive"),
        ({"fl_x": None}, "neither fl_x nor camera_angle_x"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model EQUIRECTANGULAR is not supported"),
        ({"k4": 0.1}, "k4 of a perspective camera is not supported"),
    ],
)
def test_impossible_cameras_are_refused(tmp_path: Path, values, message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_known_poses(scene_of(["a.png"]), transforms(tmp_path, ["a.png"], **values))


@pytest.mark.parametrize("key", ["rotation", "translation"])
@pytest.mark.parametrize("value", [[0, "north", 0], [0, 0], [[0], [0, 1], 0], {}, [0, None, 0], [0, 0, 10**400], None])
def test_vectors_of_opensfm_that_are_no_numbers_are_refused(tmp_path: Path, key: str, value) -> None:
    shot = {"rotation": [0, 0, 0], "translation": [0, 0, 0], "camera": "c", key: value}
    (tmp_path / "reconstruction.json").write_text(
        json.dumps([{"cameras": {"c": {"focal": 1}}, "shots": {"a.png": shot}}])
    )
    with pytest.raises(DataError, match=rf"reconstruction\.json: image 'a\.png': {key} must have three numbers"):
        read_known_images(tmp_path / "reconstruction.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("{}", "no poses in it; expected transforms.json"),
        ('{"frames": []}', "no image has a pose"),
        ('{"frames": [{}]}', "frame 1 has no file_path"),
        ('{"frames": [{"file_path": "a.png"}]}', "its pose is not a matrix|no matrix"),
        ('{"frames": [{"file_path": "a.png", "transform_matrix": [[2,0,0,0],[0,2,0,0],[0,0,2,0]]}]}', "has a scale"),
        ('[{"shots": {"a.png": {"camera": "c"}}, "cameras": {}}]', "'a.png': has no camera"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "poses.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        with_known_poses(scene_of(["a.png"]), path)


def test_damaged_bundle_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle.out"
    path.write_text("# Bundle file v0.3\n1 0\n500 0 0\n")
    with pytest.raises(DataError, match=r"list\.txt with the names of its images is missing"):
        read_known_images(path)
    (tmp_path / "list.txt").write_text("a.png\n")
    with pytest.raises(DataError, match="expected 15 numbers of each camera"):
        read_known_images(path)
    path.write_text("# Bundle file v0.3\n0 0\n")
    with pytest.raises(DataError, match="has 0 cameras, and its list names 1 images"):
        read_known_images(path)
    with pytest.raises(DataError, match=r"expected transforms\.json of nerfstudio"):
        read_known_images(tmp_path / "list.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_known_images(tmp_path / "nothing.json")
