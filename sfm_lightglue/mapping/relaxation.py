"""Thresholds of the incremental mapper, relaxed step by step where a step builds no model."""

from __future__ import annotations

from dataclasses import dataclass

import pycolmap


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Thresholds of one step. COLMAP halves the first two on its own, twice each, before it gives up.

    Args:
        description: for users; "" for the thresholds of the configuration.
        init_min_tri_angle_deg: smallest median triangulation angle of the first two images.
        init_min_num_inliers: smallest number of inliers of these two images.
        abs_pose_min_num_inliers: smallest number of points that a further image must see.
        abs_pose_min_inlier_ratio: smallest fraction of its matched points that must fit its pose.
        min_triangulation_angle_deg: points with a smaller triangulation angle are removed, if the configuration does
            not allow smaller ones.
    """

    description: str
    init_min_tri_angle_deg: float
    init_min_num_inliers: int
    abs_pose_min_num_inliers: int
    abs_pose_min_inlier_ratio: float
    min_triangulation_angle_deg: float

    def apply(self, options: pycolmap.IncrementalPipelineOptions) -> None:
        """Relax options of pycolmap's incremental mapper, also for forward motion."""
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.init_min_tri_angle = self.init_min_tri_angle_deg
        options.mapper.init_min_num_inliers = self.init_min_num_inliers
        options.mapper.abs_pose_min_num_inliers = self.abs_pose_min_num_inliers
        options.mapper.abs_pose_min_inlier_ratio = self.abs_pose_min_inlier_ratio
        options.triangulation.ignore_two_view_tracks = False
        angle_deg = self.min_triangulation_angle_deg
        options.mapper.filter_min_tri_angle = min(angle_deg, options.mapper.filter_min_tri_angle)
        options.triangulation.min_angle = min(angle_deg, options.triangulation.min_angle)


FIRST_RELAXATION = Relaxation("", 4.0, 50, 20, 0.25, 1.0)
"""For forward motion and narrow baselines, for which COLMAP's defaults find no initial pair."""

NO_MODEL_RELAXATIONS = (
    Relaxation("triangulation angles from 0.5 degrees, 15 points per image", 2.0, 30, 15, 0.2, 0.5),
    Relaxation("triangulation angles from 0.25 degrees, 10 points per image", 1.0, 20, 10, 0.15, 0.25),
)
"""Further steps, for scenes of which the first relaxation builds no model."""
