"""The window: it takes what the user does to a look, a viewpoint and something picked, and draws these."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.viewer import orbit
from sfm_lightglue.viewer.canvas import Canvas
from sfm_lightglue.viewer.cloud import Cloud
from sfm_lightglue.viewer.contents import Contents, track_of
from sfm_lightglue.viewer.geometries import line_set, triangle_mesh
from sfm_lightglue.viewer.levels import camera_rows, nearest_cameras
from sfm_lightglue.viewer.look import Look, after_key, key_lines
from sfm_lightglue.viewer.panels import camera_panel, legend_panel, text_panel, track_panel
from sfm_lightglue.viewer.photos import MAX_THUMBNAILS, PANEL_PX, ThumbnailReader, read_photo
from sfm_lightglue.viewer.picking import Picked, pick
from sfm_lightglue.viewer.point_colors import error_legend, legend
from sfm_lightglue.viewer.scene_parts import (
    background,
    camera_lines,
    cameras_shown,
    first_view,
    other_lines,
    thumbnails_of,
    track_lines,
)

REST_S = 0.2
"""A view is at rest when it has not moved for this time."""

THUMBNAILS_S = 0.3
"""Photos that were read appear at this interval."""

IDLE_S = 0.01
"""Pause of the loop while nothing changes."""

CLICK_PX = 4.0
"""A button that is let go within this distance of where it was pressed is a click."""

MAX_MOVING_CAMERAS = 1000
"""Frusta that are drawn while the view moves, if points are left out too."""

MIN_PANEL_PX = 64
"""Longer side of a photo in the smallest window."""

TOLD_S = 4.0
"""How long a message stays on the screen."""

_GAP_PX = 10

_LEFT, _PRESSED = 0, 1
_SHIFT_OR_CONTROL = 1 | 2
_OTHER_LINES = ("path", "errors", "axes")


@dataclass(slots=True)
class Mouse:
    """Where the mouse is and what is pressed."""

    x: float = 0.0
    y: float = 0.0
    start: tuple[float, float] | None = None
    is_shifting: bool = False
    has_dragged: bool = False


class Window:
    """A window on some contents.

    Args:
        canvas: an open window.
        contents: that it shows.
        look: at first.
        is_reduced: draw fewer points while the view moves.
    """

    def __init__(self, canvas: Canvas, contents: Contents, look: Look, is_reduced: bool = True) -> None:
        self._canvas, self._contents, self.look = canvas, contents, look
        self.view = self._home = first_view(contents)
        self.picked: Picked | None = None
        self.is_closed = False
        self._ups = [contents.up, *(axis for axis in np.concatenate([np.eye(3), -np.eye(3)]))]
        self.cloud = Cloud(canvas, contents, is_reduced)
        self._thumbnails = ThumbnailReader([str(file) for file in contents.files])
        self._mouse = Mouse()
        self._moved_s: float | None = None
        self._is_moving = self._has_few_cameras = False
        self._is_changed = True
        self._is_dirty = True
        self._num_thumbnails, self._thumbnails_s = -1, 0.0
        self._told: tuple[str, float] = ("", 0.0)
        self._drawn_size, self._placed_size = (0, 0), canvas.size
        canvas.on_keys(self.press)
        canvas.on_mouse(self._button, self._mouse_moved, self.turn_wheel)

    # --- what the user does ------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """A key was pressed: an upper-case letter, a digit, "+" or "-"."""
        changed = after_key(self.look, key, len(self._contents.model_names))
        if changed != self.look:
            self.look, self._is_changed = changed, True
            return
        actions: dict[str, Callable[[], None]] = {
            "R": lambda: self._move(self._home),
            "U": self._turn_up,
            "N": lambda: self._step(1),
            "P": lambda: self._step(-1),
            "V": self._look_through,
            "X": lambda: self.choose(None),
            "S": self._save,
            "Q": self.close,
        }
        if key in actions:
            actions[key]()

    def click(self, x: float, y: float) -> None:
        """The left button was pressed and let go at a pixel: pick what is there."""
        rows, cameras = self.cloud.rows, cameras_shown(self._contents, self.look)
        found = pick(self.view, self._canvas.size, (x, y), self._contents.points[rows], self._contents.frusta[cameras])
        if found is not None:
            found = Picked(found.kind, int((cameras if found.kind == "camera" else rows)[found.row]))
        self.choose(found)

    def drag(self, right_px: float, down_px: float, is_shifting: bool = False) -> None:
        """The mouse was moved with a button pressed."""
        change = orbit.shifted if is_shifting else orbit.turned
        self._move(change(self.view, right_px, down_px, self._canvas.size[1]))

    def turn_wheel(self, steps: float) -> None:
        """The wheel was turned; forwards goes nearer."""
        self._move(orbit.zoomed(self.view, steps))

    def choose(self, picked: Picked | None) -> None:
        """Show the photo of a camera, or the track of a point; None shows neither."""
        self.picked, self._is_changed = picked, True
        self._put_panel()

    def tell(self, text: str) -> None:
        """Show a message for some seconds."""
        self._told, self._is_changed = (text, time.monotonic() + TOLD_S), True

    def close(self) -> None:
        """End the loop."""
        self.is_closed = True

    def save(self, path: Path) -> None:
        """Write what the window shows into a PNG file."""
        self._draw()
        self._canvas.picture().save(path)

    def _button(self, number: int, action: int, modifiers: int) -> None:
        mouse = self._mouse
        if action == _PRESSED:
            mouse.start, mouse.has_dragged = (mouse.x, mouse.y), False
            mouse.is_shifting = number != _LEFT or bool(modifiers & _SHIFT_OR_CONTROL)
            return
        if mouse.start is not None and not mouse.has_dragged and number == _LEFT:
            self.click(mouse.x, mouse.y)
        mouse.start = None

    def _mouse_moved(self, x: float, y: float) -> None:
        mouse = self._mouse
        right_px, down_px = x - mouse.x, y - mouse.y
        if mouse.start is not None:
            if not mouse.has_dragged and np.hypot(x - mouse.start[0], y - mouse.start[1]) < CLICK_PX:
                return
            mouse.has_dragged = True
            self.drag(right_px, down_px, mouse.is_shifting)
        mouse.x, mouse.y = x, y

    def _move(self, view: Viewpoint) -> None:
        self.view, self._moved_s = view, time.monotonic()

    def _turn_up(self) -> None:
        self._ups = [*self._ups[1:], self._ups[0]]
        self._move(orbit.with_up(self.view, self._ups[0]))

    def _step(self, step: int) -> None:
        rows = cameras_shown(self._contents, self.look)
        if len(rows) == 0:
            return
        here = self.picked.row if self.picked is not None and self.picked.kind == "camera" else None
        place = -1 if here is None and step > 0 else 0 if here is None else int(np.searchsorted(rows, here))
        self.choose(Picked("camera", int(rows[(place + step) % len(rows)])))

    def _look_through(self) -> None:
        if self.picked is not None and self.picked.kind == "camera":
            self._move(orbit.through_camera(self.view, self._contents.frusta[self.picked.row].astype(np.float64)))
        else:
            self.tell("choose a camera first: click it, or press n")

    def _save(self) -> None:
        path = next(path for number in range(1, 10_000) if not (path := Path(f"view-{number:04d}.png")).exists())
        try:
            self.save(path)
        except OSError as error:
            self.tell(f"{path} cannot be written ({error.strerror or error})")
        else:
            self.tell(f"saved {path}")

    # --- drawing -----------------------------------------------------------------------------------------

    def run(self, is_done: Callable[[], bool] = lambda: False) -> None:
        """Draw until the window is closed, or something else is done."""
        while self._canvas.poll() and not self.is_closed and not is_done():
            if not self.advance():
                time.sleep(IDLE_S)

    def advance(self) -> bool:
        """Draw what has changed; returns whether anything was."""
        now = time.monotonic()
        if self._canvas.size != self._placed_size:  # the user has resized the window
            self._placed_size, self._is_changed = self._canvas.size, True
            self._put_panel()
        if self._is_changed:
            self._is_changed = False
            self._show_look()
        if self._moved_s is not None and now - self._moved_s < REST_S:
            return self._advance_moving()
        if self._is_moving or self._moved_s is not None:
            self._come_to_rest()
        if not self.cloud.is_complete:
            self.cloud.add_part()
            if self.cloud.is_complete:
                self.cloud.put_squares(self.view, self._canvas.size)
            self._is_dirty = True
        if self._told[0] and now > self._told[1]:
            self.tell("")
        self._put_thumbnails()
        if self._is_dirty or self._canvas.size != self._drawn_size:
            start = time.monotonic()
            self._draw()
            self.cloud.rest_frame_took(time.monotonic() - start)
            return True
        return False

    @property
    def is_at_rest(self) -> bool:
        """Whether everything is drawn that should be."""
        is_still = self._moved_s is None and not self._is_changed and not self._is_dirty
        return is_still and self.cloud.is_complete

    def _advance_moving(self) -> bool:
        """Draw a frame of a movement; False if the view is the one that was drawn."""
        if self._is_moving and self.view is self._drawn_view:
            return False
        self._is_moving = True
        self.cloud.begin_moving(self.view, self._canvas.size)
        if self._is_slow and not self._has_few_cameras:
            self._has_few_cameras = True
            self._put_cameras(MAX_MOVING_CAMERAS)
            self._canvas.put("thumbnails", None)
        start = time.monotonic()
        self._draw()
        self.cloud.frame_took(time.monotonic() - start)
        return True

    @property
    def _is_slow(self) -> bool:
        """Whether frames take too long with all points and cameras."""
        return self.cloud.is_slow and len(self._contents.frusta) > MAX_MOVING_CAMERAS

    def _come_to_rest(self) -> None:
        self._moved_s, self._is_moving, self._is_dirty = None, False, True
        if self._has_few_cameras:
            self._has_few_cameras = False
            self._put_cameras(None)
        self._num_thumbnails = -1
        if self.cloud.is_complete:
            self.cloud.put_squares(self.view, self._canvas.size)

    def _draw(self) -> None:
        self._canvas.draw(self.view, self.cloud.point_px(self._canvas.size[1]), background(self.look))
        self._is_dirty, self._drawn_view, self._drawn_size = False, self.view, self._canvas.size

    def _show_look(self) -> None:
        """Make the geometries of a look."""
        self._is_dirty = True
        if not self.cloud.show(self.look) and self.cloud.is_complete:
            self.cloud.put_squares(self.view, self._canvas.size)
        self._put_cameras(None)
        self._num_thumbnails = -1
        lines = other_lines(self._contents, self.look)
        if self.picked is not None and self.picked.kind == "point":
            lines["track"] = track_lines(
                self._contents, self.picked.row, track_of(self._contents, self.picked.row).cameras.astype(np.int64)
            )
        for name in (*_OTHER_LINES, "track"):
            self._canvas.put(name, line_set(*lines[name]) if name in lines else None)
        self._put_texts()

    def _put_cameras(self, number: int | None) -> None:
        rows = cameras_shown(self._contents, self.look)
        if number is not None:
            rows = rows[camera_rows(len(rows), number)]
        picked = self.picked.row if self.picked is not None and self.picked.kind == "camera" else None
        lines = camera_lines(self._contents, self.look, rows, picked) if len(rows) > 0 else None
        self._canvas.put("cameras", None if lines is None else line_set(*lines))

    def _put_thumbnails(self) -> None:
        """The photos of the nearest cameras, as far as they were read."""
        is_recent = time.monotonic() - self._thumbnails_s < THUMBNAILS_S and self._num_thumbnails >= 0
        if self._num_thumbnails == self._thumbnails.num_read or is_recent:
            return
        self._thumbnails_s = time.monotonic()
        rows = cameras_shown(self._contents, self.look)
        if not self.look.thumbnails or len(rows) == 0:
            self._num_thumbnails = self._thumbnails.num_read
            self._canvas.put("thumbnails", None)
            return
        forward = self.view.cam_from_world.R[2]
        near = rows[nearest_cameras(self._contents.frusta[rows], self.view.eye, forward, MAX_THUMBNAILS)].tolist()
        self._num_thumbnails = self._thumbnails.num_read
        made = thumbnails_of(self._contents, self._thumbnails.known(near))
        self._thumbnails.wish(near)
        self._canvas.put("thumbnails", None if made is None else triangle_mesh(*made))
        self._is_dirty = True

    def _put_panel(self) -> None:
        """The photo of the camera that was chosen, or the track of the point."""
        picked, panel = self.picked, None
        if picked is not None and picked.kind == "camera":
            width, height = self._canvas.size
            side = max(MIN_PANEL_PX, min(PANEL_PX, width // 2, height - 120))
            panel = camera_panel(self._contents, picked.row, read_photo, side)
        elif picked is not None:
            panel = track_panel(self._contents, picked.row, read_photo)
        left = self._canvas.size[0] - _GAP_PX - (0 if panel is None else panel.width)
        self._canvas.put_on_screen("panel", panel, (left, _GAP_PX))

    def _put_texts(self) -> None:
        """The list of keys, the scales of colours, and the message."""
        has = self._contents
        lines = key_lines(self.look, len(has.model_names), len(has.path) > 0, len(has.errors) > 0)
        title = ", ".join(str(name) for name in has.model_names)
        panel = text_panel(lines, title) if self.look.help else text_panel([], "h: keys")
        self._canvas.put_on_screen("keys", panel, (_GAP_PX, _GAP_PX))
        bottom = self._canvas.size[1] - _GAP_PX
        scale = error_legend(has) if self.look.errors else None
        for name, found in (("legend", legend(has, self.look.coloring)), ("error-legend", scale)):
            drawn = None if found is None else legend_panel(*found)
            bottom -= 0 if drawn is None else drawn.height
            self._canvas.put_on_screen(name, drawn, (_GAP_PX, bottom))
        told = text_panel([], self._told[0]) if self._told[0] else None
        self._canvas.put_on_screen("message", told, (_GAP_PX, bottom - 40))
