"""Trajectories as text are those that were written, for our readers and for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from datasets.trajectory import read_trajectory
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.frame import FrameRecord
from sfm_lightglue.tracking.trajectory_files import frame_values, frames_jsonl, kitti_text, tum_text


def poses(number: int = 5) -> list[Rigid3]:
    """Random poses cam_from_world."""
    rng = np.random.default_rng(0)
    return [Rigid3.from_rotvec(rng.normal(size=3), rng.normal(size=3) * 10) for _ in range(number)]


def test_trajectories_are_read_as_they_were(tmp_path: Path) -> None:
    times_s = [1311868164.363181 + 0.1 * i for i in range(5)]
    (tmp_path / "tum.txt").write_text(tum_text(zip(times_s, poses(), strict=True)))
    (tmp_path / "kitti.txt").write_text(kitti_text(poses()))
    tum, kitti = read_trajectory(tmp_path / "tum.txt"), read_trajectory(tmp_path / "kitti.txt")
    assert tum.is_timed and tum.stamps_s.tolist() == times_s
    assert not kitti.is_timed
    for trajectory in (tum, kitti):
        for found, cam_from_world in zip(trajectory.world_from_cam, poses(), strict=True):
            assert np.allclose(found.as_matrix(), cam_from_world.inverse().as_matrix(), atol=1e-7)


def test_files_have_the_numbers_of_a_line_that_other_programs_expect(tmp_path: Path) -> None:
    (tmp_path / "tum.txt").write_text(tum_text([(0.5, poses()[0])]))
    assert np.loadtxt(tmp_path / "tum.txt").shape == (8,)
    assert len(kitti_text(poses()[:1]).split()) == 12
    assert tum_text([]).startswith("#") and kitti_text([]) == ""


def test_a_line_of_json_says_what_was_found_for_a_frame() -> None:
    (pose,) = poses(1)
    record = FrameRecord(7, "ä\u2028.jpg", 0.25, "tracked", pose, 4, 99, 12.34567, 0.5)
    (line,) = frames_jsonl([frame_values(record)]).decode().splitlines()
    values = json.loads(line)
    assert values == {
        "name": "ä\u2028.jpg",
        "time_s": 0.25,
        "state": "tracked",
        "cam_from_world": {"R": pose.R.tolist(), "t": pose.t.tolist()},
        "map": 4,
        "num_inliers": 99,
        "tracking_ms": 12.346,
        "waiting_ms": 0.5,
    }


def test_maps_are_numbered_as_their_models_and_a_map_without_a_model_has_no_poses() -> None:
    record = FrameRecord(7, "a.jpg", 0.25, "tracked", poses(1)[0], 4, 99, 1.0)
    assert frame_values(record, {4: 0})["map"] == 0
    without = frame_values(record, {5: 0})
    assert without["map"] is None and without["cam_from_world"] is None
    lost = frame_values(FrameRecord(8, "b.jpg", 0.5, "lost", None, None, 0, 1.0), {4: 0})
    assert lost["map"] is None and lost["cam_from_world"] is None and lost["state"] == "lost"
