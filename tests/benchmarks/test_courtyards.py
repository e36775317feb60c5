"""The benchmark of courtyards: its scores and totals, and the models that it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.courtyards import CourtyardRun, ModelScore, format_table, score_model, totals_of
from datasets.ground_truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec


def example(num: int = 8) -> SceneTruth:
    rng = np.random.default_rng(0)
    poses = {}
    for idx in range(num):
        R = rotation_from_rotvec(rng.normal(size=3))
        poses[f"{idx}.jpg"] = Rigid3(R, -R @ rng.uniform(-5, 5, 3))
    return SceneTruth("example", Path("images"), poses)


def test_a_camera_beyond_two_percent_of_the_extent_is_wrong() -> None:
    truth = example()
    poses = dict(truth.cam_from_world_from_name)
    assert score_model(poses, truth).num_right == 8
    poses["3.jpg"] = Rigid3(poses["3.jpg"].R, poses["3.jpg"].t + 0.03 * truth.extent * np.array([1.0, 0, 0]))
    poses["5.jpg"] = Rigid3(poses["5.jpg"].R, poses["5.jpg"].t + 0.01 * truth.extent * np.array([1.0, 0, 0]))
    del poses["6.jpg"]
    score = score_model(poses, truth)
    assert (score.num_registered, score.num_right, score.num_wrong) == (7, 6, 1)
    assert 0.02 < score.max_center_error < 0.04


def test_a_model_of_two_cameras_is_not_judged() -> None:
    truth = example()
    two = {name: truth.cam_from_world_from_name[name] for name in truth.names[:2]}
    assert score_model(two, truth) == ModelScore(2, 0, 0)


def test_totals_count_seeds_with_wrong_cameras() -> None:
    right, wrong = ModelScore(10, 10, 0), ModelScore(8, 5, 3, 0.4, 90.0)
    runs = [
        CourtyardRun(0, "ours", (right,), 10.0),
        CourtyardRun(0, "colmap", (wrong, wrong), 20.0),
        CourtyardRun(1, "ours", (), 5.0, "no model"),
        CourtyardRun(1, "colmap", (right, wrong), 20.0),
    ]
    ours, colmap = totals_of(runs, "ours"), totals_of(runs, "colmap")
    assert (ours["registered"], ours["right"], ours["seeds_wrong_main"], ours["seconds"]) == (10, 10, 0, 15.0)
    assert (colmap["right"], colmap["wrong"]) == (15, 3)
    assert (colmap["seeds_wrong_main"], colmap["seeds_wrong_other"]) == (1, 2)
    table = format_table(runs)
    assert table.count("\n") >= 8
    assert "seeds with a wrong camera" in table
