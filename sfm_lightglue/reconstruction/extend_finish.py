"""Densify and refine what images that came into a model see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.mapping.colors import color_points
from sfm_lightglue.mapping.extend import Extending
from sfm_lightglue.mapping.extend_adjustment import (
    MovablePart,
    constant_cameras,
    part_of_points,
    part_seen_by,
    touched_images,
)
from sfm_lightglue.mapping.extend_keypoints import seen_points
from sfm_lightglue.mapping.short_tracks import remove_short_tracks
from sfm_lightglue.refinement.adjustment import adjust_by_precision
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.observations import move_keypoints
from sfm_lightglue.refinement.tracks import DETECTED_SIGMA_PX, RefinementReport, refine_tracks
from sfm_lightglue.stages.clock import Clock

if TYPE_CHECKING:
    import pycolmap


_TOLERANCE = 3e-4
"""Relative change of the cost at which the last adjustment stops: most poses are exact already. One of a third of this
moves no camera by a fiftieth of a thousandth of the extent, and takes a quarter longer."""


@dataclass(frozen=True, eq=False, slots=True)
class ExtensionFinishing:
    """What finishing an extended model needs.

    Args:
        extending: the extension.
        path_from_name: files of the images.
        refinement: options of the refinement.
        clock: receives the times of the stages.
        executor: for images.
        moves_touched: whether the poses of earlier images are adjusted that share many points with those that came in.
        refined: the model before if its keypoints were refined; they are not moved again. None if they were not.
    """

    extending: Extending
    path_from_name: Mapping[str, Path]
    refinement: RefinementConfig
    clock: Clock
    executor: Executor
    moves_touched: bool
    refined: pycolmap.Reconstruction | None

    def finish(self, model: pycolmap.Reconstruction, added: Collection[int], known: Mapping[int, int]) -> None:
        """Densify, refine and colour the points that images see, and adjust the images that they touch.

        New points are seen by images that came in, and have the colours of these. With a dense layer, points whose
        last filter left them with too few observations are removed, unless they had no more before.

        Args:
            model: changed in place.
            added: ids of the images that came in.
            known: number of images that observed each point of the model before, by its id; these points have their
                colours.
        """
        is_dense, num_images = self.extending.density.is_on, model.num_reg_images()
        min_views = self.extending.density.min_views(num_images) if is_dense else 2
        short = {point_id for point_id, num_views in known.items() if num_views < min_views}
        if is_dense:
            with self.clock.stage("densify"):
                self.extending.densify(model, sorted(added), adjusts=not self.refinement.is_on)
                self._remove_unseen(model, added, known)
        touched = touched_images(model, added) if self.moves_touched else set()
        if self.refinement.is_on:
            with self.clock.stage("refine"):
                self._refine(model, added, touched)
        elif touched:
            with self.clock.stage("map"):
                self.extending.adjust(model, sorted(added), touched)
        with self.clock.stage("write"):
            self._remove_unseen(model, added, known)
            remove_short_tracks(model, min_views, kept=short)
            self._color(model, set(added), known)

    def _refine(self, model: pycolmap.Reconstruction, added: Collection[int], touched: Collection[int]) -> None:
        task, limits = self.extending.task, self.extending.mapping
        self.extending.progress("refine", 0, 2)
        seen = part_seen_by(model, added)
        # Added keypoints would not fit the database and the other models of the run.
        refinement = replace(self.refinement, complete_tracks=False)
        report = refine_tracks(seen, self.path_from_name, refinement, self.executor, settled=self._settled(seen))
        self.extending.progress("refine", 1, 2)
        _take_keypoints(model, seen, report)
        part = MovablePart.around(model, added, touched)
        sigmas = _all_sigmas(report.sigmas_px, part.model)
        constant = constant_cameras(model, added, task.constant_camera_ids) & set(part.model.cameras)
        principal_point = limits.refine_principal_point
        options = task.num_threads, principal_point, part.constant, _TOLERANCE
        if adjust_by_precision(part.model, sigmas, constant, *options):
            part.take_back(model, added)
            self.extending.filter(model, sorted(part.moved))
        else:
            self.extending.adjust(model, sorted(added), touched)
        self.extending.progress("refine", 2, 2)

    def _remove_unseen(self, model: pycolmap.Reconstruction, added: Collection[int], known: Collection[int]) -> None:
        """Remove new points that only earlier images observe: the run that made the model had left them out.

        In a model with other keypoints, such points are those of matches between its own images, and stay.
        """
        if self.moves_touched:
            for point_id in sorted(set(model.point3D_ids()) - set(known) - seen_points(model, added)):
                model.delete_point3D(point_id)

    def _settled(self, seen: pycolmap.Reconstruction) -> dict[int, BoolArray]:
        """Masks [K] of the keypoints that were refined before, by id of the image, of the images of a part."""
        if self.refined is None:
            return {}
        ids = sorted({*seen.reg_image_ids()} & {*self.refined.reg_image_ids()})
        images = {image_id: self.refined.images[image_id] for image_id in ids}
        return {image_id: point_ids_of(image) >= 0 for image_id, image in images.items()}

    def _color(self, model: pycolmap.Reconstruction, added: Collection[int], known: Collection[int]) -> None:
        """Colour the points that have none yet by the images that came in: few others need to be decoded.

        Points that these do not show, or whose files can no longer be read, get the colours of all their images.
        """
        fresh = set(model.point3D_ids()) - set(known)
        seen = fresh & seen_points(model, added)
        left = self._color_by(model, seen, added)
        self._color_by(model, (fresh - seen) | left, None)

    def _color_by(
        self, model: pycolmap.Reconstruction, chosen: Collection[int], image_ids: Collection[int] | None
    ) -> set[int]:
        """Colour points by some images, None for all; the points that none of them shows."""
        if not chosen:
            return set()
        part = part_of_points(model, chosen)
        used = None if image_ids is None else set(part.reg_image_ids()) & set(image_ids)
        (left,) = color_points([part], self.path_from_name, self.executor, image_ids=used)
        for point_id in chosen:
            model.points3D[point_id].color = part.points3D[point_id].color
        return left


def _take_keypoints(model: pycolmap.Reconstruction, seen: pycolmap.Reconstruction, report: RefinementReport) -> None:
    """Move keypoints of a model to where the refinement moved them in a part of it."""
    for image_id, sigmas_px in sorted(report.sigmas_px.items()):
        keypoints = np.flatnonzero(sigmas_px < DETECTED_SIGMA_PX)  # NaN: it observes no point, or was refined before
        move_keypoints(model, image_id, keypoints, pixels_of(seen.images[image_id])[keypoints])


def _all_sigmas(refined: Mapping[int, Float32Array], model: pycolmap.Reconstruction) -> dict[int, Float32Array]:
    """Standard deviations of all keypoints of a model in pixels; those that were refined before have the median."""
    found = [np.zeros(0, np.float32), *refined.values()]
    known = np.concatenate([sigmas[np.isfinite(sigmas)] for sigmas in found])
    median = float(np.median(known)) if len(known) > 0 else DETECTED_SIGMA_PX
    sigmas_px = {}
    for image_id in model.reg_image_ids():
        sigmas = np.full(len(model.images[image_id].points2D), median, np.float32)
        if image_id in refined:
            sigmas = np.where(np.isfinite(refined[image_id]), refined[image_id], sigmas)
        sigmas_px[image_id] = sigmas
    return sigmas_px
