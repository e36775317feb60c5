"""Options of the incremental mapper on verified pairs that exist: processor time, images, points, moved cameras.

    python -m benchmarks.mapping DATABASE_OR_RESULTS [...] [--threads 2] [--images 200] [--json FILE]

DATABASE_OR_RESULTS is a database with verified pairs, or the results of a reconstruction, such as those that
`python -m benchmarks.scaling --town 300 --work DIR` leaves. Each run is a new process, ends with the same robust
adjustment, and is compared with the first one, which has the defaults of COLMAP: "moved" is the mean distance of the
camera centres after a similarity alignment, in thousandths of their extent.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
import zlib  # noqa: F401  # it cannot be loaded after pycolmap
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pycolmap

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from pipelines.command import run_command
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.alignment import MIN_ALIGNED, align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.incremental import MappingConfig, adjust_robustly, largest_first, mapper_options
from sfm_lightglue.mapping.mapper_errors import opened_database
from sfm_lightglue.store.atomic_file import atomic_write


@dataclass(frozen=True, slots=True)
class Variant:
    """Options of the mapper.

    Args:
        name: in the table.
        growth: factor of images or points after which the whole model is adjusted.
        refinements: repetitions of each of these adjustments.
        local_images: images that are adjusted together after each registered one.
        tolerance: relative change of the cost at which these adjustments stop; COLMAP's default is 0.
    """

    name: str
    growth: float
    refinements: int
    local_images: int = 6
    tolerance: float = 0.0


VARIANTS = (
    Variant("COLMAP's defaults", 1.1, 5),
    Variant("fewer refinements", 1.1, 2),
    Variant("fewer global adjustments", 1.2, 2),
    Variant("ours", 1.2, 2, tolerance=1e-5),
    Variant("rare global adjustments", 1.5, 2),
    Variant("one refinement", 1.2, 1),
    Variant("four local images", 1.2, 2, 4),
)
"""The compared options; the first one is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class MappingRun:
    """What one run of the mapper gave.

    Args:
        database: its path.
        variant: name of the options.
        num_images: of the database, or the limit.
        num_registered: images of the largest model; 0 without a model.
        num_models: all models.
        num_points: of the largest model.
        reprojection_error_px: its mean.
        cpu_s: processor seconds of the mapping and the last adjustment, of all cores.
        wall_s: the same by a clock on the wall.
        poses: [R, t] of the images of the largest model by name.
    """

    database: str
    variant: str
    num_images: int
    num_registered: int
    num_models: int
    num_points: int
    reprojection_error_px: float
    cpu_s: float
    wall_s: float
    poses: Mapping[str, tuple[list[list[float]], list[float]]]

    def rigid_poses(self) -> dict[str, Rigid3]:
        """The poses of the images."""
        return {name: Rigid3(np.array(R), np.array(t)) for name, (R, t) in self.poses.items()}


def run_variant(database: Path, variant: Variant, num_threads: int, max_images: int | None) -> MappingRun:
    """Map the verified pairs of a database with some options; called in a process of its own."""
    with opened_database(database) as opened:
        names = sorted(image.name for image in opened.read_all_images())[:max_images]
    options = mapper_options(MappingConfig(), len(names), frozenset(), num_threads, 0)
    options.ba_global_frames_ratio = options.ba_global_points_ratio = variant.growth
    options.ba_global_max_refinements = variant.refinements
    options.ba_global_function_tolerance = options.ba_local_function_tolerance = variant.tolerance
    options.mapper.ba_local_num_images = variant.local_images
    options.image_names = names
    used, start = _cpu_s(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, quiet_log():
        models = list(pycolmap.incremental_mapping(database, folder, folder, options).values())
    largest = min(models, key=largest_first) if models else pycolmap.Reconstruction()
    if models:
        adjust_robustly(largest, MappingConfig().robust_loss_px, options)
    seconds = _cpu_s() - used, time.perf_counter() - start
    poses = {name: (pose.R.tolist(), pose.t.tolist()) for name, pose in poses_of_model(largest).items()}
    return MappingRun(
        str(database),
        variant.name,
        len(names),
        largest.num_reg_images(),
        len(models),
        largest.num_points3D(),
        largest.compute_mean_reprojection_error(),
        *seconds,
        poses,
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def moved_per_mille(run: MappingRun, reference: MappingRun) -> float:
    """Mean distance of the centres of common images from those of another run, in thousandths of the extent.

    NaN for fewer than three common images.
    """
    poses, others = run.rigid_poses(), reference.rigid_poses()
    common = {name: others[name] for name in others if name in poses}
    if len(common) < MIN_ALIGNED:
        return float("nan")
    aligned = align_poses({name: poses[name] for name in common}, common)
    centers = np.stack([pose.center for pose in common.values()])
    extent = float(np.linalg.norm(centers[:, None] - centers[None], axis=2).max())
    return 1000 * float(np.mean(list(aligned.center_errors.values()))) / extent


def as_table(runs: Sequence[MappingRun]) -> str:
    """A Markdown table; each database's first run is what the others are compared with."""
    reference: dict[str, MappingRun] = {}
    rows = []
    for run in runs:
        first = reference.setdefault(run.database, run)
        rows.append(
            [
                str(run.num_images),
                run.variant,
                str(run.num_registered),
                str(run.num_models),
                str(run.num_points),
                f"{run.reprojection_error_px:.3f}",
                f"{run.cpu_s:.1f}",
                f"{run.cpu_s / first.cpu_s:.2f}",
                f"{run.wall_s:.1f}",
                "" if run is first else f"{moved_per_mille(run, first):.3f}",
            ]
        )
    header = ["images", "options", "registered", "models", "points", "reproj px", "CPU s", "ratio", "s", "moved ‰"]
    return markdown_table(header, rows, num_text=2)


def database_of(path: Path) -> Path:
    """A database, or that of the results in a folder."""
    database = path / "database.db" if path.is_dir() else path
    if not database.is_file():
        raise DataError(f"{path}: no database; give a database with verified pairs, or a folder of results")
    return database


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("databases", nargs="+", type=Path, metavar="DATABASE_OR_RESULTS")
    add("--threads", type=int, default=num_usable_cores(), help="of each run")
    add("--images", type=int, metavar="N", help="the first N images by name (default: all)")
    add("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(arguments)

    def body() -> None:
        runs = []
        for path in map(database_of, options.databases):
            for variant in VARIANTS:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    run = pool.submit(run_variant, path, variant, options.threads, options.images).result()
                print(f"{path}: {variant.name}: {run.cpu_s:.1f} s of processor time", file=sys.stderr, flush=True)
                runs.append(run)
        print(as_table(runs))
        if options.json is not None:
            with atomic_write(options.json) as file:
                file.write(json.dumps([asdict(run) for run in runs], indent=1).encode() + b"\n")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
