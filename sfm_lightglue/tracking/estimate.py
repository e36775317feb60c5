"""How long a sequence takes to track, from its first frames; nothing is written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.registry.builtin import MATCHERS
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.output import choose_folder
from sfm_lightglue.tracking.sources import is_camera_address, open_source
from sfm_lightglue.tracking.tracker import Tracker

_NUM_FRAMES = 30
"""Frames that are measured, after a map was started: before that, a frame takes less."""

_MAX_FRAMES_OF_START = 90
"""Frames in which a map must start; otherwise, the last of them are measured."""


@dataclass(frozen=True, slots=True)
class TrackingEstimate:
    """The work of tracking a sequence.

    Args:
        output: folder of the results.
        num_frames: of the sequence; None if the source does not tell.
        size: (width, height) of the frames in pixels.
        frame_s: seconds of a frame, the mean of those that were measured, with the mapping of their keyframes.
        num_measured: number of these frames.
        has_map: whether a map was started before. If not, frames take longer than measured as soon as there is one.
        keyframe_share: keyframes a frame, of the measured ones.
        match_s: seconds of the matches of two keyframes.
        num_final_matches: pairs a keyframe that are matched when the sequence has ended.
    """

    output: Path
    num_frames: int | None
    size: tuple[int, int]
    frame_s: float
    num_measured: int
    has_map: bool
    keyframe_share: float
    match_s: float
    num_final_matches: int

    @property
    def seconds(self) -> float | None:
        """Of the sequence, with the matches at its end; None if the number of frames is unknown."""
        if self.num_frames is None:
            return None
        final_s = self.keyframe_share * self.num_final_matches * self.match_s
        return self.num_frames * (self.frame_s + final_s)


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
        matcher = MATCHERS.build(config.matcher, config.device)
        with Tracker(frames.camera(first.size, cameras), config, matcher=matcher) as tracker:
            tracker.track(first.image, first.time_s, first.name)
            of_start = _track(tracker, taken, _MAX_FRAMES_OF_START, ends_with_start=True)
            num_before = len(tracker.slam_map.keyframes)
            measured = _track(tracker, taken, _NUM_FRAMES) if num_before > 0 else of_start
            seconds, num_measured = measured if measured[1] > 0 else of_start
            num_keyframes = len(tracker.slam_map.keyframes) - num_before
            return TrackingEstimate(
                folder,
                frames.num_frames,
                first.size,
                seconds / max(num_measured, 1),
                num_measured,
                num_before > 0,
                max(num_keyframes, 0) / max(num_measured, 1),
                _match_s(tracker, matcher),
                config.mapping.num_final_partners,
            )


def _track(
    tracker: Tracker, frames: Iterator[Frame], max_frames: int, ends_with_start: bool = False
) -> tuple[float, int]:
    """Seconds and number of frames that are tracked, and whose keyframes are mapped.

    Args:
        tracker: of the sequence.
        frames: the next ones.
        max_frames: number of frames at most.
        ends_with_start: end as soon as a map has started.
    """
    start, num = time.perf_counter(), 0
    for frame in islice(frames, max_frames):
        tracker.track(frame.image, frame.time_s, frame.name)
        num += 1
        if ends_with_start and tracker.slam_map.keyframes:
            tracker.wait()
            if tracker.slam_map.keyframes:  # the start was not tried in vain
                break
    tracker.wait()
    return time.perf_counter() - start, num


def _match_s(tracker: Tracker, matcher: Matcher) -> float:
    """Seconds of the matches of the two latest keyframes; 0 if there are none."""
    keyframes = [one for _, one in sorted(tracker.slam_map.keyframes.items()) if one.num_features > 0]
    if len(keyframes) < 2:
        return 0.0
    features = [keyframe.features for keyframe in keyframes[-2:]]
    start = time.perf_counter()
    matcher.match(*features)
    return time.perf_counter() - start
