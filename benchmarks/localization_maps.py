"""The maps of `benchmarks.localization`, and the poses of the photos that were left out of them.

A map stays in its folder: a finished one of ours is not computed again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reconstruction_job import Job, ours_config, run_job
from benchmarks.reconstruction_scenes import BenchmarkScene
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.localization.localizer import Localizer
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.stages.cached import both_layers

_COLMAP = "colmap"


@dataclass(frozen=True, slots=True)
class FoundInModel:
    """The photos that were found in one model of a map.

    Args:
        mapped: `cam_from_world` of the images of the model by name, in its frame.
        found: of the photos that got a pose, in the same frame.
    """

    mapped: Mapping[str, Rigid3]
    found: Mapping[str, Rigid3]


@dataclass(frozen=True, slots=True)
class FoundPhotos:
    """The photos that a method found in a map.

    Args:
        models: of the map, each with its own frame.
        reasons: why the others have none, by name.
        median_ms: time of a photo.
        median_cpu_ms: its processor time, of all cores together; NaN if it is not measured for each.
        median_extract_ms: time of its extraction alone; NaN if it is not measured.
    """

    models: Sequence[FoundInModel]
    reasons: Mapping[str, str]
    median_ms: float
    median_cpu_ms: float = float("nan")
    median_extract_ms: float = float("nan")


def map_images(scene: BenchmarkScene, names: Sequence[str], num_threads: int, folder: Path) -> Path:
    """A map of some images by this library, in a folder with links to them; a finished map is read again."""
    _link_images({folder / "images" / name: (scene.truth.image_root / name).resolve() for name in names}, folder)
    job = Job("ours", "", "", num_threads, camera=scene.camera, camera_mode=scene.camera_mode)
    reconstruct(folder, config=ReconstructConfig.from_mapping(ours_config(job)))
    return folder


def _link_images(target_from_link: Mapping[Path, Path], folder: Path) -> None:
    """Make the links that a folder lacks, and remove those to other files, which an earlier run has left."""
    for link in sorted(folder.rglob("*")):
        if link.is_symlink() and link.readlink() != target_from_link.get(link):
            link.unlink()
    for link, target in target_from_link.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)


def find_by_localizer(scene: BenchmarkScene, method: str, queries: Sequence[str], folder: Path) -> FoundPhotos:
    """The photos found in a map of ours, by LightGlue ("ours", "unguided") or by nearest neighbours ("nearest")."""
    values: dict[str, Any] = {"matcher": {"name": "nearest"}} if method == "nearest" else {}
    values["guided"] = method != "unguided"
    found: dict[str, dict[str, Rigid3]] = {}
    reasons: dict[str, str] = {}
    seconds, cpu_s, extract_s = [], [], []
    values["same_camera"] = scene.camera_mode == "single" and scene.intrinsics == "found"  # as COLMAP does
    with Localizer(folder, config=LocalizeConfig.from_mapping(values)) as localizer:
        localizer.localize(scene.truth.image_root / queries[0])  # loads the weights
        for name in queries:
            camera = scene.truth.camera_from_name[name] if scene.intrinsics == "given" else None
            start_s = time.process_time()
            one = localizer.localize(scene.truth.image_root / name, camera, name)
            cpu_s.append(time.process_time() - start_s)
            seconds.append(one.seconds)
            if one.cam_from_world is not None:
                found.setdefault(one.model, {})[name] = one.cam_from_world
            else:
                reasons[name] = str(one.reason)
        models = [
            FoundInModel(poses_of_model(model.points.model), found.get(model.name, {})) for model in localizer.models
        ]
        extractor = EXTRACTORS.build(localizer.config.extractor, localizer.config.device)
        limit = localizer.config.max_keypoints_dense
        both_layers(extractor, Image.read(scene.truth.image_root / queries[0]), limit, None)  # loads what it needs
        for name in queries:
            start_s = time.perf_counter()
            both_layers(extractor, Image.read(scene.truth.image_root / name), limit, None)
            extract_s.append(time.perf_counter() - start_s)
    medians_ms = (1000 * float(np.median(times)) for times in (seconds, cpu_s, extract_s))
    return FoundPhotos(models, reasons, *medians_ms)


def find_by_colmap(
    scene: BenchmarkScene, kept: Sequence[str], queries: Sequence[str], num_threads: int, work: Path
) -> tuple[FoundPhotos, Mapping[str, Rigid3]]:
    """A map of the kept images by pycolmap, which goes on with the others; their time is shared among them.

    Returns:
        The photos, and `cam_from_world` by name in COLMAP's map of all images.
    """
    import pycolmap

    folder = work / _COLMAP
    if folder.exists():
        shutil.rmtree(folder)  # its mapper starts with a database that it has not used
    folder.mkdir(parents=True)
    root = scene.truth.image_root
    names = tuple(sorted([*kept, *queries]))
    job = Job(
        _COLMAP, str(root), str(folder), num_threads, names=names, camera=scene.camera, camera_mode=scene.camera_mode
    )
    result = run_job(job)  # features, matches, and a map of all images
    whole = poses_of_model(read_model(Path(result.model))) if result.model else {}
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.image_names = num_threads, 0, list(kept)
    if scene.camera is not None:
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
    for name in ("before", "after"):
        (folder / name).mkdir()
    models = pycolmap.incremental_mapping(folder / "database.db", root, folder / "before", options)
    best = max(models, key=lambda index: models[index].num_reg_images())
    poses = poses_of_model(models[best])
    options.image_names, options.fix_existing_frames = list(names), True
    start = time.perf_counter()
    before = folder / "before" / str(best)
    continued = pycolmap.incremental_mapping(folder / "database.db", root, folder / "after", options, before)
    seconds = time.perf_counter() - start
    after = {name: pose for model in continued.values() for name, pose in poses_of_model(model).items()}
    found = {name: after[name] for name in queries if name in after}
    reasons = {name: "not_registered" for name in queries if name not in after}
    return FoundPhotos([FoundInModel(poses, found)], reasons, 1000 * seconds / len(queries)), whole
