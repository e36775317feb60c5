"""The results of a run, written into its output folder as one."""

from __future__ import annotations

import logging
from pathlib import Path

from sfm_lightglue.colmap.database_writer import SQLITE_SIDE_FILES
from sfm_lightglue.mapping.cached_models import PackedModels
from sfm_lightglue.mapping.model_files import remove_results, write_packed_models
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
    key: str,
    database: Path,
    output: Path,
    scene: Scene,
    store: Store,
    config: ReconstructConfig,
    clock: Clock,
) -> Summary:
    """Write models, database and record of a run into the output folder, while no other run publishes there.

    Args:
        models: of the run.
        key: of the models.
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
        statistics = models.statistics
        write_packed_models(models.files, output)
        if database.is_file():
            _publish_database(database, output / DATABASE_NAME)
        if statistics.unregistered:
            logger.warning("not registered: %s", shortened(statistics.unregistered, all_in=RESULTS_MARKER))
        skipped = (*scene.skipped, *statistics.undecodable)
        summary = Summary.from_statistics(statistics, skipped, clock.total(), store.counts, peak_memory_mb())
        write_run_record(output, config, {"model": key}, summary)
        return summary


def publish_without_model(database: Path, output: Path) -> None:
    """Write the database of a run without a model, and remove the models of earlier runs.

    Raises:
        StoreError: if the output folder cannot be written.
    """
    with sole_publisher(output):
        remove_results(output)
        _publish_database(database, output / DATABASE_NAME)


def _publish_database(database: Path, target: Path) -> None:
    with store_errors(target):
        publish_file(database, target, SQLITE_SIDE_FILES)
