"""The benchmark of many images: its survey, its numbers, and a short run in processes of their own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from benchmarks import scaling
from benchmarks.goals import print_goals
from benchmarks.reconstruction_job import Job, JobResult, run_job
from benchmarks.reconstruction_measurement import Measurement
from benchmarks.scaling import (
    ScalingRun,
    exponents,
    format_table,
    goals,
    goals_beside_colmap,
    run_size,
    town_config,
)
from benchmarks.scaling_job import ScalingResult, StagePeaks, folder_sizes
from benchmarks.scaling_survey import (
    FOCAL_PX,
    NUM_PER_STRIP,
    SIZE,
    KnownPointsMatcher,
    SurveyConfig,
    SurveyExtractor,
    pose_of,
    write_survey,
)
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.synthetic import Town, write_town
from sfm_lightglue.testing.photos import textured, write_photo


def test_matches_of_the_survey_obey_the_epipolar_geometry_but_for_the_wrong_ones() -> None:
    extractor, matcher = SurveyExtractor(), KnownPointsMatcher()
    features = [extractor.features_of(idx) for idx in (3, 4)]
    matches = matcher.match(*features)
    assert len(matches) > 80
    K_inv = np.linalg.inv(np.array([[FOCAL_PX, 0, SIZE[0] / 2], [0, FOCAL_PX, SIZE[1] / 2], [0, 0, 1]]))
    F = K_inv.T @ essential_from_pose(pose_of(4) @ pose_of(3).inverse()) @ K_inv
    points = [one.keypoints[rows].astype(float) for one, rows in zip(features, matches.indices.T, strict=True)]
    errors = np.sqrt(squared_sampson_errors(F, *points))
    assert 0.75 < (errors < 3.0).mean() < 0.98
    assert np.median(errors) < 1.0
    similar = (features[0].descriptors[matches.indices[:, 0]] * features[1].descriptors[matches.indices[:, 1]]).sum(1)
    assert np.median(similar) > 0.7


def test_images_of_the_survey_overlap_with_their_neighbours_only() -> None:
    extractor, matcher = SurveyExtractor(SurveyConfig(max_keypoints=200)), KnownPointsMatcher()
    beside = 2 * NUM_PER_STRIP - 1 - 5  # the next strip is flown back
    features = {idx: extractor.features_of(idx) for idx in (5, 6, beside, 20)}
    assert all(len(one) <= 200 for one in features.values())
    counts = {idx: len(matcher.match(features[5], features[idx])) for idx in (6, beside, 20)}
    assert counts[6] > 50 and counts[beside] > 20 and counts[20] == 0
    again = SurveyExtractor(SurveyConfig(max_keypoints=200)).features_of(20)
    assert np.array_equal(again.keypoints, features[20].keypoints)


def test_empty_images_have_positions_and_focal_lengths(tmp_path: Path) -> None:
    write_survey(tmp_path, 3)
    scene = load_scene(tmp_path)
    assert len({image.digest for image in scene.images}) == 3
    for image in scene.images:
        assert image.camera.size == SIZE and image.camera.params[0] == pytest.approx(FOCAL_PX, rel=1e-4)
    first, second = (np.array(image.gps_position) for image in scene.images[:2])
    assert abs(first[2] - 60) < 10
    east_m = (second[1] - first[1]) * 111_320 * math.cos(math.radians(47))
    assert 2 < east_m < 18


def example(
    num_images: int, seconds: float, is_warm: bool = False, mb: float = 100.0, num_pairs: int = 0
) -> ScalingRun:
    times = {"select": 1.0, "match": seconds, "total": 2 * seconds}
    result = ScalingResult(times, seconds, {"match": mb, "total": mb}, num_pairs=num_pairs)
    return ScalingRun("survey", num_images, is_warm, result)


def test_exponents_of_a_quadratic_time() -> None:
    powers = exponents(example(100, 3.0), example(1000, 300.0))
    assert powers["match"] == pytest.approx(2.0)
    assert powers["peak MB"] == pytest.approx(0.0)
    assert math.isnan(powers["scan"])
    assert format_table([example(1000, 300.0), example(100, 3.0)]).count("exponent") == 1


def test_goals_are_those_of_the_largest_survey(capsys: pytest.CaptureFixture[str]) -> None:
    slow = [example(10_000, 100.0, is_warm=True, mb=2500.0), example(10_000, 20.0), example(1000, 900.0, is_warm=True)]
    found = goals(slow)
    assert [goal.is_reached for goal in found] == [False, False, True, True]
    assert found[0].text == "10000 images, warm, s in total: 200, at most 120"
    assert print_goals(found) == 1 and print_goals(found[2:]) == print_goals([]) == 0
    assert "MISSED: 10000 images, warm, s in total: 200, at most 120\n" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "is_reached"), [(20.0, True), (300.0, False)])
def test_time_must_be_linear_in_pairs(seconds: float, is_reached: bool) -> None:
    runs = [example(1000, 2.0, num_pairs=20_000), example(10_000, seconds, num_pairs=200_000)]
    (goal,) = [goal for goal in goals(runs) if "exponent" in goal.text]
    assert goal.is_reached == is_reached


@pytest.mark.parametrize(("seconds", "num_registered", "reached"), [(10.0, 9, [True, True]), (10.1, 8, [False] * 2)])
def test_the_town_is_compared_with_colmap(seconds: float, num_registered: int, reached: list[bool]) -> None:
    measured = [
        Measurement("town", "exif", method, 0, 10, JobResult(num_registered=num), total, None)
        for method, num, total in (("ours", num_registered, seconds), ("colmap", 9, 40.0))
    ]
    assert [goal.is_reached for goal in goals_beside_colmap(measured)] == reached
    assert goals_beside_colmap(measured[:1]) == goals_beside_colmap(measured[1:]) == []
    sparse = replace(measured[0], method="ours-sparse")
    assert [goal.is_reached for goal in goals_beside_colmap([*measured, sparse])] == reached * 2


def test_options_of_towns_keep_the_selector_and_the_other_tables() -> None:
    config = {"pairs": {"num_neighbors": 15}, "transitive": {"rounds": 0}}
    assert town_config(config, "retrieval") == {
        "pairs": {"num_neighbors": 15, "name": "retrieval"},
        "transitive": {"rounds": 0},
    }
    assert config["pairs"] == {"num_neighbors": 15}


def test_peaks_belong_to_their_stage() -> None:
    peaks = StagePeaks()
    peaks.progress("extract", 0, 5)
    large = np.ones(60_000_000, np.uint8)
    del large
    peaks.progress("match", 0, 7)
    peaks.progress("match", 7, 7)
    peaks.close()
    assert peaks.num_asked == {"extract": 5, "match": 7}
    if Path("/proc/self/clear_refs").exists():
        assert peaks.peak_mb["extract"] > peaks.peak_mb["match"] + 30


def test_files_are_counted_by_folder(tmp_path: Path) -> None:
    (tmp_path / "matches" / "ab").mkdir(parents=True)
    (tmp_path / "matches" / "ab" / "x.npz").write_bytes(b"12345")
    (tmp_path / "run.json").write_bytes(b"123")
    assert folder_sizes(tmp_path) == ({"matches": 1, ".": 1}, {"matches": 5, ".": 3})


@pytest.mark.parametrize("kind", ["sequential", "vocabulary"])
def test_colmap_matches_the_pairs_of_each_kind(kind: str, tmp_path: Path) -> None:
    """Of twelve images from one place, which give no model, the first and the last are no neighbours."""
    picture = textured(150, 110)
    for idx in range(12):
        write_photo(tmp_path / "images" / f"{idx:02d}.png", np.roll(picture, idx % 2, 1))
    (tmp_path / "out").mkdir()
    told = tmp_path / "steps.jsonl"
    job = Job("colmap", str(tmp_path / "images"), str(tmp_path / "out"), 1, colmap_pairs=kind, steps=str(told))
    result = run_job(job)
    assert result.seconds["match"] > 0
    steps = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert [step["step"] for step in steps] == ["extract", "match", "map"]
    assert (
        0 <= steps[0]["cpu_seconds"] <= steps[1]["cpu_seconds"] <= steps[2]["cpu_seconds"] <= result.cpu_seconds + 0.1
    )
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as database:
        num_pairs = database.num_matched_image_pairs()
    assert num_pairs < 66 if kind == "sequential" else num_pairs == 66
    assert (tmp_path / "out" / "vocabulary.bin").exists() == (kind == "vocabulary")


def test_colmap_runs_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_town(Town(3, (160, 107)), tmp_path / "town_3", 1)
    words = ["--methods", "colmap", "--town", "3", "--threads", "1", "--work", str(tmp_path)]
    told, report = tmp_path / "steps.jsonl", tmp_path / "report.json"
    assert scaling.main([*words, "--colmap", "exhaustive", "--steps", str(told), "--json", str(report)]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["runs"] == [] and [run["method"] for run in found["colmap"]["runs"]] == ["colmap"]
    assert json.loads(told.read_text(encoding="utf-8").splitlines()[-1])["step"] == "map"
    assert not (tmp_path / "town_3_results").exists()
    with pytest.raises(SystemExit):
        scaling.main(words)
    assert "ours-sparse need --colmap" in capsys.readouterr().err


def test_a_short_run_is_warm_the_second_time(tmp_path: Path) -> None:
    config = {"pairs": {"name": "sequential", "window": 2, "quadratic": False}}
    cold, warm = run_size("survey", 8, config, tmp_path, 1, map_up_to=0)
    assert not cold.is_warm and warm.is_warm
    assert cold.result.num_pairs == warm.result.num_pairs >= 13
    assert cold.result.num_registered == 0 and "no model" in cold.result.error
    assert cold.result.seconds["total"] > 0 and cold.result.peak_mb["match"] > 10
    assert cold.result.num_files["features"] == 8
    assert warm.result.num_bytes["features"] == cold.result.num_bytes["features"]
    assert scaling.prepare("survey", 8, tmp_path, 1) == tmp_path / "survey_8"
