"""Choose frames of a video for a reconstruction: sharp ones, far enough from each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.tracking.config import FlowConfig
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.optical_flow import FlowImage, follow, new_corners

FRAME_CHOICE_VERSION = 1
"""Raised when other frames are chosen of the same video."""


@dataclass(frozen=True, slots=True)
class FrameChoiceConfig:
    """Which frames of a video are used."""

    min_flow_share: float = 0.04
    """A frame may be chosen when the points of the last chosen one moved by this fraction of the longer side."""

    max_flow_share: float = 0.07
    """The sharpest frame is chosen when the points moved by this fraction of the longer side."""

    min_tracked_share: float = 0.4
    """It is also chosen when fewer of the points can be followed: something new is seen, or the view changed."""

    max_size: int = 480
    """Longer side in pixels to which frames are shrunk to judge them."""


_FLOW = FlowConfig(max_difference=64.0)  # sharp frames and blurred ones are compared

_MIN_CORNERS, _MAX_CORNERS = 10, 300

_SPACING_SHARE = 1 / 80
"""Smallest distance of corners, as a fraction of the longer side."""


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A frame with what is needed to judge others by it: shrunk grey pixels, and variance of their Laplacian."""

    frame: Frame
    small: FlowImage
    sharpness: float


class _Tracks:
    """Corners of one frame that are followed through the next ones."""

    def __init__(self, first: FlowImage, size_px: int) -> None:
        spacing_px = _SPACING_SHARE * max(first.grey.shape)
        self._starts = self._points = new_corners(first, np.zeros((0, 2)), _MAX_CORNERS, spacing_px)
        self.num_starts = len(self._starts)
        self._last, self._size_px = first, size_px

    def follow(self, small: FlowImage) -> None:
        """Follow the corners into the next frame."""
        points, is_found = follow(self._last, small, self._points, self._points, _FLOW)
        self._points, self._starts, self._last = points[is_found], self._starts[is_found], small

    @property
    def tracked_share(self) -> float:
        """Fraction of the corners that could be followed so far; 1 without corners."""
        return len(self._points) / self.num_starts if self.num_starts > 0 else 1.0

    @property
    def flow_share(self) -> float:
        """Distance from the start that a quarter of the corners exceed, as a fraction of the longer side.

        It is not the median: if the camera moves forwards, half of the points hardly move.
        """
        if len(self._points) == 0:
            return 0.0
        return float(np.percentile(np.linalg.norm(self._points - self._starts, axis=1), 75)) / self._size_px


def choose_frames(frames: Iterable[Frame], config: FrameChoiceConfig | None = None) -> Iterator[Frame]:
    """The frames for a reconstruction, as soon as each is chosen.

    The points of the last chosen frame are followed by optical flow. Once they moved far enough, the sharpest of the
    frames is chosen until they moved too far: its Laplacian has the largest variance. Neighbours show nearly the same,
    so that their variances can be compared. A camera that stands gives one frame.

    Args:
        frames: of one size, in the order of time.
        config: limits.
    """
    config = config or FrameChoiceConfig()
    best: _Judged | None = None
    tracks: _Tracks | None = None
    is_first = True
    for frame in frames:
        judged = _judge(frame, config)
        if tracks is None or tracks.num_starts < _MIN_CORNERS:  # nothing can be followed from a dark frame
            tracks = _Tracks(judged.small, max(frame.size))
        else:
            tracks.follow(judged.small)
        limit = config.min_flow_share / 2 if is_first else config.max_flow_share
        is_lost = tracks.tracked_share < config.min_tracked_share
        if is_first or is_lost or tracks.flow_share >= config.min_flow_share:
            best = judged if best is None or (judged.sharpness > best.sharpness and not is_lost) else best
        if best is not None and (is_lost or tracks.flow_share >= limit):
            yield best.frame
            tracks, is_first = _Tracks(best.small, max(frame.size)), False
            if best is not judged:
                tracks.follow(judged.small)
            best = None
    if best is not None:
        yield best.frame


def _judge(frame: Frame, config: FrameChoiceConfig) -> _Judged:
    small = FlowImage.of(frame.image, config.max_size)
    return _Judged(frame, small, float(np.var(cv2.Laplacian(small.grey, cv2.CV_32F))))
