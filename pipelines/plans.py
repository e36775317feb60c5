"""The plans that `--dry-run` of the commands prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.plan import Plan
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.messages import duration
from sfm_lightglue.stages.measurement import measure_steps

if TYPE_CHECKING:
    from sfm_lightglue.extractors.base import Extractor
    from sfm_lightglue.image_pair.config import MatchConfig
    from sfm_lightglue.image_pair.pair_list import ListedPair
    from sfm_lightglue.localization.config import LocalizeConfig
    from sfm_lightglue.localization.query_lists import Query
    from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
    from sfm_lightglue.reconstruction.densify_config import DensifyConfig
    from sfm_lightglue.tracking.config import TrackerConfig

_POSE_S = 0.05
"""Seconds of a pose from matches, and of judging it."""


def plan_of_localize(arguments: argparse.Namespace, config: LocalizeConfig, queries: Sequence[Query]) -> Plan:
    """Extraction and matching of the queries, and of the images of the map if their features are not kept.

    Raises:
        DataError: if there is no map, its images are missing, or no query can be decoded.
        WeightsError: if weights are missing.
    """
    from sfm_lightglue.colmap.model import find_map
    from sfm_lightglue.localization.map_features import RunOfMap
    from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS

    location = find_map(arguments.map, arguments.images)
    of_queries = config.max_keypoints_dense
    of_map = of_queries * RunOfMap.of(location).dense_factor
    matcher = MATCHERS.build(config.matcher, config.device)
    extractor = EXTRACTORS.build(config.extractor, config.device)
    num_map_images, num_missing = _images_of_map(arguments, extractor, of_map, config.num_threads)
    num_pairs, num_workers = min(config.num_images, num_map_images), config.num_threads or num_usable_cores()
    paths = [one.path for one in queries]
    # A query is extracted on all cores; its pairs, and the images of the map, are divided between workers.
    alone = measure_steps(paths, extractor, max_keypoints_dense=of_queries)
    steps = measure_steps(paths, extractor, matcher, num_workers, of_map if num_missing else 0)
    query_s = alone.extract_s + num_pairs * steps.match_s / max(1, min(num_workers, num_pairs)) + _POSE_S
    seconds = len(queries) * query_s + num_missing * steps.extract_s / num_workers
    writes = []
    if arguments.output is not None:
        writes = [arguments.output / name for name in ("results.jsonl", "poses.txt", "sparse", "run.json")]
    kept = f", features of {num_missing} of them to extract" if num_missing else ""
    work = {
        "num_queries": len(queries),
        "num_map_images": num_map_images,
        "num_to_extract": num_missing,
        "seconds_per_query": round(query_s, 3),
    }
    what = f"{len(queries)} queries in a map of {num_map_images} images{kept}"
    return Plan(what, work, seconds, steps.basis, tuple(writes))


def _images_of_map(
    arguments: argparse.Namespace, extractor: Extractor, max_keypoints_dense: int, num_threads: int
) -> tuple[int, int]:
    """Number of the images of all models that are searched, and of those whose features are not kept."""
    from sfm_lightglue.colmap.model import find_map, read_model
    from sfm_lightglue.execution.executor import ThreadExecutor
    from sfm_lightglue.localization.map_features import RunOfMap, images_to_extract, searched_models

    location = find_map(arguments.map, arguments.images)
    run, executor = RunOfMap.of(location), ThreadExecutor(num_threads)
    folder = arguments.output if location.output is None else location.output
    names: set[str] = set()
    missing: set[str] = set()
    for one in searched_models(arguments.map, location):
        try:
            model = read_model(one.model)
            if arguments.database is None:
                missing |= images_to_extract(model, one, run.masks, extractor, folder, executor, max_keypoints_dense)
        except DataError:  # a further model that cannot be used is left out by `Localizer`, too
            if not names:
                raise
            continue
        names |= {model.images[image_id].name for image_id in model.reg_image_ids()}
    return len(names), len(missing)


def plan_of_densify(arguments: argparse.Namespace, config: DensifyConfig) -> Plan:
    """Features of all images, and two rounds of guided matching.

    Raises:
        DataError: if there is no model, or an image is missing.
        ReconstructionError: if no two images see the same surface.
    """
    from sfm_lightglue.reconstruction.densify_estimate import estimate_densify

    found = estimate_densify(arguments.map, arguments.images, arguments.output, config)
    rounds = config.density.max_rounds
    what = f"{found.num_images} images, {found.num_points} points, {found.num_pairs} pairs in up to {rounds} rounds"
    work = {"num_images": found.num_images, "num_points": found.num_points, "num_pairs": found.num_pairs}
    basis = (
        "measured on one pair here; features that are kept take no time,"
        " completing the tracks and the adjustment come on top"
    )
    writes = tuple(found.output / name for name in ("sparse", "points.ply", "densify.json"))
    return Plan(what, work, found.extract_s + rounds * found.match_s, basis, writes)


def plan_of_export(arguments: argparse.Namespace, options: dict[str, Any]) -> Plan:
    """The images that are written, by one of them.

    Raises:
        ConfigError: if the format, an option or the output cannot be used.
        DataError: if the model or an image is missing.
    """
    from sfm_lightglue.reconstruction.export_map import plan_export_of_map

    found = plan_export_of_map(
        arguments.map,
        arguments.format,
        arguments.output,
        images=arguments.images,
        undistort=arguments.undistort,
        overwrite=arguments.overwrite,
        options=options,
    )
    pictures = "" if found.pictures == "none" else f", images {found.pictures} ({found.images_mb:g} MB)"
    what = f"{arguments.format}: {found.num_images} images, {found.num_points} points{pictures}"
    work = {
        "num_images": found.num_images,
        "num_points": found.num_points,
        "pictures": found.pictures,
        "images_mb": found.images_mb,
    }
    basis = "measured on one image here" if found.pictures != "none" else "no image is written"
    return Plan(what, work, found.seconds, basis, (found.output,))


def plan_of_match(config: MatchConfig, pairs: Sequence[ListedPair], image_root: Path, out: Path | None) -> Plan:
    """Extraction of each image and matching of each pair of a list.

    Raises:
        DataError: if no image of the list can be decoded.
    """
    from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS

    good = [pair for pair in pairs if not pair.error]
    names = sorted({name for pair in good for name in pair.names})
    num_kept = 0 if out is None else _num_results(out)
    matcher = MATCHERS.build(config.matcher, config.device)
    extractor = EXTRACTORS.build(config.extractor, config.device)
    steps = measure_steps([image_root / name for name in names], extractor, matcher)
    share = max(0, len(good) - num_kept) / max(len(good), 1)
    seconds = share * (len(names) * steps.extract_s + len(good) * (steps.match_s + _POSE_S))
    again = f", {num_kept} results in {out} are kept if options and images are the same" if num_kept else ""
    what = f"{len(pairs)} pairs of {len(names)} images{again}"
    work = {
        "num_pairs": len(pairs),
        "num_images": len(names),
        "num_kept": num_kept,
        "num_bad_lines": len(pairs) - len(good),
    }
    return Plan(what, work, seconds, steps.basis, () if out is None else (out,))


def _num_results(out: Path) -> int:
    """Lines of an earlier run without an error."""
    if not out.is_file():
        return 0
    num = 0
    for line in out.read_bytes().splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # a line that a kill cut off
            continue
        num += isinstance(values, dict) and "key" in values and values.get("error") is None
    return num


def plan_of_track(arguments: argparse.Namespace, config: TrackerConfig, params: tuple[float, ...]) -> Plan:
    """All frames, by the first ones.

    Raises:
        ConfigError: if the source is a camera.
        DataError: if no frame can be read.
    """
    from sfm_lightglue.tracking.estimate import estimate_tracking

    found = estimate_tracking(arguments.source, arguments.output, config, arguments.fps, params)
    count = "an unknown number of" if found.num_frames is None else str(found.num_frames)
    what = f"{count} frames of {found.size[0]} x {found.size[1]} pixels"
    names = ("frames.jsonl", "trajectory_tum.txt", "trajectory_kitti.txt", "keyframes.txt")
    names += ("sparse", "points.ply", "run.json", *(("densified",) if arguments.finish else ()))
    work = {"num_frames": found.num_frames, "size": list(found.size), "seconds_per_frame": round(found.frame_s, 4)}
    basis = f"measured on {found.num_measured} frames here; the adjustment of the whole map comes on top"
    if not found.has_map:
        basis = f"measured on {found.num_measured} frames here, which start no map: with one, a frame takes longer"
    if found.num_frames is None:
        basis = f"{found.frame_s:.3f} s a frame, {basis}"
    return Plan(what, work, found.seconds, basis, tuple(found.output / name for name in names))


def plan_of_colmap(arguments: argparse.Namespace, config: DatabaseConfig) -> Plan:
    """Extraction, matching and verification, as `reconstruct --dry-run` measures them.

    Raises:
        DataError: if fewer than two images can be read.
    """
    from sfm_lightglue.reconstruction.estimate import estimate_cost

    store = arguments.store or arguments.database.with_name(f"{arguments.database.name}.store")
    found = estimate_cost(arguments.images, store, config, as_it_is=True)
    stages = [value for value in found.seconds.values() if value is not None]
    seconds = sum(stages) if found.num_pairs is not None else None
    pairs = f"up to {found.num_pairs} pairs" if found.num_pairs is not None else "pairs chosen after extraction"
    per_thousand = duration(1000 * found.seconds_per_pair)
    basis = "measured on a few images here, as if nothing were kept"
    if seconds is None:
        basis = f"extraction takes about {duration(stages[0])}, and 1,000 pairs {per_thousand}, {basis}"
    return Plan(
        f"{found.num_images} images, {pairs} ({found.pairs})",
        found.as_dict(),
        seconds,
        basis,
        (arguments.database, store),
    )


def plan_of_extension(arguments: argparse.Namespace, config: ReconstructConfig, output: Path) -> Plan:
    """Extraction and matching of the images that a finished model does not have.

    Raises:
        DataError: if there is no image, or no model of the given name.
        ReconstructionError: if there is no finished model.
    """
    from sfm_lightglue.errors import ReconstructionError
    from sfm_lightglue.execution.progress import silent
    from sfm_lightglue.reconstruction.extend_base import base_from_elsewhere, has_finished_model
    from sfm_lightglue.reconstruction.extend_matching import MAX_PARTNERS
    from sfm_lightglue.reconstruction.read_scene import read_scene
    from sfm_lightglue.reconstruction.run_record import recorded_summary
    from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS

    num_workers = config.num_threads or num_usable_cores()
    scene = read_scene(arguments.scene_dir, output, config, num_workers, silent)
    if arguments.extend not in {"", "auto"}:
        known, model = set(base_from_elsewhere(Path(arguments.extend)).known), arguments.extend
    else:
        summary = recorded_summary(output) if has_finished_model(output) else None
        if summary is None:
            raise ReconstructionError(f"{output}: has no finished model to extend; leave out --extend")
        known, model = set(summary.images), str(output)
    arrivals = [image for image in scene.images if image.name not in known]
    work = {"num_images": len(scene.images), "num_known": len(known), "arrivals": [one.name for one in arrivals]}
    if not arrivals:
        return Plan(
            f"nothing: the model in {model} knows all {len(scene.images)} images", work, 0.0, "no image comes in"
        )
    matcher = MATCHERS.build(config.matcher, config.device)
    extractor = EXTRACTORS.build(config.extractor, config.device)
    steps = measure_steps([one.path for one in arrivals], extractor, matcher, num_workers)
    num_pairs = len(arrivals) * min(MAX_PARTNERS, len(scene.images) - 1)
    seconds = (len(arrivals) * steps.extract_s + num_pairs * (steps.match_s + _POSE_S)) / num_workers
    what = f"{len(arrivals)} images into the model in {model} of {len(known)} images, up to {num_pairs} pairs"
    writes = tuple(output / name for name in ("sparse", "points.ply", "database.db", "run.json"))
    return Plan(what, work | {"num_pairs": num_pairs}, seconds, f"{steps.basis}; mapping comes on top", writes)
