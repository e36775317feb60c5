"""The benchmark of look-alikes judges by the truth: folded, split and right models are told apart."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks import lookalikes_scenes
from benchmarks.lookalikes import LookalikeRun, judged
from benchmarks.lookalikes_scenes import PLAIN, SCENES, SHUFFLED, LookalikeSet, all_names, open_set, rendered_set
from benchmarks.lookalikes_table import format_tables, goals_of
from benchmarks.lookalikes_verdict import ModelVerdict, judge_by_order, judge_by_poses, scene_verdict
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3, Sim3
from sfm_lightglue.synthetic.lookalikes import KINDS, LookalikeScene


def ring(num: int = 12) -> dict[str, Rigid3]:
    """Cameras around the origin that look at it."""
    angles = 2 * np.pi * np.arange(num) / num
    centers = np.stack([10 * np.cos(angles), 10 * np.sin(angles), np.full(num, 1.5)], 1)
    up = np.array([0, 0, 1.0])
    return {f"{idx:02d}": Rigid3.look_at(center, np.array([0, 0, 1.0]), up) for idx, center in enumerate(centers)}


def moved(poses: dict[str, Rigid3], scale: float = 0.3) -> dict[str, Rigid3]:
    """The same model in another frame and unit."""
    R = Rigid3.from_rotvec(np.array([0.3, -0.4, 1.0]), np.zeros(3)).R
    other = Sim3(scale, R, np.array([1.0, 2.0, 3.0]))
    return {name: Rigid3(pose.R @ R.T, -pose.R @ R.T @ (other @ pose.center)) for name, pose in poses.items()}


def folded(poses: dict[str, Rigid3]) -> dict[str, Rigid3]:
    """A ring whose second half lies on the first one."""
    names = sorted(poses)
    half = len(names) // 2
    return {name: poses[names[idx % half]] for idx, name in enumerate(names)}


def test_the_suite_has_24_scenes_of_12_kinds_and_each_property_six_times():
    assert len(SCENES) == 24
    assert {scene.kind for scene in SCENES} == set(KINDS)
    assert len({scene.seed for scene in SCENES}) == len({scene.name for scene in SCENES}) == 24
    for name in ("difference", "dense", "ordered", "revisit"):
        having = sum(getattr(scene, name) for scene in SCENES)
        assert 6 <= having <= 18, name


def test_a_true_model_in_another_frame_is_not_folded():
    truth = ring()
    assert judge_by_poses(moved(truth), truth) == ModelVerdict(12, 0, False)


def test_a_ring_folded_in_half_is_folded_in_any_frame():
    truth = ring()
    verdict = judge_by_poses(moved(folded(truth)), truth)
    assert verdict.is_folded
    assert verdict.num_wrong >= 6


def test_one_wrong_image_is_no_fold():
    truth = ring()
    estimate = moved(truth | {"00": truth["06"]})
    assert judge_by_poses(estimate, truth) == ModelVerdict(12, 1, False)


def test_cameras_that_look_elsewhere_are_wrong_too():
    truth = ring()
    turned = Rigid3.from_rotvec(np.array([0, np.radians(20), 0]), np.zeros(3))
    estimate = truth | {name: turned @ truth[name] for name in ("00", "01", "02")}
    assert judge_by_poses(moved(estimate), truth).num_wrong == 3


def test_a_walk_in_order_is_right_and_a_folded_one_is_not():
    numbers = {f"{idx:02d}": idx for idx in range(12)}
    forward = np.array([0.0, 1.0, 0.0])
    line = {
        name: Rigid3.look_at(np.array([float(idx), 0, 0]), np.array([idx, 0, 0]) + forward, np.array([0, 0, 1.0]))
        for name, idx in numbers.items()
    }
    assert not judge_by_order(moved(line), numbers, 0.98).is_folded
    assert judge_by_order(moved(folded(line)), numbers, 0.98).is_folded


GROUPS = (("a", "b", "c", "d", "e"), ("f", "g", "h", "i"), ("j",))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([["a", "b", "c", "d", "e"], ["f", "g", "h", "i"]], "right"),
        ([["a", "b", "c", "d", "e", "f", "g", "h", "i"]], "right"),
        ([["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"]], "split"),
        ([["a", "b", "c", "d", "e"]], "partial"),
        ([], "none"),
    ],
)
def test_the_verdict_of_models_without_fold(members, expected):
    assert scene_verdict([ModelVerdict(len(names), 0, False) for names in members], members, GROUPS) == expected


def test_one_folded_model_makes_the_scene_folded():
    models = [ModelVerdict(5, 0, False), ModelVerdict(4, 2, True)]
    assert scene_verdict(models, [GROUPS[0], GROUPS[1]], GROUPS) == "folded"


def run(method: str, verdict: str, is_told: bool = False, scene: str = "house1", **given) -> LookalikeRun:
    values = {
        "seconds": {"total": 10.0},
        "cpu_seconds": 10.0,
        "mean_error": math.nan,
        "is_plain": False,
        "num_images": 12,
    }
    models = (ModelVerdict(given.pop("num", 12), 0, False),)
    values |= {"models": models, "error": "", "seed": 0} | given
    return LookalikeRun(scene=scene, method=method, verdict=verdict, is_told=is_told, **values)


def missed(runs: list[LookalikeRun]) -> list[str]:
    return [goal.text.rsplit(":", 1)[0] for goal in goals_of(runs) if not goal.is_reached]


def test_goals_of_right_runs_are_reached():
    assert missed([run("ours", "right"), run("colmap", "folded"), run("off", "folded")]) == []


def test_goals_name_what_is_missed():
    folds = [run("ours", "folded"), run("colmap", "folded")]
    assert "folded, where COLMAP folds" in missed(folds)
    assert "split and told, of the scenes that are not right" in missed([run("ours", "split")])
    assert "split and told, of the scenes that are not right" not in missed([run("ours", "split", True)])
    slow, off = run("ours", "right", cpu_seconds=12.0), run("off", "right")
    assert missed([slow, off]) == ["additional processor time, 1 scenes"]
    assert missed([run("ours", "right", cpu_seconds=math.nan), off]) == []
    plain = {"scene": "fountain_p11", "is_plain": True}
    fewer = [run("ours", "right", num=10, **plain), run("off", "right", **plain)]
    assert "fountain_p11: images registered" in missed(fewer)
    worse = [run("ours", "right", mean_error=0.02, **plain), run("off", "right", mean_error=0.01, **plain)]
    assert "fountain_p11: error, % of extent" in missed(worse)


def test_tables_show_verdicts_and_shares():
    text = " ".join(format_tables([run("ours", "split", True), run("colmap", "folded")]).split())
    assert "| house1 | 12 | split, told (12) | folded (12) |" in text
    assert "| ours | 1 | 0 | 0 | 1 | 0 | 0 | 1 |" in text


def test_a_run_without_model_is_none_and_told_runs_are_found(tmp_path):
    opened = LookalikeSet("house1", tmp_path, ring(), {}, 0, (tuple(ring()),))
    (tmp_path / "output").mkdir()
    (tmp_path / "result.json").write_text(json.dumps({"error": "no model", "seconds": {"total": 1.0}}))
    (tmp_path / "output" / "run.json").write_text(json.dumps({"summary": {"models": [{"maybe_same_as": [1]}]}}))
    found = judged(opened, "ours", 0, tmp_path)
    assert (found.verdict, found.is_told, found.error, found.num_images) == ("none", True, "no model", 12)
    assert not judged(opened, "colmap", 0, tmp_path).is_told
    (tmp_path / "output" / "run.json").write_text(json.dumps({"summary": {"models": [{"maybe_folded": ["a.jpg"]}]}}))
    assert judged(opened, "ours", 0, tmp_path).is_told


def test_an_unknown_scene_is_named(tmp_path):
    with pytest.raises(DataError, match="scene castle: unknown"):
        open_set("castle", tmp_path, None)
    assert {"house1", f"street19{SHUFFLED}", *PLAIN} <= set(all_names())


def test_a_rendered_scene_is_kept(tmp_path, monkeypatch):
    scene = LookalikeScene("rooms", "rooms", False, False, False, seed=1)
    first = rendered_set(scene, tmp_path, (64, 64))
    monkeypatch.setattr(lookalikes_scenes, "render_lookalikes", None)
    second = rendered_set(scene, tmp_path, (64, 64))
    assert first.groups == second.groups
    assert [len(group) for group in first.groups] == [8, 8]
    assert first.poses.keys() == {path.name for path in first.image_root.iterdir()}


def test_a_shuffled_walk_links_to_the_images_and_keeps_their_numbers(tmp_path):
    images = tmp_path / "data" / "lookalikes" / "street19" / "images"
    images.mkdir(parents=True)
    for number in range(9):
        (images / f"{number:04d}.jpg").write_bytes(bytes([number]))
    opened = open_set(f"street19{SHUFFLED}", tmp_path / "work", tmp_path / "data")
    numbers = opened.number_from_name
    assert {name: (opened.image_root / name).read_bytes()[0] for name in numbers} == numbers
    assert [numbers[name] for name in sorted(numbers)] != list(range(9))
    assert open_set("street19", tmp_path / "work", tmp_path / "data").image_root == images
