"""Frames that come at their times, and are dropped while the last one is tracked."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sfm_lightglue.evaluation.live_frames import LiveFrames
from sfm_lightglue.evaluation.slam import run_slam
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.frame import FrameRecord, TrackingEvent
from sfm_lightglue.types import Camera

INTERVAL_S = 0.05
NUM_FRAMES = 12


def sequence() -> ImageSequence:
    poses = tuple(Rigid3(np.eye(3), np.array([0.1 * idx, 0.01 * idx**2, 0.0])) for idx in range(NUM_FRAMES))
    names = tuple(f"{idx}.jpg" for idx in range(NUM_FRAMES))
    times_s = 5.0 + INTERVAL_S * np.arange(NUM_FRAMES)
    image = np.zeros((60, 80, 3), np.uint8)
    return ImageSequence(
        "line",
        Camera("SIMPLE_PINHOLE", 80, 60, (60.0, 40.0, 30.0)),
        names,
        times_s,
        poses,
        lambda idx: image + np.uint8(idx),
    )


def test_no_frame_comes_before_its_time() -> None:
    frames, start = LiveFrames(sequence()), time.perf_counter()
    for frame in frames:
        assert time.perf_counter() - start >= frame.time_s - 5.0 - 1e-6
        assert frame.image[0, 0, 0] == int(frame.name.removesuffix(".jpg"))
    assert frames.taken[0] == 0 and frames.taken[-1] == NUM_FRAMES - 1


def test_the_newest_of_the_frames_that_came_meanwhile_is_taken() -> None:
    frames = LiveFrames(sequence())
    for frame in frames:
        if frame.name == "2.jpg":
            time.sleep(4.5 * INTERVAL_S)
    after = frames.taken[frames.taken.index(2) + 1]
    assert after >= 6, "an old frame is taken"
    assert len(frames.taken) == len(set(frames.taken)) and frames.taken == sorted(frames.taken)


class SlowTracker:
    """Knows the poses, and takes long for each."""

    reconstruction = None

    def __init__(self) -> None:
        self.records: tuple[FrameRecord, ...] = ()
        self.events = (TrackingEvent("initialized", 0),)

    def track(self, image: np.ndarray, time_s: float, name: str) -> FrameRecord:
        time.sleep(2.5 * INTERVAL_S)
        pose = sequence().cam_from_world[int(image[0, 0, 0])]
        record = FrameRecord(len(self.records), name, time_s, "tracked", pose, 0, 100, 10.0, 30.0)
        self.records = (*self.records, record)
        return record

    def finish(self) -> SlowTracker:
        return self

    def __enter__(self) -> SlowTracker:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_dropped_frames_are_counted_and_the_others_compared_with_their_own_poses() -> None:
    scores = run_slam(sequence(), SlowTracker(), is_live=True).scores  # type: ignore[arg-type]
    assert scores.num_dropped >= 4 and scores.num_frames + scores.num_dropped == NUM_FRAMES
    assert scores.ate < 1e-9 and scores.tracked == 1.0
    assert scores.p99_ms == pytest.approx(10.0) and scores.p99_with_waits_ms == pytest.approx(40.0)
    every = run_slam(sequence(), SlowTracker()).scores  # type: ignore[arg-type]
    assert every.num_dropped == 0 and every.num_frames == NUM_FRAMES
