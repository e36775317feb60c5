"""Frames in, poses out: the tracker."""

from __future__ import annotations

from typing import NamedTuple

import pycolmap

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame import FrameRecord, TrackingEvent
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

    Args:
        camera: intrinsics of the frames; None if they are unknown: they are estimated.
        config: options.
        extractor: of keyframes; None builds the one of `config`.
        matcher: of keyframes; None builds the one of `config`.

    Raises:
        ConfigError: if a component cannot be built.
        WeightsError: if weights are missing.
    """

    def __init__(
        self,
        camera: Camera | None,
        config: TrackerConfig | None = None,
        *,
        extractor: Extractor | None = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.reconstructions: dict[int, pycolmap.Reconstruction] = {}
        self.records: tuple[FrameRecord, ...] = ()
        self.events: tuple[TrackingEvent, ...] = ()

    def track(self, image: UInt8Array, time_s: float, name: str = "") -> FrameRecord:
        """Find the pose of the next frame.

        Args:
            image: [H, W, 3] RGB or [H, W] grey, uint8.
            time_s: its time in seconds, later than that of the frame before.
            name: unique name; "" makes one of the number of the frame.

        Raises:
            DataError: if the size differs from that of the camera or the first frame.
        """
        raise NotImplementedError

    def finish(self) -> TrackedSequence:
        """End the sequence: adjust the maps globally, and refine the poses of all frames.

        Raises:
            DataError: if there is no map.
        """
        raise NotImplementedError
