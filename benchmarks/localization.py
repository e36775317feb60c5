"""Photos found again in a map without them: share within limits, median errors and time, beside other methods.

    python -m benchmarks.localization [SCENE ...] [--methods ours nearest colmap] [--threads N] [--json FILE]

Every third photo of a scene is left out, the others are mapped, and the former are localized. "ours" is LightGlue,
"nearest" the same with nearest neighbours, "colmap" a map by pycolmap with SIFT and exhaustive matching, in which its
mapper registers the photos. Each map is aligned with the truth by its own images, so errors contain those of the map.
A pose is within the limits if its centre is wrong by at most 1 % of the extent of the true centres and its rotation by
at most 0.5 degrees; for seven_scenes, whose truth is rough, by 3 cm and 5 degrees. Milliseconds are those of a query,
of a clock on the wall, and of all cores together ("cpu"): the former are larger where the machine has other work.
Scenes as in benchmarks.reconstruction, and "town"; "NAME/N" takes every N-th image.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import Goal, at_least, print_goals
from benchmarks.reconstruction_job import Job, ours_config, run_job
from benchmarks.reconstruction_scenes import BenchmarkScene, as_benchmark, open_scene
from datasets.ground_truth import read_scene
from pipelines.command import run_command
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg
from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.localization.localizer import Localizer
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import Town, write_town

SCENES = ("fountain_p11:given", "lund_door:given", "tsukuba/3:given", "seven_scenes/6:given", "town:given")
METHODS = ("ours", "nearest", "colmap")
_TOWN_IMAGES = 60


@dataclass(frozen=True, slots=True)
class LocalizationRun:
    """One method on one scene.

    Args:
        scene: its name.
        method: one of `METHODS`.
        num_queries: photos that were left out.
        num_registered: those that got a pose.
        num_within: those whose pose is within the limits.
        median_distance: of the poses, relative to the extent, or in metres for a metric limit; NaN without a pose.
        median_angle_deg: of the poses.
        median_ms: time of a query; NaN if it is not measured for each.
        reasons: why queries have no pose, by name.
        median_cpu_ms: processor time of a query, of all cores together; NaN if it is not measured for each.
    """

    scene: str
    method: str
    num_queries: int
    num_registered: int
    num_within: int
    median_distance: float
    median_angle_deg: float
    median_ms: float
    reasons: Mapping[str, str]
    median_cpu_ms: float = float("nan")

    @property
    def goals(self) -> list[Goal]:
        """All photos are found within the limits, for our method."""
        if self.method != "ours":
            return []
        wrong = self.num_registered - self.num_within
        return [
            at_least(f"{self.scene}, within the limits", self.num_within, self.num_queries),
            Goal(f"{self.scene}, poses beyond the limits: {wrong}", wrong == 0),
        ]


def _limits(scene: BenchmarkScene) -> tuple[float, float, float]:
    """Largest distance, largest angle in degrees, and the unit of distances."""
    if scene.name.startswith("seven_scenes"):
        return 0.03, 5.0, 1.0
    return 0.01, 0.5, scene.truth.extent


def open_with_step(text: str, data: Path | None, work: Path) -> BenchmarkScene:
    """A scene, also the town, and every N-th image only of "NAME/N"."""
    name, _, intrinsics = text.partition(":")
    name, _, step = name.partition("/")
    if name == "town":
        write_town(Town(_TOWN_IMAGES, (640, 480), 0), work / "town", 1)
        scene = as_benchmark(read_scene(work / "town"), intrinsics or "given")
    else:
        scene = open_scene(name, intrinsics or "exif", data, work)
    return replace(scene, names=scene.names[:: int(step or 1)])


def run_scene(scene: BenchmarkScene, methods: Sequence[str], num_threads: int, work: Path) -> list[LocalizationRun]:
    """Map two thirds of a scene, and find the others.

    Args:
        scene: the scene.
        methods: some of `METHODS`.
        num_threads: of the maps.
        work: an empty folder.
    """
    queries = scene.names[1::3]
    kept = [name for name in scene.names if name not in queries]
    runs = []
    if {"ours", "nearest"} & set(methods):
        for name in kept:
            _link(scene, name, work / "map" / "images")
        job = Job("ours", "", "", num_threads, camera=scene.camera, camera_mode=scene.camera_mode)
        reconstruct(work / "map", config=ReconstructConfig.from_mapping(ours_config(job)))
    for method in methods:
        if method == "colmap":
            runs.append(_by_colmap(scene, kept, queries, num_threads, work / "colmap"))
        else:
            runs.append(_by_localizer(scene, method, queries, work / "map"))
    return runs


def _link(scene: BenchmarkScene, name: str, folder: Path) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to((scene.truth.image_root / name).resolve())


def _by_localizer(scene: BenchmarkScene, method: str, queries: Sequence[str], folder: Path) -> LocalizationRun:
    values = {} if method == "ours" else {"matcher": {"name": "nearest"}}
    found: dict[str, Rigid3] = {}
    reasons, seconds, cpu_s = {}, [], []
    with Localizer(folder, config=LocalizeConfig.from_mapping(values)) as localizer:
        localizer.localize(scene.truth.image_root / queries[0])  # loads the weights
        for name in queries:
            camera = scene.truth.camera_from_name[name] if scene.intrinsics == "given" else None
            start_s = time.process_time()
            one = localizer.localize(scene.truth.image_root / name, camera, name)
            cpu_s.append(time.process_time() - start_s)
            seconds.append(one.seconds)
            if one.cam_from_world is not None:
                found[name] = one.cam_from_world
            else:
                reasons[name] = str(one.reason)
    poses = poses_of_model(read_model(folder))
    run = _measured(scene, method, queries, poses, found, reasons, 1000 * float(np.median(seconds)))
    return replace(run, median_cpu_ms=1000 * float(np.median(cpu_s)))


def _by_colmap(
    scene: BenchmarkScene, kept: Sequence[str], queries: Sequence[str], num_threads: int, work: Path
) -> LocalizationRun:
    """A map of the kept images by pycolmap, which goes on with the others; their time is shared among them."""
    import pycolmap

    work.mkdir(parents=True)
    root = scene.truth.image_root
    names = tuple(sorted([*kept, *queries]))
    job = Job(
        "colmap", str(root), str(work), num_threads, names=names, camera=scene.camera, camera_mode=scene.camera_mode
    )
    run_job(job)  # features and matches of all images; the map of all images is not used
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.image_names = num_threads, 0, list(kept)
    if scene.camera is not None:
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
    for folder in ("before", "after"):
        (work / folder).mkdir()
    models = pycolmap.incremental_mapping(work / "database.db", root, work / "before", options)
    best = max(models, key=lambda index: models[index].num_reg_images())
    poses = poses_of_model(models[best])
    options.image_names, options.fix_existing_frames = list(names), True
    start = time.perf_counter()
    before = work / "before" / str(best)
    continued = pycolmap.incremental_mapping(work / "database.db", root, work / "after", options, before)
    seconds = time.perf_counter() - start
    after = {name: pose for model in continued.values() for name, pose in poses_of_model(model).items()}
    found = {name: after[name] for name in queries if name in after}
    reasons = {name: "not_registered" for name in queries if name not in after}
    return _measured(scene, "colmap", queries, poses, found, reasons, 1000 * seconds / len(queries))


def _measured(
    scene: BenchmarkScene,
    method: str,
    queries: Sequence[str],
    poses: Mapping[str, Rigid3],
    found: Mapping[str, Rigid3],
    reasons: Mapping[str, str],
    median_ms: float,
) -> LocalizationRun:
    """Errors of the poses, in the frame of the truth with which the images of the map are aligned."""
    truth = scene.truth.cam_from_world_from_name
    truth_from_map = align_poses(poses, truth).truth_from_estimate
    errors = [_errors(pose, truth[name], truth_from_map) for name, pose in found.items()]
    max_distance, max_angle_deg, unit = _limits(scene)
    distances = np.array([distance / unit for distance, _ in errors])
    angles_deg = np.array([angle_deg for _, angle_deg in errors])
    within = (distances <= max_distance) & (angles_deg <= max_angle_deg)
    medians = [float(np.median(one)) if len(one) > 0 else float("nan") for one in (distances, angles_deg)]
    return LocalizationRun(
        scene.name, method, len(queries), len(found), int(within.sum()), medians[0], medians[1], median_ms, reasons
    )


def _errors(pose: Rigid3, truth: Rigid3, truth_from_map: Sim3) -> tuple[float, float]:
    """Distance of the centres in the unit of the truth, and angle in degrees."""
    distance = float(np.linalg.norm(truth_from_map @ pose.center - truth.center))
    return distance, rotation_angle_deg(pose.R @ truth_from_map.R.T @ truth.R.T)


def format_table(runs: Sequence[LocalizationRun]) -> str:
    """The runs as a table of Markdown."""
    header = ["scene", "method", "within", "poses", "queries", "median distance ‰", "median °", "ms a query", "cpu ms"]
    rows = [
        [
            run.scene,
            run.method,
            f"{100 * run.num_within / run.num_queries:.0f} %",
            str(run.num_registered),
            str(run.num_queries),
            f"{1000 * run.median_distance:.2f}",
            f"{run.median_angle_deg:.3f}",
            f"{run.median_ms:.0f}",
            f"{run.median_cpu_ms:.0f}",
        ]
        for run in runs
    ]
    return markdown_table(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line, and return the exit code, 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("scenes", nargs="*", metavar="SCENE", help=f"default: {' '.join(SCENES)}")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--data", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, ../shared/data)")
    add("--threads", type=int, default=num_usable_cores(), help="of the maps")
    add("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)

    def body() -> int:
        runs: list[LocalizationRun] = []
        for text in options.scenes or SCENES:
            with tempfile.TemporaryDirectory(prefix="sfm_localization_") as folder:
                scene = open_with_step(text, options.data, Path(folder))
                runs += run_scene(scene, options.methods, options.threads, Path(folder) / "runs")
            print(format_table(runs), flush=True)
            if options.json:
                with atomic_write(options.json) as file:
                    file.write(json.dumps([asdict(run) for run in runs], indent=1).encode() + b"\n")
        print()
        return print_goals([goal for run in runs for goal in run.goals])

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
