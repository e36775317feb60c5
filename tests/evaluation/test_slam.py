"""Scores of visual SLAM: exact for known records, and medians over seeds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.slam_sequences import open_slam_sequence
from pipelines.evaluate import main
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.slam import SlamScores, frames_until_found, loop_ends, medians, run_slam, scores_of
from sfm_lightglue.evaluation.slam_table import slam_table
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec
from sfm_lightglue.synthetic.corridor import Corridor
from sfm_lightglue.synthetic.files import stored_sequence
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.frame import FrameRecord, TrackingEvent
from sfm_lightglue.types import Camera

NUM_FRAMES = 90
CAMERA = Camera("SIMPLE_PINHOLE", 80, 60, (60.0, 40.0, 30.0))


def circle() -> ImageSequence:
    """A camera that walks around a circle of 1 m and comes back: 90 frames, a round is 80."""
    poses = []
    for angle in (2 * np.pi * np.arange(NUM_FRAMES) / 80).tolist():
        center = np.array([np.cos(angle), np.sin(angle), 1.5])
        poses.append(Rigid3.look_at(center, (center[0] - np.sin(angle), center[1] + np.cos(angle), 1.5), [0, 0, 1]))
    names = tuple(f"{idx:03d}.jpg" for idx in range(NUM_FRAMES))
    image = np.zeros((60, 80, 3), np.uint8)
    return ImageSequence("circle", CAMERA, names, np.arange(NUM_FRAMES) / 30, tuple(poses), lambda idx: image + idx)


def in_map(pose: Rigid3, map_from_world: Sim3) -> Rigid3:
    """A pose in the frame and unit of a map."""
    R = pose.R @ map_from_world.R.T
    return Rigid3(R, -R @ (map_from_world @ pose.center[None])[0])


MAP_FROM_WORLD = Sim3(0.4, rotation_from_rotvec(np.array([0.3, -0.2, 0.5])), np.array([1.0, 2.0, 3.0]))


def records_of(sequence: ImageSequence, drift: float = 0.0) -> list[FrameRecord]:
    """Records in another frame and unit; with a drift, later frames are higher, in the unit of the world."""
    records = []
    for idx, pose in enumerate(sequence.cam_from_world):
        shifted = Rigid3(pose.R, pose.t - pose.R @ np.array([0, 0, drift * idx / len(sequence)]))
        found = in_map(shifted, MAP_FROM_WORLD)
        records.append(FrameRecord(idx, sequence.names[idx], idx / 30, "tracked", found, 0, 100, 10.0 + idx))
    return records


def test_records_without_errors_have_none_in_any_frame_and_unit() -> None:
    sequence = circle()
    scores = scores_of(sequence, records_of(sequence), [TrackingEvent("initialized", 4)])
    assert scores.initialized_frame == 4 and scores.tracked == 1.0 and scores.num_posed == NUM_FRAMES
    assert max(scores.ate, scores.rpe, scores.rpe_deg, scores.loop_error) < 1e-6
    assert scores.path_length == pytest.approx(2 * np.pi * 89 / 80, rel=1e-2)
    assert scores.events == (("initialized", 1),)


def test_a_drift_is_the_error_of_the_loop_in_the_unit_of_the_world() -> None:
    sequence = circle()
    scores = scores_of(sequence, records_of(sequence, drift=0.09))
    early, late = loop_ends(range(NUM_FRAMES), sequence) or (0, 0)
    assert late == NUM_FRAMES - 1 and early == 9
    assert scores.loop_error == pytest.approx(0.08, rel=0.05)
    assert 0.01 < scores.ate < 0.05
    assert scores.relative_ate == pytest.approx(scores.ate / sequence.path_length)


def test_a_way_that_does_not_come_back_has_no_loop() -> None:
    sequence = circle().take(range(60))
    assert loop_ends(range(60), sequence) is None
    assert math.isnan(scores_of(sequence, records_of(sequence)).loop_error)


def test_frames_of_smaller_maps_and_lost_ones_are_not_tracked() -> None:
    sequence = circle()
    records = records_of(sequence)
    lost = [replace(record, state="lost", cam_from_world=None, map_id=None) for record in records[40:50]]
    second = [replace(record, map_id=1) for record in records[50:60]]
    records = [*records[:40], *lost, *second, *records[60:]]
    events = [TrackingEvent("initialized", 10), TrackingEvent("lost", 40), TrackingEvent("map_started", 50)]
    scores = scores_of(sequence, records, events)
    assert scores.num_maps == 2 and scores.num_posed == 70
    assert scores.tracked == pytest.approx(60 / 80)
    assert scores.ate < 1e-6, "poses of another map are compared"
    assert frames_until_found(records, 40, 0) == 20
    assert frames_until_found(records, 40, 1) == 10
    assert frames_until_found(records, 30, 0) == 0
    assert frames_until_found(records[:55], 40, 0) is None


def test_times_are_those_of_the_records() -> None:
    sequence = circle()
    records = records_of(sequence)
    records[3] = replace(records[3], tracking_ms=2000.0)
    scores = scores_of(sequence, records, [TrackingEvent("initialized", 3)])
    assert scores.median_ms == pytest.approx(np.median([record.tracking_ms for record in records]))
    assert scores.max_ms == pytest.approx(99.0), "the frame that starts the map does not count"
    assert scores.tracker_fps == pytest.approx(1000 * NUM_FRAMES / sum(record.tracking_ms for record in records))


class FixedTracker:
    """Gives records that were made before."""

    def __init__(self, records: list[FrameRecord]) -> None:
        self._records = records
        self.records: tuple[FrameRecord, ...] = ()
        self.events = (TrackingEvent("initialized", 2),)
        self.firsts: list[int] = []

    def track(self, image: np.ndarray, time_s: float, name: str) -> FrameRecord:
        record = self._records[len(self.records)]
        assert (record.name, record.time_s) == (name, pytest.approx(time_s))
        self.firsts.append(int(image[0, 0, 0]))
        self.records = (*self.records, record)
        return record

    def finish(self) -> None:
        raise DataError("no map")

    def __enter__(self) -> FixedTracker:
        return self

    def __exit__(self, *error: object) -> None:
        self.is_closed = True


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_run_gives_all_frames_in_order_and_keeps_its_error(num_threads: int) -> None:
    sequence = circle()
    tracker = FixedTracker(records_of(sequence))
    run = run_slam(sequence, tracker, seed=5, num_threads=num_threads)  # type: ignore[arg-type]
    assert tracker.is_closed
    assert tracker.firsts == list(range(NUM_FRAMES))
    assert (run.scores.seed, run.scores.error) == (5, "no map")
    assert run.live == run.records and len(run.live) == NUM_FRAMES


def test_medians_take_a_missing_number_as_the_worst() -> None:
    one = SlamScores("a", 10, 2.0, True, 0, ate=0.3, tracked=1.0, tracker_fps=20.0)
    runs = [one, replace(one, seed=1, ate=0.1), replace(one, seed=2, ate=math.nan, tracked=0.2, error="no map")]
    median = medians(runs)
    assert (median.ate, median.tracked, median.seed, median.error) == (0.3, 1.0, -1, "no map")
    assert math.isnan(medians([runs[2], runs[2], runs[0]]).ate)
    assert medians([one]) is one
    values = json.loads(json.dumps(medians(runs).as_dict()))
    assert values["rpe"] is None and values["relative_ate"] == pytest.approx(0.15)


def test_the_table_has_a_line_per_sequence_and_no_nan() -> None:
    table = slam_table([SlamScores("first", 10, 2.0, True, 0, ate=0.02), SlamScores("second", 5, 0.0, False, 0)])
    lines = table.splitlines()
    assert len(lines) == 4 and "nan" not in table.lower()
    assert "0.0200" in lines[2] and "1.000" in lines[2]


def test_stored_frames_are_a_scene_that_can_be_opened_and_are_not_made_again(tmp_path: Path) -> None:
    sequence = replace(circle().take(range(4)), names=("a0.jpg", "a1.jpg", "a2.jpg", "a10.jpg"))
    stored = stored_sequence(sequence, tmp_path, num_threads=2)
    again = stored_sequence(replace(sequence, image=lambda idx: 1 / 0), tmp_path)
    opened = open_slam_sequence(str(tmp_path))
    assert opened.names == sequence.names, "frames are not in natural order"
    for one in (stored, again, opened):
        np.testing.assert_array_equal(one.image(3), sequence.image(3))
        np.testing.assert_allclose(one.centers, sequence.centers, atol=1e-9)
    assert opened.is_metric and len(open_slam_sequence(str(tmp_path), limit=2)) == 2


def test_the_command_refuses_a_scene_without_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = stored_sequence(circle().take(range(2)), tmp_path / "scene")
    assert len(images) == 2
    assert main(["slam", str(tmp_path / "scene" / "images"), "--quiet"]) == 3
    assert "needs true poses" in capsys.readouterr().err
    assert main(["slam", "coridor", "--data", str(tmp_path), "--quiet"]) == 3
    assert "coridor" in capsys.readouterr().err


def test_the_command_tracks_a_sequence_and_writes_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, table, results = (tmp_path / name for name in ("walk", "slam.md", "slam.json"))
    stored_sequence(Corridor((320, 240)).sequence(16), scene)
    options = ["--seeds", "2", "--threads", "1", "--markdown", str(table), "--json", str(results), "--quiet"]
    assert main(["slam", str(scene), *options]) == 0
    assert capsys.readouterr().err == ""
    values = json.loads(results.read_text())
    runs = next(value for value in values.values() if isinstance(value, list) and len(value) == 2)
    assert [run["seed"] for run in runs] == [0, 1]
    for run in runs:
        assert run["num_frames"] == 16 and run["tracked"] == 1.0 and run["error"] == ""
        assert run["relative_ate"] < 0.02 and run["events"]["initialized"] == 1
    assert "walk" in table.read_text() and "nan" not in table.read_text().lower()
