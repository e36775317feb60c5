"""The benchmark of verified pairs: its judgement of pairs, and a short run on a rendered courtyard."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pair_sets, verified_pairs
from benchmarks.pair_sets import PairSet, kitti_set
from benchmarks.verified_pairs import PairCounts, format_table, is_right, summed
from datasets.ground_truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.synthetic import render_courtyard
from sfm_lightglue.types import Camera, ImagePair, TwoViewGeometry
from tests.helpers.shared_data import shared_data

PAIR = ImagePair("a.jpg", "b.jpg")


def two_images(baseline: float, common: bool = True) -> PairSet:
    poses = {"a.jpg": Rigid3.identity(), "b.jpg": Rigid3(np.eye(3), np.array([baseline, 0, 0]))}
    camera = Camera("SIMPLE_PINHOLE", 64, 48, (50.0, 32.0, 24.0))
    truth = SceneTruth("two", Path("images"), poses, dict.fromkeys(poses, camera))
    return PairSet("two", truth, frozenset([PAIR] if common else []), depth=10.0)


def geometry(rotation_deg: float = 0.0, direction_deg: float = 0.0, kind: str = "general") -> TwoViewGeometry:
    angle = np.radians(direction_deg)
    pose = Rigid3(rotation_from_rotvec(np.radians([0, rotation_deg, 0])), np.array([np.cos(angle), np.sin(angle), 0]))
    return TwoViewGeometry(kind, np.ones(20, np.bool_), pose, np.eye(3))  # type: ignore[arg-type]


def test_a_pair_is_right_if_rotation_and_direction_agree() -> None:
    assert is_right(two_images(2.0), PAIR, geometry(3.0, 15.0))
    assert not is_right(two_images(2.0), PAIR, geometry(6.0))
    assert not is_right(two_images(2.0), PAIR, geometry(0.0, 25.0))
    assert not is_right(two_images(2.0, common=False), PAIR, geometry())


def test_the_direction_counts_only_where_the_baseline_determines_it() -> None:
    assert is_right(two_images(0.1), PAIR, geometry(0.0, 90.0))
    assert is_right(two_images(2.0), PAIR, geometry(0.0, 90.0, "pure_rotation"))


def test_the_table_sums_sets_of_one_name() -> None:
    one = PairCounts("courtyard 10", 45, 25, 20, 20, 18, 1, 1, 8.0, 0.5)
    total = summed([one, replace(one, right=0, wrong=0, kept_right=0, kept_corrected=0, kept_wrong=0)], "all")
    assert (total.num_pairs, total.right, total.precision) == (90, 20, 0.5)
    assert (total.kept_precision, total.kept_recall) == (0.95, 0.9)
    lines = format_table([one, one, replace(one, name="room 16")]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["courtyard 10", "room 16", "all"]
    assert len({len(line) for line in lines}) == 1


def test_a_second_run_reads_scene_and_pairs_from_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered = []

    def render(_: int, seed: int):  # type: ignore[no-untyped-def]
        rendered.append(seed)
        return render_courtyard(3, (240, 180), seed)

    monkeypatch.setitem(pair_sets.RENDERERS, "courtyard", render)
    arguments = ["courtyard10", "--seeds", "1", "--threads", "1", "--work", str(tmp_path / "work")]
    for name in ("first.json", "second.json"):
        assert verified_pairs.main([*arguments, "--json", str(tmp_path / name)]) == 0
    first, second = (json.loads((tmp_path / name).read_text())["sets"][0] for name in ("first.json", "second.json"))
    assert rendered == [0]
    assert first["num_pairs"] == 3
    assert first["num_common"] >= 1
    assert first["right"] + first["wrong"] >= 1
    assert {key: value for key, value in first.items() if "seconds" not in key} == {
        key: value for key, value in second.items() if "seconds" not in key
    }
    assert "courtyard 10" in capsys.readouterr().out


def test_an_unknown_set_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        verified_pairs.main(["palace"])
    assert "palace" in capsys.readouterr().err


def test_neighbouring_images_of_a_drive_have_a_common_view() -> None:
    drive = kitti_set(shared_data(), 0, 10, 5)
    names = drive.truth.names
    assert all(ImagePair(a, b) in drive.common for a, b in pairwise(names))
