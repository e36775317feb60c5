"""A window that shows work while it is done: of a tracker the map, the camera, and the current frame with its tracks.

Open3D runs in a process of its own, as for finished models. It is given the newest state at most ten times a second: a
slow window does not slow the tracker down.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.drawing.scene import frustum_lines, frustum_size, pinhole_corner_rays
from sfm_lightglue.drawing.viewpoint import scene_radius
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.orientation import resize_to_fit
from sfm_lightglue.tracking.frame import Frame, FrameRecord
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.tracking.tracker import Tracker
from sfm_lightglue.viewer.live_state import packed
from sfm_lightglue.viewer.show import OTHER_WAY, explain_exit, is_display_named, require_open3d, worker_environment

logger = logging.getLogger(__name__)

MIN_INTERVAL_S = 0.1
"""Shortest time between two states that are shown."""

_MAX_SHARE = 0.05
"""Largest part of the time that is spent on making states."""

GREY = 200
"""Colour of points without one."""

MAX_POINTS = 60_000
"""Points beyond this number are thinned out."""

MAX_FRAME_PX = 640
"""Longer side of the frame in the window."""

WORKER = "sfm_lightglue.viewer.live_worker"


class LiveView:
    """A window that is updated while a sequence is tracked, or a model grows.

    Args:
        command: of the process that shows it; it reads states from its standard input.
    """

    def __init__(self, command: list[str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the window)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            env=worker_environment(),
            start_new_session=True,  # Ctrl-C ends the sequence, and the window stays until the map is written
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        self._changed = threading.Condition()
        self._newest: dict[str, AnyArray] | None = None
        self._is_closed = self._is_told = False
        self._next_s = 0.0
        self._thread = threading.Thread(target=self._send, daemon=True, name="view")
        self._thread.start()

    @classmethod
    def open(cls, title: str) -> LiveView:
        """Open the window.

        Raises:
            ConfigError: if Open3D or a display is missing.
        """
        require_open3d()
        if not is_display_named():
            raise ConfigError(f"there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set); {OTHER_WAY}")
        return cls([sys.executable, "-m", WORKER, title])

    def show(self, tracker: Tracker, frame: Frame, record: FrameRecord) -> None:
        """Show the state after a frame, unless one was shown shortly before, or the window was closed."""
        start_s = time.monotonic()
        if start_s < self._next_s or self._has_ended():
            return
        state = state_arrays(tracker.slam_map, record, frame, tracker.tracked_pixels)
        end_s = time.monotonic()
        self._next_s = end_s + max(MIN_INTERVAL_S, (end_s - start_s) / _MAX_SHARE)
        self.send(state)

    def send(self, state: dict[str, AnyArray]) -> bool:
        """Show a state in place of one that waits; False if the window was closed."""
        if self._has_ended():
            return False
        with self._changed:
            self._newest = state
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """Close the window."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout=2.0)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        self._output.close()

    def _has_ended(self) -> bool:
        """Whether there is no window any more; a failure is told once."""
        with self._changed:  # `close` may be called at the same time, and then the process ends by a signal
            if self._is_closed:
                return True
            status = self._process.poll()
            if status is not None and status != 0 and not self._is_told:
                self._is_told = True
                self._output.seek(0)
                output = self._output.read().decode(errors="replace")
                logger.warning("the window closed: %s", explain_exit(status, output))
            return status is not None

    def _send(self) -> None:
        """Send the newest state, until the window is closed."""
        with contextlib.suppress(OSError), contextlib.closing(self._input) as pipe:
            while (state := self._next()) is not None:
                pipe.write(packed(state))
                pipe.flush()

    def _next(self) -> dict[str, AnyArray] | None:
        with self._changed:
            while self._newest is None and not self._is_closed:
                self._changed.wait()
            state, self._newest = self._newest, None
            return state


def state_arrays(slam_map: SlamMap, record: FrameRecord, frame: Frame, pixels: AnyArray) -> dict[str, AnyArray]:
    """What the window draws: points and cameras of the map of a frame, its own camera, and the frame with its tracks.

    Args:
        slam_map: with the keyframes and points.
        record: of the frame.
        frame: that was tracked.
        pixels: [N, 2] of its tracks.

    Returns:
        points [P, 3], point_colors [P, 3] in 0 to 1, line_vertices [V, 3], segments [S, 2], line_colors [S, 3] in 0
        to 1, image [H, W, 3], and pixels [N, 2] of `image`.
    """
    with slam_map.lock:
        map_ids = slam_map.map_ids()
        map_id = record.map_id if record.map_id is not None else (map_ids[-1] if map_ids else -1)
        keyframes = [slam_map.keyframes[idx] for idx in slam_map.members(map_id)]
        poses = [keyframe.cam_from_world for keyframe in keyframes]
        point_ids = slam_map.points_of([keyframe.idx for keyframe in keyframes])
        points = slam_map.xyz(point_ids)
        colors = np.full((len(point_ids), 3), GREY, np.uint8)
        for keyframe in keyframes if len(point_ids) > 0 else ():
            if keyframe.colors is not None:
                has_point = keyframe.point_ids >= 0
                colors[np.searchsorted(point_ids, keyframe.point_ids[has_point])] = keyframe.colors[has_point]
        camera = slam_map.camera
    drawn = np.flatnonzero(np.isfinite(points).all(axis=1))
    drawn = drawn[:: 1 + len(drawn) // MAX_POINTS]
    vertices, segments, line_colors = _frusta(poses, record.cam_from_world, camera.size, points[drawn])
    rgb = frame.image if frame.image.ndim == 3 else np.repeat(frame.image[..., None], 3, axis=2)
    image, factors = resize_to_fit(rgb, MAX_FRAME_PX)
    return {
        "points": points[drawn],
        "point_colors": colors[drawn] / 255.0,
        "line_vertices": vertices,
        "segments": segments,
        "line_colors": line_colors,
        "image": np.ascontiguousarray(image),
        "pixels": np.reshape(pixels, (-1, 2)) / factors,
    }


def _frusta(
    poses: list[Rigid3], current: Rigid3 | None, size: tuple[int, int], points: Float64Array
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """The frusta of keyframes, and a larger white one of the current frame."""
    centers = np.array([pose.center for pose in poses]).reshape(-1, 3)
    length = frustum_size(centers, scene_radius(points, centers)) if len(centers) > 0 else 1.0
    rays = pinhole_corner_rays(*size)
    parts = [frustum_lines(tuple(poses), (rays,) * len(poses), length)]
    if current is not None:
        lines = frustum_lines((current,), (rays,), 1.5 * length)
        parts.append(type(lines)(lines.vertices, lines.segments, np.ones_like(lines.colors)))
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return (
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.segments + start for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.colors for part in parts]),
    )
