"""Frames in, poses out: the tracker."""

from __future__ import annotations

import math
import time
from typing import NamedTuple, Self

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.threads import on_one_core
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.scene.cameras import default_camera
from sfm_lightglue.tracking.back_end import BackEnd
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.frame import Frame, FrameRecord, TrackingEvent
from sfm_lightglue.tracking.front_end import FrontEnd
from sfm_lightglue.tracking.history import Trace, final_records, track_points
from sfm_lightglue.tracking.precise_adjustment import LastAdjustment
from sfm_lightglue.tracking.reconstruction import as_reconstruction
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.tracking.warm_up import warm_up
from sfm_lightglue.types import Camera, Trajectory


class TrackedSequence(NamedTuple):
    """The result of a sequence.

    Args:
        trajectory: poses of all frames of the largest map that have one.
        reconstruction: COLMAP model of the keyframes of the largest map.
    """

    trajectory: Trajectory
    reconstruction: pycolmap.Reconstruction


class Tracker:
    """Tracks a sequence frame by frame and maps what it sees.

    It loads its networks when it is made, which takes about two seconds the first time.

    Args:
        camera: intrinsics of the frames; None if they are unknown: they are estimated.
        config: options.
        extractor: of keyframes; None builds the one of `config`.
        matcher: of keyframes; None builds the one of `config`.

    Raises:
        ConfigError: if a component cannot be built.
        WeightsError: if weights are missing.

    Example:
        >>> tracker = sfm_lightglue.Tracker(None, sfm_lightglue.TrackerConfig(threads=1))
        >>> image = sfm_lightglue.Image.read("left.jpg").rgb()
        >>> tracker.track(image, time_s=0.0).state
        'initializing'
    """

    def __init__(
        self,
        camera: Camera | None,
        config: TrackerConfig | None = None,
        *,
        extractor: Extractor | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self._config = config or TrackerConfig()
        self._extractor = extractor or EXTRACTORS.build(self._config.extractor, self._config.device)
        self._matcher = matcher or MATCHERS.build(self._config.matcher, self._config.device)
        warm_up(self._extractor, self._matcher)
        self._camera = camera
        self._traces: list[Trace] = []
        self._names: set[str] = set()
        self._is_closed = self._is_finished = False
        self._result: TrackedSequence | None = None
        self._back: BackEnd | None = None
        self._front: FrontEnd | None = None
        self.reconstructions: dict[int, pycolmap.Reconstruction] = {}
        """COLMAP models of all maps after `finish`, the largest first."""

    @property
    def events(self) -> tuple[TrackingEvent, ...]:
        """What happened so far, in order."""
        return () if self._back is None else tuple(self._back.events)

    @property
    def last_adjustments(self) -> dict[int, LastAdjustment]:
        """How each map was adjusted at the end, by its id; empty before `finish`."""
        return {} if self._back is None else dict(self._back.last_adjustments)

    @property
    def records(self) -> tuple[FrameRecord, ...]:
        """All frames so far; after `finish` with their final poses."""
        return tuple(trace.record for trace in self._traces)

    @property
    def slam_map(self) -> SlamMap:
        """The map.

        Raises:
            DataError: if there was no frame.
        """
        if self._back is None:
            raise DataError("the sequence has no frames")
        return self._back.slam_map

    @property
    def tracked_pixels(self) -> Float32Array:
        """[N, 2] pixels of the points that were followed into the last frame."""
        return self._traces[-1].pixels if self._traces else np.zeros((0, 2), np.float32)

    @property
    def start_name(self) -> str:
        """Name of the frame from which a start of a map is searched; "" if none is."""
        return "" if self._front is None else self._front.start_name

    def track(self, image: UInt8Array, time_s: float, name: str = "") -> FrameRecord:
        """Find the pose of the next frame.

        Args:
            image: [H, W, 3] RGB or [H, W] grey, uint8.
            time_s: its time in seconds, later than that of the frame before.
            name: unique name; "" makes one of the number of the frame.

        Raises:
            DataError: if it is no such image, its size differs from that of the camera or the first frame, the time
                does not increase, another frame has the name, or the tracker was finished or closed.
        """
        if self._is_closed:
            raise DataError(f"{name or 'frame'}: the tracker was closed; make a new one for more frames")
        if self._is_finished:
            raise DataError(f"{name or 'frame'}: the sequence was finished; make a new tracker for more frames")
        start, waited_before_s = time.perf_counter(), self._waited_s()
        idx = len(self._traces)
        last_s = self._traces[-1].record.time_s if self._traces else -math.inf
        frame = Frame.checked(idx, name or f"{idx:06d}", time_s, image, last_s)
        front = self._front_end(frame)
        with on_one_core():
            outcome = front.process(frame)
        waited_s = self._waited_s() - waited_before_s
        record = FrameRecord(
            idx,
            frame.name,
            frame.time_s,
            outcome.state,
            outcome.cam_from_world,
            outcome.map_id,
            outcome.num_inliers,
            1000 * (time.perf_counter() - start - waited_s),
            1000 * waited_s,
        )
        self._names.add(frame.name)
        self._traces.append(Trace(record, outcome.relative, outcome.track_ids, outcome.pixels.astype(np.float32)))
        return record

    def _waited_s(self) -> float:
        return 0.0 if self._back is None else self._back.thread.waited_s

    def _front_end(self, frame: Frame) -> FrontEnd:
        """The front end, made for the first frame; checks size and name of the frame."""
        if frame.name in self._names:
            raise DataError(f"{frame.name}: a frame before has this name; give each frame one of its own")
        if self._front is None or self._back is None:
            camera = self._camera or default_camera(self._config.camera_model, frame.size, None)
            _check_size(frame, camera)  # before there is a thread
            self._back = BackEnd(camera, self._extractor, self._matcher, self._config)
            self._front = FrontEnd(self._back, self._config)
        _check_size(frame, self._back.slam_map.camera)
        return self._front

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads of a sequence that is not finished; a `with` statement does so at its end.

        Keyframes that wait for mapping are left out, and no more frames can be tracked.
        """
        self._is_closed = True
        if self._back is not None:
            self._back.abandon()

    def wait(self) -> None:
        """Wait until all keyframes are mapped, for example to measure the time that this takes."""
        if self._back is not None:
            self._back.thread.wait()

    def finish(self) -> TrackedSequence:
        """End the sequence: adjust the maps globally, and refine the poses of all frames.

        No more frames can be tracked afterwards. A second call returns the result of the first.

        Raises:
            DataError: if there is no map.
        """
        if self._result is not None:
            return self._result
        if self._back is None or self._front is None:
            raise DataError("the sequence has no frames")
        self._is_finished = True
        self._back.close()
        slam_map, config = self._back.slam_map, self._config
        with on_one_core():
            self._back.finish()
            points = track_points(slam_map, self._back.keyframes.track_ids_of, self._front.num_tracks)
            limit_px = config.pose.max_error_px * pixel_factor(slam_map.camera.size)
            records = final_records(self._traces, slam_map, points, config.pose, limit_px, config.seed)
            records = self._front.lost.found(records, self._back, config.seed)
        for trace, record in zip(self._traces, records, strict=True):
            trace.record = record
        by_size = slam_map.map_ids_by_size()
        self.reconstructions = {map_id: as_reconstruction(slam_map, map_id) for map_id in by_size}
        if not by_size:
            raise DataError("no frame could be tracked: no two frames show the same place from different positions")
        self._result = TrackedSequence(_trajectory(records, by_size[0]), self.reconstructions[by_size[0]])
        return self._result


def _check_size(frame: Frame, camera: Camera) -> None:
    if frame.size != camera.size:
        raise DataError(
            f"{frame.name}: the frame has {frame.size[0]} x {frame.size[1]} pixels, but the camera has"
            f" {camera.width} x {camera.height}; give the intrinsics of this size"
        )


def _trajectory(records: tuple[FrameRecord, ...], map_id: int) -> Trajectory:
    """The poses of the frames of a map."""
    posed = [(one.time_s, one.cam_from_world) for one in records if one.map_id == map_id]
    return Trajectory(
        np.array([time_s for time_s, _ in posed]), tuple(pose.inverse() for _, pose in posed if pose is not None)
    )
