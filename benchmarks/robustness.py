"""Kill a small reconstruction, let its writes fail, and give the library damaged files, thousands of times.

    python -m benchmarks.robustness [--kills 1000] [--faults 500] [--signals 100] [--fuzz 100000] [--work DIR]

Finished trials are kept in DIR/trials.jsonl: a second start continues. A trial is wrong if the library ends with
anything but its own errors or the right result, if it hangs, or if something of an earlier run is lost or changed; the
benchmark then ends with exit code 1. `--repeat ID` runs the trials or batches whose names begin with ID again. Needs
Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.robustness_corpus import make_corpus
from benchmarks.robustness_log import Finished, TrialLog, format_table
from benchmarks.robustness_shim import Server, compile_shim, why_unavailable
from benchmarks.robustness_trials import Bench, Trial, plan_trials
from sfm_lightglue.execution.threads import num_usable_cores

BATCH = 100
"""Number of inputs in a batch."""

SHARES = {
    "images": 0.22,
    "scenes": 0.08,
    "masks": 0.05,
    "store entries": 0.15,
    "databases": 0.1,
    "models": 0.15,
    "configurations": 0.08,
    "settings": 0.05,
    "pair lists": 0.05,
    "weights": 0.07,
}
"""Fractions of the inputs, by target of `robustness_targets`."""

Job = tuple[str, Callable[[Server], Finished]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive inputs of one target."""

    target: str
    first: int
    num: int


def plan_batches(num_inputs: int, batch: int = BATCH) -> list[Batch]:
    """Batches of all targets, in turn."""
    batches = []
    for target, share in SHARES.items():
        num = round(num_inputs * share)
        batches += [Batch(target, first, min(batch, num - first)) for first in range(0, num, batch)]
    return sorted(batches, key=lambda one: one.first)


def scratch_folder() -> Path:
    """A new folder, in memory where the system has such a file system: flushing to it costs nothing."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    return Path(tempfile.mkdtemp(prefix="sfm-robustness-", dir=memory if roomy else None))


def trial_jobs(bench: Bench, trials: Sequence[Trial], seed: int, folder: Path) -> Iterator[Job]:
    """Trials of faults as jobs."""
    for number, trial in enumerate(trials):
        name = f"{trial.kind}-{seed}-{number}"

        def run(server: Server, trial: Trial = trial, name: str = name) -> Finished:
            result = bench.run(trial, folder / name, server)
            texts = tuple(f"{trial.start}, {trial.what}: {text}" for text in result.violations)
            return Finished(name, trial.kind, 1, int(result.outcome.startswith("6")), result.seconds, texts)

        yield name, run


def batch_jobs(batches: Sequence[Batch], seed: int, corpus: Path, folder: Path) -> Iterator[Job]:
    """Batches of random inputs as jobs."""
    for batch in batches:
        name = f"fuzz {batch.target}-{seed}-{batch.first}"

        def run(server: Server, batch: Batch = batch, name: str = name) -> Finished:
            place = folder / name.replace(" ", "-")
            answer = server.fuzz(batch.target, batch.first, batch.num, seed, corpus, place)
            texts = tuple(f"input {number}: {text}" for number, text in answer["violations"])
            if not texts:
                shutil.rmtree(place, ignore_errors=True)
            kind = f"fuzz {batch.target}"
            return Finished(name, kind, answer["num_inputs"], answer["num_refused"], answer["slowest_s"], texts)

        yield name, run


def run_jobs(jobs: Sequence[Job], servers: Sequence[Server], log: TrialLog, report: Callable[[Finished], None]) -> None:
    """Run the jobs that the log does not have, each on a free server."""
    free: SimpleQueue[Server] = SimpleQueue()
    for server in servers:
        free.put(server)

    def work(job: Job) -> None:
        server = free.get()
        try:
            finished = job[1](server)
        finally:
            free.put(server)
        log.add(finished)
        report(finished)

    with ThreadPoolExecutor(len(servers)) as pool:
        for _ in pool.map(work, [job for job in jobs if job[0] not in log.finished]):
            pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    reason = why_unavailable()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    arguments.work.mkdir(parents=True, exist_ok=True)
    log = TrialLog(arguments.work / "trials.jsonl", arguments.again)
    if arguments.repeat:
        log.finished = {name: one for name, one in log.finished.items() if not name.startswith(arguments.repeat)}
    scratch = scratch_folder()
    print(f"files of wrong trials stay in {scratch}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        shim = compile_shim(scratch)
        servers = [stack.enter_context(Server(shim)) for _ in range(arguments.workers)]
        bench = Bench(scratch / "bench", servers[0])
        make_corpus(scratch / "corpus", bench.scene, bench.finished("b"))
        trials = plan_trials(bench.calls, arguments.kills, arguments.faults, arguments.signals, arguments.seed)
        jobs = [
            *trial_jobs(bench, trials, arguments.seed, scratch),
            *batch_jobs(plan_batches(arguments.fuzz), arguments.seed, scratch / "corpus", scratch),
        ]
        if arguments.repeat:
            jobs = [job for job in jobs if job[0].startswith(arguments.repeat)]
        run_jobs(jobs, servers, log, _report)
    print(format_table(list(log.finished.values())))
    if log.violations:
        print(f"\n{len(log.violations)} violations:", *log.violations, sep="\n")
        return 1
    shutil.rmtree(scratch)
    return 0


def _report(finished: Finished) -> None:
    for text in finished.violations:
        print(f"{finished.id}: {text}", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kills", type=int, default=1000, metavar="N", help="a fifth of them at random moments (default: 1000)")
    add("--faults", type=int, default=500, metavar="N", help="failing calls (default: 500)")
    add("--signals", type=int, default=100, metavar="N", help="SIGTERM and SIGINT (default: 100)")
    add("--fuzz", type=int, default=100_000, metavar="N", help="damaged inputs (default: 100000)")
    add("--work", type=Path, default=Path("robustness"), metavar="DIR", help="folder of the log (default: robustness)")
    add("--workers", type=int, default=num_usable_cores(), metavar="N", help="default: all cores")
    add("--seed", type=int, default=0, metavar="N", help="of the trials (default: 0)")
    add("--again", action="store_true", help="run the trials with violations again")
    add("--repeat", metavar="ID", help="run only the trials whose names begin with ID, again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
