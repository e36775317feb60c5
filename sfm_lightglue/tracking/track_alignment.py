"""Observations of a map moved to where their images resemble one image of their point.

Optical flow follows a point from frame to frame, so that its errors add up; features are found in each image alone.
Both are aligned here with the patch of one keyframe, which the poses distort as it is seen from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray, UInt8Array
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.refinement.alignment import Alignment, align
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.observations import Observations
from sfm_lightglue.refinement.patches import grid
from sfm_lightglue.refinement.planes import choose_references, sample_warps, view_planes
from sfm_lightglue.refinement.tracks import REFERENCE_SIGMA_PX
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.tracking.config import pixel_factor
from sfm_lightglue.tracking.slam_map import SlamMap

_DETECTED_SIGMA_PX = 0.25
"""Standard deviation that an observation counts with if it is not aligned, in pixels. Their errors are twice as large
in the mean, because some tracks are wrong; a small value keeps the influence of these low. Chosen on tsukuba, for
images of 640 px; larger images have a larger one."""

_LIMITS = RefinementConfig()
"""Size of the patches, and when they count as aligned, as in the refinement of models."""


_NOTHING = Alignment(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class AlignedTracks:
    """What the alignment found for M observations.

    Args:
        pixels: [M, 2] stored pixels; those of observations that were not aligned are as before.
        sigmas_px: [M] standard deviations in stored pixels.
        is_aligned: [M] which were aligned with the patch of their point.
    """

    pixels: Float64Array
    sigmas_px: Float64Array
    is_aligned: BoolArray


def observations_of(slam_map: SlamMap, idxs: Sequence[int]) -> Observations:
    """The observations of keyframes as arrays: an image has the number of its keyframe plus 1.

    Args:
        slam_map: read only.
        idxs: keyframes of one map, ascending.
    """
    with slam_map.lock:
        keyframes = [slam_map.keyframes[idx] for idx in idxs]
        point_ids = slam_map.points_of(idxs)
        keypoints = [np.flatnonzero(keyframe.point_ids >= 0) for keyframe in keyframes]
        ids = [keyframe.point_ids[rows] for keyframe, rows in zip(keyframes, keypoints, strict=True)]
        xy = [keyframe.keypoints[rows] for keyframe, rows in zip(keyframes, keypoints, strict=True)]
        return Observations(
            tuple(idx + 1 for idx in idxs),
            np.cumsum([0, *map(len, keypoints)]),
            np.concatenate(keypoints),
            np.searchsorted(point_ids, np.concatenate(ids)),
            np.concatenate(xy).astype(np.float64),
            tuple(point_ids.tolist()),
            slam_map.xyz(point_ids),
        )


def align_tracks(
    slam_map: SlamMap, seen: Observations, images: Sequence[CompactImage], num_threads: int
) -> AlignedTracks:
    """Align observations with the patch of their point in the keyframe that shows it best.

    Nothing is aligned in a keyframe whose image cannot be decoded.

    Args:
        slam_map: with the poses of the keyframes.
        seen: observations.
        images: of the keyframes.
        num_threads: keyframes at the same time. The result does not depend on it.
    """
    job = _prepared(slam_map, seen, images)
    rows_of_keyframes = range(len(images))
    for _ in ordered_map(job.extract, rows_of_keyframes, num_threads):
        pass
    pixels, is_aligned = seen.xy.copy(), np.zeros(len(seen), np.bool_)
    sigmas_px = np.full(len(seen), _DETECTED_SIGMA_PX * pixel_factor(slam_map.camera.size))
    scales = np.array([np.mean(image.factors) for image in images])[seen.images]
    for image, (rows, found) in zip(images, ordered_map(job.align, rows_of_keyframes, num_threads), strict=True):
        is_good = (found.after >= _LIMITS.min_correlation) & (found.sigmas_px <= _LIMITS.max_sigma_px)
        is_good &= np.linalg.norm(found.centers - job.xy[rows], axis=1) <= _LIMITS.max_shift_px
        rows = rows[is_good]
        pixels[rows], is_aligned[rows] = found.centers[is_good] * image.factors, True
        sigmas_px[rows] = np.hypot(found.sigmas_px[is_good], REFERENCE_SIGMA_PX) * scales[rows]
    references = job.references[np.unique(seen.points[is_aligned])]
    sigmas_px[references] = REFERENCE_SIGMA_PX * scales[references]
    return AlignedTracks(pixels, sigmas_px, is_aligned)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Patches in the pixels of the images, which may be shrunk.

    Args:
        seen: M observations of P points.
        images: of the keyframes.
        xy: [M, 2] pixels.
        references: [P] observation whose patch is the template of each point.
        spacings: [P] pixels between the samples of the template; not finite where no keyframe shows the plane of a
            point from the front.
        warps: [M, 2, 2] pixels of the observation per sample.
        templates: [P, size, size], filled image by image.
        has_template: [P].
    """

    seen: Observations
    images: Sequence[CompactImage]
    xy: Float64Array
    references: IndexArray
    spacings: Float64Array
    warps: Float64Array
    templates: UInt8Array
    has_template: BoolArray

    def extract(self, row: int) -> None:
        """Sample the templates of the points whose reference is in a keyframe."""
        points = np.flatnonzero((self.seen.images[self.references] == row) & np.isfinite(self.spacings))
        size, image = self.templates.shape[1], self.images[row].pyramid()
        if image is None:
            return
        centers, warps = self.xy[self.references[points]], np.eye(2) * self.spacings[points, None, None]
        self.templates[points] = np.round(image.sample(centers, warps, grid(size)).reshape(-1, size, size))
        self.has_template[points] = image.contains(centers, warps, size)

    def align(self, row: int) -> tuple[IndexArray, Alignment]:
        """Align the observations of a keyframe; returns which of them."""
        rows = np.arange(self.seen.starts[row], self.seen.starts[row + 1])
        points = self.seen.points[rows]
        is_usable = (self.references[points] != rows) & self.has_template[points]
        rows = rows[is_usable & np.isfinite(self.warps[rows]).all(axis=(1, 2))]
        image = self.images[row].pyramid()
        if image is None:
            return rows[:0], _NOTHING
        rows = rows[image.contains(self.xy[rows], self.warps[rows], _LIMITS.patch_size)]
        where = self.xy[rows], self.warps[rows], self.templates[self.seen.points[rows]]
        return rows, align(image, *where, _LIMITS.num_iterations, _LIMITS.max_shift_px)


def _prepared(slam_map: SlamMap, seen: Observations, images: Sequence[CompactImage]) -> _Job:
    """Choose references, and predict how the other keyframes distort their patches."""
    factors = np.array([image.factors for image in images])[seen.images]
    views = view_planes(_poses(slam_map, seen.image_ids), seen)
    views = replace(views, pixels_from_plane=views.pixels_from_plane / factors[:, :, None])
    with np.errstate(invalid="ignore"):  # of planes behind a camera
        references, spacings = choose_references(seen, views)
    warps = sample_warps(views, seen.points, references, spacings)
    num_points, size = len(references), _LIMITS.patch_size + 2
    templates, has_template = np.zeros((num_points, size, size), np.uint8), np.zeros(num_points, np.bool_)
    return _Job(seen, images, seen.xy / factors, references, spacings, warps, templates, has_template)


def _poses(slam_map: SlamMap, image_ids: Sequence[int]) -> pycolmap.Reconstruction:
    """A model of the poses of keyframes, without points."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(as_pycolmap(slam_map.camera, 1))
    for image_id in image_ids:
        pose = slam_map.keyframes[image_id - 1].cam_from_world.as_matrix()[:3]
        image = pycolmap.Image(name=f"{image_id}", keypoints=np.zeros((0, 2)), camera_id=1, image_id=image_id)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    return model
