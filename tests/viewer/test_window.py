"""What the window does with keys and mouse, and how it stays fluent, on a canvas that draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sfm_lightglue.viewer import cloud, window
from sfm_lightglue.viewer.assemble import side_by_side
from sfm_lightglue.viewer.contents import Contents
from sfm_lightglue.viewer.levels import TARGET_FRAME_S
from sfm_lightglue.viewer.look import Look
from sfm_lightglue.viewer.models import read_viewed_model
from sfm_lightglue.viewer.picking import Picked
from sfm_lightglue.viewer.window import Window
from tests.helpers.models_to_draw import make_model
from tests.helpers.viewed_models import write_viewed_scene

SIZE = (640, 480)


class FakeCanvas:
    """Keeps geometries by name; drawing takes a time for each point."""

    def __init__(self, s_per_point: float = 0.0) -> None:
        self.size, self.now, self.s_per_point = SIZE, 100.0, s_per_point
        self.shown: dict[str, Any] = {}
        self.pictures: dict[str, Any] = {}
        self.views: list[Any] = []
        self.frames_s: list[float] = []

    def on_keys(self, pressed: Callable[[str], None]) -> None:
        self.pressed = pressed

    def on_mouse(self, button: Any, moved: Any, wheel: Any) -> None:
        self.button, self.moved, self.wheel = button, moved, wheel

    def put(self, name: str, geometry: Any | None) -> None:
        self.shown.pop(name, None)
        if geometry is not None:
            self.shown[name] = geometry

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.shown if name.startswith(prefix)]

    def put_on_screen(self, name: str, picture: Any | None, place: tuple[int, int]) -> None:
        self.pictures.pop(name, None)
        if picture is not None:
            self.pictures[name] = picture, place

    @property
    def num_points(self) -> int:
        return sum(len(self.shown[name].points) for name in self.names("points-") if name != "points-squares")

    def draw(self, view: Any, point_px: float, background: Any) -> None:
        self.views.append(view)
        self.frames_s.append(self.num_points * self.s_per_point)
        self.now += self.frames_s[-1]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    scene = write_viewed_scene(tmp_path_factory.mktemp("window") / "scene")
    return side_by_side([read_viewed_model(scene)] * 2, 4 / 3)


@pytest.fixture(scope="module")
def many(contents: Contents) -> Contents:
    """The same cameras with 400,000 points."""
    number = 400_000
    points = np.random.default_rng(0).uniform(-1, 1, (number, 3)).astype(np.float32)
    return replace(
        contents,
        points=points,
        colors=np.full((number, 3), 200, np.uint8),
        errors_px=np.zeros(number, np.float32),
        model_of_point=np.zeros(number, np.int64),
        track_starts=np.zeros(number + 1, np.int64),
    )


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Window, FakeCanvas]]:
    """Opens windows whose geometries are plain arrays and whose clock is that of the canvas."""

    def cloud_of(points: Any, colors: Any) -> Any:
        return SimpleNamespace(points=points, colors=colors)

    monkeypatch.setattr(cloud, "point_cloud", cloud_of)
    for module in (cloud, window):
        monkeypatch.setattr(module, "triangle_mesh", lambda mesh, texture=None: mesh)
    monkeypatch.setattr(window, "line_set", lambda vertices, segments, colors: (vertices, segments, colors))

    def make(contents: Contents, s_per_point: float = 0.0, **options: Any) -> tuple[Window, FakeCanvas]:
        canvas = FakeCanvas(s_per_point)
        monkeypatch.setattr(window, "time", SimpleNamespace(monotonic=lambda: canvas.now, sleep=lambda s: None))
        made = Window(canvas, contents, Look(), **options)  # type: ignore[arg-type]
        come_to_rest(made, canvas)
        return made, canvas

    return make


def come_to_rest(made: Window, canvas: FakeCanvas) -> None:
    for _ in range(200):
        canvas.now += 0.05
        made.advance()
        if made.is_at_rest:
            return
    raise AssertionError("the window does not come to rest")


def turn(made: Window, canvas: FakeCanvas, num_frames: int) -> list[float]:
    """Drag for some frames; their times."""
    before = len(canvas.frames_s)
    for _ in range(num_frames):
        made.drag(5.0, 1.0)
        canvas.now += 0.001
        made.advance()
    return canvas.frames_s[before:]


def test_a_slow_window_draws_fewer_points_while_it_moves_and_all_at_rest(opened: Any, many: Contents) -> None:
    made, canvas = opened(many, s_per_point=1e-6)
    assert canvas.num_points == len(many.points)
    times = turn(made, canvas, 30)
    assert times[0] <= 0.4 and max(times[8:]) <= 1.5 * TARGET_FRAME_S
    assert 20_000 < canvas.num_points < 80_000
    come_to_rest(made, canvas)
    assert canvas.num_points == len(many.points) and "points-moving" not in canvas.shown
    assert max(turn(made, canvas, 3)) <= 1.5 * TARGET_FRAME_S, "the next movement begins with what was learnt"


def test_a_window_that_is_slow_for_a_moment_gets_its_points_back_in_the_same_movement(
    opened: Any, many: Contents
) -> None:
    made, canvas = opened(many, s_per_point=1e-6)
    turn(made, canvas, 20)
    usual = canvas.num_points
    canvas.s_per_point = 1e-5
    turn(made, canvas, 20)
    assert canvas.num_points < usual / 4
    canvas.s_per_point = 1e-6
    turn(made, canvas, 20)
    assert canvas.num_points > 0.5 * usual


def test_a_fast_window_draws_all_points_always(opened: Any, many: Contents) -> None:
    made, canvas = opened(many, s_per_point=1e-8)
    turn(made, canvas, 3)
    assert canvas.num_points == len(many.points) and "points-moving" not in canvas.shown


def test_without_levels_of_detail_all_points_are_drawn_however_long_it_takes(opened: Any, many: Contents) -> None:
    made, canvas = opened(many, s_per_point=1e-6, is_reduced=False)
    assert min(turn(made, canvas, 5)) == pytest.approx(0.4)


def test_nothing_is_drawn_while_nothing_changes(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    for _ in range(100):
        canvas.now += 0.05
        made.advance()
        if made._thumbnails.num_read == len(contents.files):
            break
    canvas.now += 1.0
    made.advance()
    number = len(canvas.views)
    for _ in range(20):
        canvas.now += 0.05
        assert not made.advance()
    assert len(canvas.views) == number


def pixel_of(made: Window, position: np.ndarray) -> tuple[float, float]:
    pixels, _ = made.view.project(position[None], SIZE)
    return float(pixels[0, 0]), float(pixels[0, 1])


def test_a_click_picks_a_camera_or_a_point_and_shows_its_picture(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    made.click(*pixel_of(made, contents.frusta[1, 1:5].mean(axis=0)))
    assert made.picked == Picked("camera", 1) and "panel" in canvas.pictures
    made.click(*pixel_of(made, contents.points[7]))
    assert made.picked is not None and made.picked.kind == "point"
    made.advance()
    assert len(canvas.shown["track"][1]) == contents.track_lengths[made.picked.row]
    made.click(2.0, 478.0)
    assert made.picked is None and "panel" not in canvas.pictures
    made.advance()
    assert "track" not in canvas.shown


def test_pictures_on_the_screen_move_with_the_edges_of_the_window(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    for key in "NC":  # the photo of a camera, and the scale of the colours
        canvas.pressed(key)
    come_to_rest(made, canvas)
    for size in ((400, 300), (60, 60), SIZE):
        canvas.size = size
        come_to_rest(made, canvas)
        made.advance()
        panel, (left, _) = canvas.pictures["panel"]
        legend, (_, top) = canvas.pictures["legend"]
        assert (left + panel.width, top + legend.height) == (size[0] - 10, size[1] - 10)
        made.choose(made.picked)  # a photo is shown in a small window too


def test_hidden_models_cannot_be_picked(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    place = pixel_of(made, contents.frusta[1, 1:5].mean(axis=0))
    canvas.pressed("1")
    come_to_rest(made, canvas)
    assert canvas.num_points == (contents.model_of_point == 1).sum()
    made.click(*place)
    assert made.picked is None or contents.model_of_camera[made.picked.row] == 1


def test_pressing_and_letting_go_at_one_place_is_a_click_and_elsewhere_a_drag(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    x, y = pixel_of(made, contents.frusta[1, 1:5].mean(axis=0))
    before = made.view
    canvas.moved(x, y)
    canvas.button(0, 1, 0)
    canvas.moved(x + 1, y - 1)
    canvas.button(0, 0, 0)
    assert made.view is before and made.picked == Picked("camera", 1)
    canvas.button(0, 1, 0)
    canvas.moved(x + 60, y)
    canvas.button(0, 0, 0)
    assert made.view is not before and made.picked == Picked("camera", 1), "a drag picks nothing"
    assert made.view.target.tolist() == before.target.tolist()
    canvas.button(0, 1, 2)  # with control
    canvas.moved(x + 90, y)
    canvas.button(0, 0, 2)
    assert made.view.target.tolist() != before.target.tolist()
    canvas.pressed("R")
    assert made.view is before
    canvas.wheel(2.0)
    assert np.linalg.norm(made.view.eye) < np.linalg.norm(before.eye)


def test_keys_go_through_the_cameras_and_look_through_one(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    rows = []
    for key in "NNNPP":
        canvas.pressed(key)
        rows.append(made.picked.row)
    assert rows == [0, 1, 2, 1, 0]
    canvas.pressed("P")
    assert made.picked.row == len(contents.frusta) - 1
    canvas.pressed("V")
    np.testing.assert_allclose(made.view.eye, contents.frusta[-1, 0], atol=1e-6)
    canvas.pressed("X")
    canvas.pressed("V")
    made.advance()
    assert made.picked is None and "message" in canvas.pictures
    up = made.view.up
    canvas.pressed("U")
    assert not np.allclose(made.view.up, up)
    canvas.pressed("Q")
    assert made.is_closed


def test_keys_change_what_is_shown(opened: Any, contents: Contents) -> None:
    made, canvas = opened(contents)
    assert "cameras" in canvas.shown and "axes" not in canvas.shown and "path" in canvas.shown
    large = canvas.pictures["keys"][0].height
    for key in "FATH":
        canvas.pressed(key)
    made.advance()
    assert "cameras" not in canvas.shown and "axes" in canvas.shown and "path" not in canvas.shown
    assert canvas.pictures["keys"][0].height < large / 4
    canvas.pressed("C")
    come_to_rest(made, canvas)
    assert "legend" in canvas.pictures
    colors = np.concatenate([canvas.shown[name].colors for name in canvas.names("points-part")])
    assert len(colors) == len(contents.points)


@pytest.mark.parametrize(("num_images", "num_points"), [(0, 60), (3, 0), (1, 1)])
def test_models_without_cameras_or_points_are_shown(
    num_images: int, num_points: int, opened: Any, tmp_path: Path
) -> None:
    make_model(num_images, num_points).write_binary(tmp_path)
    made, canvas = opened(side_by_side([read_viewed_model(tmp_path)], 4 / 3))
    assert canvas.num_points == num_points and ("cameras" in canvas.shown) == (num_images > 0)
    for key in "CCCDNVFI":
        canvas.pressed(key)
        come_to_rest(made, canvas)
    made.click(320.0, 240.0)
    turn(made, canvas, 3)
    come_to_rest(made, canvas)
    assert canvas.num_points == num_points
