"""COLMAP as a host: our features, matches and verified geometries in its database, for its own mappers and GUI."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.colmap.database_writer import SQLITE_SIDE_FILES, DatabaseWriter, require_space
from sfm_lightglue.colmap.features import colmap_features
from sfm_lightglue.colmap.known_images import KnownImage, read_known_images
from sfm_lightglue.colmap.shared_database import SharedDatabase, remove_features
from sfm_lightglue.errors import ConfigError, StoreError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.join_scene import join_scene
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts, extract_scene, match_scene
from sfm_lightglue.store.atomic_file import publish_file, store_errors
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.store.store import Store

logger = logging.getLogger(__name__)

STAGES = ("scan", "extract", "match", "verify", "write")


@dataclass(frozen=True, slots=True)
class HostSummary:
    """What was added to a database.

    Args:
        database: its path.
        num_images: photos whose features were added.
        new_images: those of them that the database did not know.
        missing_images: images of the database without a readable photo; they keep their features, and their
            matches with each other.
        num_lost_pairs: pairs of such an image and a photo, whose matches went with the photo's old features.
        num_keypoints: median of the photos.
        num_pairs: pairs that were matched.
        num_verified: pairs with a geometry.
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
    database: Path,
    images: Path,
    config: ReconstructConfig | None = None,
    store: Path | None = None,
    overwrite: bool = False,
    known_only: bool = False,
    progress: Progress = silent,
) -> HostSummary:
    """Extract, match and verify photos, and add the results to a COLMAP database.

    Cameras, images, rigs, frames and pose priors that the database has are kept as they are, numbers included.
    The database changes in one moment at the end: a run that fails or is killed leaves it as it was, and the
    next one computes nothing twice.

    Args:
        database: made where there is none; no pycolmap handle of this process may have it open.
        images: the folder that COLMAP calls the image path: names are relative to it.
        config: extractor, matcher, pairs and so on; its cameras are for photos that the database does not know.
        store: folder of what was computed, `<database>.store` beside the database where it is None.
        overwrite: replace the features of the photos, and all matches of theirs, where the database has some. Those
            with images whose photos are not here cannot be computed again: they are removed, counted and logged.
        known_only: leave photos out that the database does not know.
        progress: told how each stage advances.

    Raises:
        ConfigError: where the database has features and `overwrite` is not set, or knows no image and `known_only`
            is set, or an option is wrong.
        DataError: where photos and database do not fit each other, or one of them cannot be read.
        WeightsError: where a network's weights are missing.
        StoreError: where the database is locked or changed by another program, or cannot be written.
    """
    database, images = Path(database), Path(images)
    folder = Path(store) if store is not None else database.with_name(f"{database.name}.store")
    run = _Run(database, images, config or ReconstructConfig(), folder, progress)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{database.parent}: cannot be made ({error.strerror})") from error
    with work_folder(database.parent) as work:
        copy = work / "database.db"
        if not database.exists():
            summary = run.fill(copy, (), overwrite, known_only)
            if database.exists():
                raise StoreError(f"{database}: another program has made it meanwhile; run the same command again")
            with store_errors(database):
                publish_file(copy, database, SQLITE_SIDE_FILES)
            return summary
        with SharedDatabase(database) as shared:
            shared.copy_to(copy)
            summary = run.fill(copy, read_known_images(copy, database), overwrite, known_only)
            require_space(database, copy.stat().st_size)
            shared.replace_content(copy)
            return summary


class _Run:
    """One run: what is computed goes through the store, what is found goes into a private copy of the database."""

    def __init__(
        self, database: Path, images: Path, config: ReconstructConfig, store: Path, progress: Progress
    ) -> None:
        self.database, self.images, self.config, self.progress = database, images, config, progress
        self.store_folder = store
        self.num_threads = config.num_threads or num_usable_cores()
        self.clock = Clock(dict.fromkeys(STAGES, 0.0))

    def fill(self, copy: Path, known: Sequence[KnownImage], overwrite: bool, known_only: bool) -> HostSummary:
        with self.clock.stage("scan"):
            found = load_scene(self.images, self.config.cameras, [self.store_folder], self.num_threads, as_it_is=True)
            joined = join_scene(found, known, self.database, known_only)
            if not overwrite:
                _refuse_features(joined.known, self.database)
            extractor = EXTRACTORS.build(self.config.extractor, self.config.device)
            matcher = MATCHERS.build(self.config.matcher, self.config.device)
            pairs = PAIR_SELECTORS.build(self.config.pairs).select(joined.scene)
            store = Store(self.store_folder)
        with self.clock.stage("extract"):
            features = extract_scene(joined.scene, CachedExtractor(extractor, store), self.num_threads, self.progress)
        decoded = {image.name for image in features.decoded_images}
        num_lost_pairs = 0
        if known:
            replaced = [image.image_id for image in joined.known if image.name in decoded]
            num_lost_pairs = remove_features(copy, replaced)
        if num_lost_pairs > 0:
            logger.warning(
                "%s: matches of %d pairs are removed and cannot be computed again: one photo of the pair has new"
                " features, the other is not here or unreadable; put it there and run the same command again to match"
                " them anew",
                self.database,
                num_lost_pairs,
            )
        with DatabaseWriter(copy, joined.camera_id_from_idx) as writer:
            with self.clock.stage("write"):
                self._write_features(features, writer)
            counts = match_scene(
                pairs,
                features,
                writer,
                CachedMatcher(matcher, store),
                CachedVerifier(self.config.two_view, self.config.seed, store),
                self.clock,
                self.num_threads,
                self.progress,
            )
        return self._summary(features, counts, known, num_lost_pairs)

    def _write_features(self, features: SceneFeatures, writer: DatabaseWriter) -> None:
        max_size = getattr(self.config.extractor.config, "max_image_size", None)
        for image in features.decoded_images:
            writer.add_image(image, *colmap_features(features[image.name], max_size))

    def _summary(
        self, features: SceneFeatures, counts: PairCounts, known: Sequence[KnownImage], num_lost_pairs: int
    ) -> HostSummary:
        if counts.num_verified == 0:
            logger.warning(
                "%s: of %d pairs none was verified; do neighbouring photos overlap?", self.database, counts.num_pairs
            )
        names = [image.name for image in features.decoded_images]
        known_names = {image.name for image in known}
        return HostSummary(
            str(self.database),
            len(names),
            tuple(name for name in names if name not in known_names),
            tuple(sorted(known_names - set(names))),
            num_lost_pairs,
            int(np.median([len(features.keypoints_from_name[name]) for name in names])),
            counts.num_pairs,
            counts.num_verified,
            {stage: round(seconds, 3) for stage, seconds in self.clock.total().items()},
        )


def _refuse_features(known: Sequence[KnownImage], database: Path) -> None:
    names = [image.name for image in known if image.has_features]
    if names:
        raise ConfigError(
            f"{database}: has features or matches of {len(names)} of the photos already ({shortened(names, 3)});"
            " --overwrite replaces them, or name a new database"
        )


__all__ = ["HostSummary", "add_to_database", "colmap_features", "join_scene"]
