"""Measure the training of this checkout, beside another one.

    python benchmarks/training.py --baseline DIR            pairs per second: rendered, described, labelled, trained
    python benchmarks/training.py --baseline DIR --losses   held-out losses after equal numbers of steps

Every checkout is measured in processes of its own, with one thread. On a CPU, seconds are those of the process, so that
other work on the machine changes little. From the throughput of one core follows what a GPU
with some CPU cores can reach.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from datasets.shared import shared_data_root
from pipelines.command import run_command
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.tables import markdown_table, number
from sfm_lightglue.store.atomic_file import atomic_write

_JOB = ROOT / "benchmarks" / "training_job.py"
_OURS, _BASELINE = "this checkout", "baseline"


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one core for some scenes, and the pairs per second of the training.

    Args:
        total: all stages.
        views: number of views.
        pairs: number of labelled pairs.
        render: layouts, textures, images, depths, photometry.
        describe: keypoints and descriptors.
        label: overlaps and labels of pairs.
        trained_pairs_per_s: of the recipe's batches on a CPU.
    """

    total: float
    views: int
    pairs: int
    render: float
    describe: float
    label: float
    trained_pairs_per_s: float

    @property
    def pairs_per_view(self) -> float:
        """Labelled pairs for each view."""
        return self.pairs / self.views

    @property
    def rows(self) -> dict[str, float]:
        """Figures of the table, by their names; more is better."""
        seconds = {"rendered": self.render, "described": self.describe, "labelled": self.label}
        rows = {f"views {name} per s": self.views / each for name, each in list(seconds.items())[:2] if each > 0}
        rows |= {f"pairs {name} per s": self.pairs / each for name, each in seconds.items() if each > 0}
        return rows | {
            "pairs made per s": self.pairs / self.total,
            "pairs trained per s": self.trained_pairs_per_s,
        }


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """What a GPU with some CPU cores can reach, if SIFT keeps all cores but one busy.

    Args:
        views_per_s: described by the cores.
        pairs_per_s: different pairs made of these views.
        needed_cores: cores that rendering and labelling of so many views would take; the GPU must replace them.
        different_pairs: in all minutes.
        trained_pairs: in all minutes.
    """

    views_per_s: float
    pairs_per_s: float
    needed_cores: float
    different_pairs: float
    trained_pairs: float

    @property
    def uses(self) -> float:
        """How often each pair is used."""
        return self.trained_pairs / self.different_pairs


def machine_plan(speed: Speed, num_cores: int, trained_pairs_per_s: float, minutes: float) -> MachinePlan:
    """The plan from the figures of one core.

    Args:
        speed: of one core.
        num_cores: of the machine; one of them renders and trains.
        trained_pairs_per_s: of the GPU.
        minutes: of the run.
    """
    views_per_s = (num_cores - 1) * speed.views / speed.describe
    pairs_per_s = views_per_s * speed.pairs_per_view
    others_s_per_view = (speed.render + speed.label) / speed.views
    return MachinePlan(
        views_per_s,
        pairs_per_s,
        views_per_s * others_s_per_view,
        60 * minutes * pairs_per_s,
        60 * minutes * trained_pairs_per_s,
    )


def speed_table(speeds: Mapping[str, Speed]) -> str:
    """A row per figure and a column per checkout; the ratio is that of the first checkout to the last."""
    names = list(speeds)
    columns = [speeds[name].rows for name in names]
    rows = []
    for title in columns[0]:
        values = [column.get(title, float("nan")) for column in columns]
        ratio = [number(values[0] / values[-1], 2)] if len(values) > 1 else []
        rows.append([title, *(number(value, 2) for value in values), *ratio])
    return markdown_table(["one core", *names, *(["ratio"] if len(names) > 1 else [])], rows, num_text=1)


def plan_text(plan: MachinePlan, num_cores: int, minutes: float) -> str:
    """The plan in sentences."""
    return (
        f"{num_cores} cores and a GPU: {num_cores - 1} processes of SIFT describe {plan.views_per_s:.0f} views per s,"
        f" {plan.pairs_per_s:.0f} different pairs per s, if the GPU renders and labels as fast as"
        f" {plan.needed_cores:.1f} cores. In {minutes:g} minutes: {plan.different_pairs:,.0f} different pairs,"
        f" {plan.trained_pairs:,.0f} trained pairs, {plan.uses:.0f} uses of each pair."
    )


def measure(checkouts: Mapping[str, Path], arguments: argparse.Namespace) -> dict[str, Speed]:
    """Measure all checkouts several times, in turns; medians."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for _ in range(arguments.repeat):
        for name, checkout in checkouts.items():
            runs[name].append(_measure_once(checkout, arguments))
    return {
        name: Speed(**{field: median(run[field] for run in found) for field in found[0]})  # type: ignore[arg-type]
        for name, found in runs.items()
    }


def _measure_once(checkout: Path, arguments: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speed.json"
        options = {"scenes": arguments.scenes, "steps": arguments.steps, "seed": arguments.seed}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += ["--photos", str(arguments.photos), "--device", arguments.device, "--json", str(path)]
        run_job(checkout, [str(_JOB), "speed", *words])
        found: dict[str, float] = json.loads(path.read_text())
    return found


def run_job(checkout: Path, words: Sequence[str]) -> str:
    """Run Python with the packages of a checkout; returns the last line that it printed.

    Raises:
        DataError: if it fails.
    """
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, cwd=checkout, check=False
    )
    if done.returncode:
        raise DataError(f"{checkout}: {' '.join(words)}: {done.stderr.strip()[-1000:]}")
    return (done.stdout.splitlines() or [""])[-1]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    arguments = build_parser().parse_args(argv)

    def body() -> None:
        arguments.photos = (arguments.photos or shared_data_root(arguments.data) / "train").resolve()
        checkouts = {_OURS: ROOT}
        if arguments.baseline is not None:
            checkouts[_BASELINE] = arguments.baseline.resolve()
        if arguments.losses:
            from benchmarks.training_losses import compare_losses

            compare_losses(checkouts, arguments)
            return
        speeds = measure(checkouts, arguments)
        print(speed_table(speeds))
        for name, speed in speeds.items():
            plan = machine_plan(speed, arguments.cores, arguments.gpu_pairs_per_s, arguments.minutes)
            print(f"\n{name}: {plan_text(plan, arguments.cores, arguments.minutes)}")
        if arguments.json is not None:
            with atomic_write(arguments.json) as file:
                file.write(json.dumps({name: asdict(speed) for name, speed in speeds.items()}, indent=1).encode())

    return run_command(body)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--baseline", type=Path, metavar="DIR", help="another checkout, to compare with")
    add("--photos", type=Path, metavar="DIR", help="photographs for textures (default: train of the shared data)")
    add("--data", type=Path, metavar="DIR", help="the shared data (default: SFM_LIGHTGLUE_DATA or ../shared/data)")
    add("--scenes", type=int, default=8, metavar="N", help="scenes to time (default: 8)")
    add("--steps", type=int, default=5, metavar="N", help="steps to time, after as many (default: 5)")
    add("--repeat", type=int, default=3, metavar="N", help="processes per checkout; medians count (default: 3)")
    add("--seed", type=int, default=0, metavar="N")
    add("--device", default="cpu", help="of rendering and training (default: cpu)")
    add("--json", type=Path, metavar="FILE")
    plan = parser.add_argument_group("the plan for a machine with a GPU").add_argument
    plan("--cores", type=int, default=16, metavar="N", help="CPU cores of the machine (default: 16)")
    plan("--minutes", type=float, default=9.0, metavar="M", help="of the run (default: 9)")
    plan("--gpu-pairs-per-s", type=float, default=5000.0, metavar="X", help="trained by the GPU (default: 5000)")
    losses = parser.add_argument_group("comparison of losses").add_argument
    losses("--losses", action="store_true", help="train every checkout for equal numbers of steps instead")
    losses("--loss-steps", type=int, default=600, metavar="N", help="of each run (default: 600)")
    losses("--shards", type=int, default=9, metavar="N", help="of 20 scenes, one of them held out (default: 9)")
    losses("--seeds", type=int, default=2, metavar="N", help="runs of each checkout (default: 2)")
    losses("--workers", type=int, default=1, metavar="N", help="processes that make scenes (default: 1)")
    losses("--folder", type=Path, metavar="DIR", help="keeps scenes and runs, so that a second start continues")
    return parser


if __name__ == "__main__":
    sys.exit(main())
