"""A window that shows a model while it is mapped, from the snapshots that the mapper writes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.model_table import ModelTable, read_model_table
from sfm_lightglue.drawing.scene import build_scene
from sfm_lightglue.drawing.up_axis import up_of_cameras
from sfm_lightglue.drawing.viewpoint import near_mask
from sfm_lightglue.errors import DataError
from sfm_lightglue.viewer.live import MAX_POINTS

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5
"""Shortest time between two looks for a snapshot."""

MAX_SHARE = 0.05
"""Largest part of the time that is spent on reading snapshots."""

FAR_FACTOR = 5.0
"""Points farther away than this multiple of the usual distance are not shown."""

NEW_COLOR = np.array([1.0, 1.0, 1.0])
"""Frusta of the images that were added since the last state."""

_CLOSING_S = 5.0


class StateWindow(Protocol):
    """A window that draws states, such as `LiveView`."""

    def send(self, state: dict[str, AnyArray]) -> bool:
        """Draw a state; False if there is no window any more."""

    def close(self) -> None:
        """Close the window."""


class GrowthView:
    """Shows the newest snapshot below some folders, until it is closed. Those of an earlier run are not shown.

    Args:
        window: that is given the states; it is closed too.
        folders: in which mappers write snapshots; they need not exist.
    """

    def __init__(self, window: StateWindow, folders: Sequence[Path]) -> None:
        self._window, self._folders = window, tuple(folders)
        self._is_ended = threading.Event()
        self._seen: tuple[Path, int] | None = None
        # Files of the folders are compared with each other: the clock of their disk may not be that of this machine.
        self._earlier_ns = max((written_ns for _, written_ns in newest_snapshots(self._folders)), default=0)
        self._names: Collection[str] = ()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="growth")
        self._thread.start()

    def close(self) -> None:
        """Close the window."""
        self._is_ended.set()
        self._thread.join(timeout=_CLOSING_S)
        self._window.close()

    def _watch(self) -> None:
        pause_s = INTERVAL_S
        while not self._is_ended.wait(pause_s):
            start_s = time.monotonic()
            if not self._show_newest():
                return
            pause_s = max(INTERVAL_S, (time.monotonic() - start_s) / MAX_SHARE)

    def _show_newest(self) -> bool:
        """Show the newest snapshot if it was not shown; False if there is no window any more."""
        for found in newest_snapshots(self._folders):
            if found == self._seen or found[1] <= self._earlier_ns:
                break
            try:
                table = read_model_table(found[0])
                state = growth_state(table, self._names)
            except DataError:
                continue  # it is being written or removed: the one before it is complete
            self._seen, self._names = found, frozenset(table.names)
            return self._window.send(state)
        return True


def newest_snapshots(folders: Sequence[Path]) -> list[tuple[Path, int]]:
    """Folders with a model below some folders, and when each was written, the newest first."""
    found = []
    for folder in folders:
        try:
            models = [(path.parent, path.stat().st_mtime_ns) for path in folder.rglob("points3D.bin")]
        except OSError:
            continue  # a mapper removes older ones at the same time
        found += models
    return sorted(found, key=lambda one: (-one[1], str(one[0])))


def growth_state(table: ModelTable, known: Collection[str]) -> dict[str, AnyArray]:
    """What the window draws of a model that grows.

    Args:
        table: the model.
        known: names of the images of the state before; others are white. Empty for the first state.

    Returns:
        points [P, 3], point_colors [P, 3] in 0 to 1, line_vertices [V, 3], segments [S, 2], line_colors [S, 3] in 0 to
        1, and front and up [3] for the first view.

    Raises:
        DataError: if there is neither a point nor an image.
    """
    rotations = np.array([pose.R for pose in table.arrays.poses]).reshape(-1, 3, 3)
    up = up_of_cameras(rotations, np.zeros(len(rotations), np.int64))
    scene = build_scene(table.arrays, up=up)
    near = np.flatnonzero(near_mask(scene.points, FAR_FACTOR))
    near = near[:: 1 + len(near) // MAX_POINTS]
    colors = scene.frusta.colors.reshape(len(table.names), -1, 3).copy()
    if known:
        colors[[name not in known for name in table.names]] = NEW_COLOR
    offset = scene.viewpoint.eye - scene.viewpoint.target
    return {
        "points": scene.points[near],
        "point_colors": scene.point_colors[near],
        "line_vertices": scene.frusta.vertices,
        "segments": scene.frusta.segments,
        "line_colors": colors.reshape(-1, 3),
        "front": offset / np.linalg.norm(offset),
        "up": up,
    }
