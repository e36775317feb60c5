"""The benchmark of reconstructions: its table with example numbers, and a short run on four images."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import reconstruction
from benchmarks.reconstruction import measure, method_config
from benchmarks.reconstruction_job import Job, JobResult, ours_config
from benchmarks.reconstruction_measurement import METHODS, Measurement, PoseErrors, as_json, read_measurements
from benchmarks.reconstruction_scenes import as_benchmark, open_scene
from benchmarks.reconstruction_table import COLUMNS, format_steps, format_table, format_tables, mean_time_ratios
from datasets.ground_truth import SceneTruth, read_scene
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.pose_errors import evaluate_poses
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.types import Camera
from tests.helpers.shared_data import shared_data


def example(
    method: str, repeat: int = 0, *, seconds: float = 10.0, scale_error=0.0, num_registered=6, scene: str = "example"
) -> Measurement:
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
        num_registered=num_registered,
        num_points=1000,
        mean_track_length=4.0,
        mean_reprojection_error_px=0.5,
        seconds={"extract": 1.0, "match": 2.0, "verify": 3.0, "map": 1.5, "densify": 2.5, "total": seconds},
        cpu_seconds=1.5 * seconds,
        peak_memory_mb=300.0,
    )
    evaluation = evaluate_poses(moved, truth)
    errors = PoseErrors.from_evaluation(evaluation, replace(truth, is_metric=True))
    return Measurement(scene, "given", method, repeat, 6, result, seconds + 1, errors)


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
    assert (ours["AUC@1°"], ours["peak MB"], ratio["peak MB"], ratio["densify s"]) == ("1.000", "300", "1.00", "")


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
    assert as_json(runs, 2, {})["runs"][0]["errors"]["not_aligned"]


def test_one_method_alone_has_no_ratios():
    assert [row["method"] for row in cells(format_table([example("colmap")]))] == ["colmap"]
    assert format_table([]).count("\n") == 1 and len({column.title for column in COLUMNS}) == len(COLUMNS)


def test_the_mean_of_the_ratios_of_times_is_geometric():
    runs = [
        example("ours", seconds=2.0),
        example("colmap", seconds=20.0),
        example("ours", seconds=9.0, scene="other"),
        example("colmap", seconds=10.0, scene="other"),
        example("ours", scene="without colmap"),
    ]
    assert mean_time_ratios(runs) == {"ours": (pytest.approx((0.3, 0.3)), 2)}
    line = "ours / colmap: 0.300 of the total time and 0.300 of the processor time, geometric means over 2 scenes"
    assert line in format_tables(runs)


def test_the_table_of_steps_has_what_each_step_costs_and_brings():
    mapped, dense = example("ours-mapped", seconds=4.0, scale_error=1e-3), example("ours-dense", seconds=7.0)
    assert format_steps([mapped, dense]) == ""  # one step is missing
    rows = cells(format_steps([mapped, dense, example("ours", seconds=8.0)]))
    assert [row["step"] for row in rows] == ["mapped", "densified", "refined"]
    assert [row["step s"] for row in rows] == ["4.0", "2.5", "0.0"]
    assert [row["total s"] for row in rows] == ["4.0", "7.0", "8.0"]
    assert float(rows[0]["centre error mm"]) > 0 == float(rows[1]["centre error mm"])


def test_json_has_all_measurements(tmp_path):
    runs = [example("ours", scale_error=1e-3), replace(example("colmap"), errors=None)]
    report = as_json(runs, 2, {"matcher": {"ratio": 0.7}})
    assert report["machine"]["num_threads"] == 2 and "pycolmap" in report["versions"]
    (tmp_path / "report.json").write_text(json.dumps(report))
    again = read_measurements(tmp_path / "report.json")
    assert again == runs and format_table(again) == format_table(runs)
    (tmp_path / "other.json").write_text('{"runs": [{}]}')
    with pytest.raises(DataError, match="not a report"):
        read_measurements(tmp_path / "other.json")


def test_a_scene_without_truth_has_counts_and_no_errors():
    ours = replace(example("ours"), errors=None)
    (row,) = cells(format_table([ours]))
    assert (row["registered"], row["points"], row["reproj px"]) == ("6", "1000", "0.500")
    assert row["centre error mm"] == row["centre error ‰ of extent"] == row["rotation deg"] == row["AUC@5°"] == ""


def test_methods_of_ours_differ_in_their_options():
    configs = {
        method: ReconstructConfig.from_mapping(method_config(method, {"density": {"level": "dense", "max_rounds": 1}}))
        for method in METHODS
    }
    assert {method for method, config in configs.items() if not config.density.is_on} == {"ours-sparse", "ours-mapped"}
    assert {method for method, config in configs.items() if not config.refine.is_on} == {"ours-mapped", "ours-dense"}
    assert configs["ours"].density.level == "dense" and configs["ours-sparse"].density.max_rounds == 1


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
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match="intrinsics are not known"):
        open_scene(str(tmp_path), "given", None, tmp_path)


def test_intrinsics_are_not_found_where_exif_data_has_them(small_fountain, tmp_path):
    assert as_benchmark(read_scene(small_fountain), "found").camera_mode == "single"
    entries = json.loads((small_fountain / "cameras.json").read_text())
    for i, entry in enumerate(entries.values()):
        entry["K"][0][0] = entry["K"][1][1] = 400 + i
    (tmp_path / "images").symlink_to(small_fountain / "images")
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    scene = as_benchmark(read_scene(tmp_path), "found")
    assert scene.camera is None and scene.camera_mode == "per-image"
    job = Job("ours", "images", "out", 1, camera_mode="per-image")
    assert ReconstructConfig.from_mapping(ours_config(job)).cameras.mode == "per-image"
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "maker", "model"
    exif.get_ifd(0x8769)[0xA405] = 30
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "a.jpg", exif=exif)
    with pytest.raises(DataError, match="have EXIF data"):
        as_benchmark(SceneTruth("photos", tmp_path / "photos"), "found")


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
    runs = measure(
        open_scene(f"{small_fountain}:given", "exif", None, small_fountain), ("ours", "colmap"), num_threads=2
    )
    assert [run.method for run in runs] == ["ours", "colmap"]
    for run in runs:
        assert not run.result.error and run.result.num_registered == run.num_images == 4
        # Measured: 3.4 mm and 0.07 degrees.
        assert run.errors is not None and run.errors.is_metric
        assert run.max_center_error < 0.02 and run.rotation_error_deg < 0.3
        assert run.auc(5.0) > 0.9
        stages = run.result.seconds
        assert 0 < stages["extract"] < stages["total"] < run.process_seconds
        assert sum(stages.values()) - stages["total"] <= stages["total"] * 1.01
        assert 0 < run.result.cpu_seconds < 2.1 * stages["total"]
        assert run.result.peak_memory_mb is not None and run.result.peak_memory_mb > 50
    assert len(cells(format_table(runs))) == 3


def test_images_without_overlap_are_a_result_and_no_error(small_fountain, tmp_path):
    truth = open_scene(str(small_fountain), "given", None, tmp_path).truth
    (tmp_path / "images").mkdir()
    for name in truth.names:
        Image.new("RGB", (384, 256), (120, 130, 140)).save(tmp_path / "images" / name)
    grey = SceneTruth("grey", tmp_path / "images", truth.cam_from_world_from_name, truth.camera_from_name)
    runs = measure(as_benchmark(grey, "given"), ("ours", "colmap"), num_threads=2)
    for run in runs:
        assert run.result.error and run.result.num_registered == 0 and run.auc(5.0) == 0
    assert [row["registered"] for row in cells(format_table(runs))][:2] == ["0", "0"]
