"""The task `slam` of `evaluate`: track sequences with true poses, and compare."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import with_progress
from pipelines.evaluate_output import add_result_arguments
from sfm_lightglue.execution.progress import Progress

if TYPE_CHECKING:
    from pipelines.plan import Plan
    from sfm_lightglue.evaluation.slam import SlamScores

SLAM = """\
Track sequences with known poses by visual SLAM, and compare: the root mean square of the position errors after a
similarity alignment (ATE), also relative to the way of the camera, relative pose errors over a second, the fraction of
the frames since the start of the largest map that have a pose in it, rates, times and memory. One camera does not
determine the scale. Each sequence is tracked with several seeds; the table has medians.
"""

SLAM_EXAMPLES = """\
examples:
  python -m pipelines.evaluate slam
      the sequences of the shared data, and a rendered corridor
  python -m pipelines.evaluate slam small_corridor --seeds 1 --threads 1
      a rendered loop of 60 frames, with the same result in every run
  python -m pipelines.evaluate slam rgbd_dataset_freiburg2_desk/ --limit 300 --json slam.json
      the first frames of a folder of TUM's data
"""

DEFAULT_NUM_SEEDS = 3


def add_slam_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the task."""
    add = parser.add_argument
    scenes_help = "a folder, a name of the shared data, corridor or small_corridor (default: all that are there)"
    add("scenes", nargs="*", metavar="SEQUENCE", help=scenes_help)
    seeds_help = "runs of each sequence, with the seeds 0, 1, ... (default: %(default)s)"
    add("--seeds", type=int, default=DEFAULT_NUM_SEEDS, metavar="N", help=seeds_help)
    add("--threads", type=int, default=2, metavar="N", help="1 maps between the frames (default: %(default)s)")
    add("--no-loop-closing", action="store_true", help="do not correct the drift at known places")
    add("--limit", type=int, metavar="N", help="the first N frames of each sequence (default: all)")
    data_help = "folder of the shared data (default: $SFM_LIGHTGLUE_DATA, else ../shared/data)"
    add("--data", type=Path, metavar="DIR", help=data_help)
    add("--work", type=Path, metavar="DIR", help="keeps rendered frames (default: a temporary folder)")
    add_result_arguments(parser)


def evaluate_slam(arguments: argparse.Namespace) -> tuple[list[SlamScores], list[SlamScores]]:
    """Track all sequences.

    Returns:
        The medians of each sequence, and the scores of all runs.

    Raises:
        DataError: if a sequence cannot be read.
        WeightsError: if weights are missing.
    """
    from sfm_lightglue.evaluation.slam import medians

    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sfm_slam_")))
        names = arguments.scenes or default_sequences(arguments.data)
        runs = with_progress(
            arguments.quiet,
            lambda progress: [_runs_of(name, arguments, work, progress) for name in names],
        )
    return [medians(of_sequence) for of_sequence in runs], [run for of_sequence in runs for run in of_sequence]


def plan_slam(arguments: argparse.Namespace) -> Plan:
    """What `evaluate_slam` would do.

    Raises:
        DataError: if a sequence cannot be read.
        WeightsError: if weights are missing.
    """
    from datasets.slam_sequences import open_slam_sequence
    from pipelines.evaluate_plan import plan_of_slam
    from sfm_lightglue.tracking.config import TrackerConfig
    from sfm_lightglue.tracking.tracker import Tracker

    names = arguments.scenes or default_sequences(arguments.data)
    sequences = [open_slam_sequence(name, arguments.data, arguments.limit) for name in names]
    config = TrackerConfig(threads=arguments.threads, loop_closing=not arguments.no_loop_closing)
    return plan_of_slam(sequences, max(1, arguments.seeds), Tracker(sequences[0].camera, config))


def _runs_of(name: str, arguments: argparse.Namespace, work: Path, progress: Progress) -> list[SlamScores]:
    from datasets.slam_sequences import RENDERED_SEQUENCES, open_slam_sequence
    from sfm_lightglue.evaluation.slam import run_slam
    from sfm_lightglue.synthetic.files import stored_sequence
    from sfm_lightglue.tracking.config import TrackerConfig
    from sfm_lightglue.tracking.tracker import Tracker

    sequence = open_slam_sequence(name, arguments.data, arguments.limit)
    if name in RENDERED_SEQUENCES:
        sequence = stored_sequence(sequence, work / name, progress, arguments.threads)
    scores = []
    for seed in range(max(1, arguments.seeds)):
        config = TrackerConfig(seed=seed, threads=arguments.threads, loop_closing=not arguments.no_loop_closing)
        tracker = Tracker(sequence.camera, config)
        scores.append(run_slam(sequence, tracker, seed, arguments.threads, progress).scores)
    return scores


def default_sequences(data: Path | None) -> list[str]:
    """The sequences of the shared data that exist, and the corridor."""
    from datasets.shared import shared_data_root
    from datasets.slam_sequences import SHARED_SEQUENCES
    from sfm_lightglue.errors import DataError

    try:
        root = shared_data_root(data)
    except DataError:
        if data is not None:
            raise
        return ["corridor"]
    return [*(name for name in SHARED_SEQUENCES if (root / "sequences" / name).is_dir()), "corridor"]
