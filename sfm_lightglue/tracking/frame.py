"""The values of one frame of a sequence: its pixels, and what the tracker found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3

TrackState = Literal["initializing", "tracked", "lost", "relocalized"]
"""initializing: there is no map yet. tracked: the pose follows from the frame before. lost: the frame has no pose.
relocalized: the first frame with a pose after lost ones."""

EventKind = Literal[
    "initialized",
    "reinitialized",
    "lost",
    "relocalized",
    "loop_closed",
    "map_started",
    "maps_merged",
    "frames_dropped",
]
"""What can happen while a sequence is tracked, see `TrackingEvent`."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a sequence.

    Args:
        idx: number of the frame in the sequence, from 0.
        name: of the frame, unique in the sequence.
        time_s: increasing time in seconds.
        image: [H, W, 3] RGB or [H, W] grey, uint8, the stored pixels.
    """

    idx: int
    name: str
    time_s: float
    image: UInt8Array

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]

    @classmethod
    def checked(cls, idx: int, name: str, time_s: float, image: UInt8Array, last_s: float) -> Frame:
        """A frame of a caller, with a copy of its image: the caller may use its memory again.

        Args:
            idx: number of the frame.
            name: of the frame.
            time_s: in seconds.
            image: [H, W, 3] RGB or [H, W] grey, uint8.
            last_s: time of the frame before, -inf for the first one.

        Raises:
            DataError: if it is no such image, or the time is not finite and later than that of the frame before.
        """
        pixels = np.array(image, order="C")
        is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
        if pixels.dtype != np.uint8 or not is_image or pixels.size == 0:
            shape = " x ".join(map(str, pixels.shape))
            raise DataError(f"{name}: expected an image [H, W, 3] RGB or [H, W] of uint8, got {pixels.dtype}, {shape}")
        if not math.isfinite(time_s):
            raise DataError(f"{name}: its time is {time_s} s; expected a finite number")
        if not time_s > last_s:
            raise DataError(f"{name}: its time, {time_s} s, is not later than that of the frame before, {last_s} s")
        return cls(idx, name, float(time_s), pixels)


@dataclass(frozen=True, slots=True, eq=False)
class FrameRecord:
    """What the tracker found for one frame.

    Args:
        frame_idx: number of the frame in the sequence.
        name: of the frame.
        time_s: of the frame, in seconds.
        state: see `TrackState`.
        cam_from_world: pose in the frame of its map, None without a pose.
        map_id: map of the pose, None without a pose.
        num_inliers: number of points of the map that fit the pose. Where optical flow failed it can be five: then at
            least 40 matches with a keyframe fit the pose too, most of them by their epipolar lines.
        tracking_ms: wall time of `Tracker.track` for this frame in milliseconds, without `waiting_ms`.
        waiting_ms: time for which the frame waited until earlier keyframes were mapped.
    """

    frame_idx: int
    name: str
    time_s: float
    state: TrackState
    cam_from_world: Rigid3 | None
    map_id: int | None
    num_inliers: int
    tracking_ms: float
    waiting_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class TrackingEvent:
    """Something that happened while a sequence was tracked.

    Args:
        kind: initialized (the first map exists), reinitialized (a bad map was dropped, and the search for a start
            begins again), lost, relocalized, loop_closed, map_started (a second map after the camera was lost),
            maps_merged, frames_dropped (a live source was faster than the tracker).
        frame_idx: number of the frame.
        detail: text for the user.
    """

    kind: EventKind
    frame_idx: int
    detail: str = ""
