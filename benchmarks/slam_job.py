"""One measured run of visual SLAM in its own process: `python slam_job.py JOB.json RESULT.json`.

A new process gives correct values for peak memory. Before any import, it is bound to as many cores as it may use
threads, so that no library uses more.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfm_lightglue.evaluation.slam import SlamRun, SlamScores
    from sfm_lightglue.synthetic.image_sequence import ImageSequence

CHANGES = ("", "cut", "blackout")
"""cut: after two thirds, the sequence goes on where it was at a quarter. blackout: 20 black frames in the middle."""

_BLACK_FRAMES, _AFTER_CUT = 20, 60


@dataclass(frozen=True, slots=True)
class SlamJob:
    """The task of one process.

    Args:
        sequence: as of `open_slam_sequence`.
        folder: of the frames of a rendered sequence, which must be there; None for others.
        data: folder of the shared data; None for the default.
        limit: number of frames; None takes all.
        change: one of `CHANGES`.
        seed: of the tracker.
        num_threads: of the tracker, and number of cores of the process.
        loop_closing: whether drift is corrected at known places.
        is_live: whether frames come at their times, as those of a camera, and wait as shortly as these.
    """

    sequence: str
    folder: str | None = None
    data: str | None = None
    limit: int | None = None
    change: str = ""
    seed: int = 0
    num_threads: int = 2
    loop_closing: bool = True
    is_live: bool = False


@dataclass(frozen=True, slots=True)
class SlamJobResult:
    """The measurements of one process.

    Args:
        scores: fields of `SlamScores`.
        keyframes: names of the keyframes of the largest map.
        keyframe_ate: root mean square of the position errors of the keyframes after a similarity alignment; NaN if
            there is none.
        found_after: frames from the first that shows known ground after the change until one has a pose in the
            largest map; None if none has, or without a change.
        events: frame, kind and text.
    """

    scores: dict[str, Any]
    keyframes: tuple[str, ...] = ()
    keyframe_ate: float = math.nan
    found_after: int | None = None
    events: list[tuple[int, str, str]] = field(default_factory=list)

    def slam_scores(self) -> SlamScores:
        """The scores as they were."""
        from sfm_lightglue.evaluation.slam import SlamScores

        values = {name: math.nan if value is None else value for name, value in self.scores.items()}
        del values["relative_ate"]
        return SlamScores(**(values | {"events": tuple(values["events"].items())}))


def open_job(job: SlamJob) -> tuple[ImageSequence, int]:
    """The sequence of a job, and the first frame that shows known ground after its change."""
    from datasets.slam_sequences import open_slam_sequence
    from sfm_lightglue.synthetic.files import stored_sequence
    from sfm_lightglue.synthetic.hard_frames import with_blackout

    sequence = open_slam_sequence(job.sequence, None if job.data is None else Path(job.data), job.limit)
    if job.folder is not None:
        sequence = stored_sequence(sequence, Path(job.folder))
    if job.change == "cut":
        last, then = 2 * len(sequence) // 3, len(sequence) // 4
        return sequence.take([*range(last), *range(then, min(then + _AFTER_CUT, last))]), last
    if job.change == "blackout":
        first = len(sequence) // 2
        return with_blackout(sequence, first, _BLACK_FRAMES), first + _BLACK_FRAMES
    return sequence, 0


def run_job(job: SlamJob) -> SlamJobResult:
    """Track and compare."""
    from sfm_lightglue.evaluation.slam import run_slam
    from sfm_lightglue.tracking.config import TrackerConfig
    from sfm_lightglue.tracking.run import patient
    from sfm_lightglue.tracking.tracker import Tracker

    sequence, known = open_job(job)
    config = TrackerConfig(seed=job.seed, threads=job.num_threads, loop_closing=job.loop_closing)
    tracker = Tracker(sequence.camera, patient(config, job.is_live))
    run = run_slam(sequence, tracker, job.seed, job.num_threads, is_live=job.is_live)
    return SlamJobResult(
        run.scores.as_dict(),
        run.keyframes,
        _keyframe_ate(sequence, run),
        _found_after(run, known) if job.change else None,
        [(event.frame_idx, event.kind, event.detail) for event in run.events],
    )


def _keyframe_ate(sequence: ImageSequence, run: SlamRun) -> float:
    """The error of the keyframes, as that of models of other methods of the same images."""
    from benchmarks.slam_offline import centers_rmse

    truth = dict(zip(sequence.names, sequence.cam_from_world, strict=True))
    names = set(run.keyframes)
    poses = {one.name: one.cam_from_world for one in run.records if one.name in names and one.cam_from_world}
    return centers_rmse(poses, {name: truth[name] for name in poses})


def _found_after(run: SlamRun, known: int) -> int | None:
    """As of `SlamJobResult`; counts the frames when they came, since the end also places frames that were lost."""
    from collections import Counter

    from sfm_lightglue.evaluation.slam import frames_until_found

    before = Counter(record.map_id for record in run.live[:known] if record.cam_from_world is not None)
    return frames_until_found(run.live, known, before.most_common(1)[0][0]) if before else None


def main(job_path: Path, result_path: Path) -> None:
    """Run a job from a file, and write the measurements."""
    from benchmarks.reconstruction_job import bind_to_cores

    job = SlamJob(**json.loads(job_path.read_text(encoding="utf-8")))
    bind_to_cores(job.num_threads)
    result_path.write_text(json.dumps(asdict(run_job(job))), encoding="utf-8")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main(Path(sys.argv[1]), Path(sys.argv[2]))
