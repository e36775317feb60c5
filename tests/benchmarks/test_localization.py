"""Errors of photos that were left out: beside the truth, and beside a map of all images in another frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.localization import format_table, main, measured
from benchmarks.localization_maps import FoundInModel, FoundPhotos
from benchmarks.localization_references import (
    ALL_IMAGES,
    OTHER_SENSOR,
    TRUTH,
    Alignment,
    Reference,
    references,
)
from benchmarks.reconstruction_scenes import BenchmarkScene
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec

NAMES = tuple(f"{idx}.jpg" for idx in range(9))
QUERIES = NAMES[1::3]


def ring() -> dict[str, Rigid3]:
    """Cameras around the origin, 2 from each other at most."""
    angles = {name: 2 * np.pi * idx / len(NAMES) for idx, name in enumerate(NAMES)}
    return {
        name: Rigid3.look_at(
            np.array([np.cos(angle), np.sin(angle), 0.1 * (idx % 3)]), np.zeros(3), np.array([0, 0, 1])
        )
        for idx, (name, angle) in enumerate(angles.items())
    }


def in_other_frame(poses: Mapping[str, Rigid3]) -> dict[str, Rigid3]:
    """The same cameras in a frame that is turned, moved and 5 times as large."""
    frame = Sim3(5.0, rotation_from_rotvec(np.array([0.3, -0.2, 0.9])), np.array([4.0, 5.0, 6.0]))
    return {name: Rigid3(R := pose.R @ frame.R.T, -R @ (frame @ pose.center)) for name, pose in poses.items()}


def moved(pose: Rigid3, distance: float, angle_deg: float) -> Rigid3:
    """A pose whose centre and rotation are wrong by so much."""
    R = rotation_from_rotvec(np.array([0, np.radians(angle_deg), 0])) @ pose.R
    return Rigid3(R, -R @ (pose.center + np.array([distance, 0, 0])))


def photos(found: Mapping[str, Rigid3], poses: Mapping[str, Rigid3]) -> FoundPhotos:
    mapped = {name: pose for name, pose in poses.items() if name not in QUERIES}
    missing = {name: "ambiguous" for name in QUERIES if name not in found}
    return FoundPhotos([FoundInModel(mapped, found)], missing, 12.0, 7.0)


@pytest.mark.parametrize(
    ("distance", "angle_deg", "is_within"), [(0.019, 0.0, True), (0.021, 0.0, False), (0, 0.49, True), (0, 0.51, False)]
)
def test_errors_are_those_of_the_frame_of_the_reference(distance: float, angle_deg: float, is_within: bool) -> None:
    truth = ring()
    wrong = {name: moved(truth[name], distance, angle_deg) for name in QUERIES[:2]}
    found = photos(in_other_frame(wrong), in_other_frame(truth))
    run = measured("ring", "ours", QUERIES, found, Reference(TRUTH, truth, 2.0))
    assert (run.num_queries, run.num_registered, run.num_within) == (3, 2, 2 if is_within else 0)
    assert run.median_distance == pytest.approx(distance / 2, abs=1e-9)
    assert run.median_angle_deg == pytest.approx(angle_deg, abs=1e-4)
    assert (run.num_mapped, run.num_mapped_within) == (6, 6) and run.mapped_median_distance < 1e-9
    assert [goal.is_reached for goal in run.goals] == [False, is_within, True]
    assert "2 of 3" in format_table([run]) if is_within else "0 of 3" in format_table([run])


def test_a_rough_truth_has_wide_limits_and_a_second_reference() -> None:
    """A bent truth: the photos agree with the map of all images, as well as its own images, and not with the truth."""
    truth = ring()
    bent = {name: moved(pose, 0.05 * (idx % 2), 1.0) for idx, (name, pose) in enumerate(truth.items())}
    scene = BenchmarkScene(SceneTruth("seven_scenes", Path("images"), bent), "given", NAMES, None, "single")
    whole = in_other_frame(truth)
    runs = [
        measured(scene.name, "ours", QUERIES, photos({name: truth[name] for name in QUERIES}, truth), one)
        for one in references(scene, whole)
    ]
    assert [run.reference for run in runs] == [TRUTH, OTHER_SENSOR, ALL_IMAGES]
    by_truth, _, by_map = runs
    assert by_map.num_within == 3 and by_map.median_distance < 1e-9
    assert by_truth.mapped_median_distance > 0 and by_truth.num_mapped_within <= by_truth.num_mapped
    metric, _, relative = references(scene, whole)
    assert (metric.unit, metric.max_distance, metric.max_angle_deg) == (1.0, 0.03, 5.0)
    assert relative.unit == pytest.approx(5 * SceneTruth("", Path(), truth).extent)
    assert [one.name for one in references(scene, {})] == [TRUTH, OTHER_SENSOR]


def test_a_constant_offset_of_the_sensor_is_found() -> None:
    """The truth is of a sensor beside the camera, with other axes and another unit than the map."""
    cameras = {name: moved(pose, 0, 25.0 * (idx % 4)) for idx, (name, pose) in enumerate(ring().items())}
    offset = Rigid3.from_rotvec([0.02, -0.03, 0.01], np.array([0.02, 0.06, -0.09]))
    truth = {name: offset @ pose for name, pose in cameras.items()}
    mapped = in_other_frame(cameras)
    alignment = Alignment.of(
        {name: mapped[name] for name in NAMES if name not in QUERIES}, Reference(OTHER_SENSOR, truth, 1.0)
    )
    for name in QUERIES:
        assert alignment.errors(mapped[name], truth[name]) == pytest.approx((0, 0), abs=2e-4)
        assert Alignment.of(mapped, Reference(TRUTH, truth, 1.0)).errors(mapped[name], truth[name])[1] > 1


@pytest.mark.parametrize(("is_large", "is_reached"), [(False, False), (True, True)])
def test_the_extraction_of_large_photos_is_left_out_of_their_time(is_large: bool, is_reached: bool) -> None:
    truth = ring()
    found = replace(photos({}, truth), median_ms=900.0, median_extract_ms=450.0)
    run = replace(measured("ring", "ours", QUERIES, found, Reference(TRUTH, truth, 2.0)), is_large=is_large)
    assert run.goals[-1].is_reached is is_reached


def test_photos_are_judged_in_the_frame_of_their_model() -> None:
    truth = ring()
    halves = NAMES[:5], NAMES[4:]
    others = in_other_frame(truth)
    models = [
        FoundInModel(
            {name: poses[name] for name in half if name not in QUERIES},
            {name: poses[name] for name in half if name in QUERIES[: 2 - number]},
        )
        for number, (half, poses) in enumerate(zip(halves, (truth, others), strict=True))
    ]
    models[1] = replace(models[1], found={QUERIES[2]: others[QUERIES[2]]})
    run = measured("ring", "ours", QUERIES, FoundPhotos(models, {}, 1.0), Reference(TRUTH, truth, 2.0))
    assert (run.num_within, run.num_registered, run.num_models) == (3, 3, 2)
    assert run.num_mapped_within == run.num_mapped == 6
    wrong = [models[0], replace(models[1], found={QUERIES[2]: truth[QUERIES[2]]})]
    run = measured("ring", "ours", QUERIES, FoundPhotos(wrong, {}, 1.0), Reference(TRUTH, truth, 2.0))
    assert (run.num_within, run.num_registered) == (2, 3)


def test_a_photo_without_a_pose_in_the_reference_is_not_within_it() -> None:
    truth = ring()
    fewer = {name: pose for name, pose in truth.items() if name != QUERIES[0]}
    found = photos({name: truth[name] for name in QUERIES}, truth)
    run = measured("ring", "ours", QUERIES, found, Reference(ALL_IMAGES, fewer, 2.0))
    assert (run.num_registered, run.num_within) == (3, 2)


def test_finished_scenes_and_maps_are_used_again(
    tmp_path: Path, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [f"{small_scene_dir}:given", "--methods", "nearest", "--threads", "1", "--work", str(tmp_path / "work")]
    json_file = tmp_path / "runs.json"
    assert main([*line, "--json", str(json_file)]) == 0
    (found,) = json.loads(json_file.read_text(encoding="utf-8"))
    assert (found["num_within"], found["num_mapped"], found["reference"]) == (2, 4, TRUTH)
    assert found["median_extract_ms"] > 0 and found["median_ms"] > 0
    (images,) = (tmp_path / "work" / "maps").glob("*/map/images")
    kept = {path.name for path in images.iterdir()}
    assert len(kept) == len(list((small_scene_dir / "images").iterdir())) - 2
    models = {path: path.stat().st_mtime_ns for path in images.parent.rglob("points3D.bin")}
    assert models
    first = images / min(kept)
    first.unlink()
    first.symlink_to(tmp_path / "other.jpg")  # of an earlier run
    (images / "no longer.jpg").symlink_to(small_scene_dir / "images" / first.name)
    capsys.readouterr()
    assert main(line) == 0
    assert {path: path.stat().st_mtime_ns for path in images.parent.rglob("points3D.bin")} == models
    assert "2 of 2" in capsys.readouterr().out
    assert {path.name for path in images.iterdir()} == kept
    assert first.readlink() == (small_scene_dir / "images" / first.name).resolve()
