"""Photos found again in a map without them: share within limits, median errors and time, beside other methods.

    python -m benchmarks.localization [SCENE ...] [--methods ours unguided nearest colmap] [--threads N] [--work DIR]
        [--json FILE]

Every third photo of a scene is left out, the others are mapped, and the former are localized. "ours" is LightGlue with
a guided search after the first pose, "unguided" the same without this search, "nearest" ours with nearest neighbours,
"colmap" a map by pycolmap with SIFT and exhaustive matching, in which its mapper registers the photos. Each map is
aligned with the truth by its own images, so errors contain those of the map; the columns "mapped" are the errors of
these images themselves.
A pose is within the limits if its centre is wrong by at most 1 % of the extent of the true centres and its rotation by
at most 0.5 degrees. The truth of seven_scenes is rough: there, the limits are 3 cm and 5 degrees. Its poses and
intrinsics are those of a depth camera, so a second row has a constant offset between it and the camera, fitted to the
images of the map ("sensor fitted"). A third one compares, within 1 % and 0.5 degrees, with a map of all images, which
the method makes itself.
Milliseconds are those of a query, of a clock on the wall, and of all cores together ("cpu"): the former are larger
where the machine has other work. "extract" is the part of them that the features of the query take, measured alone; a
query of 640 x 480 pixels may take 500 ms, and a larger one so much beyond it.
With "found" intrinsics of one camera, the photos have those that the map has found, as in COLMAP's map.
If a map is several models, each photo is compared in the frame of the model in which it was found.
Scenes as in benchmarks.reconstruction, "town" (60 images) and "town_N"; "NAME/N" takes every N-th image.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import Goal, at_least, at_most, print_goals
from benchmarks.localization_maps import FoundPhotos, find_by_colmap, find_by_localizer, map_images
from benchmarks.localization_references import ROUGH_TRUTH, Alignment, Reference, references
from benchmarks.reconstruction_scenes import BenchmarkScene, as_benchmark, open_scene
from datasets.ground_truth import read_scene
from pipelines.command import run_command
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import Town, write_town

SCENES = ("fountain_p11:given", "lund_door:given", "tsukuba/3:given", "seven_scenes/6:given", "town:given")
TOWN = r"town(?:_(\d+))?"
METHODS = ("ours", "unguided", "nearest", "colmap")
_TOWN_IMAGES = 60
_MAX_MS, _LARGE_PX = 500.0, 640 * 480


@dataclass(frozen=True, slots=True)
class LocalizationRun:
    """One method on one scene.

    Args:
        scene: its name.
        method: one of `METHODS`.
        reference: name of what the poses are compared with.
        num_queries: photos that were left out.
        num_registered: those that got a pose.
        num_within: those whose pose is within the limits.
        median_distance: of the poses, relative to the extent, or in metres for a metric limit; NaN without a pose.
        median_angle_deg: of the poses.
        median_ms: time of a query; NaN if it is not measured for each.
        reasons: why queries have no pose, by name.
        median_cpu_ms: processor time of a query, of all cores together; NaN if it is not measured for each.
        num_mapped: images of the map that have a pose in the reference.
        num_mapped_within: those whose own pose is within the limits.
        mapped_median_distance: of the images of the map.
        mapped_median_angle_deg: of the images of the map.
        median_extract_ms: time of the extraction of a query; NaN if it is not measured.
        is_large: whether the photos have more than 640 x 480 pixels.
        num_models: models of the map; an image that two of them have is counted twice in the map.
    """

    scene: str
    method: str
    reference: str
    num_queries: int
    num_registered: int
    num_within: int
    median_distance: float
    median_angle_deg: float
    median_ms: float
    reasons: Mapping[str, str]
    median_cpu_ms: float
    num_mapped: int
    num_mapped_within: int
    mapped_median_distance: float
    mapped_median_angle_deg: float
    median_extract_ms: float = float("nan")
    is_large: bool = False
    num_models: int = 1

    @property
    def goals(self) -> list[Goal]:
        """All photos are found within the limits, in time, for our method."""
        if self.method != "ours":
            return []
        wrong = self.num_registered - self.num_within
        name = f"{self.scene}, {self.reference}"
        beyond_ms = self.median_ms - (self.median_extract_ms if self.is_large else 0.0)
        return [
            at_least(f"{name}, within the limits", self.num_within, self.num_queries),
            Goal(f"{name}, poses beyond the limits: {wrong}", wrong == 0),
            at_most(f"{name}, ms of a query{' beyond its extraction' if self.is_large else ''}", beyond_ms, _MAX_MS),
        ]


def open_with_step(text: str, data: Path | None, work: Path) -> BenchmarkScene:
    """A scene, also the town, and every N-th image only of "NAME/N"."""
    name, step, intrinsics = re.fullmatch(r"(.+?)(?:/(\d+))?(?::(\w+))?", text).groups()  # type: ignore[union-attr]
    town = re.fullmatch(TOWN, name)
    if town:
        num_images = int(town[1] or _TOWN_IMAGES)
        root = work / f"town_{num_images}"
        if not (root / "truth.json").is_file():
            print(f"rendering {name}", file=sys.stderr, flush=True)
            write_town(Town(num_images, (640, 480), 0), root, 1)
        scene = as_benchmark(read_scene(root), intrinsics or "given")
    else:
        scene = open_scene(name, intrinsics or "exif", data, work)
    return replace(scene, names=scene.names[:: int(step or 1)])


def run_scene(scene: BenchmarkScene, methods: Sequence[str], num_threads: int, work: Path) -> list[LocalizationRun]:
    """Map two thirds of a scene, and find the others.

    Args:
        scene: the scene.
        methods: some of `METHODS`.
        num_threads: of the maps.
        work: folder of the maps.
    """
    queries = scene.names[1::3]
    kept = [name for name in scene.names if name not in queries]
    is_rough = scene.name.startswith(ROUGH_TRUTH)
    whole: Mapping[str, Rigid3] = {}
    if set(methods) != {"colmap"}:
        map_images(scene, kept, num_threads, work / "map")
        if is_rough:
            whole = poses_of_model(read_model(map_images(scene, scene.names, num_threads, work / "all")))
    runs = []
    for method in methods:
        if method == "colmap":
            photos, poses = find_by_colmap(scene, kept, queries, num_threads, work)
        else:
            photos, poses = find_by_localizer(scene, method, queries, work / "map"), whole
        for reference in references(scene, poses if is_rough else {}):
            run = measured(scene.name, method, queries, photos, reference)
            width, height = Image.read(scene.truth.image_root / queries[0]).size
            runs.append(replace(run, is_large=width * height > _LARGE_PX))
    return runs


def measured(
    scene: str, method: str, queries: Sequence[str], photos: FoundPhotos, reference: Reference
) -> LocalizationRun:
    """Errors of the poses, in the frame of a reference with which the images of the map are aligned.

    A photo that has no pose in the reference counts as one beyond the limits.
    """
    found, mapped = _errors_of_models(photos, reference)
    num_within, distance, angle_deg = _summary(found, reference)
    num_mapped_within, mapped_distance, mapped_angle_deg = _summary(mapped, reference)
    return LocalizationRun(
        scene,
        method,
        reference.name,
        len(queries),
        sum(len(model.found) for model in photos.models),
        num_within,
        distance,
        angle_deg,
        photos.median_ms,
        photos.reasons,
        photos.median_cpu_ms,
        len(mapped),
        num_mapped_within,
        mapped_distance,
        mapped_angle_deg,
        photos.median_extract_ms,
        num_models=len(photos.models),
    )


def _errors_of_models(
    photos: FoundPhotos, reference: Reference
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Errors of the photos and of the images of the map, each in the model that it is in."""
    found, mapped = [], []
    for model in photos.models:
        alignment = Alignment.of(model.mapped, reference)
        for errors, poses in ((found, model.found), (mapped, model.mapped)):
            for name in sorted(poses.keys() & reference.poses.keys()):
                errors.append(alignment.errors(poses[name], reference.poses[name]))
    return found, mapped


def _summary(errors: Sequence[tuple[float, float]], reference: Reference) -> tuple[int, float, float]:
    """How many errors are within the limits, and their medians."""
    if len(errors) == 0:
        return 0, float("nan"), float("nan")
    distances, angles_deg = np.array(errors).T
    distances = distances / reference.unit
    within = (distances <= reference.max_distance) & (angles_deg <= reference.max_angle_deg)
    return int(within.sum()), float(np.median(distances)), float(np.median(angles_deg))


def format_table(runs: Sequence[LocalizationRun]) -> str:
    """The runs as a table of Markdown."""
    header = ["scene", "method", "beside", "within", "poses", "median distance ‰", "median °"]
    header += ["models", "mapped within", "mapped ‰", "mapped °", "ms a query", "extract", "cpu ms"]
    rows = [
        [
            run.scene,
            run.method,
            run.reference,
            f"{run.num_within} of {run.num_queries}",
            str(run.num_registered),
            f"{1000 * run.median_distance:.2f}",
            f"{run.median_angle_deg:.3f}",
            str(run.num_models),
            f"{run.num_mapped_within} of {run.num_mapped}",
            f"{1000 * run.mapped_median_distance:.2f}",
            f"{run.mapped_median_angle_deg:.3f}",
            f"{run.median_ms:.0f}",
            f"{run.median_extract_ms:.0f}",
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
    add("--work", type=Path, metavar="DIR", help="keep rendered scenes and maps here, and use finished ones")
    add("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)

    def body() -> int:
        runs: list[LocalizationRun] = []
        for text in options.scenes or SCENES:
            with tempfile.TemporaryDirectory(prefix="sfm_localization_") as folder:
                work = options.work or Path(folder)
                scene = open_with_step(text, options.data, work)
                maps = work / "maps" / text.replace("/", "_").replace(":", "_")
                runs += run_scene(scene, options.methods, options.threads, maps)
            print(format_table(runs), flush=True)
            if options.json:
                with atomic_write(options.json) as file:
                    file.write(json.dumps([asdict(run) for run in runs], indent=1).encode() + b"\n")
        print()
        return print_goals([goal for run in runs for goal in run.goals])

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
