"""Photos that come into a finished model, beside mapping all photos at once: images, pose errors and seconds.

    python -m benchmarks.extension [SCENE ...] [--threads N] [--json FILE]

Some photos of each scene are kept back, the others are reconstructed, and the finished model is extended by those that
were kept back. Beside it, all photos are reconstructed in a copy of the folder before the extension (warm: what is
stored of the first photos is used), and in an empty folder (at once). Errors are those of the camera centres, after an
alignment with the truth. Where there is no truth, the model of all photos at once takes its place, and the extended
model is compared with the model before. Seconds are those of all cores: this machine may have other work.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import Goal, at_least, at_most, print_goals
from benchmarks.reconstruction_job import Job, ours_config
from benchmarks.reconstruction_scenes import BenchmarkScene, open_scene
from pipelines.command import run_command
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.extend import extend
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.store.atomic_file import atomic_write

KEPT_BACK = {"fountain_p11:given": 3, "lund_door:given": 3, "copr_drone:exif": 4}
"""The default scenes, each with the number of photos that are kept back."""

_DEFAULT_KEPT_BACK = 3


@dataclass(frozen=True, slots=True)
class ExtensionRun:
    """One scene.

    Args:
        scene: its name.
        has_truth: whether errors are those against the truth, else against the model of all photos at once.
        kept_back: names of the photos that came in later.
        num_came_in: how many of them are registered in the extended model.
        num_registered: of the extended model, and of the model of all photos at once.
        centre_errors: mean error of the camera centres as a fraction of their extent: of the model before, of the
            extended model, and of all photos at once.
        added_errors: the same of the photos that came in only: of the extended model, and of all photos at once.
        seconds: processor seconds of the extension, of all photos warm, and of all photos at once.
        largest_move: largest change of an entry of the pose of an image of the model before.
    """

    scene: str
    has_truth: bool
    kept_back: tuple[str, ...]
    num_came_in: int
    num_registered: tuple[int, int]
    centre_errors: tuple[float, float, float]
    added_errors: tuple[float, float]
    seconds: tuple[float, float, float]
    largest_move: float

    @property
    def time_ratio(self) -> float:
        """Seconds of the extension in those of all photos at once."""
        return self.seconds[0] / self.seconds[2]

    @property
    def error_ratio(self) -> float:
        """Error of the extended model in that of all photos at once; without truth, in that of the model before."""
        return self.centre_errors[1] / self.centre_errors[2 if self.has_truth else 0]

    @property
    def added_ratio(self) -> float:
        """The same of the photos that came in only; without truth, in the error of the model before."""
        return self.added_errors[0] / (self.added_errors[1] if self.has_truth else self.centre_errors[0])

    @property
    def goals(self) -> list[Goal]:
        """All photos come in, at most 1.2 times the error, and less than a third of the time."""
        reference = "all photos at once" if self.has_truth else "the model before"
        return [
            at_least(f"{self.scene}, photos that came in", self.num_came_in, len(self.kept_back)),
            at_most(f"{self.scene}, error in that of {reference}", self.error_ratio, 1.2),
            at_most(f"{self.scene}, error of the photos that came in in that of {reference}", self.added_ratio, 1.2),
            at_most(f"{self.scene}, time in that of all photos at once", self.time_ratio, 1 / 3),
        ]


def run_scene(scene: BenchmarkScene, num_kept_back: int, num_threads: int, work: Path) -> ExtensionRun:
    """Extend and reconstruct a scene.

    Args:
        scene: the scene.
        num_kept_back: number of photos that come in later, spread over the names.
        num_threads: of all stages.
        work: an empty folder.
    """
    job = Job("ours", "", "", num_threads, camera=scene.camera, camera_mode=scene.camera_mode)
    config = ReconstructConfig.from_mapping(ours_config(job))
    spread = np.linspace(0, len(scene.names) - 1, num_kept_back + 2).round().astype(int)[1:-1]
    kept_back = tuple(scene.names[row] for row in spread.tolist())
    growing, warm, whole = work / "growing", work / "warm", work / "whole"
    _link(scene, [name for name in scene.names if name not in kept_back], growing)
    _link(scene, scene.names, whole)
    before = reconstruct(growing, config=config).model
    shutil.copytree(growing, warm, symlinks=True)
    _link(scene, kept_back, growing)
    _link(scene, kept_back, warm)
    extended, extension_s = _timed(lambda: extend(growing, config=config))
    _, warm_s = _timed(lambda: reconstruct(warm, config=config))
    at_once, at_once_s = _timed(lambda: reconstruct(whole, config=config))
    models = (before, extended.model, at_once.model)
    poses = [poses_of_model(model) for model in models]
    truth = dict(scene.truth.cam_from_world_from_name) or poses[2]
    errors = [_errors(one, truth) for one in poses]
    moves = [np.abs(pose.as_matrix() - poses[1][name].as_matrix()).max() for name, pose in poses[0].items()]
    return ExtensionRun(
        scene.name,
        bool(scene.truth.cam_from_world_from_name),
        kept_back,
        len(set(kept_back) & poses[1].keys()),
        (extended.summary.num_registered, at_once.summary.num_registered),
        (_mean(errors[0]), _mean(errors[1]), _mean(errors[2])),
        (_mean(errors[1], kept_back), _mean(errors[2], kept_back)),
        (extension_s, warm_s, at_once_s),
        float(max(moves)),
    )


def _link(scene: BenchmarkScene, names: Sequence[str], folder: Path) -> None:
    for name in names:
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to((scene.truth.image_root / name).resolve())


def _timed(run: Callable[[], ReconstructionResult]) -> tuple[ReconstructionResult, float]:
    start = time.process_time()
    return run(), time.process_time() - start


def _errors(poses: dict[str, Rigid3], truth: dict[str, Rigid3]) -> dict[str, float]:
    """Errors of the camera centres as fractions of the largest distance of a true centre from their mean."""
    centers = np.array([pose.center for pose in truth.values()])
    extent = float(np.linalg.norm(centers - centers.mean(axis=0), axis=1).max())
    return {name: error / extent for name, error in align_poses(poses, truth).center_errors.items()}


def _mean(errors: dict[str, float], names: Sequence[str] = ()) -> float:
    return float(np.mean([error for name, error in errors.items() if not names or name in names] or [np.nan]))


def format_table(runs: Sequence[ExtensionRun]) -> str:
    """The runs as a table of Markdown."""
    header = ["scene", "came in", "registered", "error ‰", "at once ‰", "ratio", "added ‰", "at once ‰", "ratio"]
    header += ["extension s", "warm s", "at once s", "ratio"]
    rows = [
        [
            run.scene,
            f"{run.num_came_in} of {len(run.kept_back)}",
            f"{run.num_registered[0]} / {run.num_registered[1]}",
            f"{1000 * run.centre_errors[1]:.3f}",
            f"{1000 * run.centre_errors[2]:.3f}",
            f"{run.error_ratio:.2f}",
            *(f"{1000 * error:.3f}" for error in run.added_errors),
            f"{run.added_ratio:.2f}",
            *(f"{seconds:.1f}" for seconds in run.seconds),
            f"{run.time_ratio:.2f}",
        ]
        for run in runs
    ]
    return markdown_table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, and return the exit code, 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("scenes", nargs="*", metavar="SCENE", help=f"as in benchmarks.reconstruction (default: {' '.join(KEPT_BACK)})")
    add("--data", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, ../shared/data)")
    add("--threads", type=int, default=num_usable_cores(), help="of all stages")
    add("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)

    def body() -> int:
        runs: list[ExtensionRun] = []
        for text in options.scenes or KEPT_BACK:
            with tempfile.TemporaryDirectory(prefix="sfm_extension_") as folder:
                scene = open_scene(text, "exif", options.data, Path(folder))
                num_kept_back = KEPT_BACK.get(text, _DEFAULT_KEPT_BACK)
                runs.append(run_scene(scene, num_kept_back, options.threads, Path(folder) / "runs"))
            print(format_table(runs), flush=True)
            if options.json:
                with atomic_write(options.json) as file:
                    file.write(json.dumps([asdict(run) for run in runs], indent=1).encode() + b"\n")
        print()
        return print_goals([goal for run in runs for goal in run.goals])

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
