"""What densifying a model changed, in numbers, and whether the model got worse."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import MIN_ALIGNED, align_poses
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_angle_deg

if TYPE_CHECKING:
    import pycolmap

_MAX_ERROR_RATIO = 1.5
_MAX_ERROR_GAIN_PX = 0.5
"""A model gets worse if its mean reprojection error grows by more than this factor and by more than so many pixels."""

_MAX_CENTER_SHIFT = 0.05
"""Largest mean distance by which cameras may move, relative to the extent of all camera centres."""

_MAX_ROTATION_DEG = 2.0
"""Largest mean angle by which cameras may turn."""

_MIN_POINTS_RATIO = 0.8
"""Smallest number of points relative to that of the model before."""


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """A model in numbers; the mean reprojection error is that of all observations."""

    num_images: int
    num_points: int
    num_observations: int
    mean_track_length: float
    mean_reprojection_error_px: float

    @classmethod
    def of(cls, model: pycolmap.Reconstruction) -> ModelCounts:
        """Count a model; the errors of its points are computed anew."""
        model.update_point_3d_errors()
        has_points = model.num_points3D() > 0
        return cls(
            model.num_reg_images(),
            model.num_points3D(),
            model.compute_num_observations(),
            model.compute_mean_track_length() if has_points else 0.0,
            model.compute_mean_reprojection_error() if has_points else 0.0,
        )


@dataclass(frozen=True, slots=True)
class PoseChange:
    """How far the cameras moved, after a similarity alignment of their centres.

    Args:
        mean_center_shift: mean distance, relative to the root mean square distance of the centres from their mean.
        mean_rotation_deg: mean angle.
    """

    mean_center_shift: float
    mean_rotation_deg: float

    @classmethod
    def between(cls, before: Mapping[str, Rigid3], after: Mapping[str, Rigid3]) -> PoseChange:
        """Compare poses `cam_from_world` of the same images by name."""
        names = sorted(before.keys() & after.keys())
        if len(names) < 2:
            return cls(0.0, 0.0)
        if len(names) < MIN_ALIGNED:
            relative = [poses[names[1]] @ poses[names[0]].inverse() for poses in (after, before)]
            rotation_deg, direction_deg = relative_pose_error_deg(*relative)
            return cls(math.sin(math.radians(min(direction_deg, 90.0))), rotation_deg)
        centers = np.array([before[name].center for name in names])
        extent = float(np.sqrt(((centers - centers.mean(axis=0)) ** 2).sum(axis=1).mean()))
        try:
            aligned = align_poses(after, before)
        except ValueError:  # all cameras at one place: there is no scale
            turned = [rotation_angle_deg(after[name].R @ before[name].R.T) for name in names]
            return cls(0.0, float(np.mean(turned)))
        return cls(aligned.mean_center_error / extent, float(np.mean(list(aligned.rotation_errors_deg.values()))))


@dataclass(frozen=True, slots=True)
class DensifySummary:
    """A densified model in numbers.

    Args:
        before: the model that was given.
        after: the densified one.
        pose_change: how far the cameras moved.
        images_without_points: names of images that have lost all of their points.
        num_pairs: image pairs that were matched in the last round.
        num_matches: of these pairs.
        num_rounds: of matching.
        num_aligned: observations that the refinement aligned with the reference of their point; 0 without it.
        cache: "hits" and "misses" of the store by kind of entry.
        seconds: by stage, and "total".
    """

    before: ModelCounts
    after: ModelCounts
    pose_change: PoseChange
    images_without_points: tuple[str, ...]
    num_pairs: int
    num_matches: int
    num_rounds: int
    num_aligned: int
    cache: dict[str, dict[str, int]]
    seconds: dict[str, float]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DensifySummary:
        """The summary in a record.

        Raises:
            KeyError, TypeError: if it is none.
        """
        parts = {"before": ModelCounts, "after": ModelCounts, "pose_change": PoseChange}
        made = {name: part(**values[name]) for name, part in parts.items()}
        return cls(**{**values, **made, "images_without_points": tuple(values["images_without_points"])})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def problem(self) -> str | None:
        """Why the densified model is worse than the one before; None if it is not."""
        return problem_of_change(self.before, self.after, self.pose_change, self.images_without_points)

    def __str__(self) -> str:
        before, after = self.before, self.after
        stages = ", ".join(
            f"{stage} {value:.1f}" for stage, value in self.seconds.items() if stage != "total" and value >= 0.05
        )
        return (
            f"{after.num_images} images, {before.num_points} -> {after.num_points} points, track length"
            f" {before.mean_track_length:.2f} -> {after.mean_track_length:.2f}, reprojection error"
            f" {before.mean_reprojection_error_px:.2f} -> {after.mean_reprojection_error_px:.2f} px,"
            f" {self.seconds['total']:.1f} s" + (f" ({stages})" if stages else "")
        )


def summary_of_models(
    before: pycolmap.Reconstruction, after: pycolmap.Reconstruction
) -> tuple[ModelCounts, ModelCounts, PoseChange, tuple[str, ...]]:
    """Counts of both models, the change of the poses, and the names of images that have lost all points."""
    lost = [
        before.images[image_id].name
        for image_id in sorted(before.reg_image_ids())
        if before.images[image_id].num_points3D > 0 and after.images[image_id].num_points3D == 0
    ]
    change = PoseChange.between(poses_of_model(before), poses_of_model(after))
    return ModelCounts.of(before), ModelCounts.of(after), change, tuple(sorted(lost))


def problem_of_change(
    before: ModelCounts, after: ModelCounts, moved: PoseChange, images_without_points: tuple[str, ...]
) -> str | None:
    """Why a model is worse than before, by what `summary_of_models` returns; None if it is not."""
    errors = before.mean_reprojection_error_px, after.mean_reprojection_error_px
    if errors[1] > max(_MAX_ERROR_RATIO * errors[0], errors[0] + _MAX_ERROR_GAIN_PX):
        return f"the mean reprojection error grew from {errors[0]:.2f} to {errors[1]:.2f} px"
    if not moved.mean_center_shift <= _MAX_CENTER_SHIFT or not moved.mean_rotation_deg <= _MAX_ROTATION_DEG:
        return (
            f"the cameras moved by {100 * moved.mean_center_shift:.1f} % of their extent and turned by"
            f" {moved.mean_rotation_deg:.2f} degrees in the mean"
        )
    if images_without_points:
        return f"{len(images_without_points)} images lost all points ({images_without_points[0]})"
    # Points of two images are left out, and a tracked map has many: its observations tell whether it is worse.
    num_observations = [counts.num_points * counts.mean_track_length for counts in (before, after)]
    has_fewer = num_observations[1] < _MIN_POINTS_RATIO * num_observations[0]
    if has_fewer and after.num_points < _MIN_POINTS_RATIO * before.num_points:
        return f"the number of points fell from {before.num_points} to {after.num_points}"
    return None
