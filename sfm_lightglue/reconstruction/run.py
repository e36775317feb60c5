"""The main job: a folder of images -> camera poses and a point cloud. Its stages, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.colmap.database_writer import DatabaseWriter, given_camera_idxs
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.mapping.base import Mapper, MappingTask
from sfm_lightglue.mapping.cached_models import MapStatistics, PackedModels, keep_models, load_models
from sfm_lightglue.mapping.colors import color_points
from sfm_lightglue.mapping.judgement import JUDGEMENT_VERSION, JudgedModel
from sfm_lightglue.mapping.weighing import WEIGHING_VERSION
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.reconstruction.components import Components, build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.image_status import image_verdicts
from sfm_lightglue.reconstruction.map_and_judge import map_and_judge
from sfm_lightglue.reconstruction.no_model import explain_no_model, explain_rejected
from sfm_lightglue.reconstruction.publish import DATABASE_NAME, publish
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run_record import recorded_keys
from sfm_lightglue.registry.builtin import MAPPERS
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts, extract_scene, match_scene
from sfm_lightglue.stages.weighed_pairs import PairSources, WeighedPairs, weigh_scene, write_weighed_pairs
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import ImagePair, Scene

STAGES = ("scan", "extract", "select", "match", "verify", "map", "write")


def reconstruct(
    scene_dir: Path | str,
    output: Path | str | None = None,
    config: ReconstructConfig | None = None,
    progress: Progress = silent,
) -> ReconstructionResult:
    """Reconstruct a folder of images: camera poses and a sparse point cloud.

    Everything that was computed is kept in the output folder: a second run, an interrupted run or a run with more
    images computes nothing twice. Every model is judged: a model that fails a check is not published as a success.

    Args:
        scene_dir: folder of images, or folder with a sub-folder `images`.
        output: folder for the results; `scene_dir/reconstruction` if it is None.
        config: all components and thresholds.
        progress: called as each stage advances.

    Returns:
        The published models, and counts, accuracy and times. The largest model is in `output/sparse/0`.

    Raises:
        DataError: if there is no folder or no readable image.
        ConfigError: if the configuration does not fit the images.
        WeightsError: if the weights of a network are missing.
        ReconstructionError: if no model can be built, or none passes the checks; what was computed so far is kept.
        StoreError: if the output folder cannot be written.

    Example:
        >>> result = sfm_lightglue.reconstruct("photos/")
        >>> result
        ReconstructionResult(4 of 4 images registered, ... points, ... px, output='photos/reconstruction')
    """
    config = config or ReconstructConfig()
    output = Path(output) if output is not None else Path(scene_dir) / "reconstruction"
    clock, executor = Clock.for_stages(STAGES), ThreadExecutor(config.num_threads)
    with clock.stage("scan"):
        scene = _load_scene(Path(scene_dir), output, config, executor)
        components = build_components(config)
        mapper = MAPPERS.build(config.mapping)
        components.pairs.check(scene)
        store = Store(output)
    with clock.stage("extract"):
        features = extract_scene(scene, CachedExtractor(components.extractor, store), executor, progress)
    with clock.stage("select"):
        pairs = components.pairs.select(PairContext(scene, features, store, progress=progress))
    key = _model_key(scene, pairs, components, mapper, config, executor)
    job = _Job(config, scene, features, pairs, components, store, clock, executor, progress)
    with work_folder(output) as work:
        database = work / DATABASE_NAME
        with clock.stage("write"):
            models = load_models(store, key)
        if models is None:
            models, message = _build_models(job, mapper, key, work)
        else:
            message = None
            if recorded_keys(output).get("model") != key or not (output / DATABASE_NAME).is_file():
                _fill_database(job, database)  # the database in the output folder is of another run
        keys = {"model": key} if models.statistics.models else {}
        summary = publish(models, keys, database, output, scene, store, config, clock)
    if summary.num_published == 0:
        message = message or explain_rejected(scene.root, models.statistics.models)
        raise ReconstructionError(message, summary.as_dict())
    return ReconstructionResult(output, summary)


@dataclass(frozen=True, slots=True)
class _Job:
    """What the stages after the selection of pairs have in common."""

    config: ReconstructConfig
    scene: Scene
    features: SceneFeatures
    pairs: tuple[ImagePair, ...]
    components: Components
    store: Store
    clock: Clock
    executor: Executor
    progress: Progress


def _load_scene(scene_dir: Path, output: Path, config: ReconstructConfig, executor: Executor) -> Scene:
    scene = load_scene(scene_dir, config.cameras, [output], executor.num_workers)
    if len(scene.images) < 2:
        raise ReconstructionError(
            f"{scene.root}: only one readable image ({scene.names[0]}); a reconstruction needs at least two with a"
            " common view"
        )
    return scene


def _model_key(
    scene: Scene,
    pairs: tuple[ImagePair, ...],
    components: Components,
    mapper: Mapper,
    config: ReconstructConfig,
    executor: Executor,
) -> str:
    """Key of everything that the model depends on. One worker or several is a difference, their number is none."""
    return make_key(
        "models",
        [(image.name, image.digest, image.camera, image.camera_idx) for image in scene.images],
        pairs,
        components.extractor.identity,
        components.matcher.identity,
        verification_identity(config.two_view),
        mapper.config,
        config.cameras.refine,
        config.seed,
        executor.num_workers == 1,
        mapper.version,
        config.checks,
        [JUDGEMENT_VERSION, WEIGHING_VERSION],
    )


def _build_models(job: _Job, mapper: Mapper, key: str, work: Path) -> tuple[PackedModels, str | None]:
    """Match, map and judge; returns also why no model can be built, None if there is a model."""
    database = work / DATABASE_NAME
    filled = _fill_database(job, database)
    config, num_threads = job.config, job.executor.num_workers
    judged: list[JudgedModel] = []
    with job.clock.stage("map"):
        if filled.weighed.kept:
            constant = filled.constant_camera_ids
            task = MappingTask(database, work, len(job.features), constant, num_threads, config.seed, job.progress)
            judged = map_and_judge(mapper, task, filled.weighed, config.checks)
    num_keypoints = {name: job.features.num_keypoints_from_name[name] for name in job.features}
    images = image_verdicts(num_keypoints, judged, filled.weighed)
    if not judged:
        statistics = MapStatistics((), images, tuple(job.features.skipped))
        message = explain_no_model(job.scene.root, list(num_keypoints.values()), filled.counts, filled.weighed, config)
        return PackedModels(statistics, {}), message
    with job.clock.stage("write"):
        color_points([each.model for each in judged], job.scene.root, job.executor)
        return keep_models(job.store, key, judged, images, job.features.skipped, work), None


@dataclass(frozen=True, eq=False, slots=True)
class _FilledDatabase:
    """What was written into a database, and the cameras whose intrinsics are not refined."""

    counts: PairCounts
    weighed: WeighedPairs
    constant_camera_ids: frozenset[int]


def _fill_database(job: _Job, path: Path) -> _FilledDatabase:
    """Match and verify all pairs into a database, without those that contradict the others."""
    images, config, store = job.features.decoded_images, job.config, job.store
    given = frozenset() if config.cameras.refine else given_camera_idxs(images)
    matcher, verifier = (
        CachedMatcher(job.components.matcher, store),
        CachedVerifier(config.two_view, config.seed, store),
    )
    with DatabaseWriter(path) as database:
        with job.clock.stage("write"):
            for image, features in job.features.read_all(job.executor):
                database.add_image(image, features.keypoints)
        counts = match_scene(
            job.pairs, job.features, database, matcher, verifier, job.clock, job.executor, job.progress
        )
        with job.clock.stage("verify"):
            camera_from_name = {image.name: image.camera for image in job.features.decoded_images}
            sources = PairSources(job.features, camera_from_name, matcher, verifier)
            weighed = weigh_scene(counts, sources, config.checks, job.executor)
            write_weighed_pairs(weighed, database)
        return _FilledDatabase(counts, weighed, frozenset(database.camera_id(idx) for idx in given))
