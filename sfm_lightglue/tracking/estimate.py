"""How long a sequence takes to track, from its first frames; nothing is written."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.output import choose_folder
from sfm_lightglue.tracking.sources import is_camera_address, open_source
from sfm_lightglue.tracking.tracker import Tracker

_NUM_FRAMES = 30
"""Frames that are tracked; the first one loads the networks and is not counted."""


@dataclass(frozen=True, slots=True)
class TrackingEstimate:
    """The work of tracking a sequence.

    Args:
        output: folder of the results.
        num_frames: of the sequence; None if the source does not tell.
        size: (width, height) of the frames in pixels.
        frame_s: seconds of a frame, the mean of those that were measured.
        num_measured: number of these frames.
    """

    output: Path
    num_frames: int | None
    size: tuple[int, int]
    frame_s: float
    num_measured: int


def estimate_tracking(
    source: Path | str,
    output: Path | str | None = None,
    config: TrackerConfig | None = None,
    fps: float | None = None,
    camera_params: tuple[float, ...] = (),
) -> TrackingEstimate:
    """Track the first frames of a sequence, and measure; the arguments are those of `track`.

    Raises:
        ConfigError: if the source is a camera, an option cannot be used, or the output folder has other results.
        DataError: if there is no frame that can be read.
        WeightsError: if the weights of a network are missing.
    """
    config = config or TrackerConfig()
    if is_camera_address(source):
        raise ConfigError(f"{source}: a camera has no known end, so its time cannot be estimated")
    folder = choose_folder(source, None if output is None else Path(output), completes=False)
    with contextlib.closing(open_source(source, fps)) as frames:
        cameras, taken = CameraConfig(model=config.camera_model, params=camera_params), iter(frames)
        first = next(taken, None)
        if first is None:
            raise DataError(f"{frames.name}: no frame can be read")
        with Tracker(frames.camera(first.size, cameras), config) as tracker:
            tracker.track(first.image, first.time_s, first.name)
            start, num_measured = time.perf_counter(), 0
            for frame in islice(taken, _NUM_FRAMES):
                tracker.track(frame.image, frame.time_s, frame.name)
                num_measured += 1
            seconds = time.perf_counter() - start
        return TrackingEstimate(folder, frames.num_frames, first.size, seconds / max(num_measured, 1), num_measured)
