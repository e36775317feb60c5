"""The job that extends a finished model by images that it does not have; its ids and its frame stay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.errors import DataError, ReconstructionError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.mapping.cached_models import PackedModels, load_models
from sfm_lightglue.mapping.model_files import CLOUD_MODEL, poses_of_packed
from sfm_lightglue.messages import shortened, shown_path
from sfm_lightglue.pairs.base import ExcludesPairs
from sfm_lightglue.reconstruction.components import Components, build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.extend_base import (
    ExtendedScene,
    ExtensionBase,
    OtherKeypointsError,
    base_from_elsewhere,
    base_of_output,
    has_finished_model,
    require_same_dense_layer,
    with_known_cameras,
)
from sfm_lightglue.reconstruction.extend_options import changed_options, check_options, of_list
from sfm_lightglue.reconstruction.extend_run import ExtensionJob, extension_key
from sfm_lightglue.reconstruction.many_pairs import Confirm
from sfm_lightglue.reconstruction.publish import DATABASE_NAME, ResultFiles, publish
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import STAGES, reconstruct, trusted_pairs
from sfm_lightglue.reconstruction.run_record import Summary, recorded_summary
from sfm_lightglue.reconstruction.thorough_pairs import with_thorough_matcher
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.stages.run_log import RunLog, run_log
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair, Scene

logger = logging.getLogger(__name__)


def extend(
    scene_dir: Path | str,
    output: Path | str | None = None,
    config: ReconstructConfig | None = None,
    progress: Progress = silent,
    model: Path | str | None = None,
) -> ReconstructionResult:
    """Register the images of a folder that a finished model does not have in this model.

    Images are matched with those of the model that look alike or see the same points. Only images that come in, those
    many of whose points they see, and the points of both are adjusted. Ids, cameras and frame of the model stay, and so
    do all other poses, so that both models can be compared. All poses of a model from elsewhere stay. An extended model
    that is worse than the model before is not published.

    Args:
        scene_dir: folder of images, or folder with a sub-folder `images`; it has the images of the model too.
        output: folder of the results; `scene_dir/reconstruction` if it is None.
        config: all components and thresholds; they should be those of the run that made the model. An executor of the
            last run is not used: extensions run on the threads of this process.
        progress: called as each stage advances.
        model: a COLMAP model from elsewhere; None extends the largest model in the output folder.

    Returns:
        The published models, and counts and times. Without images that the last run did not know, nothing changes.

    Raises:
        ConfigError: if an option cannot be used for an extension.
        DataError: if an image of the model is missing, or does not fit its camera.
        ReconstructionError: if there is no finished model, or no image comes into a model from elsewhere, or
            the finished model has keypoints of another version or of other options.
        StoreError: if the output folder cannot be written.
    """
    config = config or ReconstructConfig()
    output = Path(output) if output is not None else Path(scene_dir) / "reconstruction"
    clock, executor = Clock.for_stages(STAGES), ThreadExecutor(config.num_threads)
    if model is None and not output.is_dir():
        raise ReconstructionError(
            f"{shown_path(output)}: no such folder, so there is no finished model to extend; run the same command once"
            " without extending, or name the model to extend"
        )
    check_options(config, output)
    with run_log("reconstruct", progress) as log, ExitStack() as stack:
        store = stack.enter_context(Store(output))
        log.open(output)
        log.watch(store)
        work = stack.enter_context(work_folder(output))
        with clock.stage("scan"):
            base = base_of_output(output, store, work) if model is None else base_from_elsewhere(Path(model))
            scene = read_scene(Path(scene_dir), output, config, executor.num_workers, log.progress)
            extended = with_known_cameras(scene, base.model, not config.cameras.refine)
            arrivals = sorted(set(scene.names) - base.known)
            components = with_thorough_matcher(build_components(config), config, store)
            selector = components.pairs
            excluded = selector.excluded(scene) if isinstance(selector, ExcludesPairs) else ()
        if not arrivals:
            summary = _nothing_to_extend(scene, config, output if model is None else None)
            log.end("done", "nothing to extend")
            return ReconstructionResult(output, summary)
        if model is None and (changed := changed_options(config, output)):
            logger.warning(
                "options that differ from those of the finished model are used for what comes in only: %s",
                _quoted(changed),
            )
        job = _job(extended, base, config, components, excluded, store, clock, executor, log)
        summary = _extend_and_publish(job, arrivals, output, work)
        log.end("done", str(summary))
    return ReconstructionResult(output, summary)


def extend_or_reconstruct(
    scene_dir: Path | str,
    output: Path | str | None = None,
    config: ReconstructConfig | None = None,
    progress: Progress = silent,
    confirm: Confirm | None = None,
) -> ReconstructionResult:
    """Extend the finished model in the output folder if there is one, else reconstruct; see both functions.

    A model with keypoints of another version is reconstructed too, with a warning. If options of this run change the
    keypoints, the error of `extend` is raised: scripts should not rebuild a model because of an option.
    """
    folder = Path(output) if output is not None else Path(scene_dir) / "reconstruction"
    if has_finished_model(folder):
        try:
            return extend(scene_dir, output, config, progress)
        except OtherKeypointsError as error:
            changed = changed_options(config or ReconstructConfig(), folder)
            if any(name.startswith(("density.level", "extractor.")) for name in changed):
                raise
            logger.warning("all images are mapped anew: %s", error)
    return reconstruct(scene_dir, output, config, progress, confirm)


def _nothing_to_extend(scene: Scene, config: ReconstructConfig, output: Path | None) -> Summary:
    """Tell that no image can come in, and which options have no effect; the summary of the last run.

    Args:
        scene: the images.
        config: of this run.
        output: folder of the finished model; None for a model from elsewhere.

    Raises:
        ReconstructionError: if there is no summary.
    """
    summary = recorded_summary(output) if output is not None else None
    if output is None or summary is None:
        raise ReconstructionError(f"{scene.root}: has no image{of_list(config)} that the model does not have")
    logger.warning(
        "nothing to extend: the finished model knows all %d images%s",
        len(scene.images),
        of_list(config) or " of the folder",
    )
    if changed := changed_options(config, output):
        logger.warning(
            "options that differ from those of the finished model have no effect (%s); run the same command without"
            " extending to map anew with them",
            _quoted(changed),
        )
    return summary


def _quoted(names: Sequence[str]) -> str:
    return shortened([f"`{name}`" for name in names])


def _job(
    extended: ExtendedScene,
    base: ExtensionBase,
    config: ReconstructConfig,
    components: Components,
    excluded: Sequence[ImagePair],
    store: Store,
    clock: Clock,
    executor: Executor,
    log: RunLog,
) -> ExtensionJob:
    with clock.stage("extract"):
        extractor = CachedExtractor(components.extractor, store)
        features = extract_scene(extended.scene, extractor, executor, log.progress, config.max_keypoints_dense)
    names = {base.model.images[image_id].name for image_id in base.model.reg_image_ids()}
    unread = sorted(names - set(features))
    if unread:
        raise DataError(f"images of the model that is extended cannot be decoded: {shortened(unread)}")
    trusted = trusted_pairs(config, extended.scene)
    return ExtensionJob(
        config, extended, base, features, components, excluded, trusted, store, clock, executor, log.progress
    )


def _extend_and_publish(job: ExtensionJob, arrivals: Sequence[str], output: Path, work: Path) -> Summary:
    with job.clock.stage("write"):
        is_ours = job.has_our_keypoints()
        if not is_ours:
            require_same_dense_layer(job.base, job.features)
    key = extension_key(job, is_ours)
    database = work / DATABASE_NAME
    models = load_models(job.store, key)
    prepared = job.prepare(database, is_ours)
    if models is None:
        models = job.build(prepared, work, key)
    record = _record(models, job.base, arrivals)
    results = ResultFiles(models, key, database, lambda: None, record)
    summary = publish(results, output, work, job.extended.scene, job.store, job.config, job.clock)
    if not record["added"]:
        logger.warning("no image came into the model; it is as it was before")
    return summary


def _adjusted(models: PackedModels, base: ExtensionBase) -> list[str]:
    """Names of the images of the model before whose poses moved, sorted."""
    if base.packed is None:
        return []  # all poses of a model from elsewhere stay
    before, after = (poses_of_packed(each.files, CLOUD_MODEL) for each in (base.packed, models))
    return sorted(
        name for name in before.keys() & after.keys() if not np.allclose(before[name], after[name], 1e-9, 1e-12)
    )


def _record(models: PackedModels, base: ExtensionBase, arrivals: Sequence[str]) -> dict[str, Any]:
    """What was extended, for the record of the run."""
    statistics = models.statistics
    before = {base.model.images[image_id].name for image_id in base.model.reg_image_ids()}
    now = {name for name, image in statistics.images.items() if image.status == "registered"}
    return {
        "of": base.key,
        "added": sorted(now - before),
        "adjusted": _adjusted(models, base),
        "left_out": {
            name: statistics.images[name].reason for name in arrivals if name in statistics.images.keys() - now
        },
    }
