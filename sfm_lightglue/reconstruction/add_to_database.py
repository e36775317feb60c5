"""Adds features, matches and verified geometries to a COLMAP database, for COLMAP's own mappers and GUI."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.colmap.database_writer import DatabaseWriter, require_space
from sfm_lightglue.colmap.features import colmap_features
from sfm_lightglue.colmap.known_images import KnownImage, read_known_images
from sfm_lightglue.colmap.shared_database import SharedDatabase, copy_database, remove_features
from sfm_lightglue.errors import ConfigError, StoreError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.messages import shortened
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.reconstruction.components import Components, build_components
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.reconstruction.estimate import measured_seconds_per_pair
from sfm_lightglue.reconstruction.executors import open_executor
from sfm_lightglue.reconstruction.join_scene import JoinedScene, join_scene
from sfm_lightglue.reconstruction.many_pairs import Confirm, confirm_pairs
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.distributed import FillsStore
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts, extract_scene, match_scene
from sfm_lightglue.stages.pair_plan import plan_pairs
from sfm_lightglue.stages.run_log import RunLog, run_log
from sfm_lightglue.store.atomic_file import publish_file, store_errors
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.store.publication import SQLITE_SIDE_FILES
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import Store

logger = logging.getLogger(__name__)

STAGES = ("scan", "extract", "select", "match", "verify", "write")


@dataclass(frozen=True, slots=True)
class HostSummary:
    """What was added to a database.

    Args:
        database: its path.
        num_images: number of images whose features were added.
        new_images: names of those that were not in the database before.
        missing_images: names of images of the database without a readable file; they keep their features, and the
            matches with each other.
        num_lost_pairs: number of pairs of a missing image and an image with new features, whose matches were removed.
        num_keypoints: median over the images whose features were added.
        num_pairs: number of pairs that were matched.
        num_verified: number of pairs with a two-view geometry.
        seconds: by stage, and "total".
    """

    database: str
    num_images: int
    new_images: tuple[str, ...]
    missing_images: tuple[str, ...]
    num_lost_pairs: int
    num_keypoints: int
    num_pairs: int
    num_verified: int
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        news = f" ({len(self.new_images)} new)" if self.new_images else ""
        return (
            f"{self.num_images} images{news} with {self.num_keypoints} keypoints (median), {self.num_pairs} pairs"
            f" matched, {self.num_verified} verified, {self.seconds['total']:.1f} s -> {self.database}"
        )


def add_to_database(
    database: Path | str,
    images: Path | str,
    config: DatabaseConfig | None = None,
    store: Path | str | None = None,
    overwrite: bool = False,
    known_only: bool = False,
    progress: Progress = silent,
    confirm: Confirm | None = None,
) -> HostSummary:
    """Extract, match and verify images, and add the results to a COLMAP database.

    Cameras, images, rigs, frames and pose priors of the database are kept as they are, including their ids. The
    database is changed in one step at the end: a run that fails or is killed leaves it unchanged, and the next run
    computes nothing twice. A second run on the same database waits for the end of the first.

    Args:
        database: created if it does not exist; no pycolmap handle of this process may have it open.
        images: COLMAP's image path: the folder that the names are relative to.
        config: components and thresholds; its cameras are for images that are not in the database.
        store: folder of the store; `<database>.store` beside the database if it is None.
        overwrite: replace features and matches that the database has of the images. Matches with images whose files are
            missing cannot be computed again: they are removed, counted and logged.
        known_only: leave out images that are not in the database.
        progress: called as each stage advances.
        confirm: called with a question before more than 100,000 pairs are matched; returns whether to go on. None logs
            a warning instead.

    Raises:
        ConfigError: if the database has features and `overwrite` is not set, or has no image and `known_only` is set,
            or an option is wrong, or `confirm` returned False.
        DataError: if images and database do not fit each other, or one of them cannot be read.
        WeightsError: if the weights of a network are missing.
        StoreError: if the database is locked or changed by another program, or cannot be written.

    Example:
        >>> summary = sfm_lightglue.add_to_database("database.db", "photos/images")
        >>> summary.num_images
        4
    """
    database, images = Path(database), Path(images)
    config = config or DatabaseConfig()
    folder = Path(store) if store is not None else database.with_name(f"{database.name}.store")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{database.parent}: cannot be made ({error.strerror})") from error
    with run_log("colmap", progress) as log:
        job = _Job(database, images, config, folder, Clock.for_stages(STAGES), log, confirm)
        if config.executor.name == "folder":
            summary = _add_with_others(job, overwrite, known_only)
        else:
            with sole_writer(database):
                summary = _add(job, overwrite, known_only)
        log.end("done", str(summary))
        return summary


def _add_with_others(job: _Job, overwrite: bool, known_only: bool) -> HostSummary:
    """Compute everything together with other processes, of which one then changes the database."""
    database = job.database
    with work_folder(database.parent) as work:
        before, copy = work / "before.db", work / "database.db"
        known: Sequence[KnownImage] = ()
        if database.exists():
            copy_database(database, before)
            with store_errors(copy):
                shutil.copyfile(before, copy)
            known = read_known_images(copy, database)
        summary = _fill(job, copy, known, overwrite, known_only)
        with sole_writer(database):
            if not database.exists() and not before.exists():
                _publish_new(copy, database)
                return summary
            if database.exists():
                with SharedDatabase(database) as shared:
                    if shared.has_content_of(copy):
                        logger.info("%s: another process has added the same features and matches", database)
                        return summary
                    if before.exists() and shared.has_content_of(before):
                        _replace(shared, copy, database)
                        return summary
            return _add(job, overwrite, known_only)  # it was changed meanwhile


def _add(job: _Job, overwrite: bool, known_only: bool) -> HostSummary:
    database = job.database
    with work_folder(database.parent) as work:
        copy = work / "database.db"
        if not database.exists():
            summary = _fill(job, copy, (), overwrite, known_only)
            if database.exists():
                raise StoreError(f"{database}: another program has made it meanwhile; run the same command again")
            _publish_new(copy, database)
            return summary
        with SharedDatabase(database) as shared:
            shared.copy_to(copy)
            summary = _fill(job, copy, read_known_images(copy, database), overwrite, known_only)
            _replace(shared, copy, database)
            return summary


def _publish_new(copy: Path, database: Path) -> None:
    with store_errors(database):
        publish_file(copy, database, SQLITE_SIDE_FILES)


def _replace(shared: SharedDatabase, copy: Path, database: Path) -> None:
    require_space(database, copy.stat().st_size)
    shared.replace_content(copy)


@dataclass(frozen=True, slots=True)
class _Job:
    """One run: results go through the store and into a private copy of the database."""

    database: Path
    images: Path
    config: DatabaseConfig
    store_folder: Path
    clock: Clock
    log: RunLog
    confirm: Confirm | None


def _fill(job: _Job, copy: Path, known: Sequence[KnownImage], overwrite: bool, known_only: bool) -> HostSummary:
    """Run all stages, with the copy of the database as their output.

    Args:
        job: the run.
        copy: private copy of the database, or the path of a new one.
        known: images of the database.
        overwrite: as in `add_to_database`.
        known_only: as in `add_to_database`.
    """
    config = job.config
    with job.clock.stage("scan"):
        num_workers = ThreadExecutor(config.num_threads).num_workers
        found = read_scene(job.images, job.store_folder, config, num_workers, job.log.progress, as_it_is=True)
        joined = join_scene(found, known, job.database, known_only)
        if not overwrite:
            _refuse_features(joined.known, job.database)
        components = build_components(config)
        components.pairs.check(joined.scene)
        pair_s = partial(measured_seconds_per_pair, joined.scene, components, config)
        confirm_pairs(components.pairs, joined.scene, job.confirm, pair_s)
    with Store(job.store_folder) as store, open_executor(config, components, store) as executor:
        job.log.open(job.store_folder)
        if not isinstance(executor, FillsStore):
            job.log.watch(store)
        return _compute(job, copy, joined, known, components, store, executor)


def _compute(
    job: _Job,
    copy: Path,
    joined: JoinedScene,
    known: Sequence[KnownImage],
    components: Components,
    store: Store,
    executor: Executor,
) -> HostSummary:
    """The stages after the scan."""
    config, clock, progress = job.config, job.clock, job.log.progress
    with clock.stage("extract"):
        features = extract_scene(joined.scene, CachedExtractor(components.extractor, store), executor, progress)
    with clock.stage("select"):
        context = PairContext(joined.scene, features, store, progress=progress, executor=executor)
        plan = plan_pairs(components.pairs, config.pairs.name, context, config.transitive)
    num_lost_pairs = _remove_old_features(job, copy, joined, features) if known else 0
    with DatabaseWriter(copy, joined.camera_id_from_idx) as writer:
        with clock.stage("write"):
            for image, one in features.read_all(executor):
                writer.add_image(image, *colmap_features(one))
        matcher = CachedMatcher(components.matcher, store)
        verifier = CachedVerifier(config.two_view, config.seed, store)
        camera_from_name = {image.name: image.camera for image in features.decoded_images}
        counts = match_scene(plan, features, camera_from_name, writer, matcher, verifier, clock, executor, progress)
    return _summary(job, features, counts, known, num_lost_pairs)


def _remove_old_features(job: _Job, copy: Path, joined: JoinedScene, features: SceneFeatures) -> int:
    """Remove what the database has of the images; returns the number of pairs that cannot be matched again."""
    replaced = [image.image_id for image in joined.known if image.name in features]
    num_lost_pairs = remove_features(copy, replaced)
    if num_lost_pairs > 0:
        logger.warning(
            "%s: matches of %d pairs are removed and cannot be computed again: one image of the pair has new"
            " features, the other is missing or unreadable; put it there and run the same command again to match"
            " them anew",
            job.database,
            num_lost_pairs,
        )
    return num_lost_pairs


def _summary(
    job: _Job, features: SceneFeatures, counts: PairCounts, known: Sequence[KnownImage], num_lost_pairs: int
) -> HostSummary:
    if counts.num_verified == 0:
        logger.warning(
            "%s: none of %d pairs was verified; do neighbouring images overlap?", job.database, counts.num_pairs
        )
    names = list(features)
    known_names = {image.name for image in known}
    return HostSummary(
        str(job.database),
        len(names),
        tuple(name for name in names if name not in known_names),
        tuple(sorted(known_names - set(names))),
        num_lost_pairs,
        int(np.median([features.num_keypoints_from_name[name] for name in names])),
        counts.num_pairs,
        counts.num_verified,
        {stage: round(seconds, 3) for stage, seconds in job.clock.total().items()},
    )


def _refuse_features(known: Sequence[KnownImage], database: Path) -> None:
    names = [image.name for image in known if image.has_features]
    if names:
        raise ConfigError(
            f"{database}: has features or matches of {len(names)} of the images already ({shortened(names, 3)});"
            " `overwrite=True` replaces them, or name a new database"
        )
