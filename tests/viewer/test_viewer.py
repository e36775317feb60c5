"""Settings, the process of Open3D and missing libraries; pictures, films and windows if Open3D works."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.viewer import Look, ViewConfig, show
from sfm_lightglue.viewer.look import BACKGROUNDS
from sfm_lightglue.viewer.open3d_worker import Job, picture_name
from sfm_lightglue.viewer.panels import PAPER
from sfm_lightglue.viewer.scene_parts import first_view
from tests.helpers.missing_drivers import names_a_missing_driver
from tests.helpers.viewed_models import write_viewed_scene

GREEN = (30, 200, 60)
SIZE = (320, 200)


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    return write_viewed_scene(tmp_path_factory.mktemp("viewer") / "scene")


@pytest.fixture(scope="module")
def contents(scene_dir):
    return show.prepare(ViewConfig((scene_dir,), size=SIZE)).contents


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 10)}, "32 to 8192"),
        ({"size": (99999, 99)}, "8192"),
        ({"screenshot": Path("a.jpg")}, r"a\.png"),
        ({"turntable": Path("a.avi")}, r"a\.mp4"),
        ({"num_frames": 1}, "2 to 3600"),
        ({"seconds": 0.0}, "0.1 to 600"),
        ({"map_dirs": (Path("m"),) * 10}, "1 to 9"),
        ({"map_dirs": (Path("m"),) * 2, "compare": Path("b")}, "one model"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ViewConfig(**{"map_dirs": (Path("model"),)} | change)


def test_a_job_comes_out_of_its_text_as_it_went_in():
    look = Look(coloring="error", background="light", hidden_models=frozenset({2, 0}))
    job = Job("window", (640, 480), look, 5, "a title", ("key:C", "save:a.png"), True)
    assert Job.from_json(job.as_json()) == job


def test_a_renderer_that_dies_is_an_error_of_one_line(tmp_path, monkeypatch, contents):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho noise\necho 'reason: Unable to create Vulkan instance'\nkill -ABRT $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    for write in (
        lambda: show.save_screenshot(contents, Look(), tmp_path / "a.png", (64, 64)),
        lambda: show.save_turntable(contents, Look(), tmp_path / "a.mp4", (64, 64), 3, 1.0),
    ):
        with pytest.raises(ConfigError, match="Unable to create Vulkan instance") as caught:
            write()
        assert "mesa-vulkan-drivers" in str(caught.value) and "`report`" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


@pytest.mark.parametrize(
    ("exit_status", "output", "has_packages", "is_driver"),
    [
        (-6, "reason: Unable to create Vulkan instance", True, True),
        (1, "ImportError: libGL.so.1: cannot open shared object file: No such file or directory", True, True),
        (1, "[Open3D WARNING] GLFW Error: GLX: Failed to create context", True, False),
        (-11, "loading", True, False),
        (1, "Traceback\nIndexError: index 7 is out of bounds", False, False),
        (1, "ImportError: cannot import name 'atlas'", False, False),
    ],
)
def test_packages_are_suggested_only_where_they_may_help(exit_status, output, has_packages, is_driver):
    message = show.explain_exit(exit_status, output)
    assert output.splitlines()[-1] in message and "`report`" in message
    assert ("apt-get" in message) == has_packages
    assert names_a_missing_driver(message) == is_driver, "other failures are no reason to skip a test"


def test_a_comparison_has_the_colours_that_are_asked(scene_dir, monkeypatch, tmp_path):
    looks = []
    monkeypatch.setattr(show, "require_open3d", lambda: None)
    monkeypatch.setattr(show, "save_screenshot", lambda contents, look, path, size: looks.append(look.coloring))
    for look in (Look(), Look(coloring="error")):
        viewed = show.view_models(
            ViewConfig((scene_dir,), compare=scene_dir, screenshot=tmp_path / "a.png", size=SIZE, look=look)
        )
    assert looks == ["photo", "error"]
    assert viewed.comparison is not None and viewed.comparison.aligned.max_center_error < 1e-9


def test_each_model_has_its_own_folder_of_images(scene_dir, tmp_path):
    model = scene_dir / "reconstruction" / "sparse" / "0"
    for name in ("a", "b"):
        shutil.copytree(model, tmp_path / name)
    first, second = scene_dir / "images", tmp_path / "photos"
    second.mkdir()
    found = show.prepare(ViewConfig((tmp_path / "a", tmp_path / "b"), images=(first, second), size=SIZE))
    assert [one.images for one in found.models] == [first, second]
    found = show.prepare(ViewConfig((tmp_path / "a",), compare=tmp_path / "b", images=(first,), size=SIZE))
    assert [one.images for one in found.models] == [first, first], "a compared model has the same images"
    with pytest.raises(ConfigError, match="2 folders of `images` for 1 models"):
        ViewConfig((tmp_path / "a",), images=(first, second))


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


def rendered(write, *arguments):
    """Call a function that renders, or skip without a driver."""
    try:
        write(*arguments)
    except ConfigError as error:
        if names_a_missing_driver(str(error)):
            pytest.skip(f"no Vulkan driver: {error}")
        raise


def share(pixels: np.ndarray, color: tuple[int, int, int], within: int = 12) -> float:
    return float((np.abs(pixels.astype(int) - color) < within).all(axis=-1).mean())


@pytest.mark.usefixtures("open3d_works")
def test_screenshot_has_its_size_the_points_the_cameras_and_the_background(tmp_path, contents):
    rendered(show.save_screenshot, contents, Look(), tmp_path / "new" / "a.png", SIZE)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.format == "PNG" and image.size == SIZE
        pixels = np.asarray(image.convert("RGB"))
    ground = tuple(round(255 * value) for value in BACKGROUNDS["dark"])
    assert share(pixels, ground, 3) > 0.3
    is_point = (np.abs(pixels.astype(int) - GREEN) < 12).all(axis=2)
    xy, _ = first_view(contents).project(contents.points.astype(np.float64), SIZE)
    columns, rows = xy.astype(int).T
    assert is_point[rows, columns].mean() > 0.5  # the points are drawn where the viewpoint projects them
    corners, _ = first_view(contents).project(contents.frusta[5, 1:5].mean(axis=0)[None].astype(np.float64), SIZE)
    column, row = corners[0].astype(int)
    photo = pixels[row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3).astype(int)
    assert (np.abs(photo - (140, 60, 120)).max(axis=1) < 40).any(), "the photo of the last camera is on its frustum"


@pytest.mark.usefixtures("open3d_works")
def test_a_turn_is_a_film_of_different_pictures(tmp_path, contents):
    rendered(show.save_turntable, contents, Look(background="light"), tmp_path / "a.gif", (160, 100), 4, 1.0)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.size, film.n_frames) == ((160, 100), 4)
        frames = []
        for number in range(4):
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    assert all(share(frame, (245, 245, 242)) > 0.3 for frame in frames)
    assert np.abs(frames[0] - frames[2]).max() > 100


@pytest.mark.usefixtures("open3d_works")
def test_a_display_that_does_not_answer_is_an_error(monkeypatch, contents):
    monkeypatch.setenv("DISPLAY", ":4242")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"no display answers.*`screenshot`.*`report`"):
        show.show_window(contents, Look(), SIZE, "test", actions=())


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
def test_a_window_does_what_keys_and_mouse_say(tmp_path, contents):
    size = (640, 480)
    view = replace(first_view(contents))
    point, _ = view.project(contents.points[40:41].astype(np.float64), size)
    names = ["first", "light", "camera", "closed", "track", "turned"]
    first, light, camera, closed, track, turned = (f"save:{tmp_path / name}.png" for name in names)
    clicked = f"click:{point[0, 0]},{point[0, 1]}"
    actions = ("key:H", first, "key:B", light, "key:B", "key:N", camera, "key:X", closed, clicked, track, "key:X")
    show.show_window(contents, Look(), size, "test", (*actions, "drag:200,40", "wheel:2", turned, "key:R", "key:Q"))
    pictures = {}
    for name in names:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == size
            pictures[name] = np.asarray(image.convert("RGB"))
    right, dark = np.s_[:, 320:], tuple(round(255 * value) for value in BACKGROUNDS["dark"])
    assert share(pictures["first"], dark, 3) > 0.4 and share(pictures["first"], GREEN) > 0.002
    assert share(pictures["light"], (245, 245, 242), 3) > 0.4
    assert share(pictures["first"][right], PAPER, 2) < 0.01
    assert share(pictures["camera"][right], PAPER, 2) > 0.03, "the panel with the photo"
    assert share(pictures["camera"][right], (40, 60, 120)) > 0.05, "the ground of the first photo"
    assert share(pictures["closed"][right], PAPER, 2) < 0.01
    assert share(pictures["track"][right], PAPER, 2) > 0.03 and share(pictures["track"], (250, 240, 60), 30) > 0.002
    assert np.abs(pictures["turned"].astype(int) - pictures["first"]).max() > 100
    assert picture_name(3) == "picture-00003.png"
