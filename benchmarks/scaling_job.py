"""One measured run of the benchmark of many images in its own process: `python scaling_job.py JOB.json RESULT.json`.

A new process gives correct values for peak memory. The peak is reset where a stage begins, if the system allows it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class ScalingJob:
    """The task of one process.

    Args:
        image_root: folder of images.
        output: folder of the results; an existing one gives a warm run.
        config: a mapping for `ReconstructConfig.from_mapping`.
        num_threads: of every stage; also the number of cores of the process.
    """

    image_root: str
    output: str
    config: dict[str, Any]
    num_threads: int


@dataclass(frozen=True, slots=True)
class ScalingResult:
    """The measurements of one process.

    Args:
        seconds: by stage, and "total".
        cpu_seconds: processor time of all threads.
        peak_mb: largest resident memory by stage of the progress, in MiB, and "total".
        num_files: of the output folder by its sub-folders; "." are the files in the folder itself.
        num_bytes: of the same files.
        num_pairs: pairs that were asked.
        num_verified_pairs: of them, verified; -1 if the run does not tell.
        num_registered: images of the largest model.
        error: reason why there is no model, else "".
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_mb: dict[str, float] = field(default_factory=dict)
    num_files: dict[str, int] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)
    num_pairs: int = 0
    num_verified_pairs: int = -1
    num_registered: int = 0
    error: str = ""


class StagePeaks:
    """Largest resident memory by stage; its `progress` is given to the run."""

    def __init__(self) -> None:
        self.peak_mb: dict[str, float] = {}
        self.num_asked: dict[str, int] = {}
        self._stage = "start"

    def progress(self, stage: str, num_done: int, num_total: int) -> None:
        """Note a change of the stage."""
        if stage != self._stage:
            self.close()
            self._stage = stage
        self.num_asked[stage] = max(num_total, self.num_asked.get(stage, 0))

    def close(self) -> None:
        """End the current stage."""
        from sfm_lightglue.execution.memory import peak_memory_mb

        peak = peak_memory_mb() or float("nan")
        self.peak_mb[self._stage] = max(peak, self.peak_mb.get(self._stage, 0.0))
        with contextlib.suppress(OSError):  # only Linux resets the peak
            Path("/proc/self/clear_refs").write_text("5")


def run_job(job: ScalingJob) -> ScalingResult:
    """Reconstruct and measure; a reconstruction without a model is a result."""
    from sfm_lightglue.errors import ReconstructionError
    from sfm_lightglue.reconstruction.config import ReconstructConfig
    from sfm_lightglue.reconstruction.run import reconstruct

    config = ReconstructConfig.from_mapping(job.config | {"num_threads": job.num_threads})
    peaks, error = StagePeaks(), ""
    start, cpu_start = time.perf_counter(), time.process_time()
    summary: dict[str, Any]
    try:
        summary = reconstruct(Path(job.image_root), Path(job.output), config, peaks.progress).summary.as_dict()
    except ReconstructionError as no_model:
        summary, error = no_model.summary or {}, str(no_model)
    total, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peaks.close()
    num_files, num_bytes = folder_sizes(Path(job.output))
    return ScalingResult(
        {stage: round(value, 3) for stage, value in summary.get("seconds", {}).items()} | {"total": round(total, 3)},
        round(cpu, 3),
        peaks.peak_mb | {"total": max(peaks.peak_mb.values())},
        num_files,
        num_bytes,
        int(summary.get("num_pairs", peaks.num_asked.get("match", 0))),
        int(summary.get("num_verified_pairs", -1)),
        int(summary.get("num_registered", 0)),
        error,
    )


def folder_sizes(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of files and bytes below a folder, by the first part of their paths."""
    num_files: dict[str, int] = defaultdict(int)
    num_bytes: dict[str, int] = defaultdict(int)
    for path in folder.rglob("*"):
        if path.is_file():
            parts = path.relative_to(folder).parts
            kind = parts[0] if len(parts) > 1 else "."
            num_files[kind] += 1
            num_bytes[kind] += path.stat().st_size
    return dict(num_files), dict(num_bytes)


def main(job_path: Path, result_path: Path) -> None:
    """Run a job from a file, and write the measurements."""
    from benchmarks.reconstruction_job import bind_to_cores

    job = ScalingJob(**json.loads(job_path.read_text(encoding="utf-8")))
    bind_to_cores(job.num_threads)
    result_path.write_text(json.dumps(asdict(run_job(job))), encoding="utf-8")


if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
