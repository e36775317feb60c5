"""The stages after mapping: densify, refine, and judge again. A model that gets worse stays as the mapping made it."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.dense_keypoints import with_all_keypoints
from sfm_lightglue.mapping.densify import densify_model
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.found_keypoints import FoundKeypoints
from sfm_lightglue.mapping.georegistration import georegister
from sfm_lightglue.mapping.incremental import adjustment_like
from sfm_lightglue.mapping.judgement import JudgedModel, judge_models
from sfm_lightglue.reconstruction.densified_summary import problem_of_change, summary_of_models
from sfm_lightglue.reconstruction.refine_model import complete_tracks, refine_model
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.tracks import RefinementReport
from sfm_lightglue.scene.local_frame import local_positions
from sfm_lightglue.stages.allowed_pixels import AllowedPixels
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.types import DenseFeatures, ImagePair, Scene, SceneImage

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Finishing:
    """What densifying, refining and the second judgement of models need.

    Args:
        dense: features of all layers by name of image.
        images: of the scene.
        density: options of densifying.
        refinement: options of the refinement.
        mapper_config: of the mapper, for the limits of adjustments.
        task: that was mapped.
        database: with the verified pairs of the scene.
        checks: limits of the judgement.
        guessed_camera_ids: cameras whose focal length is not known from EXIF data.
        clock: receives the times of the stages "densify", "refine" and "map".
        executor: for pairs and images.
        progress: called as each stage advances.
        probability: as for `judge_models`.
        against: as for `judge_models`.
    """

    dense: Callable[[str], DenseFeatures]
    images: Sequence[SceneImage]
    density: DensityConfig
    refinement: RefinementConfig
    mapper_config: Any
    task: MappingTask
    database: Path
    checks: ChecksConfig
    guessed_camera_ids: frozenset[int]
    clock: Clock
    executor: Executor
    progress: Progress
    probability: Mapping[ImagePair, float] = field(default_factory=dict)
    against: Mapping[ImagePair, float] = field(default_factory=dict)

    def finish(self, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
        """Densify and refine the published models; rejected ones, and models without points, keep their points.

        With a dense layer, all models get its keypoints. What the refinement of one model adds to those of an image is
        given to the same image in the other models, too: so all fit the published database.
        """
        # pycolmap changes the header of a database that it opens, so the one that is published is not opened.
        copy_path = self.task.work / "judging.db"
        with store_errors(copy_path):
            shutil.copyfile(self.database, copy_path)
        found = FoundKeypoints([each.model for each in judged])
        finished = [self._finished_and_judged(each, found, copy_path) for each in judged]
        for each in finished:
            found.give(each.model)
        with store_errors(copy_path):
            copy_path.unlink()
        return finished

    def _finished_and_judged(self, judged: JudgedModel, found: FoundKeypoints, database: Path) -> JudgedModel:
        if judged.verdict.outcome == "rejected" or judged.model.num_points3D() == 0:
            return self._with_all_keypoints(judged)
        model, report = self._finished(judged.model, found)
        finished = self._judged_again(judged, model, database)
        if finished.model is model and report is not None:
            with self.clock.stage("refine"):
                complete_tracks(model, report)
                finished = _with_points_counted(finished)
        found.take(finished.model)
        return finished

    def _with_all_keypoints(self, judged: JudgedModel) -> JudgedModel:
        if not self.density.is_on:
            return judged
        return replace(judged, model=with_all_keypoints(judged.model, self.dense))

    def _finished(
        self, mapped: pycolmap.Reconstruction, found: FoundKeypoints
    ) -> tuple[pycolmap.Reconstruction, RefinementReport | None]:
        """The densified and refined model, and what the refinement found; None without one."""
        model, min_views = mapped, 2  # the rule of the mapping
        report = None
        if self.density.is_on:
            with self.clock.stage("densify"):
                is_last = not self.refinement.is_on  # it adjusts the model once more
                adjust = adjustment_like(self.mapper_config, self.task, is_last)
                constant = self.task.constant_camera_ids
                result = densify_model(
                    model,
                    self.dense,
                    self.density,
                    adjust,
                    self.executor,
                    self.progress,
                    adjusts_all=is_last,
                    constant_camera_ids=constant,
                )
                if result.num_rounds > 0:
                    model, min_views = result.model, self.density.min_views(model.num_reg_images())
                else:
                    model = with_all_keypoints(model, self.dense)
        if self.refinement.is_on:
            with self.clock.stage("refine"):
                if model is mapped:
                    model = copy.deepcopy(mapped)  # it may be needed again
                found.give(model)
                report = self._refine(model, min_views)
        return model, report

    def _refine(self, model: pycolmap.Reconstruction, min_views: int) -> RefinementReport:
        report = refine_model(
            model,
            {image.name: image.path for image in self.images},
            self.refinement,
            self.mapper_config,
            self.task,
            self.executor,
            self.progress,
            min_views,
            AllowedPixels(self.images),
        )
        logger.debug("refinement: %s", report)
        return report

    def _judged_again(self, before: JudgedModel, model: pycolmap.Reconstruction, database: Path) -> JudgedModel:
        """The finished model, or the one before if the finished one is worse or fails a check."""
        if model is before.model:
            return before
        with self.clock.stage("map"):
            problem = problem_of_change(*summary_of_models(before.model, model))
            (after,) = judge_models(
                [model],
                database,
                self.checks,
                self.task.constant_camera_ids,
                guessed_camera_ids=self.guessed_camera_ids,
                probability=self.probability,
                against=self.against,
                has_known_poses=bool(self.task.known_poses),
            )
        if after.verdict.outcome != "accepted":
            problem = ", ".join(after.verdict.failed) or "support of its images"
        if problem is not None:
            logger.warning(
                "a model of %d images passed its checks only before it was densified and refined (%s); it is kept as"
                " it was before",
                before.model.num_reg_images(),
                problem,
            )
            return self._with_all_keypoints(before)
        images = dict(before.verdict.images) | dict(after.verdict.images)
        checks = dict(before.verdict.checks) | dict(after.verdict.checks)
        verdict = replace(before.verdict, checks=checks, images=dict(sorted(images.items())))
        return JudgedModel(after.model, verdict)


def _with_points_counted(judged: JudgedModel) -> JudgedModel:
    """A model whose images got further observations after its judgement, with the numbers of their points."""
    images = (judged.model.images[image_id] for image_id in judged.model.reg_image_ids())
    num_points = {image.name: image.num_points3D for image in images}
    verdicts = {
        name: replace(image, num_points=num_points.get(name, image.num_points))
        for name, image in judged.verdict.images.items()
    }
    return replace(judged, verdict=replace(judged.verdict, images=verdicts))


def move_to_metres(scene: Scene, judged: JudgedModel) -> dict[str, Any] | None:
    """Move a published model into the frame of known positions; None if they do not determine it."""
    positions = local_positions(scene.images)
    if positions is None or judged.verdict.outcome == "rejected":
        return None
    found = georegister(judged.model, positions)
    if found is None:
        return None
    found.apply(judged.model)
    return found.as_dict()
