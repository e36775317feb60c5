"""The benchmark of reconstructions: its table with example numbers, and a short run on four images."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import reconstruction
from benchmarks.reconstruction import as_json, find_scene, measure
from benchmarks.reconstruction_job import Job, JobResult, ours_config
from benchmarks.reconstruction_table import COLUMNS, Measurement, format_table
from datasets.ground_truth import SceneTruth
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.pose_errors import evaluate_poses
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run_record import peak_memory_mb
from sfm_lightglue.types import Camera
from tests.helpers.shared_data import shared_data


def example(method: str, repeat: int = 0, *, seconds: float = 10.0, scale_error=0.0, num_registered=6) -> Measurement:
    rng = np.random.default_rng(0)
    poses = {f"{i}.jpg": Rigid3(rotation_from_rotvec(rng.normal(size=3)), rng.normal(size=3)) for i in range(6)}
    camera = Camera("SIMPLE_PINHOLE", 64, 48, (50.0, 32.0, 24.0))
    truth = SceneTruth("example", Path("images"), poses, dict.fromkeys(poses, camera))
    jitter = np.random.default_rng(1)
    moved = {
        name: Rigid3(pose.R, pose.t + scale_error * jitter.normal(size=3))
        for name, pose in list(poses.items())[:num_registered]
    }
    result = JobResult(
        num_points=1000,
        mean_track_length=4.0,
        mean_reprojection_error_px=0.5,
        seconds={"extract": 1.0, "match": 2.0, "verify": 3.0, "map": 1.5, "total": seconds},
        peak_memory_mb=300.0,
    )
    evaluation = evaluate_poses(moved, truth)
    return Measurement("example", "given", method, repeat, result, evaluation, seconds + 1, truth.extent, True)


def cells(table: str) -> list[dict[str, str]]:
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_table_has_medians_and_ratios():
    runs = [example("ours", i, seconds=value) for i, value in enumerate((4.0, 100.0, 5.0))]
    runs.insert(1, example("colmap", 0, seconds=20.0))
    table = format_table(runs)
    assert len({len(line) for line in table.splitlines()}) == 1
    ours, colmap, ratio = cells(table)
    assert [row["method"] for row in (ours, colmap, ratio)] == ["ours", "colmap", "ours / colmap"]
    assert (ours["total s"], colmap["total s"], ratio["total s"]) == ("5.0", "20.0", "0.25")
    assert (ours["match + verify s"], ours["with imports s"], ours["registered"], ours["of"]) == (
        "5.0",
        "6.0",
        "6",
        "6",
    )
    assert (ours["AUC@1°"], ours["peak MB"], ratio["peak MB"], ratio["track"]) == ("1.000", "300", "1.00", "")


def test_the_ratio_of_errors_is_that_of_the_centres():
    ours, colmap, ratio = cells(format_table([example("ours", scale_error=1e-3), example("colmap", scale_error=2e-3)]))
    assert float(ratio["centre error ‰ of extent"]) == pytest.approx(0.5, abs=0.01)
    in_mm = float(colmap["centre error mm"])
    assert in_mm == pytest.approx(2 * float(ours["centre error mm"]), rel=0.02)


def test_a_run_that_cannot_be_aligned_leaves_its_cells_empty():
    runs = [example("ours", num_registered=2), example("colmap")]
    ours, _, ratio = cells(format_table(runs))
    assert (ours["registered"], ours["centre error mm"], ours["rotation deg"]) == ("2", "", "")
    assert ratio["centre error ‰ of extent"] == ""
    assert math.isnan(runs[0].mean_center_error)
    assert "not_aligned" in as_json(runs, 2, {})["runs"][0]


def test_one_method_alone_has_no_ratios():
    assert [row["method"] for row in cells(format_table([example("colmap")]))] == ["colmap"]
    assert format_table([]).count("\n") == 1 and len({column.title for column in COLUMNS}) == len(COLUMNS)


def test_json_has_all_measurements():
    report = json.loads(json.dumps(as_json([example("ours")], 2, {"matcher": {"ratio": 0.7}})))
    assert report["machine"]["num_threads"] == 2 and "pycolmap" in report["versions"]
    (run,) = report["runs"]
    assert run["center_error_mean"] < 1e-9 and run["num_registered"] == 6 and len(run["center_errors"]) == 6
    assert run["seconds"]["total"] == 10 and run["auc_from_threshold_deg"]["5"] == pytest.approx(1)


def test_flags_become_a_configuration_of_ours():
    options = reconstruction._parse(
        ["--matcher", "nearest", "--max-keypoints", "99", "--set", "matcher.ratio=0.7", "--set", "device=cpu"]
    )
    values = reconstruction.ours_options(options)
    assert values == {
        "matcher": {"name": "nearest", "ratio": 0.7},
        "extractor": {"max_keypoints": 99},
        "device": "cpu",
    }
    camera = ("PINHOLE", (50.0, 51.0, 32.0, 24.0))
    job = Job("ours", "images", "out", num_threads=2, seed=7, camera=camera, config=values)
    config = ReconstructConfig.from_mapping(ours_config(job))
    assert (config.num_threads, config.seed, config.extractor.config.max_keypoints) == (2, 7, 99)
    assert (config.cameras.mode, config.cameras.refine) == ("single", False)
    assert (config.cameras.model, config.cameras.params) == camera


def test_missing_data_and_invalid_flags_are_errors_of_one_line(tmp_path, capsys):
    assert reconstruction.main(["--data", str(tmp_path / "absent")]) == 3
    assert "SFM_LIGHTGLUE_DATA" in capsys.readouterr().err
    assert reconstruction.main(["nowhere", "--data", str(tmp_path)]) == 3
    assert "scene nowhere" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        reconstruction.main(["--repeat", "0"])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    with pytest.raises(DataError, match="no ground truth"):
        find_scene(str(tmp_path))


def test_an_unknown_option_is_reported_before_anything_runs(tmp_path, capsys):
    camera = {"width": 64, "height": 48, "K": [[50, 0, 32], [0, 50, 24], [0, 0, 1]], "dist": []}
    pose = {"R": np.eye(3).tolist(), "t": [0, 0, 0]}
    (tmp_path / "cameras.json").write_text(json.dumps(dict.fromkeys(("a.jpg", "b.jpg"), camera | pose)))
    assert reconstruction.main([str(tmp_path), "--matcher", "nearest", "--set", "matcher.ration=0.7"]) == 2
    assert "did you mean 'ratio'" in capsys.readouterr().err


def test_peak_memory_is_that_of_this_process():
    before = peak_memory_mb()
    block = np.ones(200 * 2**17)  # 200 MiB
    after = peak_memory_mb()
    assert before is not None and after is not None and block[-1] == 1
    assert after >= before and after >= 200


@pytest.fixture(scope="module")
def small_fountain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of the fountain at a quarter of their size."""
    source = shared_data("scenes", "fountain_p11")
    root = tmp_path_factory.mktemp("benchmark") / "fountain_p11"
    (root / "images").mkdir(parents=True)
    entries = json.loads((source / "cameras.json").read_text())
    kept = {}
    for name in ("0003.jpg", "0004.jpg", "0005.jpg", "0006.jpg"):
        with Image.open(source / "images" / name) as image:
            image.reduce(4).save(root / "images" / name, quality=95)
        K = np.array(entries[name]["K"])
        K[:2] /= 4
        K[:2, 2] -= 0.375  # in OpenCV's convention x becomes (x + 0.5) / 4 - 0.5
        kept[name] = entries[name] | {"width": 384, "height": 256, "K": K.tolist()}
    (root / "cameras.json").write_text(json.dumps(kept))
    return root


def test_both_methods_on_four_images(small_fountain):
    truth = find_scene(str(small_fountain))
    runs = measure(truth, "given", num_threads=2)
    assert [run.method for run in runs] == ["ours", "colmap"]
    for run in runs:
        assert not run.result.error and run.evaluation.num_registered == 4
        # Measured: 3.4 mm and 0.07 degrees.
        assert run.is_metric and run.max_center_error < 0.02 and run.rotation_error_deg < 0.3
        assert run.evaluation.auc()[1] > 0.9
        stages = run.result.seconds
        assert 0 < stages["extract"] < stages["total"] < run.process_seconds
        assert sum(stages.values()) - stages["total"] <= stages["total"] * 1.01
        assert run.result.peak_memory_mb is not None and run.result.peak_memory_mb > 50
    assert len(cells(format_table(runs))) == 3


def test_images_without_overlap_are_a_result_and_no_error(small_fountain, tmp_path):
    truth = find_scene(str(small_fountain))
    (tmp_path / "images").mkdir()
    for name in truth.names:
        Image.new("RGB", (384, 256), (120, 130, 140)).save(tmp_path / "images" / name)
    grey = SceneTruth("grey", tmp_path / "images", truth.cam_from_world_from_name, truth.camera_from_name)
    runs = measure(grey, "given", num_threads=2)
    for run in runs:
        assert run.result.error and run.evaluation.num_registered == 0
    assert [row["registered"] for row in cells(format_table(runs))][:2] == ["0", "0"]
