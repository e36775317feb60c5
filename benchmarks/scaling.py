"""Seconds, files, bytes and peak memory of reconstructions of 100 to 10,000 images, and how they grow.

    python -m benchmarks.scaling [--survey 1000 10000] [--town 100 300] [--pairs spatial] [--json FILE]
    python -m benchmarks.scaling --town 300 --colmap vocabulary [--methods ours-sparse colmap] [--config JSON]

"survey" is an aerial survey without pictures, with features and a matcher that know the true points: selection, store,
verification and database are measured, and mapping up to --map-up-to images. "town" is rendered, and is reconstructed
with the default components, or the options of "--config". Each run is a new process; a second one on the same folder
finds everything done. COLMAP takes half an hour of processor time for 300 images: "--methods colmap" runs it alone, and
"--steps" notes how far it came.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import Goal, at_least, at_most, print_goals
from benchmarks.reconstruction import measure
from benchmarks.reconstruction_measurement import Measurement, as_json
from benchmarks.reconstruction_scenes import as_benchmark
from benchmarks.reconstruction_table import format_tables
from benchmarks.scaling_job import ScalingJob, ScalingResult
from benchmarks.scaling_survey import write_plugin, write_survey
from datasets.ground_truth import read_scene
from pipelines.command import run_command
from sfm_lightglue.errors import SfmError
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import Town, write_town

KINDS = ("survey", "town")
METHODS = ("ours", "ours-sparse", "colmap")
_LARGE = 10_000
"""Surveys of so many images have goals."""

STAGES = ("scan", "extract", "select", "match", "verify", "map", "densify", "refine", "write", "total")


@dataclass(frozen=True, slots=True)
class ScalingRun:
    """One measured process.

    Args:
        kind: one of `KINDS`.
        num_images: of the scene.
        is_warm: whether everything had been computed before.
        result: its measurements.
    """

    kind: str
    num_images: int
    is_warm: bool
    result: ScalingResult

    def value(self, column: str) -> float:
        """The number in a column of the table; NaN if it is not known."""
        result = self.result
        values = {
            "CPU": result.cpu_seconds,
            "peak MB": result.peak_mb.get("total", math.nan),
            "MB before map": max((mb for name, mb in result.peak_mb.items() if name in _BEFORE_MAP), default=math.nan),
            "files": float(sum(result.num_files.values())),
            "MB": sum(result.num_bytes.values()) / 1e6,
            "pairs": float(result.num_pairs),
            "verified": float(result.num_verified_pairs) if result.num_verified_pairs >= 0 else math.nan,
            "registered": float(result.num_registered),
        }
        return values[column] if column in values else result.seconds.get(column, math.nan)


_BEFORE_MAP = ("start", "scan", "extract", "describe", "select", "match", "verify")
_COUNTS = ("files", "pairs", "verified", "registered")
_COLUMNS = (*STAGES, "CPU", "MB before map", "peak MB", "MB", *_COUNTS)


def run_size(
    kind: str, num_images: int, config: dict[str, Any], work: Path, num_threads: int, map_up_to: int
) -> list[ScalingRun]:
    """Make the images of a scene, and reconstruct them twice: the second run is warm.

    Args:
        kind: one of `KINDS`.
        num_images: of the scene.
        config: options of the reconstruction, a mapping for `ReconstructConfig.from_mapping`.
        work: folder for images, which are kept, and for results, which are removed before.
        num_threads: of each run.
        map_up_to: surveys of more images are not mapped.

    Raises:
        SfmError: if a process fails.
    """
    images, output = prepare(kind, num_images, work, num_threads), work / f"{kind}_{num_images}_results"
    if kind == "survey":
        config = survey_config(num_images, map_up_to) | config
    _remove(output)
    job = ScalingJob(str(images), str(output), config, num_threads)
    return [ScalingRun(kind, num_images, is_warm, _measured(job, work)) for is_warm in (False, True)]


def survey_config(num_images: int, map_up_to: int) -> dict[str, Any]:
    """Options for a survey: its components, no densifying, and no mapping of more than `map_up_to` images."""
    mapping = {"name": "none"} if num_images > map_up_to else {"name": "incremental"}
    return {
        "extractor": {"name": "survey"},
        "matcher": {"name": "known-points"},
        "mapping": mapping,
        "density": {"level": "sparse"},
        "refine": {"mode": "off"},
        "cameras": {"mode": "single"},
    }


def town_config(config: dict[str, Any], pairs: str) -> dict[str, Any]:
    """Options with the selector `pairs`, whose own options are those of the table "pairs"."""
    return config | {"pairs": {**config.get("pairs", {}), "name": pairs}}


def prepare(kind: str, num_images: int, work: Path, num_threads: int) -> Path:
    """Write the images of a scene; those that exist are kept. Returns their folder."""
    root = work / f"{kind}_{num_images}"
    if kind == "town":
        if not (root / "truth.json").is_file():
            print(f"rendering {num_images} images of the town", file=sys.stderr, flush=True)
            write_town(Town(num_images), root, num_threads)
        return root / "images"
    write_survey(root, num_images)
    return root


def _remove(folder: Path) -> None:

    if folder.is_dir():
        shutil.rmtree(folder)


def _measured(job: ScalingJob, work: Path) -> ScalingResult:
    """Run a job in a process of its own."""
    write_plugin(work / "plugins")
    with tempfile.TemporaryDirectory(prefix="sfm_scaling_") as folder:
        job_path, result_path = Path(folder) / "job.json", Path(folder) / "result.json"
        job_path.write_text(json.dumps(asdict(job)), encoding="utf-8")
        script = _REPOSITORY / "benchmarks" / "scaling_job.py"
        paths = [str(work / "plugins"), *filter(None, [os.environ.get("PYTHONPATH", "")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.run(
            [sys.executable, script, job_path, result_path], capture_output=True, text=True, env=environment
        )
        if process.returncode != 0 or not result_path.is_file():
            reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
            raise SfmError(f"{job.image_root}: {reason}")
        return ScalingResult(**json.loads(result_path.read_text(encoding="utf-8")))


def exponents(smaller: ScalingRun, larger: ScalingRun) -> dict[str, float]:
    """By column, e of a growth with the number of images to the power of e; NaN where a value is too small to tell."""
    growth = math.log(larger.num_images / smaller.num_images)
    found = {}
    for column in _COLUMNS:
        values = smaller.value(column), larger.value(column)
        is_time = column in STAGES or column == "CPU"
        can_tell = min(values) > (0.05 if is_time else 0)
        found[column] = math.log(values[1] / values[0]) / growth if can_tell else math.nan
    return found


def format_table(runs: Sequence[ScalingRun]) -> str:
    """A row for each run, and one with exponents between neighbouring sizes."""
    rows = []
    for kind in KINDS:
        for is_warm in (False, True):
            chosen = sorted(
                (run for run in runs if run.kind == kind and run.is_warm == is_warm), key=lambda run: run.num_images
            )
            label = "warm" if is_warm else "cold"
            for idx, run in enumerate(chosen):
                rows.append(
                    [
                        kind,
                        str(run.num_images),
                        label,
                        *(_cell(run.value(one), 0 if one in _COUNTS else 1) for one in _COLUMNS),
                    ]
                )
                if idx > 0:
                    powers = exponents(chosen[idx - 1], run)
                    rows.append(["", "exponent", label, *(_cell(powers[column], 2) for column in _COLUMNS)])
    return markdown_table(["scene", "images", "run", *_COLUMNS], rows)


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def goals(runs: Sequence[ScalingRun]) -> list[Goal]:
    """Of surveys of 10,000 images: selection, memory before mapping, a warm run, and time that is linear in pairs."""
    found = []
    cold = sorted((run for run in runs if run.kind == "survey" and not run.is_warm), key=lambda run: run.num_images)
    for run in runs:
        if run.kind != "survey" or run.num_images < _LARGE:
            continue
        where = f"{run.num_images} images, {'warm' if run.is_warm else 'cold'}"
        if run.is_warm:
            found.append(at_most(f"{where}, s in total", run.value("total"), 120.0))
        else:
            found.append(at_most(f"{where}, s of selection", run.value("select"), 300.0))
        found.append(at_most(f"{where}, MB before mapping", run.value("MB before map"), 2000.0))
    for smaller, larger in pairwise(cold):
        if larger.num_images >= _LARGE:
            where = f"{smaller.num_images} to {larger.num_images} images"
            found.append(at_most(f"{where}, exponent of s to match and verify by pairs", _power(smaller, larger), 1.1))
    return found


def _power(smaller: ScalingRun, larger: ScalingRun) -> float:
    """Exponent of the growth of the time of matching and verification with the number of pairs."""
    seconds = [np.nansum([run.value("match"), run.value("verify")]) for run in (smaller, larger)]
    pairs = [run.value("pairs") for run in (smaller, larger)]
    if min(*seconds, *pairs) <= 0 or pairs[0] == pairs[1]:
        return math.nan
    return math.log(seconds[1] / seconds[0]) / math.log(pairs[1] / pairs[0])


def goals_beside_colmap(measured: Sequence[Measurement]) -> list[Goal]:
    """For each run of this library: a quarter of COLMAP's time, and as many images; none without COLMAP."""
    run_of_method = {one.method: one for one in measured}
    colmap = run_of_method.pop("colmap", None)
    if colmap is None:
        return []
    found = []
    for method, ours in run_of_method.items():
        where = f"{ours.num_images} images of the town, {method}"
        found.append(at_most(f"{where}, s", ours.process_seconds, colmap.process_seconds / 4))
        found.append(at_least(f"{where}, registered", ours.result.num_registered, colmap.result.num_registered))
    return found


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--survey", nargs="*", type=int, default=[1000, 10_000], metavar="N", help="sizes (default: 1000 10000)")
    add("--town", nargs="*", type=int, default=[100, 300], metavar="N", help="sizes (default: 100 300)")
    add("--pairs", default="auto", metavar="NAME", help="the selector (default: auto)")
    add("--survey-pairs", metavar="NAME", help="the selector for surveys, if it is another one")
    add("--config", type=json.loads, default={}, metavar="JSON", help='for towns: {"pairs": {"num_neighbors": 15}}')
    add("--map-up-to", type=int, default=1000, metavar="N", help="larger surveys are not mapped (default: 1000)")
    add("--colmap", choices=("exhaustive", "sequential", "vocabulary"), help="COLMAP's SIFT beside the largest town")
    add(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=["ours", "colmap"],
        help="what runs: ours at all sizes and beside COLMAP, ours-sparse (no dense layer) only beside COLMAP, and"
        " COLMAP, if its pairs are chosen (default: ours colmap)",
    )
    add("--steps", type=Path, metavar="FILE", help="gets a line of JSON after each step of COLMAP")
    add("--threads", type=int, default=num_usable_cores(), metavar="N")
    add("--work", type=Path, metavar="DIR", help="keeps images and results (default: a temporary folder)")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code, 1 if a goal is missed."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if "ours" not in arguments.methods and not (arguments.colmap and arguments.town):
        parser.error(
            "--methods colmap and ours-sparse need --colmap with the pairs that COLMAP matches, and a size for --town"
        )

    def body() -> int:
        with tempfile.TemporaryDirectory(prefix="sfm_scaling_") as temporary:
            work = arguments.work or Path(temporary)
            runs = _all_sizes(arguments, work) if "ours" in arguments.methods else []
            report: dict[str, Any] = {"runs": [asdict(run) for run in runs]}
            if runs:
                print(f"{format_table(runs)}\n")
            found = goals(runs)
            if arguments.colmap and arguments.town:
                root = prepare("town", max(arguments.town), work, arguments.threads).parent
                scene, config = as_benchmark(read_scene(root), "exif"), town_config(arguments.config, arguments.pairs)
                options = arguments.threads, config, True, None, arguments.colmap, arguments.steps
                measured = measure(scene, arguments.methods, 1, *options)
                print(f"{format_tables(measured)}\n")
                found += goals_beside_colmap(measured)
                report["colmap"] = as_json(measured, arguments.threads, config)
            if arguments.json:
                with atomic_write(arguments.json) as file:
                    file.write(json.dumps(report, indent=1).encode() + b"\n")
        return print_goals(found)

    return run_command(body)


def _all_sizes(arguments: argparse.Namespace, work: Path) -> list[ScalingRun]:
    runs = []
    for kind in KINDS:
        pairs = (arguments.survey_pairs or arguments.pairs) if kind == "survey" else arguments.pairs
        for num_images in getattr(arguments, kind):
            config = town_config(arguments.config if kind == "town" else {}, pairs)
            for run in run_size(kind, num_images, config, work, arguments.threads, arguments.map_up_to):
                runs.append(run)
                print(
                    f"{kind} {num_images}, {'warm' if run.is_warm else 'cold'}: {run.value('total'):.1f} s,"
                    f" {run.value('peak MB'):.0f} MB, {run.result.num_pairs} pairs",
                    file=sys.stderr,
                    flush=True,
                )
    return runs


if __name__ == "__main__":
    sys.exit(main())
