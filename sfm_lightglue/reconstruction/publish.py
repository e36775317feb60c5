"""The results of a run, written into its output folder as one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.mapping.cached_models import MapStatistics, PackedModels
from sfm_lightglue.mapping.model_files import MODEL_FOLDERS, PLY_NAME
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run_record import RecordedResults, Summary, run_record
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import RESULTS_MARKER
from sfm_lightglue.store.publication import (
    GEOREGISTRATION_NAME,
    Publication,
    changed_files,
    file_digest,
    has_other_model_files,
    numbered_folders,
    publish_together,
    sole_publisher,
)
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Scene

logger = logging.getLogger(__name__)

DATABASE_NAME = "database.db"


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """Where the results of a run come from.

    Args:
        models: of the run; may be none.
        key: of the models in the store; None if there are none.
        database: path of the database of the run. If there is no such file, the database in the output folder was the
            right one.
        fill_database: makes that file; called if another run has replaced the database in the output folder meanwhile.
        extension: what was extended, for the record; None for a run that is no extension.
    """

    models: PackedModels
    key: str | None
    database: Path
    fill_database: Callable[[], object]
    extension: Mapping[str, Any] | None = None


def has_database_of(output: Path, key: str) -> bool:
    """Whether the database in an output folder is the one that was made with the models of a key, and is unchanged."""
    recorded = RecordedResults.read(output)
    if recorded.keys.get("model") != key or DATABASE_NAME not in recorded.files:
        return False
    return not changed_files(output, {DATABASE_NAME: recorded.files[DATABASE_NAME]})


def publish(
    results: ResultFiles,
    output: Path,
    work: Path,
    scene: Scene,
    store: Store,
    config: ReconstructConfig,
    clock: Clock,
) -> Summary:
    """Replace models, cloud, database and record in the output folder by those of a run, as one.

    Files that already have the right bytes stay as they are.

    Args:
        results: of the run.
        output: folder of the results.
        work: an existing folder for intermediate files, on the same file system.
        scene: the images.
        store: of the run, for its counts.
        config: for the record.
        clock: receives the time of the stage "write".

    Returns:
        The summary of the run, as the record holds it.

    Raises:
        StoreError: if the output folder cannot be written.
    """
    with clock.stage("write"), sole_publisher(output):
        publication = Publication(work / "results")
        recorded = RecordedResults.read(output)
        is_of_this_run = results.key is not None and recorded.keys.get("model") == results.key
        changed = changed_files(output, recorded.files)
        parts, files = _add_models(publication, _with_georegistrations(results.models), output)
        is_right = is_of_this_run and DATABASE_NAME in recorded.files and DATABASE_NAME not in changed
        if not results.database.is_file() and not is_right:
            results.fill_database()
        if results.database.is_file() and file_digest(results.database) != file_digest(output / DATABASE_NAME):
            publication.take(DATABASE_NAME, results.database)
            parts.append(DATABASE_NAME)
        files[DATABASE_NAME] = publication.digests.get(DATABASE_NAME) or file_digest(output / DATABASE_NAME) or ""
        if is_of_this_run and changed:
            logger.warning("changed or damaged since the last run, and restored: %s", shortened(changed))
        statistics = results.models.statistics
        skipped = (*scene.skipped, *statistics.undecodable)
        summary = Summary.from_statistics(
            statistics, skipped, clock.total(), store.counts, peak_memory_mb(), clock.memory_mb
        )
        keys = {} if results.key is None else {"model": results.key}
        record = run_record(config, keys, files, summary, results.extension, statistics.pairs.evidence)
        publication.write(RESULTS_MARKER, record)
        publish_together(publication, output, [*parts, RESULTS_MARKER])
    _warn(summary)
    warn_of_look_alikes(statistics)
    return summary


def _with_georegistrations(models: PackedModels) -> dict[str, AnyArray]:
    """The files of models, and one with the transform into metres beside each model that has one."""
    files = dict(models.files)
    for model in models.statistics.models:
        if model.georegistration is not None:
            content = json_bytes(model.georegistration, indent=2) + b"\n"
            files[f"{model.path}/{GEOREGISTRATION_NAME}"] = np.frombuffer(content, np.uint8)
    return files


def _add_models(
    publication: Publication, contents: Mapping[str, AnyArray], output: Path
) -> tuple[list[str], dict[str, str]]:
    """Add the parts that differ from those in the output folder.

    Returns:
        Their paths, and the digests of the files of all parts.
    """
    names_from_part: dict[str, list[str]] = {}
    for name in sorted(contents):
        names_from_part.setdefault(name.rpartition("/")[0] or name, []).append(name)
    parts: list[str] = []
    files: dict[str, str] = {}
    for part, names in names_from_part.items():
        digests = {name: hashlib.sha256(contents[name].tobytes()).hexdigest() for name in names}
        files |= digests
        if changed_files(output, digests) or has_other_model_files(output / part, names):
            parts.append(part)
            for name in names:
                publication.write(name, contents[name].tobytes())
    earlier = [path.relative_to(output).as_posix() for path in numbered_folders(output / one for one in MODEL_FOLDERS)]
    earlier += [PLY_NAME] if (output / PLY_NAME).is_file() else []
    publication.removed += [part for part in earlier if part not in names_from_part]
    return parts, files


def _warn(summary: Summary) -> None:
    """Log the images that are in no published model, by reason, and the models that were rejected."""
    if summary.num_published == 0:
        return
    names_from_reason: dict[str, list[str]] = {}
    for name in summary.unregistered:
        names_from_reason.setdefault(REASON_TEXTS[summary.images[name]["reason"]], []).append(name)
    for text, names in names_from_reason.items():
        logger.warning("not registered, %s: %s", text, shortened(names, all_in=RESULTS_MARKER))
    for index, model in enumerate(summary.models[: summary.num_published]):
        if model["uncertain"]:
            logger.warning(
                "model %d may be wrong: its %d images hardly determine the camera positions (max_center_uncertainty in"
                " %s). Take images with more parallax and more overlap, or give the intrinsics as `cameras.params`",
                index,
                model["num_registered"],
                RESULTS_MARKER,
            )
    rejected = [model for model in summary.models if model["verdict"] == "rejected"]
    if rejected:
        failed = sorted({name for model in rejected for name, check in model["checks"].items() if not check["passed"]})
        logger.warning(
            "models that failed their checks (%s) are kept in rejected/: %d", ", ".join(failed), len(rejected)
        )


def warn_of_look_alikes(statistics: MapStatistics) -> None:
    """Log the models that may be folded, and those that may show the same place, and what to do."""
    for index, model in enumerate(statistics.published):
        if model.maybe_folded:
            logger.warning(
                "model %d may be wrong (folded): %d of its images (%s) match others of it, but there are signs that"
                " they show different places that look alike, or that things were moved between the photos. Compare"
                " these images. If they show several places, list all true pairs in a file (only these are matched),"
                " and give it as `pairs.path`. If they show one place, the model is right: list pairs of these"
                " images in a file, and give it as `lookalikes.trust_pairs`, to end the warning",
                index,
                len(model.maybe_folded),
                shortened(model.maybe_folded, all_in=RESULTS_MARKER),
            )
    for index, model in enumerate(statistics.models):
        for other in (each for each in model.maybe_same_as if each > index):
            names = sorted(_looking_alike(statistics, index, other))
            logger.warning(
                "%d images of model %d (%s) look like images of model %d, but they may show another place: the models"
                " %d and %d were kept apart; if they show the same place, list pairs of their images in a file, and"
                " give it as `lookalikes.trust_pairs`",
                len(names),
                other,
                shortened(names, all_in=RESULTS_MARKER),
                index,
                index,
                other,
            )


def _looking_alike(statistics: MapStatistics, index: int, other: int) -> set[str]:
    """The images of a model in pairs with another model that were kept apart."""
    model_from_name = {name: image.model for name, image in statistics.images.items()}
    return {
        name
        for pair in statistics.pairs.apart
        for name, partner in (pair, pair[::-1])
        if model_from_name.get(name) == other and model_from_name.get(partner) == index
    }


REASON_TEXTS = {
    "no_matches": "no common view with another image",
    "pure_rotation": "the camera only turned",
    "still": "the camera did not move",
    "contradicts": "contradicts the other images",
    "blurred": "hardly any keypoints",
    "few_points": "too few points",
    "intrinsics": "implausible or undetermined intrinsics",
    "not_connected": "too weakly connected",
    "kept_apart": (
        "all its pairs were kept apart because it may show another place that looks alike (`lookalikes.trust_pairs` or"
        " `lookalikes.mode` off use them)"
    ),
    "model_rejected": "its model failed the checks",
}
"""Texts of the reasons of readable images."""
