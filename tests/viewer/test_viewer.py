"""Arrays that reach the renderer, settings and missing libraries; images and windows if Open3D works."""

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

from sfm_lightglue.drawing.scene import ViewScene, order_colors
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.viewer import ViewConfig, show
from tests.helpers.models_to_draw import GREEN, add_outliers, image_positions, make_model, scene_of


def test_a_camera_out_of_reach_is_not_drawn():
    model = make_model(num_images=6)
    far = pycolmap.Image(name="002b.jpg", camera_id=1, image_id=99)
    model.add_image_with_trivial_frame(far, pycolmap.Rigid3d(pycolmap.Rotation3d(), [1e5, 0, 0]))
    scene, without = scene_of(model), scene_of(make_model(num_images=6))
    arrays = show.drawing_arrays(scene)
    np.testing.assert_allclose(arrays["line_vertices"], show.drawing_arrays(without)["line_vertices"], atol=1e-6)
    np.testing.assert_array_equal(arrays["segments"], without.frusta.segments)
    colors_of_seven = np.repeat(order_colors(7), 10, axis=0).reshape(7, 10, 3)
    np.testing.assert_array_equal(arrays["line_colors"].reshape(6, 10, 3), np.delete(colors_of_seven, 3, axis=0))


def test_map_coordinates_reach_the_renderer_small():
    shift = pycolmap.Sim3d(1.0, pycolmap.Rotation3d(), np.array([4.5e5, 5.4e6, 100.0]))
    near, far = make_model(), make_model()
    far.transform(shift)
    here, there = show.drawing_arrays(scene_of(near)), show.drawing_arrays(scene_of(far))
    for name in here:
        np.testing.assert_allclose(there[name], here[name], atol=1e-6)


def test_outliers_do_not_reach_the_renderer():
    arrays = show.drawing_arrays(scene_of(add_outliers(make_model())))
    assert len(arrays["points"]) == len(arrays["point_colors"]) == 400


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
        show.save_screenshot(scene_of(make_model()), tmp_path / "a.png", (64, 64))
    assert "mesa-vulkan-drivers" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()


# --- with Open3D -----------------------------------------------------------------------------------------


def why_no_open3d() -> str:
    """Empty if Open3D can be imported, else the reason."""
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
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == size
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.usefixtures("open3d_works")
def test_screenshot_has_its_size_the_points_and_the_cameras(tmp_path):
    scene = scene_of(add_outliers(make_model()), 320 / 200)
    pixels = screenshot(scene, tmp_path / "new" / "a.png", (320, 200))
    is_point = (np.abs(pixels - GREEN) < 12).all(axis=2)
    assert is_point.sum() > 300
    inside = (scene.points[:400], (np.arange(200)[:, None], np.arange(320)[None]))
    xy, _ = image_positions(scene.viewpoint, inside[0], 320 / 200)
    columns, rows = ((xy + 1) / 2 * (320, 200)).astype(int).T
    assert is_point[rows, columns].mean() > 0.5  # the points are drawn where the viewpoint projects them
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 110)
    blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 110)
    assert red.sum() > 10 and blue.sum() > 10  # the last and the first camera
    background = pixels[0, 0]
    assert (np.abs(pixels - background).sum(axis=2) == 0).mean() > 0.3


@pytest.mark.usefixtures("open3d_works")
def test_screenshot_of_cameras_only(tmp_path):
    pixels = screenshot(scene_of(make_model(1, 0)), tmp_path / "a.png", (96, 64))
    assert (np.abs(pixels - pixels[0, 0]).sum(axis=2) > 60).sum() > 20


@pytest.mark.usefixtures("open3d_works")
def test_a_display_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":4242")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"no display answers.*`screenshot`"):
        show.show_window(scene_of(make_model()), (320, 200), "test", max_frames=3)


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
    show.show_window(scene_of(make_model()), (320, 200), "test", max_frames=3)
    assert time.monotonic() - start < 120
