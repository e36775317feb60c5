"""The main job: a folder of images -> camera poses and a point cloud. Its stages, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from sfm_lightglue.colmap.model_database import append_keypoints
from sfm_lightglue.colmap.rig_config import Rigs, read_rigs
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import DENSE_VERSION
from sfm_lightglue.lookalikes.cues import CUES_VERSION
from sfm_lightglue.lookalikes.probability import packaged_model
from sfm_lightglue.lookalikes.selection import SELECTION_VERSION
from sfm_lightglue.lookalikes.twins import TWINS_VERSION
from sfm_lightglue.mapping.base import Mapper
from sfm_lightglue.mapping.cached_models import load_models
from sfm_lightglue.mapping.densify import DENSIFY_VERSION
from sfm_lightglue.mapping.georegistration import GEOREGISTRATION_VERSION
from sfm_lightglue.mapping.judgement import JUDGEMENT_VERSION
from sfm_lightglue.mapping.model_files import keypoints_of_packed
from sfm_lightglue.mapping.weighing import WEIGHING_VERSION
from sfm_lightglue.pairs.base import PairContext, needs_features
from sfm_lightglue.pairs.from_file import read_pairs
from sfm_lightglue.reconstruction.components import Components, build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.estimate import measured_seconds_per_pair
from sfm_lightglue.reconstruction.executors import building_alone, open_executor
from sfm_lightglue.reconstruction.job import Job, build_models, fill_database
from sfm_lightglue.reconstruction.job_values import ModelKeys
from sfm_lightglue.reconstruction.many_pairs import Confirm, confirm_pairs
from sfm_lightglue.reconstruction.no_model import explain_rejected
from sfm_lightglue.reconstruction.publish import DATABASE_NAME, ResultFiles, has_database_of, publish
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run_record import Summary
from sfm_lightglue.reconstruction.second_chance import second_look_identity
from sfm_lightglue.reconstruction.thorough_pairs import THOROUGH_VERSION, job_of_models
from sfm_lightglue.refinement.config import REFINEMENT_VERSION
from sfm_lightglue.registry.builtin import MAPPERS
from sfm_lightglue.registry.matching_steps import thorough_limits
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.distributed import FillsStore
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.stages.pair_plan import PairPlan, plan_pairs
from sfm_lightglue.stages.run_log import run_log
from sfm_lightglue.stages.streaming import extract_and_match
from sfm_lightglue.stages.turned_images import TURNS_VERSION
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.store.publication import complete_publication
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import Features, ImagePair, Scene

STAGES = ("scan", "extract", "select", "match", "verify", "map", "densify", "refine", "write")


def reconstruct(
    scene_dir: Path | str,
    output: Path | str | None = None,
    config: ReconstructConfig | None = None,
    progress: Progress = silent,
    confirm: Confirm | None = None,
    growth: Path | None = None,
) -> ReconstructionResult:
    """Reconstruct a folder of images: camera poses and a sparse point cloud.

    Everything that was computed is kept in the output folder: a second run, an interrupted run or a run with more
    images computes nothing twice. Every model is judged: a model that fails a check is not published as a success.

    Args:
        scene_dir: folder of images, or folder with a sub-folder `images`.
        output: folder for the results; `scene_dir/reconstruction` if it is None.
        config: all components and thresholds.
        progress: called as each stage advances.
        confirm: called with a question before more than 100,000 pairs are matched; returns whether to go on. None logs
            a warning instead.
        growth: an existing folder in which mappers that add image by image write the models that grow, for a viewer.

    Returns:
        The published models, and counts, accuracy and times. The largest model is in `output/sparse/0`.

    Raises:
        DataError: if there is no folder or no readable image.
        ConfigError: if the configuration does not fit the images, or `confirm` returned False.
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
    clock, threads = Clock.for_stages(STAGES), ThreadExecutor(config.num_threads)
    with run_log("reconstruct", progress) as log, ExitStack() as stack:
        if output.is_dir():
            log.open(output)
        with clock.stage("scan"):
            scene = _load_scene(Path(scene_dir), output, config, threads, log.progress)
            components = build_components(config)
            mapper = MAPPERS.build(config.mapping)
            components.pairs.check(scene)
            rigs = _rigs(config, scene)
            trusted = trusted_pairs(config, scene)
            pair_s = partial(measured_seconds_per_pair, scene, components, config)
            confirm_pairs(components.pairs, scene, confirm, pair_s)
            store = stack.enter_context(Store(output))
            executor = stack.enter_context(open_executor(config, components, store))
            log.open(output)
            if not isinstance(executor, FillsStore):
                log.watch(store)
        context = PairContext(scene, {}, store, progress=log.progress, executor=executor)
        features, plan = _features_and_plan(config, components, context, store, clock, trusted)
        keys = _model_keys(scene, plan, components, mapper, config, executor, rigs, trusted)
        job = Job(
            config, scene, features, plan, components, store, clock, executor, log.progress, keys, trusted, growth
        )
        with building_alone(job):
            summary, problem = _build_and_publish(job, mapper, output)
        if problem is not None:
            raise ReconstructionError(problem, summary.as_dict())
        log.end("done", str(summary))
    return ReconstructionResult(output, summary)


def _build_and_publish(job: Job, mapper: Mapper, output: Path) -> tuple[Summary, str | None]:
    """Build the models of a run, or load them; returns also why no model is published, None if one is."""
    key = job.keys.finished
    with work_folder(output) as work:
        database = work / DATABASE_NAME
        with job.clock.stage("write"):
            complete_publication(output)
            models = load_models(job.store, key)
        problem = None
        if models is None:
            models, problem = build_models(job, mapper, work, database)
        statistics = models.statistics

        def fill() -> None:
            fill_database(job_of_models(job), database, statistics.camera_groups)
            append_keypoints(database, keypoints_of_packed(models.files))

        results = ResultFiles(models, key if statistics.models else None, database, fill)
        if not database.is_file() and not has_database_of(output, key):
            results.fill_database()
        summary = publish(results, output, work, job.scene, job.store, job.config, job.clock)
    if summary.num_published == 0 and problem is None:
        problem = explain_rejected(job.scene.root, statistics.models)
    return summary, problem


def _load_scene(
    scene_dir: Path, output: Path, config: ReconstructConfig, executor: Executor, progress: Progress
) -> Scene:
    scene = read_scene(scene_dir, output, config, executor.num_workers, progress)
    if len(scene.images) < 2:
        raise ReconstructionError(
            f"{scene.root}: only one readable image ({scene.names[0]}); a reconstruction needs at least two with a"
            " common view"
        )
    return scene


def _features_and_plan(
    config: ReconstructConfig,
    components: Components,
    context: PairContext,
    store: Store,
    clock: Clock,
    trusted: Sequence[ImagePair],
) -> tuple[SceneFeatures, PairPlan]:
    """The features and the pairs of a scene. If the pairs need no features, some are matched while these are found."""
    scene, executor, progress = context.scene, context.executor, context.progress
    extractor, limit = CachedExtractor(components.extractor, store), config.max_keypoints_dense

    def plan(features: Mapping[str, Features]) -> PairPlan:
        with clock.stage("select"):
            known = replace(context, features=features)
            return plan_pairs(components.pairs, config.pairs.name, known, config.transitive).with_pairs(trusted, scene)

    if needs_features(components.pairs, scene):
        with clock.stage("extract"):
            features = extract_scene(scene, extractor, executor, progress, limit)
        return features, plan(features)
    planned = plan({})
    matcher = CachedMatcher(components.matcher, store)
    verifier = CachedVerifier(config.two_view, config.seed, store)
    pairs = planned.pairs
    return extract_and_match(scene, pairs, extractor, matcher, verifier, clock, executor, progress, limit), planned


def _rigs(config: ReconstructConfig, scene: Scene) -> Rigs | None:
    if config.rig_file is None:
        return None
    rigs = read_rigs(config.rig_file)
    rigs.check(scene.images, config.rig_file)
    return rigs


def trusted_pairs(config: ReconstructConfig, scene: Scene) -> tuple[ImagePair, ...]:
    """The pairs that the user named, sorted."""
    path = config.lookalikes.trust_pairs_file
    return () if path is None else tuple(sorted(read_pairs(path, scene, report=True)))


def _model_keys(
    scene: Scene,
    plan: PairPlan,
    components: Components,
    mapper: Mapper,
    config: ReconstructConfig,
    executor: Executor,
    rigs: Rigs | None,
    trusted: Sequence[ImagePair],
) -> ModelKeys:
    """Keys of everything that the models depend on. One worker or several is a difference, their number is none."""
    mapped = make_key(
        "models",
        [(image.name, image.content_digest, image.camera, image.camera_idx) for image in scene.images],
        *plan.identity,
        components.extractor.identity,
        components.matcher.identity,
        verification_identity(config.two_view),
        mapper.config,
        config.cameras.refine,
        config.seed,
        executor.num_workers == 1,
        mapper.version,
        config.checks,
        config.cameras.mode == "auto",  # only then a shared camera is split after mapping
        [JUDGEMENT_VERSION, WEIGHING_VERSION, TURNS_VERSION],
        [THOROUGH_VERSION, thorough_limits(config.matcher)],
        *([] if rigs is None else [rigs]),
        *[(name, pose.as_matrix().tolist()) for name, pose in scene.known_poses.items()],
        *_lookalikes_identity(scene, config, trusted),
        *second_look_identity(config, scene),
    )
    density = (
        [config.density, config.max_keypoints_dense, DENSE_VERSION, DENSIFY_VERSION]
        if config.density.is_on
        else "sparse"
    )
    refinement = [config.refine, REFINEMENT_VERSION] if config.refine.is_on else "unrefined"
    placed = [
        (image.name, image.gps_position, image.xyz_m) for image in scene.images if image.gps_position or image.xyz_m
    ]
    metres = [placed, GEOREGISTRATION_VERSION] if placed else "no positions"
    return ModelKeys(mapped, make_key("finished", mapped, density, refinement, metres))


def _lookalikes_identity(scene: Scene, config: ReconstructConfig, trusted: Sequence[ImagePair]) -> list[object]:
    """What models depend on because of places that look alike; nothing, if they are those of earlier versions."""
    named: list[object] = [trusted] if trusted else []
    if config.lookalikes.mode == "off":
        return named
    limits = [config.lookalikes.mode, config.lookalikes.min_probability]
    positions = [(image.gps_position, image.xyz_m) for image in scene.images]
    return [limits, [CUES_VERSION, SELECTION_VERSION, TWINS_VERSION], packaged_model().as_mapping(), positions, *named]
