"""A tracker that knows the answer: for tests of what is done with its results."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking import run
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame import FrameRecord, TrackingEvent
from sfm_lightglue.tracking.precise_adjustment import LastAdjustment
from sfm_lightglue.types import Camera

START = 2
"""The frame with which the first map starts. Frames 0 and 2, and then every third one, are keyframes."""


def use_fake_tracker(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    """Let the job use a fake tracker; returns its class, whose attributes a test may change."""

    class OfTest(FakeTracker):
        pass

    monkeypatch.setattr(run, "Tracker", OfTest)
    return OfTest


class FakeTracker:
    """The camera moves along x by one unit a frame; the first two frames get their poses at the end.

    Frames from `second_map` on belong to a second map. With `has_map` False nothing is found.
    """

    second_map: int | None = None
    has_map = True
    num_closed = 0
    start_name = ""

    def __init__(self, camera: Camera | None, config: TrackerConfig | None = None, **components: Any) -> None:
        self.camera, self.config = camera, config or TrackerConfig()
        self.records: tuple[FrameRecord, ...] = ()
        self.events: tuple[TrackingEvent, ...] = ()
        self.reconstructions: dict[int, pycolmap.Reconstruction] = {}
        self.slam_map = SimpleNamespace(lock=threading.RLock(), keyframes={})
        self.last_adjustments = {3: LastAdjustment(True, "", 0.3, 1.0), 7: LastAdjustment(False, "blurred")}
        self.tracked_pixels = np.zeros((0, 2))
        self.num_finished = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        type(self).num_closed += 1

    def track(self, image: UInt8Array, time_s: float, name: str = "") -> FrameRecord:
        idx = len(self.records)
        is_posed = self.has_map and idx >= START
        if self.has_map and idx == START:
            self.events += (TrackingEvent("initialized", idx, "2 keyframes"),)
        pose = self.pose(idx) if is_posed else None
        state: Any = "tracked" if is_posed else "initializing"
        record = FrameRecord(idx, name, time_s, state, pose, self.map_id(idx) if is_posed else None, 100, 2.0)
        self.records += (record,)
        if is_posed:
            self.slam_map.keyframes = {i: SimpleNamespace(name=self.records[i].name) for i in self.keyframes()}
        return record

    def finish(self) -> None:
        self.num_finished += 1
        if not self.keyframes():
            raise DataError("there is no map")
        self.records = tuple(
            FrameRecord(
                *(one.frame_idx, one.name, one.time_s, one.state),
                *(self.pose(one.frame_idx), self.map_id(one.frame_idx), one.num_inliers, one.tracking_ms),
            )
            for one in self.records
        )
        for map_id in sorted({self.map_id(idx) for idx in self.keyframes()}, reverse=True):
            members = [idx for idx in self.keyframes() if self.map_id(idx) == map_id]
            self.reconstructions[map_id] = self._model(members)

    def pose(self, idx: int) -> Rigid3:
        return Rigid3(np.eye(3), np.array([-float(idx), 0.0, 0.0]))

    def map_id(self, idx: int) -> int:
        return 7 if self.second_map is not None and idx >= self.second_map else 3

    def keyframes(self) -> list[int]:
        number = len(self.records)
        return [0, *range(START, number, 3)] if self.has_map and number > START else []

    def _model(self, members: list[int]) -> pycolmap.Reconstruction:
        """A valid model whose images have the names of the keyframes, and no points if it has one image."""
        options = pycolmap.SyntheticDatasetOptions()
        options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, len(members)
        options.num_points3D = 30
        model = pycolmap.synthesize_dataset(options)
        for idx, image in zip(members, (model.images[i] for i in sorted(model.images)), strict=True):
            image.name = self.records[idx].name
            pose = self.pose(idx)
            image.frame.rig_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), pose.t)
        return model
