"""A finished model, also one of another tool, gets many more points: features, guided matching, refinement."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.colmap.model import MapLocation, find_map, read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.colmap.scene_of_model import scene_of_model
from sfm_lightglue.errors import DataError, ReconstructionError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import DENSE_VERSION
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.colors import color_points
from sfm_lightglue.mapping.densify import DENSIFY_VERSION, DensifyResult, densify_model
from sfm_lightglue.mapping.incremental import MAPPER_VERSION, adjustment_like
from sfm_lightglue.mapping.known_poses_mapper import KnownPosesConfig
from sfm_lightglue.mapping.model_files import CLOUD_MODEL
from sfm_lightglue.messages import shown_path
from sfm_lightglue.reconstruction.densified_files import DensifiedFolder, digest_of_model, folder_of_images
from sfm_lightglue.reconstruction.densified_summary import DensifySummary, summary_of_models
from sfm_lightglue.reconstruction.densify_config import DensifyConfig
from sfm_lightglue.reconstruction.refine_model import complete_tracks, refine_model
from sfm_lightglue.refinement.config import REFINEMENT_VERSION
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.stages.allowed_pixels import AllowedPixels
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.stages.run_log import RunLog, run_log
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.output_folder import read_record, work_folder
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import Scene

if TYPE_CHECKING:
    import pycolmap

STAGES = ("scan", "extract", "densify", "refine", "write")


@dataclass(frozen=True, eq=False)
class DensifiedMap:
    """A densified model.

    Args:
        output: the absolute path of the results; the model is in its folder `sparse/0`.
        summary: counts before and after, change of the poses, and times.

    Example:
        >>> dense = sfm_lightglue.densify("photos/")
        >>> dense.model.num_points3D() == dense.summary.after.num_points
        True
    """

    output: Path
    summary: DensifySummary

    @cached_property
    def model(self) -> pycolmap.Reconstruction:
        """The model, read from the output folder when it is first asked for.

        Raises:
            DataError: if it was removed or damaged meanwhile.
        """
        return read_model(self.output / CLOUD_MODEL)

    def __repr__(self) -> str:
        before, after = self.summary.before, self.summary.after
        return f"DensifiedMap({before.num_points} -> {after.num_points} points, output={str(self.output)!r})"


def densify(
    map: Path | str,
    images: Path | str | None = None,
    output: Path | str | None = None,
    config: DensifyConfig | None = None,
    progress: Progress = silent,
) -> DensifiedMap:
    """Add many points to a finished model, which another tool may have made.

    Keypoints of all images are matched along the epipolar lines of the model's poses, triangulated and adjusted. The
    model itself is not changed. Its keypoints keep their indices, and its tracks are continued. Features are kept in
    the output folder of the model, or in that of the densified model: a second or interrupted run computes nothing
    twice.

    Args:
        map: an output folder, a scene folder that has one, or a COLMAP model.
        images: folder that the names of the images are relative to; None looks for it.
        output: folder for the results; None is "densified" in the output folder, or beside another tool's model.
        config: extractor, density and limits; None takes the extractor of the run that made the model.
        progress: called as each stage advances.

    Returns:
        The densified model, which is also in `output/sparse/0`, with a point cloud `points.ply`, and its numbers.

    Raises:
        DataError: if there is no model, or an image is missing or does not fit its camera.
        ConfigError: if the output folder has other files.
        WeightsError: if the weights of a network are missing.
        ReconstructionError: if no image pair has enough common points, or the model would get worse.
        StoreError: if the output folder cannot be written.

    Example:
        >>> sfm_lightglue.densify("photos/")
        DensifiedMap(... -> ... points, output='.../photos/reconstruction/densified')
    """
    path = Path(map)
    location = find_map(path, None if images is None else Path(images))
    config = config or DensifyConfig.from_mapping(values_of_run(location))
    folder = DensifiedFolder.choose(location, None if output is None else Path(output))
    clock, executor = Clock.for_stages(STAGES), ThreadExecutor(config.num_threads)
    with run_log("densify", progress) as log:
        if folder.path.is_dir():
            log.open(folder.path)
        with clock.stage("scan"):
            model = read_model(location.model)
            root = folder_of_images(location, path)
            scene = scene_of_model(model, root, config.mask_folder, executor, log.progress)
            _require_images(model, path)
        job = _Job(config, location, folder, model, scene, clock, executor, log)
        summary = job.earlier_summary() or job.run()
        log.end("done", str(summary))
    return DensifiedMap(folder.path.absolute(), summary)


def values_of_run(location: MapLocation) -> dict[str, Any]:
    """Extractor, limits of the mapping and masks of the run that made a model, as nested mappings; {} if unknown."""
    record = None if location.output is None else read_record(location.output)
    recorded = record.get("config") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(recorded, dict):
        return {}
    # The table "mapping" of visual SLAM is another one.
    names = ("extractor",) if record.get("job") == "track" else ("extractor", "mapping", "masks")
    return {name: recorded[name] for name in names if name in recorded}


def _require_images(model: pycolmap.Reconstruction, path: Path) -> None:
    if model.num_reg_images() < 2 or model.num_points3D() == 0:
        raise ReconstructionError(
            f"{shown_path(path)}: the model has {model.num_reg_images()} images with poses and"
            f" {model.num_points3D()} points; two images and some common points are needed to densify it"
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    """Everything that densifying one model needs."""

    config: DensifyConfig
    location: MapLocation
    folder: DensifiedFolder
    model: pycolmap.Reconstruction
    scene: Scene
    clock: Clock
    executor: Executor
    log: RunLog

    def earlier_summary(self) -> DensifySummary | None:
        """The summary of an earlier run of the same job whose results are unchanged."""
        values = self.folder.summary_of(self._key())
        try:
            return None if values is None else DensifySummary.from_dict(values)
        except (KeyError, TypeError):
            return None

    def run(self) -> DensifySummary:
        """Densify, judge and publish the model."""
        with store_errors(self.folder.path):
            self.folder.path.mkdir(parents=True, exist_ok=True)
        self.log.open(self.folder.path)
        store = Store(self._store_folder())
        self.log.watch(store)
        features = self._features(store)
        with work_folder(self.folder.path) as work:
            task = self._task(work)
            result = self._densified(features, task)
            num_aligned = self._refine(result.model, task)
            with self.clock.stage("write"):
                paths = {image.name: image.path for image in self.scene.images}
                color_points([result.model], paths, self.executor)
            summary = self._summary(result, num_aligned, store)
            problem = summary.problem()
            if problem is not None:
                raise ReconstructionError(
                    f"{shown_path(self.location.model)}: the densified model is not published, because {problem}; are"
                    " its poses and intrinsics those of the images?",
                    summary.as_dict(),
                )
            self.folder.publish(result.model, work, self.config.as_mapping(), self._key(), summary.as_dict())
        return summary

    def _key(self) -> str:
        config = self.config
        return make_key(
            "densified",
            digest_of_model(self.location.model),
            [(image.name, image.content_digest) for image in self.scene.images],
            EXTRACTORS.build(config.extractor, config.device).identity,
            [
                config.max_keypoints_dense,
                config.density,
                config.refine,
                config.mapping.config,
                config.refine_intrinsics,
            ],
            self.executor.num_workers == 1,
            [DENSE_VERSION, DENSIFY_VERSION, REFINEMENT_VERSION if config.refine.is_on else None, MAPPER_VERSION],
        )

    def _store_folder(self) -> Path:
        """The output folder of the model, which has the features of its run, if it can be written."""
        output = self.location.output
        return output if output is not None and os.access(output, os.W_OK) else self.folder.path

    def _features(self, store: Store) -> SceneFeatures:
        config = self.config
        with self.clock.stage("extract"):
            extractor = CachedExtractor(EXTRACTORS.build(config.extractor, config.device), store)
            limit = config.max_keypoints_dense
            features = extract_scene(self.scene, extractor, self.executor, self.log.progress, limit)
        if features.skipped:
            raise DataError(f"{features.skipped[0].name}: {features.skipped[0].reason}")
        return features

    def _task(self, work: Path) -> MappingTask:
        constant = frozenset() if self.config.refine_intrinsics else frozenset(self.model.cameras)
        num_threads, database = self.executor.num_workers, work / "unused.db"
        is_posed = isinstance(self.config.mapping.config, KnownPosesConfig)  # then the run that made it was given poses
        known_poses = poses_of_model(self.model) if is_posed else {}
        num_images = len(self.scene.images)
        return MappingTask(database, work, num_images, constant, num_threads, known_poses=known_poses)

    def _densified(self, features: SceneFeatures, task: MappingTask) -> DensifyResult:
        density = self.config.density
        is_last = not self.config.refine.is_on  # refining adjusts the model once more
        adjust = adjustment_like(self.config.mapping.config, task, is_last)
        with self.clock.stage("densify"):
            result = densify_model(
                self.model,
                features.dense,
                density,
                adjust,
                self.executor,
                self.log.progress,
                adjusts_all=is_last,
                constant_camera_ids=task.constant_camera_ids,
            )
        if result.num_rounds == 0:
            raise ReconstructionError(
                f"{shown_path(self.location.model)}: no two images have {density.min_shared_points} common points at an"
                " angle that is large enough, so nothing can be matched along epipolar lines; triangulate the model"
                " with some matches first, or lower `density.min_shared_points`"
            )
        return result

    def _refine(self, model: pycolmap.Reconstruction, task: MappingTask) -> int:
        if not self.config.refine.is_on:
            return 0
        with self.clock.stage("refine"):
            paths = {image.name: image.path for image in self.scene.images}
            mapper_config, progress = self.config.mapping.config, self.log.progress
            min_views = self.config.density.min_views(model.num_reg_images())
            report = refine_model(
                model,
                paths,
                self.config.refine,
                mapper_config,
                task,
                self.executor,
                progress,
                min_views,
                AllowedPixels(self.scene.images),
            )
            complete_tracks(model, report)
        return report.num_aligned

    def _summary(self, result: DensifyResult, num_aligned: int, store: Store) -> DensifySummary:
        seconds = {stage: round(value, 3) for stage, value in self.clock.total().items()}
        return DensifySummary(
            *summary_of_models(self.model, result.model),
            result.num_pairs,
            result.num_matches,
            result.num_rounds,
            num_aligned,
            {kind: dataclasses.asdict(counts) for kind, counts in sorted(store.counts.items())},
            seconds,
        )
