"""A finished model grows: images are registered, triangulated and adjusted; ids and frame of the model stay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_pairs import pairs_with_common_surface
from sfm_lightglue.mapping.densify import SurfaceViews, match_surface_pairs
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.extend_adjustment import adjust_images, filter_points_of
from sfm_lightglue.mapping.extend_keypoints import RowsFromName, images_of_points, keypoints_of, seen_points
from sfm_lightglue.mapping.extend_points import add_matches
from sfm_lightglue.mapping.extend_registration import Arrival, Link, register_arrivals
from sfm_lightglue.mapping.incremental import MappingConfig
from sfm_lightglue.types import DenseFeatures

logger = logging.getLogger(__name__)

EXTEND_VERSION = 8
"""Part of an extended model's key. Raise it when the same model and images would become another model."""

_MAX_SURFACE_PARTNERS = 6
"""Images that an image which came in is matched with along the epipolar lines: what others see of the same points is
in the tracks of the model already."""


@dataclass(frozen=True, eq=False, slots=True)
class Extending:
    """What the extension of a model needs.

    Args:
        rows_from_name: of all images that are in the model, or may come in.
        dense: features of all layers by name of image.
        density: options of the points.
        mapping: limits of observations and points.
        task: constant cameras, threads and seed.
        executor: matches several pairs at a time.
        progress: called as the stages "map" and "densify" advance.
    """

    rows_from_name: RowsFromName
    dense: Callable[[str], DenseFeatures]
    density: DensityConfig
    mapping: MappingConfig
    task: MappingTask
    executor: Executor = SERIAL
    progress: Progress = silent

    def register(self, model: pycolmap.Reconstruction, arrivals: Sequence[Arrival], links: Sequence[Link]) -> list[int]:
        """Register images in rounds, until no further one sees enough points.

        Args:
            model: changed in place.
            arrivals: images that it does not have.
            links: verified matches of these images with each other and with those of the model.

        Returns:
            Ids of the images that came in.
        """
        added: list[int] = []
        waiting = {arrival.image.name: arrival for arrival in arrivals}
        self.progress("map", 0, len(arrivals))
        while waiting:
            names = register_arrivals(model, list(waiting.values()), links, self.task.seed)
            if not names:
                break
            added += [waiting.pop(name).image.image_id for name in names]
            self._triangulate(model, links, added)
            self.adjust(model, added)
            self.progress("map", len(added), len(arrivals))
        return sorted(added)

    def observe(self, model: pycolmap.Reconstruction, links: Sequence[Link]) -> int:
        """Give the points of a model the keypoints of our features that see them, and triangulate further ones.

        Args:
            model: of another tool; changed in place.
            links: verified matches, also of its own images.

        Returns:
            Number of observations that were added.
        """
        return self._add_links(model, links)

    def _triangulate(self, model: pycolmap.Reconstruction, links: Sequence[Link], added: Sequence[int]) -> None:
        names = {model.images[image_id].name for image_id in added}
        self._add_links(model, [link for link in links if {link.pair.name0, link.pair.name1} & names])

    def _add_links(self, model: pycolmap.Reconstruction, links: Sequence[Link]) -> int:
        """Add the matches of links whose images are both registered."""
        id_from_name = {model.images[image_id].name: image_id for image_id in model.reg_image_ids()}
        used = [link for link in links if {link.pair.name0, link.pair.name1} <= id_from_name.keys()]
        names = {name for link in used for name in (link.pair.name0, link.pair.name1)}
        keypoints = keypoints_of(model, (id_from_name[name] for name in names), self.rows_from_name)
        return add_matches(model, keypoints, _numbers(keypoints, used), self.density)

    def adjust(self, model: pycolmap.Reconstruction, image_ids: Sequence[int], touched: Collection[int] = ()) -> None:
        """Adjust images and their points, and remove what is beyond the limits.

        Args:
            model: changed in place.
            image_ids: of images that came in.
            touched: other images whose poses are adjusted.
        """
        limits = self.mapping
        loss_px = limits.robust_loss_px or MappingConfig().robust_loss_px
        constant, num_threads = self.task.constant_camera_ids, self.task.num_threads
        moved = adjust_images(model, image_ids, loss_px, constant, num_threads, limits.refine_principal_point, touched)
        self.filter(model, sorted(moved))

    def filter(self, model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> None:
        """Remove what is beyond the limits of the mapping from the points of images."""
        limits = self.mapping
        filter_points_of(model, image_ids, limits.max_reprojection_error_px, limits.min_triangulation_angle_deg)

    def densify(self, model: pycolmap.Reconstruction, added: Sequence[int], adjusts: bool = True) -> None:
        """Match the dense layer of images that came in along the epipolar lines, and adjust them.

        Args:
            model: changed in place.
            added: ids of the images.
            adjusts: False if an adjustment follows anyway.
        """
        near = images_of_points(model, seen_points(model, added)) | set(added)
        keypoints = keypoints_of(model, near, self.rows_from_name)
        rows = {row for row, image_id in enumerate(keypoints.image_ids) if image_id in set(added)}
        max_partners = min(self.density.max_partners, _MAX_SURFACE_PARTNERS)
        pairs = pairs_with_common_surface(model, keypoints.image_ids, self.density, rows, max_partners)
        if not pairs:
            return
        views = SurfaceViews(model, keypoints, self.dense)
        matches = match_surface_pairs(model, keypoints, pairs, views, self.density, self.executor, self.progress)
        num_added = add_matches(model, keypoints, matches, self.density)
        logger.debug("%d pairs, %d matches, %d more observations", len(pairs), len(matches), num_added)
        if adjusts:
            self.adjust(model, added)
        else:
            self.filter(model, added)


def _numbers(keypoints: DenseKeypoints, links: Sequence[Link]) -> IndexArray:
    """[M, 2] numbers of the matched keypoints of all links."""
    start_from_name = dict(zip(keypoints.names, keypoints.starts[:-1].tolist(), strict=True))
    found = [np.zeros((0, 2), np.int64)]
    for link in links:
        found.append(link.indices + np.array([start_from_name[link.pair.name0], start_from_name[link.pair.name1]]))
    return np.concatenate(found)
