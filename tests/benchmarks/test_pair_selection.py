"""The benchmark of pair selection: its scores, groups and sets, and a short run on rendered images."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from benchmarks import pair_selection
from benchmarks.pair_selection import Models, format_models, format_selections, goals, largest_group, score_selection
from benchmarks.pair_selection_sets import OverlapSet, mixed_set, pairs_sharing_points, town_set
from sfm_lightglue.types import ImagePair

NAMES = tuple("abcdef")


def pairs(*texts: str) -> frozenset[ImagePair]:
    return frozenset(ImagePair(*text) for text in texts)


def example_set(*overlapping: str) -> OverlapSet:
    return OverlapSet("example", Path("images"), pairs(*overlapping), None, dict.fromkeys(NAMES, ""), {})


def test_recall_precision_and_connected_images() -> None:
    one = example_set("ab", "bc", "cd", "de")
    score = score_selection(one, "some", pairs("ab", "cd", "de", "af"), NAMES)
    assert (score.num_asked, score.num_found, score.num_overlapping) == (4, 3, 4)
    assert (score.recall, score.precision, score.share) == (0.75, 0.75, 4 / 15)
    assert (score.num_connected, score.num_connectable, score.num_lost) == (3, 5, 0)
    assert score_selection(one, "some", pairs("ab"), NAMES).num_lost == 3


def test_all_pairs_find_all_that_overlap() -> None:
    score = score_selection(example_set("ab", "ef"), "exhaustive", pairs(*map("".join, combinations(NAMES, 2))), NAMES)
    assert (score.recall, score.share, score.num_lost, score.num_connected) == (1.0, 1.0, 0, 2)
    nothing = score_selection(example_set(), "none", pairs(), NAMES)
    assert math.isnan(nothing.recall) and math.isnan(nothing.precision)
    assert "example" in format_selections([score, nothing])


def test_the_largest_group_is_found_through_chains() -> None:
    assert largest_group(pairs("ab", "cd", "bc", "ef")) == 4
    assert largest_group([]) == 0


def test_pairs_of_a_model_share_points() -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 4, 60
    model = pycolmap.synthesize_dataset(options)
    names = sorted(image.name for image in model.images.values())
    assert pairs_sharing_points(model) == [ImagePair(*pair) for pair in combinations(names, 2)]
    for point_id in list(model.points3D)[15:]:
        model.delete_point3D(point_id)
    assert pairs_sharing_points(model) == []


def test_models_that_mix_scenes_are_told() -> None:
    one = OverlapSet("mixed", Path("images"), pairs("ab"), None, {"a": "x", "b": "y"}, {"x": (1,), "y": (1,)})
    models = Models("mixed", "auto", 2, 1, (2,), math.nan, math.nan, 1, {"x": (1,), "y": (1,)}, 1.0)
    text = format_models([models], [one])
    assert "x 1 (alone 1), y 1 (alone 1)" in text
    found = goals([], [models], [one])
    assert [goal.text for goal in found if not goal.is_reached] == [
        "mixed, auto, models of several scenes: 1, at most 0"
    ]
    apart = dataclasses.replace(models, mixed=0, by_scene={"x": (), "y": (1, 1)})
    missed = [goal.text for goal in goals([], [apart], [one]) if not goal.is_reached]
    assert missed == ["mixed, auto, x, registered: 0, at least 1", "mixed, auto, y, models: 2, at most 1"]


@pytest.mark.parametrize(
    ("registered", "error", "num_missed"), [(10, 0.011, 0), (10, 0.0112, 1), (9, 0.01, 1), (9, math.nan, 2)]
)
def test_models_are_compared_with_those_of_all_pairs(registered: int, error: float, num_missed: int) -> None:
    everything = Models("town", "exhaustive", 10, 45, (10,), 0.01001, 0.1, 0, {}, 1.0)
    other = dataclasses.replace(everything, pairs="auto", registered=(registered,), center_error=error)
    one = dataclasses.replace(example_set("ab"), name="town")
    assert sum(not goal.is_reached for goal in goals([], [everything, other], [one])) == num_missed


def test_a_short_run_on_the_town(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(
        pair_selection, "open_set", lambda text, data, work, threads: town_set(5, work, threads, (144, 96))
    )
    arguments = ["town:5", "--pairs", "sequential", "--threads", "1", "--json", str(tmp_path / "report.json")]
    options = {"pairs": {"window": 1, "quadratic": False}} | {
        "extractor": {"max_keypoints": 64},
        "matcher": {"name": "nearest"},
    }
    (tmp_path / "work").mkdir()
    code = pair_selection.main([*arguments, "--config", json.dumps(options), "--work", str(tmp_path / "work")])
    printed = capsys.readouterr()
    assert code == 1, printed.err
    assert "MISSED: town 5, sequential, % of all pairs asked: 40, at most 10" in printed.out
    assert "reached: town 5, sequential, images connected: 5, at least 4.75" in printed.out
    rows = json.loads((tmp_path / "report.json").read_text())["selections"]
    assert [row["pairs"] for row in rows] == ["exhaustive", "sequential"]
    assert [row["num_asked"] for row in rows] == [10, 4]
    assert rows[0]["num_found"] == rows[0]["num_overlapping"] >= 4
    assert rows[1]["num_found"] == 4, "neighbours overlap"


def test_images_of_scenes_that_have_models_are_mixed(tmp_path: Path) -> None:
    """Names of both scenes stay apart, and pairs are only within a scene."""
    scenes = []
    for scene in ("one", "two"):
        options = pycolmap.SyntheticDatasetOptions()
        options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 3, 40
        model = pycolmap.synthesize_dataset(options)
        folder, output = tmp_path / scene, tmp_path / "work" / f"{scene}_exhaustive"
        (output / "sparse" / "0").mkdir(parents=True)
        model.write_binary(output / "sparse" / "0")
        (output / "run.json").write_text("{}")
        for image in model.images.values():
            path = folder / image.name
            path.parent.mkdir(parents=True, exist_ok=True)
            pycolmap.Bitmap.from_array(np.zeros((64, 64), np.uint8)).write(path)
        scenes.append(folder)
    mixed = mixed_set(scenes, tmp_path / "work", 1)
    assert mixed.alone == {"one": (3,), "two": (3,)}
    assert len(mixed.scene_of) == 6 and len(list(mixed.root.iterdir())) == 6
    assert len(mixed.overlapping) == 6
    assert all(mixed.scene_of[pair.name0] == mixed.scene_of[pair.name1] for pair in mixed.overlapping)
