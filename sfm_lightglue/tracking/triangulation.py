"""Points from tracks of two or more views of known poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.tracking.adjustment import observed_pixels
from sfm_lightglue.tracking.projection import focal_length_px, normalized_from_pixels
from sfm_lightglue.tracking.slam_map import Keyframe
from sfm_lightglue.types import Camera

_MAX_PARALLAX_DEG = 90.0


class Triangulated(NamedTuple):
    """Points from tracks.

    Args:
        xyz: [P, 3].
        tracks: the observations (keyframe idx, row) of each point, without those that do not fit.
        numbers: [P] which of the given tracks each point is from.
    """

    xyz: Float64Array
    tracks: list[list[tuple[int, int]]]
    numbers: IndexArray


class _Views(NamedTuple):
    """Observations of all tracks, in the order of the tracks."""

    tracks: IndexArray  # [M]
    starts: IndexArray  # [T]
    R: Float64Array  # [M, 3, 3]
    t: Float64Array  # [M, 3]
    normalized: Float64Array  # [M, 2]
    focal_px: float

    def centers_and_rays(self) -> tuple[Float64Array, Float64Array]:
        """Centres [M, 3] and rays [M, 3] of length 1 in the world."""
        rays = np.concatenate([self.normalized, np.ones((len(self.normalized), 1))], axis=1)
        rays = np.einsum("mji,mj->mi", self.R, rays / np.linalg.norm(rays, axis=1, keepdims=True))
        return -np.einsum("mji,mj->mi", self.R, self.t), rays

    def errors_px(self, xyz: Float64Array) -> Float64Array:
        """Reprojection errors [M] of the points [T, 3] of the tracks; infinite for points behind a camera."""
        in_cam = np.einsum("mij,mj->mi", self.R, xyz[self.tracks]) + self.t
        is_before = in_cam[:, 2] > 1e-9
        projected = in_cam[:, :2] / np.where(is_before, in_cam[:, 2], 1.0)[:, None]
        errors: Float64Array = self.focal_px * np.linalg.norm(projected - self.normalized, axis=1)
        return np.where(is_before, errors, np.inf)


def triangulate_tracks(
    camera: Camera,
    keyframes: Mapping[int, Keyframe],
    tracks: Sequence[Sequence[tuple[int, int]]],
    max_error_px: float,
    min_parallax_deg: float,
) -> Triangulated:
    """Triangulate tracks, each with those of its views that agree.

    The view with the largest error is left out where it is beyond the limit, once; then all must be within.

    Args:
        camera: of all keyframes.
        keyframes: by idx, with poses.
        tracks: (keyframe idx, row) of each observation, at least two to a track.
        max_error_px: reprojection error in each view.
        min_parallax_deg: smallest of the largest angle between a track's first ray and another one.

    Returns:
        The points that pass: before all cameras, small errors, enough parallax.
    """
    if not tracks:
        return Triangulated(np.zeros((0, 3)), [], np.zeros(0, np.int64))
    views = _views_of(camera, keyframes, tracks)
    is_used = np.ones(len(views.tracks), bool)
    xyz = _intersected(views, is_used)
    errors = views.errors_px(xyz)
    largest = np.maximum.reduceat(errors, views.starts)[views.tracks]
    worst = (errors == largest) & (errors > max_error_px)
    if worst.any():
        is_used &= ~worst
        xyz = _intersected(views, is_used)
        errors = views.errors_px(xyz)
    is_good = np.logical_and.reduceat((errors <= max_error_px) | ~is_used, views.starts)
    is_good &= np.add.reduceat(is_used.astype(np.int64), views.starts) >= 2
    is_good &= _has_parallax(views, is_used, min_parallax_deg)
    numbers = np.flatnonzero(is_good)
    kept = [
        [pair for pair, used in zip(tracks[n], is_used[views.starts[n] :].tolist(), strict=False) if used]
        for n in numbers.tolist()
    ]
    return Triangulated(xyz[numbers], kept, numbers)


def _views_of(camera: Camera, keyframes: Mapping[int, Keyframe], tracks: Sequence[Sequence[tuple[int, int]]]) -> _Views:
    flat = np.array([pair for track in tracks for pair in track], np.int64)
    lengths = np.array([len(track) for track in tracks])
    present, cams = np.unique(flat[:, 0], return_inverse=True)
    chosen = [keyframes[idx] for idx in present.tolist()]
    pixels = observed_pixels([keyframe.keypoints for keyframe in chosen], cams, flat[:, 1])
    return _Views(
        np.repeat(np.arange(len(tracks)), lengths),
        np.cumsum([0, *lengths[:-1]]),
        np.stack([keyframe.cam_from_world.R for keyframe in chosen])[cams],
        np.stack([keyframe.cam_from_world.t for keyframe in chosen])[cams],
        normalized_from_pixels(camera, pixels),
        focal_length_px(camera),
    )


def _intersected(views: _Views, is_used: BoolArray) -> Float64Array:
    """Points [T, 3] with the least sum of squared distances to the rays, each divided by the distance along the ray.

    Dividing makes the distances proportional to errors in the image; the lengths come from a first solution without.
    """
    centers, rays = views.centers_and_rays()
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]  # removes the part along the ray
    weights = is_used.astype(np.float64)
    for _ in range(2):
        weighted = across * weights[:, None, None]
        A = np.add.reduceat(weighted, views.starts) + 1e-12 * np.eye(3)
        b = np.add.reduceat(np.einsum("mij,mj->mi", weighted, centers), views.starts)
        xyz = np.linalg.solve(A, b[:, :, None])[:, :, 0]
        along = np.maximum(np.einsum("mi,mi->m", xyz[views.tracks] - centers, rays), 1e-6)
        weights = is_used / along**2
        weights /= np.maximum.reduceat(weights, views.starts)[views.tracks] + 1e-300
    return np.asarray(xyz, np.float64)


def _has_parallax(views: _Views, is_used: BoolArray, min_parallax_deg: float) -> BoolArray:
    """Whether a ray of a track [T] makes a large enough angle with the first ray that is used."""
    _, rays = views.centers_and_rays()
    order = np.arange(len(rays))
    first = np.minimum.reduceat(np.where(is_used, order, len(rays) - 1), views.starts)[views.tracks]
    cosines = np.where(is_used, np.einsum("mi,mi->m", rays, rays[first]), 1.0)
    smallest = np.minimum.reduceat(cosines, views.starts)
    limits = np.cos(np.radians([_MAX_PARALLAX_DEG, min_parallax_deg]))
    has_parallax: BoolArray = (smallest >= limits[0]) & (smallest <= limits[1])
    return has_parallax
