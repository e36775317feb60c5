"""Compare this library ("ours") with COLMAP's SIFT pipeline on photographs and on rendered scenes.

    python benchmarks/reconstruction.py [SCENE[:INTRINSICS] ...] [--repeat 3] [--steps] [--json FILE]

Each run is a new process with a new output folder, after one that only reads the libraries of both from the disk. The
methods alternate, so that other load on the machine affects all equally. Camera centres are compared after a similarity
alignment. "ours-sparse" is `density.level` sparse; --steps adds the runs that end after the mapping, and before the
refinement.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.reconstruction_job import Job, JobResult
from benchmarks.reconstruction_measurement import (
    DEFAULT_METHODS,
    METHODS,
    Measurement,
    PoseErrors,
    as_json,
    read_measurements,
)
from benchmarks.reconstruction_scenes import INTRINSICS, RENDERED, SUITE, BenchmarkScene, open_scene
from benchmarks.reconstruction_table import STEPS, format_tables
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.errors import SfmError
from sfm_lightglue.evaluation.pose_errors import evaluate_model, evaluate_poses
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.store.atomic_file import atomic_write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, and return the exit code."""
    options = _parse(arguments)
    try:
        config = ours_options(options)
        for method in options.methods:  # reports an invalid option before anything runs
            ReconstructConfig.from_mapping(method_config(method, config))
        measurements = [run for path in options.add for run in read_measurements(path)]
        with tempfile.TemporaryDirectory(prefix="sfm_benchmark_") as folder:
            work = options.work or Path(folder)
            if options.scenes:
                _read_libraries()
            scenes = [open_scene(text, options.intrinsics, options.data, work) for text in options.scenes]
            for scene in scenes:
                measurements += measure(
                    scene, options.methods, options.repeat, options.threads, config, options.show, options.keep
                )
                if options.json:
                    report = as_json(measurements, options.threads, config)
                    with atomic_write(options.json) as file:
                        file.write(json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n")
        print(format_tables(measurements))
        for run in measurements:
            if run.result.error:
                print(f"\n{' '.join(run.group)}: {run.result.error}")
    except SfmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _read_libraries() -> None:
    """Import what the runs import, so that the first of them does not read it from the disk alone."""
    command = [sys.executable, "-c", "import pycolmap, torch, pipelines.reconstruct"]
    if subprocess.run(command, cwd=_REPOSITORY, capture_output=True, check=False).returncode != 0:
        raise SfmError("the libraries of the benchmark cannot be imported: see `sfm-lightglue doctor`")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenes",
        nargs="*",
        metavar="SCENE",
        help=f"folder, scene name of the shared data, or {' or '.join(RENDERED)} (default: {' '.join(SUITE)})",
    )
    parser.add_argument("--data", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, ../shared/data)")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each method; the table has medians")
    parser.add_argument("--threads", type=int, default=num_usable_cores(), help="threads and cores of each run")
    parser.add_argument(
        "--intrinsics",
        choices=INTRINSICS,
        default="given",
        help="given: the true camera, not refined; exif: from EXIF data, refined; found: not known, refined",
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS)
    parser.add_argument("--steps", action="store_true", help="the methods that the table of steps needs, too")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps rendered scenes (default: a temporary folder)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy the models of the first repetition into it")
    parser.add_argument(
        "--add",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="reports of --json whose runs are in the table too; without SCENE, nothing else is",
    )
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
    options.scenes = options.scenes or ([] if options.add else list(SUITE))
    if options.steps:
        options.methods = tuple(dict.fromkeys([*options.methods, *STEPS.values()]))
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


def method_config(method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method of this library: `config`, and those that make the method, which take precedence."""
    merged = dict(config)
    for table, values in METHODS[method].items():
        merged[table] = dict(merged.get(table, {})) | values
    return merged


def measure(
    scene: BenchmarkScene,
    methods: Sequence[str] = DEFAULT_METHODS,
    num_repeats: int = 1,
    num_threads: int = 1,
    config: Mapping[str, Any] | None = None,
    show: bool = False,
    keep: Path | None = None,
    colmap_pairs: str = "exhaustive",
    steps: Path | None = None,
) -> list[Measurement]:
    """Run the methods on a scene alternately.

    Args:
        scene: the scene.
        methods: some of `METHODS`.
        num_repeats: runs of each method.
        num_threads: of each run.
        config: options of this library, a mapping for `ReconstructConfig.from_mapping`.
        show: print a line after each run.
        keep: folder for the models of the first repetition, "SCENE-INTRINSICS-METHOD"; None keeps none.
        colmap_pairs: which pairs COLMAP matches, as in `Job`.
        steps: file that gets a line after each step of COLMAP, as in `Job`; None for none.

    Raises:
        SfmError: if a process fails.
    """
    measurements = []
    for repeat in range(num_repeats):
        for method in methods if repeat % 2 == 0 else tuple(reversed(methods)):
            with tempfile.TemporaryDirectory(prefix="sfm_benchmark_") as folder:
                job = Job(
                    method,
                    str(scene.truth.image_root),
                    str(Path(folder) / "output"),
                    num_threads,
                    repeat,
                    scene.camera,
                    scene.camera_mode,
                    scene.names,
                    method_config(method, config or {}),
                    colmap_pairs,
                    "" if steps is None else str(steps.resolve()),
                )
                run = _measure_one(job, scene, Path(folder))
                if keep is not None and repeat == 0 and run.result.model:
                    shutil.copytree(run.result.model, keep / "-".join(run.group), dirs_exist_ok=True)
            measurements.append(run)
            if show:
                print(_line(run), file=sys.stderr, flush=True)
    return measurements


def _line(run: Measurement) -> str:
    error = "" if math.isnan(run.relative_center_error) else f"{1e3 * run.relative_center_error:.3f} ‰ of the extent, "
    return (
        f"{' '.join(run.group)} #{run.repeat}: {run.result.num_registered} of {run.num_images} registered,"
        f" {run.result.num_points} points, {error}{run.result.seconds.get('total', 0.0):.1f} s"
    )


def _measure_one(job: Job, scene: BenchmarkScene, folder: Path) -> Measurement:
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
        raise SfmError(f"{scene.name}, {job.method}: {reason}")
    result = JobResult(**json.loads(result_path.read_text(encoding="utf-8")))
    truth = scene.truth
    evaluation = evaluate_model(read_model(Path(result.model)), truth) if result.model else evaluate_poses({}, truth)
    return Measurement(
        scene.name,
        scene.intrinsics,
        job.method,
        job.seed,
        len(scene.names),
        result,
        process_seconds,
        PoseErrors.from_evaluation(evaluation, truth),
    )


if __name__ == "__main__":
    sys.exit(main())
