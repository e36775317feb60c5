"""The results of a run, written into its output folder as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from sfm_lightglue.colmap.database_writer import SQLITE_SIDE_FILES
from sfm_lightglue.mapping.cached_models import PackedModels
from sfm_lightglue.mapping.model_files import write_packed_models
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run_record import Summary, peak_memory_mb, write_run_record
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.store.atomic_file import publish_file, store_errors
from sfm_lightglue.store.output_folder import RESULTS_MARKER, sole_publisher
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Scene

logger = logging.getLogger(__name__)

DATABASE_NAME = "database.db"


def publish(
    models: PackedModels,
    keys: Mapping[str, str],
    database: Path,
    output: Path,
    scene: Scene,
    store: Store,
    config: ReconstructConfig,
    clock: Clock,
) -> Summary:
    """Write models, database and record of a run into the output folder, while no other run publishes there.

    Args:
        models: of the run; may be none.
        keys: for the record: the key "model" if there are models.
        database: of the run; if there is no such file, the database in the output folder is the right one.
        output: folder of the results.
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
        write_packed_models(models.files, output)
        if database.is_file():
            _publish_database(database, output / DATABASE_NAME)
        skipped = (*scene.skipped, *models.statistics.undecodable)
        summary = Summary.from_statistics(models.statistics, skipped, clock.total(), store.counts, peak_memory_mb())
        write_run_record(output, config, keys, summary)
    _warn(summary)
    return summary


def _warn(summary: Summary) -> None:
    """Log the images that are in no published model, by reason, and the models that were rejected."""
    if summary.num_published == 0:
        return
    names_from_reason: dict[str, list[str]] = {}
    for name in summary.unregistered:
        names_from_reason.setdefault(_REASON_TEXTS[summary.images[name]["reason"]], []).append(name)
    for text, names in names_from_reason.items():
        logger.warning("not registered, %s: %s", text, shortened(names, all_in=RESULTS_MARKER))
    rejected = [model for model in summary.models if model["verdict"] == "rejected"]
    if rejected:
        failed = sorted({name for model in rejected for name, check in model["checks"].items() if not check["passed"]})
        logger.warning(
            "models that failed their checks (%s) are kept in rejected/: %d", ", ".join(failed), len(rejected)
        )


_REASON_TEXTS = {
    "no_matches": "no common view with another image",
    "pure_rotation": "the camera only turned",
    "still": "the camera did not move",
    "contradicts": "contradicts the other images",
    "blurred": "hardly any keypoints",
    "few_points": "too few points",
    "intrinsics": "implausible or undetermined intrinsics",
    "not_connected": "too weakly connected",
    "model_rejected": "its model failed the checks",
}
"""Texts of the reasons of readable images."""


def _publish_database(database: Path, target: Path) -> None:
    with store_errors(target):
        publish_file(database, target, SQLITE_SIDE_FILES)
