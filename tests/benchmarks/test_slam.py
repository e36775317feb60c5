"""The benchmark of visual SLAM: goals, jobs of other methods, and known ground after a change."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.slam_job import SlamJob, SlamJobResult, open_job
from benchmarks.slam_offline import OfflineResult, centers_rmse, linked_images
from benchmarks.slam_report import (
    HardResult,
    goals_of_hard,
    goals_of_loop,
    goals_of_memory,
    goals_of_offline,
    goals_of_sequence,
    hard_table,
    offline_table,
    published_text,
)
from sfm_lightglue.evaluation.slam import SlamScores
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.files import stored_sequence
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.types import Camera

GOOD = SlamScores(
    "corridor",
    600,
    26.0,
    True,
    -1,
    initialized_frame=12.0,
    parallax_frame=10.0,
    tracked=1.0,
    ate=0.05,
    loop_error=0.02,
    median_ms=30.0,
    total_fps=12.0,
    p99_ms=100.0,
    max_ms=400.0,
    peak_memory_mb=700.0,
)


def missed(scores: SlamScores, name: str = "corridor") -> list[str]:
    return [goal.text for goal in goals_of_sequence(name, scores) if not goal.is_reached]


def test_each_goal_is_missed_by_its_own_number_only() -> None:
    assert not missed(GOOD)
    worse = {"tracked": 0.99, "ate": 0.3, "initialized_frame": 31.0, "median_ms": 70.0, "total_fps": 9.0}
    for name, value in (worse | {"p99_ms": 201.0, "max_ms": 1001.0}).items():
        assert len(missed(replace(GOOD, **{name: value}))) == 1, name
    assert len(missed(SlamScores("corridor", 600, 26.0, True, -1))) >= 5, "a run without a map reaches goals"
    assert missed(replace(GOOD, initialized_frame=40.0, parallax_frame=45.0)) == []


def test_seven_scenes_has_a_limit_in_metres_and_large_images_none_of_time() -> None:
    assert len(missed(replace(GOOD, ate=0.031), "seven_scenes")) == 1
    assert not missed(replace(GOOD, median_ms=500.0), "kitti00")


def test_goals_of_loops_offline_methods_changes_and_memory() -> None:
    assert goals_of_loop(GOOD, replace(GOOD, loop_error=0.5))[0].is_reached
    assert not goals_of_loop(GOOD, replace(GOOD, loop_error=math.nan))[0].is_reached
    result = OfflineResult("corridor", "colmap", 40, 40, 0.02, 0.025, 10.0)
    assert result.ratio == pytest.approx(1.25) and goals_of_offline([result])[0].is_reached
    assert not goals_of_offline([replace(result, slam_ate=0.03)])[0].is_reached
    assert goals_of_offline([replace(result, num_registered=15), replace(result, ate=math.nan)]) == []
    hard = [HardResult("corridor", "cut", 8, GOOD), HardResult("corridor", "blackout", None, GOOD)]
    assert [goal.is_reached for goal in goals_of_hard(hard)] == [True, False]
    assert not goals_of_memory(replace(GOOD, peak_memory_mb=1600.0))[0].is_reached
    assert "not found" in hard_table(hard) and "1.25" in offline_table([result])
    assert all(name in published_text() for name in ("ORB-SLAM3", "DPVO", "DPV-SLAM", "MASt3R-SLAM"))


def test_scores_come_back_from_a_file() -> None:
    values = GOOD.as_dict() | {"events": {"loop_closed": 1}}
    again = SlamJobResult(values).slam_scores()
    assert again.ate == GOOD.ate and again.events == (("loop_closed", 1),) and math.isnan(again.rpe)


@pytest.fixture
def stored(tmp_path: Path) -> ImageSequence:
    """24 grey frames of a straight way in files."""
    poses = tuple(Rigid3(np.eye(3), np.array([-0.1 * idx, 0.01 * idx**2, 0])) for idx in range(24))
    names = tuple(f"f{idx}.jpg" for idx in range(24))
    camera = Camera("SIMPLE_PINHOLE", 64, 48, (50.0, 32.0, 24.0))
    image = np.full((48, 64, 3), 90, np.uint8)
    way = ImageSequence("way", camera, names, np.arange(24) / 30, poses, lambda idx: image + idx)
    return stored_sequence(way, tmp_path / "way")


def test_changes_keep_the_truth_and_tell_where_known_ground_is_seen(stored: ImageSequence, tmp_path: Path) -> None:
    job = SlamJob(str(tmp_path / "way"))
    cut, known = open_job(replace(job, change="cut"))
    assert known == 16 and len(cut) == 16 + 10
    np.testing.assert_allclose(cut.centers[16], stored.centers[6])
    np.testing.assert_array_equal(cut.image(16), stored.image(6))
    black, known = open_job(replace(job, change="blackout"))
    assert known == 12 + 20 and black.image(12).max() < 30 < black.image(11).min()


def test_other_methods_get_the_keyframes_only(stored: ImageSequence, tmp_path: Path) -> None:
    for names in (stored.names[:5], stored.names[3:6]):
        folder = linked_images(stored, names, tmp_path / "links")
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    with pytest.raises(ValueError, match="not in files"):
        linked_images(stored.take([0]), stored.names[:1], tmp_path / "links")


def test_errors_do_not_depend_on_frame_and_unit(stored: ImageSequence) -> None:
    truth = dict(zip(stored.names, stored.cam_from_world, strict=True))
    larger = {name: Rigid3(pose.R, 3 * pose.t) for name, pose in truth.items()}
    assert centers_rmse(larger, truth) < 1e-9
    assert math.isnan(centers_rmse({}, truth))
