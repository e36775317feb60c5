"""The main job: a folder of photos -> camera poses and a point cloud. What happens, in which order."""

from __future__ import annotations

import logging
from pathlib import Path

from sfm_lightglue.colmap.database_writer import SQLITE_SIDE_FILES, DatabaseWriter, given_camera_idxs
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.mapping.cached_models import PackedModels, keep_models, load_models
from sfm_lightglue.mapping.colors import color_points
from sfm_lightglue.mapping.incremental import MAPPER_VERSION, map_incrementally
from sfm_lightglue.mapping.model_files import remove_results, write_packed_models
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run_record import Summary, peak_memory_mb, recorded_keys, write_run_record
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts, extract_scene, match_scene
from sfm_lightglue.store.atomic_file import publish_file, store_errors
from sfm_lightglue.store.output_folder import RESULTS_MARKER, sole_publisher, work_folder
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.verification import verification_identity

logger = logging.getLogger(__name__)

DATABASE_NAME = "database.db"

STAGES = ("scan", "extract", "match", "verify", "map", "write")


def reconstruct(
    scene_dir: Path,
    output: Path | None = None,
    config: ReconstructConfig | None = None,
    progress: Progress = silent,
) -> Summary:
    """Reconstruct a folder of photos.

    Everything that was computed is kept in the output folder: a second run, an interrupted run or a run with
    more photos repeats nothing.

    Args:
        scene_dir: folder of photos, or with a sub-folder `images` of photos.
        output: for the results, `scene_dir/reconstruction` where it is None.
        config: all choices and thresholds.
        progress: told how each stage advances.

    Returns:
        Counts, accuracy and times; the largest model lies in `output/sparse/0`.

    Raises:
        DataError: where there is no folder or no readable photo.
        ConfigError: where the configuration does not fit the photos.
        WeightsError: where a network's weights are missing.
        ReconstructionError: where no model can be built; what was computed so far is kept.
        StoreError: where the output folder cannot be written.
    """
    config = config or ReconstructConfig()
    scene_dir = Path(scene_dir)
    output = Path(output) if output is not None else scene_dir / "reconstruction"
    return _Run(scene_dir, output, config, progress).summary()


class _Run:
    """One run of the main job: the stages share its scene, store and clock."""

    def __init__(self, scene_dir: Path, output: Path, config: ReconstructConfig, progress: Progress) -> None:
        self.config, self.output, self.progress = config, output, progress
        self.num_threads = config.num_threads or num_usable_cores()
        self.clock = Clock(dict.fromkeys(STAGES, 0.0))
        with self.clock.stage("scan"):
            self.scene = load_scene(scene_dir, config.cameras, [output], self.num_threads)
            if len(self.scene.images) < 2:
                raise ReconstructionError(
                    f"{self.scene.root}: only one readable photo ({self.scene.names[0]}); a reconstruction needs at"
                    " least two with a common view"
                )
            self.extractor = EXTRACTORS.build(config.extractor, config.device)
            self.matcher = MATCHERS.build(config.matcher, config.device)
            self.pairs = PAIR_SELECTORS.build(config.pairs).select(self.scene)
            self.store = Store(output)

    def summary(self) -> Summary:
        key = self._model_key()
        with work_folder(self.output) as work:
            with self.clock.stage("write"):
                packed = load_models(self.store, key)
            is_known = packed is not None
            if packed is None:
                packed = self._compute(key, work)
            elif not self._has_database_of(key):
                self._write_database(work / DATABASE_NAME)
            with self.clock.stage("write"), sole_publisher(self.output):
                return self._publish(packed, key, work / DATABASE_NAME, is_known)

    def _publish(self, packed: PackedModels, key: str, database: Path, is_known: bool) -> Summary:
        statistics = packed.statistics
        write_packed_models(packed.files, self.output)
        if database.is_file():
            self._publish_database(database)
        if is_known:  # else the warnings came when the photos were read
            for image in statistics.undecodable:
                logger.warning("left out %s: %s", image.name, image.reason)
        if statistics.unregistered:
            logger.warning("not registered: %s", shortened(statistics.unregistered, all_in=RESULTS_MARKER))
        skipped = (*self.scene.skipped, *statistics.undecodable)
        summary = Summary.of(statistics, skipped, self.clock.total(), self.store.counts, peak_memory_mb())
        write_run_record(self.output, self.config, {"model": key}, summary)
        return summary

    def _publish_database(self, database: Path) -> None:
        target = self.output / DATABASE_NAME
        with store_errors(target):
            publish_file(database, target, SQLITE_SIDE_FILES)

    def _has_database_of(self, key: str) -> bool:
        """Whether the database in the output folder is that of a model: another run may have replaced it."""
        return (self.output / DATABASE_NAME).is_file() and recorded_keys(self.output).get("model") == key

    def _model_key(self) -> str:
        """Of all that the model depends on; one thread more or less matters only where one alone is repeatable."""
        return make_key(
            "models",
            [(image.name, image.digest, image.camera, image.camera_idx) for image in self.scene.images],
            self.pairs,
            self.extractor.identity,
            self.matcher.identity,
            verification_identity(self.config.two_view),
            self.config.mapping,
            self.config.cameras.refine,
            self.config.seed,
            self.num_threads == 1,
            MAPPER_VERSION,
        )

    def _compute(self, key: str, work: Path) -> PackedModels:
        features, counts, constant_camera_ids = self._write_database(work / DATABASE_NAME)
        names = [image.name for image in features.decoded_images]
        models = []
        with self.clock.stage("map"):
            if counts.num_verified:
                models = map_incrementally(
                    work / DATABASE_NAME,
                    work,
                    len(names),
                    self.config.mapping,
                    constant_camera_ids,
                    self.num_threads,
                    self.config.seed,
                    self.progress,
                )
        if not models:
            with sole_publisher(self.output):
                remove_results(self.output)
                self._publish_database(work / DATABASE_NAME)
            raise ReconstructionError(self._explain(features, counts))
        with self.clock.stage("write"):
            color_points(models, self.scene.root, self.num_threads)
            return keep_models(self.store, key, models, names, features.skipped, work)

    def _write_database(self, path: Path) -> tuple[SceneFeatures, PairCounts, frozenset[int]]:
        """Extract, match and verify; returns also the cameras whose intrinsics are not refined."""
        with self.clock.stage("extract"):
            extractor = CachedExtractor(self.extractor, self.store)
            features = extract_scene(self.scene, extractor, self.num_threads, self.progress)
        given = frozenset() if self.config.cameras.refine else given_camera_idxs(features.decoded_images)
        with DatabaseWriter(path) as database:
            for image in features.decoded_images:
                database.add_image(image, features.keypoints_from_name[image.name])
            counts = match_scene(
                self.pairs,
                features,
                database,
                CachedMatcher(self.matcher, self.store),
                CachedVerifier(self.config.two_view, self.config.seed, self.store),
                self.clock,
                self.num_threads,
                self.progress,
            )
            return features, counts, frozenset(database.camera_id(idx) for idx in given)

    def _explain(self, features: SceneFeatures, counts: PairCounts) -> str:
        """Why there is no model."""
        num_keypoints = sorted(len(keypoints) for keypoints in features.keypoints_from_name.values())
        text = (
            f"{self.scene.root}: no model: {len(num_keypoints)} photos with {num_keypoints[len(num_keypoints) // 2]}"
            f" keypoints (median), {counts.num_pairs} pairs matched, {counts.num_verified} of them with a common view"
        )
        if counts.best is None:
            return f"{text}. Do neighbouring photos overlap by half? Try more --max-keypoints, or --pairs exhaustive"
        given = bool(self.config.cameras.params)
        hint = "Are the camera parameters right" if given else "Try --camera-params if they are known"
        num_inliers, pair = counts.best
        return (
            f"{text}, at best {num_inliers} inliers ({pair.name0}, {pair.name1}). Was the camera moved sideways"
            f" between the photos, not only turned? {hint} (COLMAP's order and pixel convention)"
        )
