"""Reconstruct synthetic courtyards with equal windows, with this library ("ours") and with COLMAP's SIFT pipeline.

    python -m benchmarks.courtyards [--seeds 20] [--num-images 10] [--json FILE]

A camera is right if its centre is within 2 % of the extent of the true centres and its orientation within 5 degrees,
after the similarity with which the most cameras of its model are right.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.pair_sets import RENDERERS
from benchmarks.reconstruction_job import Job, JobResult
from pipelines.command import run_command
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import SfmError
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.alignment import MIN_ALIGNED, align_consistent_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import read_truth, write_scene

METHODS = ("ours", "colmap")
MAX_CENTER_ERROR = 0.02
"""Limit of a right camera, as a fraction of the largest distance between two true centres."""

MAX_ROTATION_ERROR_DEG = 5.0


@dataclass(frozen=True, slots=True)
class ModelScore:
    """Cameras of one model against the truth.

    Args:
        num_registered: cameras of the model.
        num_right: of them, right. A model of fewer than three cameras has none, and no wrong ones.
        num_wrong: of them, wrong.
        max_center_error: largest error of a centre, as a fraction of the extent.
        max_rotation_error_deg: largest error of an orientation.
    """

    num_registered: int
    num_right: int
    num_wrong: int
    max_center_error: float = 0.0
    max_rotation_error_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class CourtyardRun:
    """One reconstruction of one scene.

    Args:
        seed: of the scene.
        method: "ours" or "colmap".
        models: scores of the published models; the first is the main one.
        seconds: without imports.
        error: reason why there is no model, else "".
    """

    seed: int
    method: str
    models: tuple[ModelScore, ...]
    seconds: float
    error: str = ""

    @property
    def main(self) -> ModelScore:
        """The score of the main model."""
        return self.models[0] if self.models else ModelScore(0, 0, 0)


def score_model(estimate: dict[str, Rigid3], truth: SceneTruth) -> ModelScore:
    """Compare the cameras of a model with the truth."""
    num_registered = len(estimate.keys() & truth.cam_from_world_from_name.keys())
    if num_registered < MIN_ALIGNED:
        return ModelScore(num_registered, 0, 0)
    extent = truth.extent
    try:
        found = align_consistent_poses(
            estimate, truth.cam_from_world_from_name, MAX_CENTER_ERROR * extent, MAX_ROTATION_ERROR_DEG
        )
    except ValueError:  # all centres coincide
        return ModelScore(num_registered, 0, num_registered, 1.0, 180.0)
    return ModelScore(
        num_registered,
        len(found.right),
        len(found.wrong),
        max(found.center_errors.values()) / extent,
        max(found.rotation_errors_deg.values()),
    )


def run_method(method: str, truth: SceneTruth, seed: int, num_threads: int) -> CourtyardRun:
    """Reconstruct a scene in a new process, and score its models."""
    with tempfile.TemporaryDirectory(prefix="sfm_courtyards_") as folder:
        output = Path(folder) / "output"
        output.mkdir()
        job_path, result_path = Path(folder) / "job.json", Path(folder) / "result.json"
        job = Job(method, str(truth.image_root), str(output), num_threads)
        job_path.write_text(json.dumps(asdict(job)), encoding="utf-8")
        script = _REPOSITORY / "benchmarks" / "reconstruction_job.py"
        start = time.perf_counter()
        process = subprocess.run([sys.executable, script, job_path, result_path], capture_output=True, text=True)
        if process.returncode != 0 or not result_path.is_file():
            reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
            raise SfmError(f"courtyard {seed}, {method}: {reason}")
        result = JobResult(**json.loads(result_path.read_text(encoding="utf-8")))
        seconds = result.seconds.get("total", time.perf_counter() - start)
        paths = _model_folders(output / "sparse", result.model)
        models = tuple(score_model(dict(poses_of_model(read_model(path))), truth) for path in paths)
        return CourtyardRun(seed, method, models, seconds, result.error)


def _model_folders(sparse: Path, main: str) -> list[Path]:
    """Folders of the models, the main one first."""
    if not main:
        return []
    others = sorted(path.parent for path in sparse.glob("*/images.bin") if path.parent != Path(main))
    return [Path(main), *others]


def format_table(runs: Sequence[CourtyardRun]) -> str:
    """A Markdown table with a row per seed and method, and totals per method."""
    header = ["seed", "method", "registered", "right", "wrong", "largest error % of extent", "deg"]
    header += ["wrong in other models", "s"]
    rows = [
        [
            *(str(run.seed), run.method, str(run.main.num_registered), str(run.main.num_right)),
            *(str(run.main.num_wrong), f"{100 * run.main.max_center_error:.1f}"),
            *(f"{run.main.max_rotation_error_deg:.1f}", str(sum(one.num_wrong for one in run.models[1:]))),
            f"{run.seconds:.1f}",
        ]
        for run in runs
    ]
    totals = [totals_of(runs, method) for method in METHODS if any(run.method == method for run in runs)]
    total_rows = [[method_total["method"], *(f"{method_total[key]:g}" for key in _TOTALS)] for method_total in totals]
    return "\n\n".join([markdown_table(header, rows, 2), markdown_table(["all", *_TOTALS.values()], total_rows, 1)])


_TOTALS = {
    "registered": "registered",
    "right": "right",
    "wrong": "wrong",
    "seeds_wrong_main": "seeds with a wrong camera in the main model",
    "seeds_wrong_other": "in another model",
    "seconds": "s",
}


def totals_of(runs: Sequence[CourtyardRun], method: str) -> dict[str, Any]:
    """Sums over the seeds of one method."""
    own = [run for run in runs if run.method == method]
    return {
        "method": method,
        "registered": sum(run.main.num_registered for run in own),
        "right": sum(run.main.num_right for run in own),
        "wrong": sum(run.main.num_wrong for run in own),
        "seeds_wrong_main": sum(run.main.num_wrong > 0 for run in own),
        "seeds_wrong_other": sum(any(one.num_wrong > 0 for one in run.models[1:]) for run in own),
        "seconds": round(sum(run.seconds for run in own), 1),
    }


def courtyard(seed: int, num_images: int, folder: Path) -> SceneTruth:
    """A rendered courtyard, from the folder if it was rendered before."""
    root = folder / f"courtyard_{num_images}_{seed}"
    if not (root / "truth.json").is_file():
        write_scene(RENDERERS["courtyard"](num_images, seed=seed), root)
    cameras, poses = read_truth(root)
    return SceneTruth(f"courtyard {seed}", root / "images", poses, cameras, is_metric=True)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.courtyards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, default=20, metavar="N", help="number of scenes (default: 20)")
    add("--first-seed", type=int, default=0, metavar="N")
    add("--num-images", type=int, default=10, metavar="N", help="of each scene (default: 10)")
    add("--methods", nargs="+", choices=METHODS, default=METHODS)
    add("--threads", type=int, default=num_usable_cores(), metavar="N")
    add("--work", type=Path, metavar="DIR", help="keeps the rendered scenes (default: a temporary folder)")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    arguments = build_parser().parse_args(argv)

    def body() -> None:
        runs = []
        with tempfile.TemporaryDirectory(prefix="sfm_courtyards_") as temporary:
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                truth = courtyard(seed, arguments.num_images, arguments.work or Path(temporary))
                for method in arguments.methods:
                    run = run_method(method, truth, seed, arguments.threads)
                    runs.append(run)
                    print(
                        f"seed {seed}, {method}: {run.main.num_right} right and {run.main.num_wrong} wrong of"
                        f" {run.main.num_registered} registered {run.error}",
                        file=sys.stderr,
                        flush=True,
                    )
        print(format_table(runs))
        if arguments.json:
            record = {
                "runs": [asdict(run) for run in runs],
                "totals": [totals_of(runs, method) for method in arguments.methods],
            }
            with atomic_write(arguments.json) as file:
                file.write(json.dumps(record, indent=1).encode() + b"\n")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
