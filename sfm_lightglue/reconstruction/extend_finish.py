"""Densify and refine what images that came into a model see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.mapping.colors import color_points
from sfm_lightglue.mapping.extend import Extending
from sfm_lightglue.mapping.extend_adjustment import constant_cameras, copy_back, part_of_points, part_seen_by
from sfm_lightglue.refinement.adjustment import adjust_by_precision
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.tracks import refine_tracks
from sfm_lightglue.stages.clock import Clock

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True, eq=False, slots=True)
class ExtensionFinishing:
    """What finishing an extended model needs.

    Args:
        extending: the extension.
        path_from_name: files of the images.
        refinement: options of the refinement.
        clock: receives the times of the stages.
        executor: for images.
    """

    extending: Extending
    path_from_name: Mapping[str, Path]
    refinement: RefinementConfig
    clock: Clock
    executor: Executor

    def finish(self, model: pycolmap.Reconstruction, added: Collection[int], known: Collection[int]) -> None:
        """Densify, refine and colour the points that images see.

        Args:
            model: changed in place.
            added: ids of the images that came in.
            known: ids of the points that have their colour.
        """
        if self.extending.density.is_on:
            with self.clock.stage("densify"):
                self.extending.densify(model, sorted(added))
        if self.refinement.is_on:
            with self.clock.stage("refine"):
                self._refine(model, added)
        with self.clock.stage("write"):
            self._color(model, known)

    def _refine(self, model: pycolmap.Reconstruction, added: Collection[int]) -> None:
        task, limits = self.extending.task, self.extending.mapping
        self.extending.progress("refine", 0, 2)
        part = part_seen_by(model, added)
        report = refine_tracks(part, self.path_from_name, self.refinement, self.executor)
        self.extending.progress("refine", 1, 2)
        for image_id in part.reg_image_ids():
            for point, moved in zip(model.images[image_id].points2D, part.images[image_id].points2D, strict=True):
                if moved.has_point3D():
                    point.xy = moved.xy
        others = set(part.reg_image_ids()) - set(added)
        constant = constant_cameras(model, added, task.constant_camera_ids)
        principal_point = limits.refine_principal_point
        if adjust_by_precision(part, report.sigmas_px, constant, task.num_threads, principal_point, others):
            copy_back(part, model, added)
            self.extending.filter(model, sorted(added))
        else:
            self.extending.adjust(model, sorted(added))
        self.extending.progress("refine", 2, 2)

    def _color(self, model: pycolmap.Reconstruction, known: Collection[int]) -> None:
        fresh = part_of_points(model, set(model.point3D_ids()) - set(known))
        color_points([fresh], self.path_from_name, self.executor)
        for point_id in fresh.point3D_ids():
            model.points3D[point_id].color = fresh.points3D[point_id].color
