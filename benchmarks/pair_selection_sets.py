"""Image sets of the benchmark of pair selection, and which of their pairs truly overlap."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.ground_truth import read_scene
from datasets.image_pairs import depth_pairs
from datasets.shared import find_scene_path
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import Town, town_overlaps, write_town
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

MIN_OVERLAP = 0.1
"""Two images overlap if each sees at least this fraction of the surface that the other one sees."""

MIN_SHARED_POINTS = 20
"""Two images of a scene without depths overlap if so many points of a model are seen in both."""

MIXED_SCENES = ("brighton_beach", "copr_drone", "lund_gps")


@dataclass(frozen=True, slots=True)
class OverlapSet:
    """Images, and which of their pairs overlap.

    Args:
        name: for tables.
        root: folder of the images.
        overlapping: the pairs that overlap.
        truth: poses; None without.
        scene_of: the scene of each image by its name, "" for all if there is one scene only.
        alone: for each of several scenes, numbers of images of the models of an exhaustive run of that scene alone.
    """

    name: str
    root: Path
    overlapping: frozenset[ImagePair]
    truth: SceneTruth | None
    scene_of: dict[str, str]
    alone: dict[str, tuple[int, ...]]


def open_set(text: str, data: Path | None, work: Path, num_threads: int) -> OverlapSet:
    """A set by its name.

    Args:
        text: "town:N" with a number of images, "mixed", or a sequence with depth maps such as "hololens".
        data: folder of the shared data, None for the default.
        work: folder of what is rendered, and of overlaps that take long to compute.
        num_threads: of that work.
    """
    work.mkdir(parents=True, exist_ok=True)
    kind, _, number = text.partition(":")
    if kind == "town":
        return town_set(int(number or 100), work, num_threads)
    if kind == "mixed":
        return mixed_set([find_scene_path(name, data) for name in MIXED_SCENES], work, num_threads)
    return depth_set(find_scene_path(kind, data), work)


def town_set(num_images: int, work: Path, num_threads: int, size: tuple[int, int] = (960, 640)) -> OverlapSet:
    """The rendered town."""
    root = work / f"town_{num_images}"
    town = Town(num_images, size)
    if not (root / "truth.json").is_file():
        print(f"rendering {num_images} images of the town", file=sys.stderr, flush=True)
        write_town(town, root, num_threads)

    def overlapping() -> list[ImagePair]:
        overlaps = town_overlaps(town, num_threads)
        rows, columns = np.nonzero(np.triu(np.minimum(overlaps, overlaps.T) >= MIN_OVERLAP, 1))
        return [ImagePair(town.names[i], town.names[j]) for i, j in zip(rows, columns, strict=True)]

    pairs = _kept(root / f"overlapping_{MIN_OVERLAP}.json", overlapping)
    truth = read_scene(root)
    return OverlapSet(f"town {num_images}", truth.image_root, pairs, truth, dict.fromkeys(town.names, ""), {})


def depth_set(folder: Path, work: Path) -> OverlapSet:
    """A sequence with depth maps."""
    truth = read_scene(folder)
    name_from_stem = {Path(name).name: name for name in truth.names}

    def overlapping() -> list[ImagePair]:
        found = depth_pairs(folder, "", (MIN_OVERLAP, 1.0), 10**9)
        names = [(name_from_stem[pair.path0.name], name_from_stem[pair.path1.name]) for pair in found]
        return [ImagePair.from_names(*pair) for pair in names]

    pairs = _kept(work / f"{folder.name}_overlapping_{MIN_OVERLAP}.json", overlapping)
    return OverlapSet(folder.name, truth.image_root, pairs, truth, dict.fromkeys(truth.names, ""), {})


def mixed_set(scenes: Iterable[Path], work: Path, num_threads: int) -> OverlapSet:
    """Images of several scenes in one folder; those of one scene overlap if they share points of its own model."""
    root = work / "mixed"
    pairs: set[ImagePair] = set()
    scene_of: dict[str, str] = {}
    alone: dict[str, tuple[int, ...]] = {}
    for folder in scenes:
        images = load_scene(folder).images
        for image in images:
            name = f"{folder.name}_{image.name.replace('/', '_')}"
            scene_of[name] = folder.name
            if not (root / name).is_file():
                root.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(image.path, root / name)
        output = work / f"{folder.name}_exhaustive"
        if not (output / "run.json").is_file():
            print(f"reconstructing {folder.name} with all pairs", file=sys.stderr, flush=True)
            values = {"pairs": {"name": "exhaustive"}, "density": {"level": "sparse"}, "refine": {"mode": "off"}}
            reconstruct(folder, output, ReconstructConfig.from_mapping(values | {"num_threads": num_threads}))
        models = read_models(output)
        alone[folder.name] = tuple(model.num_reg_images() for model in models)
        for pair in (pair for model in models for pair in pairs_sharing_points(model)):
            names = (f"{folder.name}_{name.replace('/', '_')}" for name in (pair.name0, pair.name1))
            pairs.add(ImagePair.from_names(*names))
    return OverlapSet("mixed", root, frozenset(pairs), None, scene_of, alone)


def read_models(output: Path) -> list[pycolmap.Reconstruction]:
    """The published models of an output folder, the largest first."""
    folders = sorted((output / "sparse").glob("*/images.bin"), key=lambda path: int(path.parent.name))
    return [read_model(path.parent) for path in folders]


def pairs_sharing_points(model: pycolmap.Reconstruction) -> list[ImagePair]:
    """The pairs of images that both see at least `MIN_SHARED_POINTS` points of a model."""
    name_from_id = {image_id: image.name for image_id, image in model.images.items()}
    counts: Counter[tuple[int, int]] = Counter()
    for point in model.points3D.values():
        ids = sorted({element.image_id for element in point.track.elements})
        counts.update(combinations(ids, 2))
    shared = [ids for ids, number in counts.items() if number >= MIN_SHARED_POINTS]
    return sorted(ImagePair.from_names(name_from_id[id0], name_from_id[id1]) for id0, id1 in shared)


def _kept(path: Path, compute: Callable[[], list[ImagePair]]) -> frozenset[ImagePair]:
    """Pairs from a file if it exists, else computed and written."""
    if not path.is_file():
        pairs = sorted((pair.name0, pair.name1) for pair in compute())
        with atomic_write(path) as file:
            file.write(json.dumps(pairs).encode())
    return frozenset(ImagePair.from_names(*pair) for pair in json.loads(path.read_text(encoding="utf-8")))
