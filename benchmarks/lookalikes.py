"""Reconstruct scenes with look-alikes, with this library, with it without its look-alike parts, and with COLMAP.

    python -m benchmarks.lookalikes [SCENE ...] [--methods ours off colmap] [--seeds N] [--shuffle] [--work DIR]

A scene is "right" if each group of images that common surfaces connect is in one model, "folded" if a published model
has images at places or orientations that are far from the true ones, "split" if it is in several models of which none
is folded. Finished runs are kept in DIR; the benchmark goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import print_goals
from benchmarks.lookalikes_scenes import PLAIN, LookalikeSet, all_names, open_set
from benchmarks.lookalikes_table import format_tables, goals_of
from benchmarks.lookalikes_verdict import ModelVerdict, judge_by_order, judge_by_poses, scene_verdict
from benchmarks.reconstruction_job import Job, JobResult
from pipelines.command import run_command
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import SfmError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.atomic_file import atomic_write

MODES = {"ours": "auto", "strict": "strict", "off": "off"}
"""Methods of this library, with their `lookalikes.mode`."""

METHODS = (*MODES, "colmap")
_REUSED = "reused"
"""File in the folder of a run that began with stored features and matches."""

_FAST = {"extractor": {"max_keypoints": 1024}, "density": {"level": "sparse"}, "refine": {"mode": "off"}}


@dataclass(frozen=True, slots=True)
class LookalikeRun:
    """One judged reconstruction.

    Args:
        scene: its name.
        seed: added to the seed of the scene.
        method: one of `METHODS`.
        verdict: one of `VERDICTS`.
        is_told: whether the run says that images may show another place that looks alike.
        num_images: of the scene.
        models: the published models.
        mean_error: mean error of the centres of the largest model relative to the extent, NaN without truth.
        seconds: by stage, and "total".
        cpu_seconds: processor time of the run; NaN if it began with stored features and matches.
        error: reason why there is no model, else "".
        is_plain: whether the scene is without look-alikes.
    """

    scene: str
    seed: int
    method: str
    verdict: str
    is_told: bool
    num_images: int
    models: tuple[ModelVerdict, ...]
    mean_error: float
    seconds: dict[str, float]
    cpu_seconds: float
    error: str
    is_plain: bool


def judged(opened: LookalikeSet, method: str, seed: int, folder: Path) -> LookalikeRun:
    """Judge a finished run, whose result and models are in a folder."""
    result = JobResult(**json.loads((folder / "result.json").read_text(encoding="utf-8")))
    output = folder / "output"
    estimates = _estimates(output / "sparse") if result.model else []
    if opened.poses:
        models = [judge_by_poses(estimate, opened.poses) for estimate in estimates]
    elif opened.number_from_name:
        numbers, limit = opened.number_from_name, opened.min_correlation
        models = [judge_by_order(estimate, numbers, limit) for estimate in estimates]
    else:
        models = [ModelVerdict(len(estimate), 0, False) for estimate in estimates]
    members = [sorted(estimate) for estimate in estimates]
    return LookalikeRun(
        opened.name,
        seed,
        method,
        scene_verdict(models, members, opened.groups),
        method in MODES and _is_told(output / "run.json"),
        sum(len(group) for group in opened.groups),
        tuple(models),
        _mean_error(estimates[0], opened) if estimates else math.nan,
        result.seconds,
        math.nan if (folder / _REUSED).is_file() else result.cpu_seconds,
        result.error,
        opened.is_plain,
    )


def _estimates(sparse: Path) -> list[dict[str, Rigid3]]:
    """Poses of all models in a folder, the largest first."""
    paths = sorted(path.parent for path in sparse.glob("*/images.bin"))
    estimates = [dict(poses_of_model(read_model(path))) for path in paths]
    return sorted(estimates, key=lambda poses: (-len(poses), sorted(poses)))


def _mean_error(estimate: dict[str, Rigid3], opened: LookalikeSet) -> float:
    from sfm_lightglue.geometry.alignment import align_poses

    if len(estimate.keys() & opened.poses.keys()) < 3:
        return math.nan
    centers = [pose.center for pose in opened.poses.values()]
    extent = max(float(abs(a - b).max()) for a in centers for b in centers)
    return align_poses(estimate, opened.poses).mean_center_error / extent


def _is_told(record: Path) -> bool:
    """Whether the summary of a run names a model that may be folded or show the same place, or pairs kept apart."""
    if not record.is_file():
        return False
    summary = json.loads(record.read_text(encoding="utf-8")).get("summary", {})
    models = summary.get("models", ())
    return any(model.get("maybe_same_as") or model.get("maybe_folded") for model in models) or bool(
        summary.get("num_pairs_kept_apart")
    )


def run_one(opened: LookalikeSet, method: str, folder: Path, num_threads: int, reuse: bool) -> None:
    """Reconstruct a scene in a new process; the folder then has the result and the models.

    Args:
        opened: the scene.
        method: one of `METHODS`.
        folder: of the run; what is in it is removed.
        num_threads: of the run.
        reuse: start with the features and matches of "off": they do not depend on the mode, but times are not
            comparable then.
    """
    output = folder / "output"
    shutil.rmtree(folder, ignore_errors=True)
    stored = folder.with_name(f"{folder.name.removesuffix(method)}off") / "output"
    if reuse and method in MODES and method != "off" and stored.is_dir():
        shutil.copytree(stored, output, ignore=shutil.ignore_patterns("sparse*"))
        (folder / _REUSED).touch()
    output.mkdir(parents=True, exist_ok=True)
    config = {} if method == "colmap" else _FAST | {"lookalikes": {"mode": MODES[method]}}
    mode = "auto" if opened.is_plain else "single"
    job = Job(method, str(opened.image_root), str(output), num_threads, camera_mode=mode, config=config)
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    script = _REPOSITORY / "benchmarks" / "reconstruction_job.py"
    partial = folder / "unfinished.json"
    process = subprocess.run([sys.executable, script, folder / "job.json", partial], capture_output=True, text=True)
    if process.returncode != 0 or not partial.is_file():
        reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
        raise SfmError(f"{opened.name}, {method}: {reason}")
    partial.rename(folder / "result.json")


def run_all(arguments: argparse.Namespace, work: Path) -> list[LookalikeRun]:
    """All runs of the arguments; those that are finished in the folder are not repeated."""
    runs = []
    for name in arguments.scenes:
        for seed in range(arguments.seeds if name not in PLAIN else 1):
            opened = open_set(name, work / "scenes", arguments.data, seed, arguments.shuffle)
            for method in arguments.methods:
                folder = work / "runs" / f"{name}_{seed}{'_shuffled' if arguments.shuffle else ''}-{method}"
                if method in arguments.again or not (folder / "result.json").is_file():
                    run_one(opened, method, folder, arguments.threads, arguments.reuse)
                run = judged(opened, method, seed, folder)
                runs.append(run)
                sizes = "+".join(str(model.num_registered) for model in run.models) or "0"
                print(
                    f"{name} {seed}, {method}: {run.verdict}, {sizes} of {run.num_images}", file=sys.stderr, flush=True
                )
    return runs


def as_json(runs: Sequence[LookalikeRun]) -> dict[str, Any]:
    """All runs as plain values."""
    return {"runs": [asdict(run) for run in runs]}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lookalikes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scenes", nargs="*", default=list(all_names()), metavar="SCENE", help=f"of {', '.join(all_names())}")
    add("--methods", nargs="+", choices=METHODS, default=("ours", "off", "colmap"))
    add("--seeds", type=int, default=1, metavar="N", help="number of variants of each rendered scene (default: 1)")
    add("--shuffle", action="store_true", help="random names in all rendered scenes")
    add("--again", nargs="+", choices=METHODS, default=(), help="methods whose finished runs are repeated")
    add("--reuse", action="store_true", help='"ours" and "strict" begin with the features and matches of "off"')
    add("--threads", type=int, default=1, metavar="N", help="of each run (default: 1)")
    add("--data", type=Path, metavar="DIR", help="folder of the shared data")
    add("--work", type=Path, metavar="DIR", help="keeps scenes and finished runs (default: a temporary folder)")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    missed = []

    def body() -> None:
        with tempfile.TemporaryDirectory(prefix="sfm_lookalikes_") as temporary:
            runs = run_all(arguments, arguments.work or Path(temporary))
        print(format_tables(runs))
        missed.append(print_goals(goals_of(runs)))
        if arguments.json:
            with atomic_write(arguments.json) as file:
                file.write(json.dumps(as_json(runs), indent=1).encode() + b"\n")

    return run_command(body) or max(missed, default=0)


if __name__ == "__main__":
    sys.exit(main())
