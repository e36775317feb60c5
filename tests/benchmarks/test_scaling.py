"""The benchmark of many images: its survey, its numbers, and a short run in processes of their own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from benchmarks import scaling
from benchmarks.reconstruction_job import Job, run_job
from benchmarks.scaling import ScalingRun, exponents, format_table, goals, run_size
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


def example(num_images: int, seconds: float, is_warm: bool = False, mb: float = 100.0) -> ScalingRun:
    result = ScalingResult({"select": 1.0, "match": seconds, "total": 2 * seconds}, seconds, {"match": mb, "total": mb})
    return ScalingRun("survey", num_images, is_warm, result)


def test_exponents_of_a_quadratic_time() -> None:
    powers = exponents(example(100, 3.0), example(1000, 300.0))
    assert powers["match"] == pytest.approx(2.0)
    assert powers["peak MB"] == pytest.approx(0.0)
    assert math.isnan(powers["scan"])
    assert format_table([example(1000, 300.0), example(100, 3.0)]).count("exponent") == 1


def test_limits_that_are_not_kept_are_told() -> None:
    slow = [example(10_000, 100.0, is_warm=True, mb=2500.0), example(10_000, 20.0), example(1000, 900.0, is_warm=True)]
    lines = goals(slow)
    assert [("BEYOND" in line) for line in lines] == [True, True, False, False]
    assert "200 s of a warm run" in lines[0]


def test_peaks_belong_to_their_stage() -> None:
    peaks = StagePeaks()
    peaks.progress("extract", 0, 5)
    large = np.ones(60_000_000, np.uint8)
    del large
    peaks.progress("match", 0, 7)
    peaks.progress("match", 7, 7)
    peaks.close()
    assert peaks.peak_mb["extract"] >= peaks.peak_mb["start"]
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
    job = Job("colmap", str(tmp_path / "images"), str(tmp_path / "out"), 1, colmap_pairs=kind)
    assert run_job(job).seconds["match"] > 0
    with pycolmap.Database.open(tmp_path / "out" / "database.db") as database:
        num_pairs = database.num_matched_image_pairs()
    assert num_pairs < 66 if kind == "sequential" else num_pairs == 66
    assert (tmp_path / "out" / "vocabulary.bin").exists() == (kind == "vocabulary")


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
