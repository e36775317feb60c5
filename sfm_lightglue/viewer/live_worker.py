"""The process in which Open3D shows a tracker at work, or a model that grows.

`python -m sfm_lightglue.viewer.live_worker TITLE` reads states from standard input, shows the newest one, and ends with
the stream or with its window.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.drawing.scene import BACKGROUND
from sfm_lightglue.viewer.geometries import line_set, point_cloud
from sfm_lightglue.viewer.live_state import unpacked
from sfm_lightglue.viewer.open3d_worker import has_display

SIZE_PX = (960, 720)

FRONT, UP = np.array([0.0, -0.5, -1.0]), np.array([0.0, -1.0, 0.0])
"""From the map to the viewpoint, and the direction that is up: behind and above the first camera, whose y points down.
"""

GROWTH_ZOOM = 0.5
"""Open3D's zoom for a model that grows: the longest side of its box fills about the height of the window."""

_MARGIN_PX = 40

IDLE_S = 0.01
"""Pause of the loop while there is no new state: the cores are for the program whose work is shown."""

TRACK_COLOR = np.array([80, 255, 80], np.uint8)


class Newest:
    """The newest state of standard input, which a thread reads."""

    def __init__(self) -> None:
        self.state: dict[str, AnyArray] | None = None
        self.has_ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def take(self) -> dict[str, AnyArray] | None:
        """The newest state that was not taken; None if there is none."""
        state, self.state = self.state, None
        return state

    def _read(self) -> None:
        while (state := unpacked(sys.stdin.buffer)) is not None:
            self.state = state
        self.has_ended = True


def with_tracks(image: AnyArray, pixels: AnyArray) -> AnyArray:
    """A copy of an image [H, W, 3] with a square of three pixels at each track [N, 2]."""
    drawn = np.array(image)
    height, width = drawn.shape[:2]
    centers = np.floor(pixels).astype(int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            x, y = (centers + np.array([dx, dy])).T
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            drawn[y[inside], x[inside]] = TRACK_COLOR
    return drawn


def main(arguments: list[str]) -> None:
    """Show states until the stream ends or the window is closed."""
    if sys.platform == "linux" and not has_display():
        raise SystemExit("error: no display answers")
    import open3d as o3d

    newest = Newest()
    scene, frame = o3d.visualization.Visualizer(), o3d.visualization.Visualizer()
    if not scene.create_window(arguments[0], *SIZE_PX, left=_MARGIN_PX, top=_MARGIN_PX):
        raise SystemExit("error: no window could be opened")
    scene.get_render_option().background_color = np.array(BACKGROUND)
    scene.get_render_option().point_size = 2.0
    has_frame, extent = False, 0.0
    while scene.poll_events() and not newest.has_ended:
        state = newest.take()
        if state is not None:
            extent = _show_scene(scene, state, extent)
            scene.update_renderer()  # the mouse asks for this itself
            if "image" in state:
                has_frame = has_frame or _open_frame(frame, state["image"])
                frame.clear_geometries()
                frame.add_geometry(o3d.geometry.Image(with_tracks(state["image"], state["pixels"])))
                frame.update_renderer()
        if has_frame:
            frame.poll_events()
        if state is None:
            time.sleep(IDLE_S)


def _open_frame(window: Any, image: AnyArray) -> bool:
    height, width = image.shape[:2]
    return bool(window.create_window("frame", width, height, left=2 * _MARGIN_PX + SIZE_PX[0], top=_MARGIN_PX))


def _show_scene(window: Any, state: dict[str, AnyArray], extent: float) -> float:
    """Replace what is shown. The viewpoint stays as the user set it, until the path has 1.5 times the extent.

    Returns:
        The extent for which the viewpoint was chosen.
    """
    found = float(np.ptp(state["line_vertices"], axis=0).max()) if len(state["line_vertices"]) > 0 else 0.0
    is_to_fit = found > 1.5 * extent
    window.clear_geometries()
    if len(state["points"]) > 0:
        window.add_geometry(point_cloud(state["points"], state["point_colors"]), reset_bounding_box=is_to_fit)
    if len(state["segments"]) > 0:
        lines = line_set(state["line_vertices"], state["segments"], state["line_colors"])
        window.add_geometry(lines, reset_bounding_box=is_to_fit)
    if is_to_fit:
        window.get_view_control().set_front(state.get("front", FRONT))
        window.get_view_control().set_up(state.get("up", UP))
        if "front" in state:
            window.get_view_control().set_zoom(GROWTH_ZOOM)
    return found if is_to_fit else extent


if __name__ == "__main__":
    main(sys.argv[1:])
