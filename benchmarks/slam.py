"""Visual SLAM on sequences with true poses: errors, rates, loops, relocalisation, memory, and other methods.

    python -m benchmarks.slam [SEQUENCE ...] [--seeds 3] [--threads 2] [--offline] [--live] [--hard] [--long 2000]
        [--json FILE]

Each run is a new process on as many cores as threads. The first table has medians over the seeds. --offline compares
with `reconstruct --pairs sequential` and with COLMAP (SIFT, exhaustive matching) on the keyframes of the first seed.
--live gives the frames of each sequence at their times, as a camera does; frames that come while the tracker is busy
are dropped. --hard cuts sequences and blackens frames. --long walks several rounds through the corridor; `none --hard
--long 2000` does these alone. The exit code is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import Goal, print_goals
from benchmarks.slam_job import SlamJob, SlamJobResult
from benchmarks.slam_offline import METHODS, OfflineResult, run_offline
from benchmarks.slam_report import (
    HardResult,
    goals_of_hard,
    goals_of_loop,
    goals_of_memory,
    goals_of_offline,
    goals_of_sequence,
    hard_table,
    offline_table,
    published_text,
)
from datasets.slam_sequences import RENDERED_SEQUENCES, open_slam_sequence
from pipelines.command import run_command
from pipelines.evaluate_slam import default_sequences
from sfm_lightglue.errors import SfmError
from sfm_lightglue.evaluation.slam import SlamScores, medians
from sfm_lightglue.evaluation.slam_table import slam_table
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic.files import stored_sequence

HARD_SEQUENCES = ("seven_scenes", "corridor")
_HARD_LIMIT = 300
_LOOP = "corridor"
_NO_SEQUENCE = "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, and return the exit code."""
    options = _parse(arguments)
    exit_codes = [0]

    def body() -> None:
        with tempfile.TemporaryDirectory(prefix="sfm_slam_") as folder:
            exit_codes.append(_Benchmark(options, options.work or Path(folder)).run())

    return max(run_command(body), *exit_codes)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    sequences_help = "as of `evaluate slam` (default: those of the shared data, and the corridor); none: no sequence"
    add("sequences", nargs="*", metavar="SEQUENCE", help=sequences_help)
    add("--seeds", type=int, default=3, metavar="N", help="runs of each sequence (default: %(default)s)")
    add("--threads", type=int, default=min(2, num_usable_cores()), metavar="N", help="threads and cores of each run")
    add("--limit", type=int, metavar="N", help="the first N frames of each sequence (default: all)")
    add("--offline", action="store_true", help="other methods on the same keyframes")
    add("--live", action="store_true", help="frames come at their times, as those of a camera; no goals")
    add("--hard", action="store_true", help=f"cut and blackened sequences: {' and '.join(HARD_SEQUENCES)}")
    add("--long", type=int, default=0, metavar="N", help="frames of several rounds of the corridor (default: none)")
    add("--data", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, ../shared/data)")
    add("--work", type=Path, metavar="DIR", help="keeps rendered frames (default: a temporary folder)")
    add("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.threads < 1:
        parser.error("--seeds and --threads must be positive")
    return options


class _Benchmark:
    """All runs of one call; each result is written to the file of --json as soon as it is there."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.report: dict[str, list[Any]] = {"runs": [], "offline": [], "hard": []}
        self.goals: list[Goal] = []

    def run(self) -> int:
        """Everything that was asked for; prints tables and goals, and returns the exit code."""
        options = self.options
        tables: list[str] = []
        scores: list[SlamScores] = []
        offline: list[OfflineResult] = []
        for name in self._names():
            results = [self._measured(self._job(name, seed=seed)) for seed in range(options.seeds)]
            scores.append(medians([result.slam_scores() for result in results]))
            if options.live:
                continue
            self.goals += goals_of_sequence(name, scores[-1])
            if name == _LOOP:
                scores.append(self._without_loops(name))
                self.goals += goals_of_loop(scores[-2], scores[-1])
            if options.offline and results[0].keyframes:
                offline += self._offline(name, results[0])
        if scores:
            tables.append(slam_table(scores))
        if offline:
            tables.append(offline_table(offline))
            self.goals += goals_of_offline(offline)
        if options.hard:
            hard = [self._hard(name, change) for name in HARD_SEQUENCES for change in ("cut", "blackout")]
            tables.append(hard_table(hard))
            self.goals += goals_of_hard(hard)
        if options.long:
            long = self._measured(self._job(_LOOP, limit=options.long)).slam_scores()
            tables.append(slam_table([replace(long, sequence=f"{_LOOP}, {options.long} frames")]))
            self.goals += goals_of_memory(long)
        print("\n\n".join([*tables, published_text()]))
        return print_goals(self.goals)

    def _names(self) -> list[str]:
        names: list[str] = self.options.sequences
        return [] if names == [_NO_SEQUENCE] else names or default_sequences(self.options.data)

    def _job(self, name: str, seed: int = 0, limit: int | None = None, change: str = "") -> SlamJob:
        """A job, whose frames are rendered here if they are not yet."""
        options = self.options
        limit, folder = limit or options.limit, None
        if name in RENDERED_SEQUENCES:
            folder = self.work / name
            stored_sequence(open_slam_sequence(name, options.data, limit), folder, num_threads=options.threads)
        return SlamJob(
            name,
            None if folder is None else str(folder),
            None if options.data is None else str(options.data),
            limit,
            change,
            seed,
            options.threads,
            is_live=options.live,
        )

    def _without_loops(self, name: str) -> SlamScores:
        result = self._measured(replace(self._job(name), loop_closing=False))
        return replace(result.slam_scores(), sequence=f"{name}, loops not closed")

    def _hard(self, name: str, change: str) -> HardResult:
        result = self._measured(self._job(name, limit=_HARD_LIMIT, change=change))
        found = HardResult(name, change, result.found_after, result.slam_scores())
        self.report["hard"].append({"sequence": name, "change": change, "found_after": result.found_after})
        return found

    def _offline(self, name: str, result: SlamJobResult) -> list[OfflineResult]:
        sequence = open_slam_sequence(name, self.options.data, self.options.limit)
        if name in RENDERED_SEQUENCES:
            sequence = stored_sequence(sequence, self.work / name)
        with tempfile.TemporaryDirectory(prefix="sfm_slam_keyframes_") as folder:
            found = run_offline(
                sequence, result.keyframes, result.keyframe_ate, Path(folder), self.options.threads, METHODS
            )
        self.report["offline"] += [asdict(one) for one in found]
        self._write()
        return found

    def _measured(self, job: SlamJob) -> SlamJobResult:
        """Run a job in a process of its own."""
        with tempfile.TemporaryDirectory(prefix="sfm_slam_job_") as folder:
            job_path, result_path = Path(folder) / "job.json", Path(folder) / "result.json"
            job_path.write_text(json.dumps(asdict(job)), encoding="utf-8")
            script = _REPOSITORY / "benchmarks" / "slam_job.py"
            process = subprocess.run(
                [sys.executable, script, job_path, result_path], capture_output=True, text=True, check=False
            )
            if process.returncode != 0 or not result_path.is_file():
                reason = (process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1]
                raise SfmError(f"{job.sequence}: {reason}")
            values = json.loads(result_path.read_text(encoding="utf-8"))
        result = SlamJobResult(**(values | {"keyframes": tuple(values["keyframes"])}))
        self.report["runs"].append({"job": asdict(job), **values})
        self._write()
        print(_line(job, result), file=sys.stderr, flush=True)
        return result

    def _write(self) -> None:
        if self.options.json is not None:
            with atomic_write(self.options.json) as file:
                file.write(json.dumps(self.report, indent=1).replace("NaN", "null").encode() + b"\n")


def _line(job: SlamJob, result: SlamJobResult) -> str:
    scores = result.slam_scores()
    what = f"{job.sequence} {job.change}".strip()
    error = "no map" if math.isnan(scores.ate) else f"ATE {100 * scores.relative_ate:.3f} % of the way"
    return f"{what} #{job.seed}: {100 * scores.tracked:.1f} % tracked, {error}, {scores.total_fps:.1f} frames a second"


if __name__ == "__main__":
    sys.exit(main())
