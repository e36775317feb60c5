"""Every format is read back by a reader that shares no code with the library: points project to the same pixels."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pycolmap
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.exports.geographic import PlacedImage, view_angles
from sfm_lightglue.exports.kml import placemark
from sfm_lightglue.reconstruction.export_map import export_map
from sfm_lightglue.scene.local_frame import ecef_from_geographic, enu_from_ecef_rotation
from tests.helpers.export_scenes import (
    FISHEYE,
    FOV,
    FULL,
    NAMES,
    OFF_CENTER,
    PINHOLE,
    RADIAL,
    SIZE,
    project,
    write_scene,
)
from tests.helpers.format_readers import (
    ReadModel,
    read_bundler,
    read_nvm,
    read_openmvg,
    read_opensfm,
    read_ply,
    read_transforms,
)

MAX_ERROR_PX = 1e-6

READERS = {
    "nvm": (lambda path: read_nvm(path, SIZE), (PINHOLE,)),
    "bundler": (lambda path: read_bundler(path, SIZE), (PINHOLE, RADIAL)),
    "openmvg": (read_openmvg, (PINHOLE, RADIAL)),
    "opensfm": (read_opensfm, (PINHOLE, RADIAL, OFF_CENTER, FISHEYE)),
    "nerfstudio": (read_transforms, (PINHOLE, RADIAL, OFF_CENTER, FISHEYE)),
}
CASES = [
    pytest.param(name, camera, id=f"{name}-{camera.model}")
    for name, (_, cameras) in READERS.items()
    for camera in cameras
]


def assert_same(read: ReadModel, model: pycolmap.Reconstruction) -> None:
    """The images, the points, their projections and observations are those of the model."""
    assert set(read.project) == set(NAMES)
    ids = sorted(model.points3D)
    points = np.array([model.points3D[point_id].xyz for point_id in ids])
    assert np.allclose(read.xyz, points, atol=1e-5)
    for name, image_project in read.project.items():
        assert np.abs(image_project(points) - project(model, name, points)).max() < MAX_ERROR_PX
    if len(read.colors) > 0:
        assert np.array_equal(read.colors, [model.points3D[point_id].color for point_id in ids])
    if read.seen:
        assert len(read.seen) == model.compute_num_observations()
        for point, name, x, y in read.seen:
            assert np.abs(project(model, name, points[[point]])[0] - (x, y)).max() < 1e-4


@pytest.mark.parametrize(("name", "camera"), CASES)
def test_a_reader_gets_the_same_pixels(tmp_path: Path, name: str, camera) -> None:
    model, path = write_scene(tmp_path / "map", camera)
    output = tmp_path / "a folder" / "out é"
    summary = export_map(path, name, output, images=tmp_path / "map" / "images")
    assert (summary.num_images, summary.num_points) == (len(NAMES), model.num_points3D())
    assert_same(READERS[name][0](output), model)


@pytest.mark.parametrize(("encoding", "camera"), [("colmap", FOV), ("colmap-text", FULL)])
def test_pycolmap_reads_the_model_again(tmp_path: Path, encoding: str, camera) -> None:
    model, path = write_scene(tmp_path / "map", camera)
    if encoding == "colmap-text":
        with pytest.raises(DataError, match=r"image 'a b\.png': text models cannot express spaces"):
            export_map(path, encoding, tmp_path / "out")
        for image in model.images.values():
            image.name = image.name.replace(" ", "-")
        model.write_binary(path)
    export_map(path, encoding, tmp_path / "out")
    suffix = ".txt" if encoding == "colmap-text" else ".bin"
    assert (tmp_path / "out" / f"cameras{suffix}").is_file()
    again = pycolmap.Reconstruction(tmp_path / "out")
    names = {image.name for image in model.images.values()}
    assert {image.name for image in again.images.values()} == names
    points = np.array([model.points3D[point_id].xyz for point_id in sorted(model.points3D)])
    for name in names:
        assert np.abs(project(again, name, points) - project(model, name, points)).max() < MAX_ERROR_PX
    assert again.compute_num_observations() == model.compute_num_observations()


def test_a_point_cloud_has_colours_and_normals_towards_the_cameras(tmp_path: Path) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    export_map(path, "ply", tmp_path / "points.ply")
    xyz, normals, colors = read_ply(tmp_path / "points.ply")
    ids = sorted(model.points3D)
    assert np.allclose(xyz, [model.points3D[point_id].xyz for point_id in ids], atol=1e-6)
    assert np.array_equal(colors, [model.points3D[point_id].color for point_id in ids])
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    for point_id, position, normal in zip(ids, xyz, normals, strict=True):
        rays = [
            model.images[element.image_id].projection_center() - position
            for element in model.points3D[point_id].track.elements
        ]
        mean = np.mean([ray / np.linalg.norm(ray) for ray in rays], axis=0)
        assert mean @ normal > -1e-6


def test_the_normals_of_a_plane_are_its_normal(tmp_path: Path) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    for point in model.points3D.values():
        point.xyz = point.xyz * (1, 1, 0)
    model.write_binary(path)
    export_map(path, "ply", tmp_path / "points.ply", options={"num_neighbors": 8})
    assert np.allclose(np.abs(read_ply(tmp_path / "points.ply")[1]), (0, 0, 1), atol=1e-5)


def test_trajectories_have_the_poses_of_the_cameras(tmp_path: Path) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    export_map(path, "kitti", tmp_path / "kitti.txt")
    export_map(path, "tum", tmp_path / "tum.txt", images=tmp_path / "map" / "images")
    poses = [model.find_image_with_name(name).cam_from_world().inverse() for name in sorted(NAMES)]
    matrices = np.loadtxt(tmp_path / "kitti.txt").reshape(-1, 3, 4)
    assert np.allclose(matrices, [pose.matrix() for pose in poses], atol=1e-12)
    rows = np.loadtxt(tmp_path / "tum.txt")
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    for row, pose in zip(rows, poses, strict=True):
        assert np.allclose(pycolmap.Rigid3d(pycolmap.Rotation3d(row[4:]), row[1:4]).matrix(), pose.matrix(), atol=1e-9)


def test_a_trajectory_has_the_times_of_the_frames(tmp_path: Path) -> None:
    _, path = write_scene(tmp_path / "map", PINHOLE)
    lines = [f"{name} {index / 4}\n" for index, name in enumerate(sorted(NAMES))]
    (tmp_path / "map" / "times.txt").write_text("".join(lines), encoding="utf-8")
    export_map(path, "tum", tmp_path / "tum.txt", images=tmp_path / "map" / "images")
    assert np.loadtxt(tmp_path / "tum.txt")[:, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]


ORIGIN = (47.37, 8.54, 450.0)


def write_georegistration(folder: Path, origin: tuple[float, float, float] | None = ORIGIN) -> None:
    keys = ("latitude_deg", "longitude_deg", "altitude_m")
    value = None if origin is None else dict(zip(keys, origin, strict=True))
    (folder / "georegistration.json").write_text(json.dumps({"origin": value, "frame": "east_north_up"}))


def test_cameras_stand_on_the_earth_where_their_centres_are(tmp_path: Path) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    write_georegistration(path)
    export_map(path, "geojson", tmp_path / "cameras.geojson")
    export_map(path, "kml", tmp_path / "cameras.kml")
    features = json.loads((tmp_path / "cameras.geojson").read_text(encoding="utf-8"))["features"]
    assert [feature["properties"]["name"] for feature in features] == sorted(NAMES)
    root = ElementTree.parse(tmp_path / "cameras.kml").getroot()
    space = {"k": "http://www.opengis.net/kml/2.2"}
    marks = root.findall(".//k:Placemark", space)
    for feature, mark in zip(features, marks, strict=True):
        longitude, latitude, altitude = feature["geometry"]["coordinates"]
        name = feature["properties"]["name"]
        ecef = ecef_from_geographic(np.array([[latitude, longitude, altitude], ORIGIN]))
        enu = enu_from_ecef_rotation(ORIGIN) @ (ecef[0] - ecef[1])
        pose = model.find_image_with_name(name).cam_from_world()
        assert np.allclose(enu, pose.inverse().translation, atol=1e-6)
        axis = pose.rotation.matrix()[2]
        heading = np.deg2rad(feature["properties"]["heading_deg"])
        assert np.allclose(axis[:2] / np.linalg.norm(axis[:2]), (np.sin(heading), np.cos(heading)), atol=1e-6)
        assert np.isclose(np.cos(np.deg2rad(feature["properties"]["tilt_deg"])), -axis[2], atol=1e-6)
        assert mark.findtext("k:name", namespaces=space) == name
        coordinates = mark.findtext("k:Point/k:coordinates", namespaces=space)
        assert coordinates is not None
        assert [float(text) for text in coordinates.split(",")] == [longitude, latitude, altitude]


def turn(axis: int, angle_deg: float) -> np.ndarray:
    """Right-handed rotation about one of the axes."""
    vector = np.zeros(3)
    vector[axis] = np.deg2rad(angle_deg)
    return cv2.Rodrigues(vector)[0]


@pytest.mark.parametrize(
    ("heading", "tilt", "roll"), [(30, 80, 0), (200, 45, 100), (359, 91, -170), (120, 1.5, 40), (75, 178.5, -20)]
)
def test_heading_tilt_and_roll_give_the_rotation_again(heading: float, tilt: float, roll: float) -> None:
    """KML turns a camera with x right, y up, z backwards that looks down: about z, about x, and about z again."""
    world_from_cam = turn(2, -heading) @ turn(0, tilt) @ turn(2, -roll)
    R = np.diag([1.0, -1, -1]) @ world_from_cam.T
    assert np.allclose(view_angles(R), (heading, tilt, roll), atol=1e-9)


@pytest.mark.parametrize("north", [0.0, 0.3, -0.3])
def test_the_heading_of_an_image_from_above_is_that_of_its_upper_side(north: float) -> None:
    R = np.diag([1.0, -1, -1]) @ (turn(2, -130) @ turn(0, north)).T
    heading, tilt, roll = view_angles(R)
    assert np.isclose(heading, 130)
    assert (np.isclose(tilt, abs(north)), roll) == (True, 0)
    R = np.diag([1.0, -1, -1]) @ (turn(2, -130) @ turn(0, 180 - north)).T
    assert np.allclose(view_angles(R), (130, 180 - abs(north), 0))


def test_a_view_of_kml_has_a_roll(tmp_path: Path) -> None:
    model, path = write_scene(tmp_path / "map", PINHOLE)
    write_georegistration(path)
    export_map(path, "kml", tmp_path / "cameras.kml")
    for mark in ElementTree.parse(tmp_path / "cameras.kml").iter("{http://www.opengis.net/kml/2.2}Placemark"):
        values = {element.tag.partition("}")[2]: element.text or "" for element in mark.iter()}
        pose = model.find_image_with_name(values["name"]).cam_from_world()
        heading, tilt, roll = (float(values[key]) for key in ("heading", "tilt", "roll"))
        rebuilt = np.diag([1.0, -1, -1]) @ (turn(2, -heading) @ turn(0, tilt) @ turn(2, roll)).T
        assert np.allclose(rebuilt, pose.rotation.matrix(), atol=1e-6)


def test_a_camera_that_leans_to_its_left_has_a_positive_roll_in_kml() -> None:
    """Its axes in KML are right, up and backwards: a right-handed turn about the last one lifts the right side."""
    angle = np.deg2rad(30)
    right, upper, forward = (np.cos(angle), 0, np.sin(angle)), (-np.sin(angle), 0, np.cos(angle)), (0.0, 1.0, 0.0)
    heading, tilt, roll = view_angles(np.array([right, np.negative(upper), forward]))
    mark = placemark(PlacedImage("left.jpg", 47.0, 8.0, 400.0, heading, tilt, roll))
    assert "<heading>0.000000</heading><tilt>90.000000</tilt><roll>30.000000</roll>" in mark


def test_with_a_positive_roll_in_kml_the_right_end_of_the_horizon_is_lower() -> None:
    """As the reference defines it: x right, y up, z to the eye; turns about z, x and z, the last one right-handed."""
    heading, tilt, roll = 40.0, 90.0, 20.0
    world_from_eye = turn(2, -heading) @ turn(0, tilt) @ turn(2, roll)
    R = np.diag([1.0, -1, -1]) @ world_from_eye.T  # to a camera with y down and z forward
    left, right = (R @ (np.sin(a), np.cos(a), 0.0) for a in np.deg2rad((heading - 10, heading + 10)))
    assert left[0] < right[0] and left[1] / left[2] < 0 < right[1] / right[2]
    mark = placemark(PlacedImage("a.jpg", 47.0, 8.0, 400.0, *view_angles(R)))
    assert "<heading>40.000000</heading><tilt>90.000000</tilt><roll>20.000000</roll>" in mark


@pytest.mark.parametrize("roll", [0.0, -0.0, 1e-9, -1e-9])
def test_a_level_camera_has_no_negative_zero_in_kml(roll: float) -> None:
    assert "<roll>0.000000</roll>" in placemark(PlacedImage("level.jpg", 47.0, 8.0, 400.0, 0.0, 90.0, roll))


def test_opensfm_has_a_reference_only_of_gps_positions(tmp_path: Path) -> None:
    _, path = write_scene(tmp_path / "map", PINHOLE)
    export_map(path, "opensfm", tmp_path / "without.json")
    assert "reference_lla" not in json.loads((tmp_path / "without.json").read_text(encoding="utf-8"))[0]
    write_georegistration(path)
    export_map(path, "opensfm", tmp_path / "with.json")
    (found,) = json.loads((tmp_path / "with.json").read_text(encoding="utf-8"))
    assert tuple(found["reference_lla"][key] for key in ("latitude", "longitude", "altitude")) == ORIGIN


@pytest.mark.parametrize(("camera", "is_fisheye"), [(FISHEYE, True), (OFF_CENTER, None)])
def test_instant_ngp_is_told_of_fisheyes(tmp_path: Path, camera, is_fisheye) -> None:
    _, path = write_scene(tmp_path / "map", camera)
    export_map(path, "nerfstudio", tmp_path / "out", images=tmp_path / "map" / "images")
    assert (
        json.loads((tmp_path / "out" / "transforms.json").read_text(encoding="utf-8")).get("is_fisheye") is is_fisheye
    )


@pytest.mark.parametrize("name", ["geojson", "kml"])
def test_a_model_without_gps_positions_has_no_place_on_the_earth(tmp_path: Path, name: str) -> None:
    _, path = write_scene(tmp_path / "map", PINHOLE)
    with pytest.raises(DataError, match=f"format {name}: the model has no georegistration.json"):
        export_map(path, name, tmp_path / "out")
    write_georegistration(path, None)
    with pytest.raises(DataError, match="frame of given coordinates"):
        export_map(path, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "camera", "problem"),
    [
        ("nvm", RADIAL, "a distortion"),
        ("bundler", OFF_CENTER, "a tangential distortion"),
        ("bundler", FISHEYE, "fisheye cameras"),
        ("openmvg", FULL, "more than 3 coefficients of distortion"),
        ("openmvg", OFF_CENTER, "a tangential|two focal lengths"),
        ("opensfm", FOV, "the camera model FOV"),
        ("nerfstudio", FULL, "more than 3 coefficients of distortion"),
        ("kapture", FOV, None),
    ],
)
def test_a_camera_that_a_format_cannot_express_is_refused(tmp_path: Path, name: str, camera, problem) -> None:
    _, path = write_scene(tmp_path / "map", camera)
    images = tmp_path / "map" / "images"
    if problem is None:
        export_map(path, name, tmp_path / "out", images=images)
        return
    with pytest.raises(ConfigError, match=f"format {name}: cannot express .*{problem}.*`undistort=True`"):
        export_map(path, name, tmp_path / "out", images=images)
    assert not (tmp_path / "out").exists()
    export_map(path, name, tmp_path / "out", images=images, undistort=True)
    assert len(list((tmp_path / "out" / "images").rglob("*.*"))) == len(NAMES)


def test_two_kinds_of_cameras_do_not_fit_into_one_transforms_file(tmp_path: Path) -> None:
    model, path = write_scene(tmp_path / "map", FISHEYE)
    pinhole = pycolmap.Camera.create_from_model_name(2, "PINHOLE", 290.0, *SIZE)
    model.add_camera_with_trivial_rig(pinhole)
    image = pycolmap.Image(name="z.png", camera_id=2, image_id=99)
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    model.write_binary(path)
    with pytest.raises(ConfigError, match="perspective and fisheye cameras together"):
        export_map(path, "nerfstudio", tmp_path / "out", images=tmp_path / "map" / "images")
