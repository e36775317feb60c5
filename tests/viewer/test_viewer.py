"""The viewer's geometry needs no Open3D; pictures and windows are tested where Open3D works."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.viewer import ViewConfig, show
from sfm_lightglue.viewer.scene import (
    UNCOLORED_POINT,
    ViewScene,
    build_scene,
    colored_points,
    frustum_lines,
    frustum_size,
    image_corners,
    order_colors,
)
from sfm_lightglue.viewer.viewpoint import Viewpoint, choose_viewpoint, near_mask, scene_radius

GREEN = (30, 200, 60)
UP = np.array([0.0, -1.0, 0.0])
CAMERA = {"SIMPLE_RADIAL": [900.0, 500.0, 380.0, -0.05], "OPENCV_FISHEYE": [600.0, 600, 500, 400, 0, 0, 0, 0]}


def make_model(num_images=5, num_points=400, scale=1.0, color=GREEN, camera_model="SIMPLE_RADIAL"):
    """Cameras on a row that look along z at a wall of points, y downwards."""
    model = pycolmap.Reconstruction()
    params = CAMERA.get(camera_model, [1000, 800])
    camera = pycolmap.Camera(model=camera_model, width=1000, height=800, params=params, camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    for image_idx in range(num_images):
        center = scale * np.array([image_idx - (num_images - 1) / 2, 0.1 * image_idx, 0.0])
        pose = Rigid3.look_at(center, center + np.array([-0.02 * image_idx, 0.1, 1]), UP)
        image = pycolmap.Image(name=f"{image_idx:03d}.jpg", camera_id=1, image_id=image_idx + 1)
        cam_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), pose.t)
        model.add_image_with_trivial_frame(image, cam_from_world)
    points = np.random.default_rng(0).uniform((-3, -2, 5), (3, 2, 6), (num_points, 3))
    for point in points:
        model.add_point3D(scale * point, pycolmap.Track(), np.array(color, np.uint8))
    return model


def add_outliers(model, num=40, far=1e5):
    for direction in np.random.default_rng(1).normal(size=(num, 3)):
        model.add_point3D(far * direction, pycolmap.Track(), np.array((255, 0, 0), np.uint8))
    return model


def picture_positions(viewpoint: Viewpoint, positions, aspect):
    """(x, y) of positions in the picture, -1 to 1 from edge to edge, and their depth."""
    in_view = viewpoint.cam_from_world @ positions
    half_height = np.tan(np.radians(viewpoint.vertical_fov_deg) / 2)
    return in_view[:, :2] / in_view[:, 2:] / (half_height * np.array([aspect, 1])), in_view[:, 2]


# --- what is drawn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera_model", ["SIMPLE_RADIAL", "OPENCV_FISHEYE"])
def test_frustum_corners_project_onto_image_corners(camera_model):
    model = make_model(camera_model=camera_model)
    vertices = build_scene(model).frusta.vertices.reshape(-1, 8, 3)
    images = sorted(model.images.values(), key=lambda image: image.name)
    for image, of_image in zip(images, vertices, strict=True):
        np.testing.assert_allclose(of_image[0], image.projection_center(), atol=1e-9)
        projected = np.array([image.project_point(vertex) for vertex in of_image[1:5]])
        np.testing.assert_allclose(projected, image_corners(1000, 800), atol=1e-3)


def test_roof_is_on_the_upper_side_of_the_picture():
    vertices = build_scene(make_model()).frusta.vertices.reshape(-1, 8, 3)
    upper_edge, roof_top = vertices[:, 1:3, 1].mean(axis=1), vertices[:, 6, 1]
    assert (roof_top < upper_edge).all()  # y downwards


def test_panorama_has_a_frustum_too():
    vertices = build_scene(make_model(camera_model="EQUIRECTANGULAR")).frusta.vertices
    assert np.isfinite(vertices).all()
    assert np.linalg.norm(np.ptp(vertices[:8], axis=0)) > 0.1


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_all_grows_with_the_scene(scale):
    one, other = build_scene(make_model()), build_scene(make_model(scale=scale))
    np.testing.assert_allclose(other.frusta.vertices, scale * one.frusta.vertices, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(other.viewpoint.eye, scale * one.viewpoint.eye, rtol=1e-9)
    edges = np.linalg.norm(other.frusta.vertices[1:5] - other.frusta.vertices[0], axis=1)
    assert 0.03 * other.radius <= edges.max() * (1 + 1e-9) and edges.max() <= 0.15 * other.radius * (1 + 1e-9)


def test_frusta_of_a_dense_path_are_small():
    sparse = np.column_stack([np.linspace(0, 10, 11), np.zeros((11, 2))])
    dense = np.column_stack([np.linspace(0, 10, 41), np.zeros((41, 2))])
    assert frustum_size(dense, 5.0) < frustum_size(sparse, 5.0)
    assert frustum_size(sparse[:1], 5.0) == pytest.approx(0.75)
    assert frustum_size(np.zeros((3, 3)), 5.0) == pytest.approx(0.15)


def test_frusta_are_in_the_order_of_names_and_coloured_by_it():
    scene = build_scene(make_model(num_images=4))
    assert (np.diff(scene.centers[:, 0]) > 0).all()
    first, last = scene.frusta.colors[0], scene.frusta.colors[-1]
    assert first.argmax() == 2 and last.argmax() == 0  # blue, red
    np.testing.assert_array_equal(np.unique(scene.frusta.colors, axis=0), np.unique(order_colors(4), axis=0))
    assert len(np.unique(scene.frusta.colors, axis=0)) == 4


def test_segments_stay_within_their_frustum():
    scene = build_scene(make_model(num_images=3))
    segments = scene.frusta.segments.reshape(3, -1, 2)
    np.testing.assert_array_equal(segments // 8, np.broadcast_to(np.arange(3)[:, None, None], segments.shape))
    assert len(scene.frusta.colors) == len(scene.frusta.segments)


def test_no_camera_gives_empty_lines():
    lines = frustum_lines([], [], 1.0)
    assert (lines.vertices.shape, lines.segments.shape, lines.colors.shape) == ((0, 3), (0, 2), (0, 3))


def test_colours_are_those_of_the_points():
    points, colors = colored_points(make_model(num_points=3))
    assert points.shape == (3, 3)
    np.testing.assert_allclose(colors, np.tile(np.array(GREEN) / 255, (3, 1)))
    np.testing.assert_allclose(colored_points(make_model(color=(0, 0, 0)))[1][0], UNCOLORED_POINT)


def test_points_that_are_not_finite_are_left_out():
    model = make_model(num_points=3)
    model.add_point3D(np.array([np.nan, 0, 0]), pycolmap.Track(), np.array(GREEN, np.uint8))
    assert len(colored_points(model)[0]) == 3


# --- where the look is from ------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect", [0.5, 4 / 3, 3.0])
def test_all_of_the_scene_is_in_the_picture_and_fills_it(aspect):
    scene = build_scene(make_model(), aspect)
    seen = np.concatenate([scene.points, scene.frusta.vertices])
    xy, depth = picture_positions(scene.viewpoint, seen, aspect)
    assert (depth > 0).all()
    assert np.abs(xy).max() <= 0.95
    assert np.ptp(xy, axis=0).max() > 1.7
    center_xy, _ = picture_positions(scene.viewpoint, np.median(scene.points, axis=0)[None], aspect)
    assert np.abs(center_xy).max() < 0.7


def test_the_look_is_from_behind_and_above_the_cameras():
    scene = build_scene(make_model())
    eye = scene.viewpoint.eye
    assert eye[2] < scene.centers[:, 2].min()
    assert eye[1] < scene.centers[:, 1].min()  # y downwards
    assert scene.viewpoint.up @ UP > 0.9


def test_outliers_do_not_move_the_view():
    clean, spoiled = build_scene(make_model()), build_scene(add_outliers(make_model()))
    assert len(spoiled.points) == len(clean.points) + 40
    assert spoiled.radius == pytest.approx(clean.radius, rel=0.05)
    assert np.linalg.norm(spoiled.viewpoint.eye - clean.viewpoint.eye) < 0.05 * clean.radius
    arrays = show.drawing_arrays(spoiled)
    assert len(arrays["points"]) == len(arrays["point_colors"]) == 400  # none of them reaches the renderer


def test_a_camera_far_off_does_not_move_the_view():
    model = make_model(num_images=9)
    points, _ = colored_points(model)
    poses = [Rigid3.look_at(np.array([x, 0, 0]), np.array([x, 0, 1.0]), UP) for x in range(9)]
    lost = Rigid3.look_at(np.array([1e6, 0, 0]), np.array([1e6, 0, 1.0]), UP)
    centers = np.array([pose.center for pose in [*poses, lost]])
    np.testing.assert_array_equal(near_mask(centers), [True] * 9 + [False])
    assert scene_radius(points, centers) == pytest.approx(scene_radius(points, centers[:-1]))


def test_a_camera_out_of_reach_is_not_drawn():
    model = make_model(num_images=6)
    far = pycolmap.Image(name="002b.jpg", camera_id=1, image_id=99)
    model.add_image_with_trivial_frame(far, pycolmap.Rigid3d(pycolmap.Rotation3d(), [1e5, 0, 0]))
    scene, without = build_scene(model), build_scene(make_model(num_images=6))
    arrays = show.drawing_arrays(scene)
    np.testing.assert_allclose(arrays["line_vertices"], show.drawing_arrays(without)["line_vertices"], atol=1e-6)
    np.testing.assert_array_equal(arrays["segments"], without.frusta.segments)
    colors_of_seven = np.repeat(order_colors(7), 10, axis=0).reshape(7, 10, 3)
    np.testing.assert_array_equal(arrays["line_colors"].reshape(6, 10, 3), np.delete(colors_of_seven, 3, axis=0))


def test_even_paths_lose_no_camera():
    assert near_mask(np.column_stack([np.arange(50.0), np.zeros((50, 2))])).all()
    assert near_mask(np.zeros((4, 3))).all()
    assert near_mask(np.zeros((0, 3))).shape == (0,)


def test_cameras_around_an_object_are_all_seen():
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    centers = 4 * np.column_stack([np.cos(angles), np.zeros(12), np.sin(angles)])
    poses = [Rigid3.look_at(center, np.zeros(3), UP) for center in centers]
    points = np.random.default_rng(0).normal(size=(100, 3))
    viewpoint = choose_viewpoint(points, poses, centers, 1.5)
    xy, depth = picture_positions(viewpoint, centers, 1.5)
    assert (depth > 0).all() and np.abs(xy).max() < 0.95
    assert viewpoint.eye @ UP > 1


@pytest.mark.parametrize("turns", [[0, 0], [0, 2], [0, 1, 2, 3]])
def test_cameras_that_look_straight_down_or_lie_on_their_side(turns):
    down = Rigid3.look_at(np.array([0, -5.0, 0]), np.zeros(3), np.array([0, 0, 1.0]))
    poses = [Rigid3.from_rotvec([0, 0, turn * np.pi / 2], np.zeros(3)) @ down for turn in turns]
    points = np.random.default_rng(0).normal(size=(100, 3)) * [3, 0.1, 3]
    viewpoint = choose_viewpoint(points, poses, np.array([pose.center for pose in poses]), 1.5)
    assert viewpoint.eye @ UP > 3  # from above
    assert np.isfinite(viewpoint.cam_from_world.as_matrix()).all()


@pytest.mark.parametrize(("num_images", "num_points"), [(1, 400), (1, 0), (6, 0), (0, 400), (0, 1), (1, 1)])
def test_small_models_work(num_images, num_points):
    scene = build_scene(make_model(num_images, num_points))
    seen = np.concatenate([scene.points, scene.frusta.vertices])
    xy, depth = picture_positions(scene.viewpoint, seen, 4 / 3)
    assert (depth > 0).all()
    assert np.abs(xy).max() < 1


def test_an_empty_model_is_named():
    with pytest.raises(DataError, match="nothing to show"):
        build_scene(pycolmap.Reconstruction())


def test_a_synthetic_dataset_of_colmap_is_shown_whole():
    pycolmap.set_random_seed(0)
    scene = build_scene(pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions()))
    assert scene.centers.shape == (10, 3)
    xy, depth = picture_positions(scene.viewpoint, np.concatenate([scene.points, scene.centers]), 4 / 3)
    assert (depth > 0).all() and np.abs(xy).max() < 1


def test_map_coordinates_reach_the_renderer_small():
    shift = pycolmap.Sim3d(1.0, pycolmap.Rotation3d(), np.array([4.5e5, 5.4e6, 100.0]))
    near, far = make_model(), make_model()
    far.transform(shift)
    here, there = show.drawing_arrays(build_scene(near)), show.drawing_arrays(build_scene(far))
    for name in here:
        np.testing.assert_allclose(there[name], here[name], atol=1e-6)


# --- settings and missing libraries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 10)}, "32 to 8192"),
        ({"size": (99999, 99)}, "8192"),
        ({"screenshot": Path("a.jpg")}, r"a\.png"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ViewConfig(Path("model"), **change)


def test_a_renderer_that_dies_is_an_error_of_one_line(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho noise\necho 'reason: Unable to create Vulkan instance'\nkill -ABRT $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ConfigError, match="Unable to create Vulkan instance") as caught:
        show.save_screenshot(build_scene(make_model()), tmp_path / "a.png", (64, 64))
    assert "mesa-vulkan-drivers" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()


# --- with Open3D -----------------------------------------------------------------------------------------


def why_no_open3d() -> str:
    """Empty where Open3D can be imported, else the reason."""
    attempt = subprocess.run(
        [sys.executable, "-c", "import open3d"], capture_output=True, text=True, timeout=120, check=False
    )
    return "" if attempt.returncode == 0 else (attempt.stderr.strip().splitlines() or ["it crashed"])[-1]


@pytest.fixture(scope="module")
def open3d_works():
    reason = why_no_open3d()
    if reason:
        pytest.skip(f"Open3D cannot be imported here: {reason}")


def screenshot(scene: ViewScene, path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        show.save_screenshot(scene, path, size)
    except ConfigError as error:
        if "ulkan" in str(error):
            pytest.skip(f"no Vulkan driver: {error}")
        raise
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == size
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.usefixtures("open3d_works")
def test_screenshot_has_its_size_the_points_and_the_cameras(tmp_path):
    scene = build_scene(add_outliers(make_model()), 320 / 200)
    pixels = screenshot(scene, tmp_path / "new" / "a.png", (320, 200))
    is_point = (np.abs(pixels - GREEN) < 12).all(axis=2)
    assert is_point.sum() > 300
    inside = (scene.points[:400], (np.arange(200)[:, None], np.arange(320)[None]))
    xy, _ = picture_positions(scene.viewpoint, inside[0], 320 / 200)
    columns, rows = ((xy + 1) / 2 * (320, 200)).astype(int).T
    assert is_point[rows, columns].mean() > 0.5  # they are where the viewpoint says
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 110)
    blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 110)
    assert red.sum() > 10 and blue.sum() > 10  # the last and the first camera
    background = pixels[0, 0]
    assert (np.abs(pixels - background).sum(axis=2) == 0).mean() > 0.3


@pytest.mark.usefixtures("open3d_works")
def test_screenshot_of_cameras_only(tmp_path):
    pixels = screenshot(build_scene(make_model(1, 0)), tmp_path / "a.png", (96, 64))
    assert (np.abs(pixels - pixels[0, 0]).sum(axis=2) > 60).sum() > 20


@pytest.mark.usefixtures("open3d_works")
def test_a_display_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":4242")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"no display answers.*--screenshot"):
        show.show_window(build_scene(make_model()), (320, 200), "test", max_frames=3)


@pytest.fixture
def display(monkeypatch):
    """A display without a screen."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (Debian: xvfb)")
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write_end], stderr=subprocess.DEVNULL) as server:
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            number = pipe.readline().strip()
        monkeypatch.setenv("DISPLAY", f":{number}")
        yield
        server.terminate()


@pytest.mark.usefixtures("open3d_works", "display")
def test_window_opens_and_closes():
    start = time.monotonic()
    show.show_window(build_scene(make_model()), (320, 200), "test", max_frames=3)
    assert time.monotonic() - start < 120
