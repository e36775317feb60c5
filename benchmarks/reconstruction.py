"""Compare this library ("ours") with COLMAP's SIFT pipeline on scenes with ground truth.

    python benchmarks/reconstruction.py [SCENE ...] [--repeat 3] [--intrinsics both] [--json FILE]

Each run is a new process with a new output folder. The methods alternate, so that other load on the machine affects
both equally. Camera centres are compared after a similarity alignment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.reconstruction_job import Job, JobResult
from benchmarks.reconstruction_table import AUC_THRESHOLDS_DEG, Measurement, format_table
from datasets.ground_truth import SceneTruth, read_scene
from datasets.shared import find_scene_path
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.errors import DataError, SfmError
from sfm_lightglue.evaluation.pose_errors import evaluate_model, evaluate_poses
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.alignment import AlignedPoses
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.store.atomic_file import atomic_write

DEFAULT_SCENES = ("fountain_p11", "lund_door")
METHODS = ("ours", "colmap")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, and return the exit code."""
    options = _parse(arguments)
    try:
        truths = [find_scene(scene, options.data) for scene in options.scenes or DEFAULT_SCENES]
        config = ours_options(options)
        ReconstructConfig.from_mapping(config)  # reports an invalid option before anything runs
        intrinsics = ("given", "exif") if options.intrinsics == "both" else (options.intrinsics,)
        measurements = []
        for truth in truths:
            for mode in intrinsics:
                measurements += measure(
                    truth, mode, options.methods, options.repeat, options.threads, config, options.show
                )
        print(format_table(measurements))
        for run in measurements:
            if run.result.error:
                print(f"\n{' '.join(run.group)}: {run.result.error}")
        if options.json:
            report = as_json(measurements, options.threads, config)
            with atomic_write(options.json) as file:
                file.write(json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n")
    except SfmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenes",
        nargs="*",
        metavar="SCENE",
        help="folder with ground truth, or a scene name of the shared data",
    )
    parser.add_argument("--data", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, ../shared/data)")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each method; the table has medians")
    parser.add_argument("--threads", type=int, default=num_usable_cores(), help="threads and cores of each run")
    parser.add_argument(
        "--intrinsics",
        choices=("given", "exif", "both"),
        default="given",
        help="given: the true camera, not refined; exif: from EXIF data, refined",
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--extractor", help="of ours")
    parser.add_argument("--matcher", help="of ours")
    parser.add_argument("--max-keypoints", type=int, help="of ours")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        dest="assignments",
        help="any option of ours, such as two_view.max_error_px=2 or device=cpu",
    )
    parser.add_argument("--quiet", action="store_false", dest="show", help="print the table only")
    options = parser.parse_args(arguments)
    if options.repeat < 1 or options.threads < 1:
        parser.error("--repeat and --threads must be positive")
    options.threads = min(options.threads, num_usable_cores())
    for text in options.assignments:
        if "=" not in text:
            parser.error(f"--set {text}: expected TABLE.KEY=VALUE")
    return options


def ours_options(options: argparse.Namespace) -> dict[str, Any]:
    """The flags of this library as a mapping for `ReconstructConfig.from_mapping`, which checks them."""
    config: dict[str, Any] = {}
    assignments: list[tuple[str, Any]] = [
        ("extractor.name", options.extractor),
        ("matcher.name", options.matcher),
        ("extractor.max_keypoints", options.max_keypoints),
    ]
    assignments = [(key, value) for key, value in assignments if value is not None]
    for text in options.assignments:
        key, _, value = text.partition("=")
        try:
            assignments.append((key, json.loads(value)))
        except ValueError:
            assignments.append((key, value))
    for key, value in assignments:
        table, _, option = key.rpartition(".")
        (config.setdefault(table, {}) if table else config)[option] = value
    return config


def find_scene(scene: str, data: Path | None = None) -> SceneTruth:
    """Read a scene with ground truth, by path or by its name in the shared data.

    Raises:
        DataError: if there is none, or it has no ground truth.
    """
    path = find_scene_path(scene, data)
    truth = read_scene(path)
    if len(truth.names) < 2:
        raise DataError(f"{path}: no ground truth of at least two images")
    return truth


def measure(
    truth: SceneTruth,
    intrinsics: str,
    methods: Sequence[str] = METHODS,
    num_repeats: int = 1,
    num_threads: int = 1,
    config: Mapping[str, Any] | None = None,
    show: bool = False,
) -> list[Measurement]:
    """Run the methods on a scene alternately.

    Args:
        truth: the scene.
        intrinsics: "given" for the true camera, which is not refined; "exif" for intrinsics from EXIF data.
        methods: "ours", "colmap", or both.
        num_repeats: runs of each method.
        num_threads: of each run.
        config: options of this library, a mapping for `ReconstructConfig.from_mapping`.
        show: print a line after each run.

    Raises:
        DataError: if images are missing, or "given" is used with several cameras.
        SfmError: if a process fails for another reason.
    """
    camera = _given_camera(truth) if intrinsics == "given" else None
    # This also reads the images, so that the first run finds them in the file cache like all later runs.
    scene = load_scene(truth.image_root)
    single_camera = len({image.camera_idx for image in scene.images}) == 1
    measurements = []
    for repeat in range(num_repeats):
        for method in methods if repeat % 2 == 0 else tuple(reversed(methods)):
            with tempfile.TemporaryDirectory(prefix="sfm_benchmark_") as folder:
                job = Job(
                    method,
                    str(scene.root),
                    str(Path(folder) / "output"),
                    num_threads,
                    repeat,
                    camera,
                    single_camera,
                    scene.names,
                    dict(config or {}),
                )
                measurements.append(_measure_one(job, truth, intrinsics, Path(folder)))
            if show:
                run = measurements[-1]
                print(
                    f"{' '.join(run.group)} #{repeat}: {run.evaluation.num_registered} of"
                    f" {run.evaluation.num_images} registered, centre error"
                    f" {1e3 * run.mean_center_error / run.extent:.3f} ‰ of the extent,"
                    f" {run.result.seconds.get('total', 0.0):.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
    return measurements


def _given_camera(truth: SceneTruth) -> tuple[str, tuple[float, ...]]:
    cameras = {(camera.model, camera.size, camera.params) for camera in truth.camera_from_name.values()}
    if not cameras:
        raise DataError(f"{truth.name}: the intrinsics are not known; use --intrinsics exif")
    if len(cameras) > 1:
        raise DataError(f"{truth.name}: {len(cameras)} different cameras; use --intrinsics exif")
    ((model, _, params),) = cameras
    return model, params


def _measure_one(job: Job, truth: SceneTruth, intrinsics: str, folder: Path) -> Measurement:
    Path(job.output).mkdir()
    job_path, result_path = folder / "job.json", folder / "result.json"
    job_path.write_text(json.dumps(asdict(job)), encoding="utf-8")
    script = _REPOSITORY / "benchmarks" / "reconstruction_job.py"
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, script, job_path, result_path], capture_output=True, text=True, check=False
    )
    process_seconds = time.perf_counter() - start
    if process.returncode != 0 or not result_path.is_file():
        reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
        raise SfmError(f"{truth.name}, {job.method}: {reason}")
    result = JobResult(**json.loads(result_path.read_text(encoding="utf-8")))
    evaluation = evaluate_model(read_model(Path(result.model)), truth) if result.model else evaluate_poses({}, truth)
    return Measurement(
        truth.name,
        intrinsics,
        job.method,
        job.seed,
        result,
        evaluation,
        process_seconds,
        truth.extent,
        truth.is_metric,
    )


def as_json(measurements: Sequence[Measurement], num_threads: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """All measurements with versions and machine as plain values for JSON."""
    packages = ("sfm-lightglue", "pycolmap", "opencv-python-headless", "opencv-python", "numpy", "torch")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "machine": {"platform": platform.platform(), "num_cores": os.cpu_count(), "num_threads": num_threads},
        "config": dict(config),
        "runs": [_run_as_json(run) for run in measurements],
    }


def _run_as_json(run: Measurement) -> dict[str, Any]:
    evaluation = run.evaluation
    accuracy = evaluation.accuracy
    errors: dict[str, Any] = {}
    if isinstance(accuracy, AlignedPoses):
        errors = {
            "center_error_mean": accuracy.mean_center_error,
            "center_error_median": accuracy.median_center_error,
            "center_error_max": accuracy.max_center_error,
            "rotation_error_median_deg": accuracy.median_rotation_error_deg,
            "center_errors": dict(accuracy.center_errors),
            "rotation_errors_deg": dict(accuracy.rotation_errors_deg),
        }
    else:
        errors = {"not_aligned": accuracy.reason}
    aucs = zip(AUC_THRESHOLDS_DEG, evaluation.auc(AUC_THRESHOLDS_DEG), strict=True)
    return {
        "scene": run.scene,
        "intrinsics": run.intrinsics,
        "method": run.method,
        "repeat": run.repeat,
        "num_images": evaluation.num_images,
        "num_registered": evaluation.num_registered,
        "extent": run.extent,
        "is_metric": run.is_metric,
        **errors,
        "auc_from_threshold_deg": {f"{threshold:g}": auc for threshold, auc in aucs},
        "process_seconds": round(run.process_seconds, 3),
        **{key: value for key, value in asdict(run.result).items() if key != "model"},
    }


if __name__ == "__main__":
    sys.exit(main())
