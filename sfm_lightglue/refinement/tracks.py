"""Move the keypoints of each track to where their images look alike, and look for it in images without a keypoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import Image
from sfm_lightglue.refinement.alignment import Alignment, align
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.expected import FULL_SIZE_PX, Expected, Found, expected_in
from sfm_lightglue.refinement.observations import Observations, move_keypoints, read_observations
from sfm_lightglue.refinement.patches import Pyramid, grid
from sfm_lightglue.refinement.planes import PlaneViews, choose_references, planes_from_samples, view_planes

REFERENCE_SIGMA_PX = 0.02
"""Standard deviation of a reference: it defines its point, and the others are aligned with it."""

DETECTED_SIGMA_PX = 0.4
"""Standard deviation of a keypoint that is not aligned."""

_REDUCED_SIZE_PX = 4000
"""Longer side in pixels to which very large images may be reduced."""

_MIN_FOUND_CORRELATION = 0.85
"""Smallest normalised correlation of the patch of a point with an image in which it is looked for."""

_KEPT_BYTES = 128 << 20
"""Images are read twice, for templates and for the alignment; as many stay in memory between as fit into this size."""


@dataclass(frozen=True, eq=False)
class RefinementReport:
    """What a refinement changed.

    Args:
        num_points: number of points.
        num_observations: number of observations; one of each point is its reference, which is never moved.
        num_aligned: observations that are aligned with the reference of their point; most of them were moved.
        median_shift_px: distance by which these were moved, in pixels of the stored images; 0 if there are none.
        median_correlation_before: normalised correlation of their patches with the reference; 0 if there are none.
        median_correlation_after: the same after the move.
        unread_images: names of images whose file is missing, damaged or of another size; their keypoints stay.
        sigmas_px: standard deviation of each keypoint [K] of an image in pixels, by number of the image; NaN for a
            keypoint without point.
        observations: of the model, with the moved keypoints.
        found: places without a keypoint where further images show points.
    """

    num_points: int
    num_observations: int
    num_aligned: int
    median_shift_px: float
    median_correlation_before: float
    median_correlation_after: float
    unread_images: tuple[str, ...]
    sigmas_px: Mapping[int, Float32Array]
    observations: Observations
    found: Found

    def __str__(self) -> str:
        correlations = f"{self.median_correlation_before:.3f} to {self.median_correlation_after:.3f}"
        return (
            f"{self.num_aligned} of {self.num_observations} keypoints of {self.num_points} points aligned,"
            f" moved by {self.median_shift_px:.2f} px in the median, correlation {correlations};"
            f" {len(self.found)} points found in further images"
        )


def refine_tracks(
    model: pycolmap.Reconstruction,
    path_from_name: Mapping[str, Path],
    config: RefinementConfig | None = None,
    executor: Executor = SERIAL,
    progress: Progress = silent,
    settled: Mapping[int, BoolArray] | None = None,
    allows: Callable[[str, Float64Array], BoolArray] | None = None,
) -> RefinementReport:
    """Move the keypoints of each point to where their patches look like the patch of a reference keypoint.

    The model predicts how the patch is distorted between the images. A keypoint stays where it is if no position
    raises the correlation, if the patches do not correlate well, if it would move too far, or if its position along an
    edge is not certain. The model should be adjusted afterwards: poses and points stay as they are.

    The patch of a point is also looked for in images that observe enough of the points around it, but not the point.
    What is found is not in the model yet, because an adjustment with it is less exact: see `add_found`.

    Args:
        model: the pixels of keypoints that observe points are changed in place.
        path_from_name: files of the images.
        config: limits.
        executor: decodes and aligns several images at the same time. The result does not depend on it.
        progress: called with "refine" after each image, of which each is needed twice.
        settled: masks [K] of the keypoints of images, by number of the image, that an earlier refinement aligned. They
            stay, and the others of their points are aligned with one of them. None: none are.
        allows: name of an image, pixels [N, 2] -> whether points may be found there; safe to call from several threads.
            None: everywhere.

    Returns:
        Counts, and the precision of all keypoints but the settled ones.
    """
    config = config or RefinementConfig()
    seen = read_observations(model)
    job = _Refinement.prepare(model, seen, path_from_name, config, _settled_rows(seen, settled or {}), allows)
    rows = range(len(seen.image_ids))
    progress("refine", 0, 2 * len(rows))
    unread: set[int] = set()
    for row, has_templates in zip(rows, executor.map(job.extract, rows), strict=True):
        if not has_templates:
            unread.add(row)
        progress("refine", row + 1, 2 * len(rows))
    found = []
    for aligned in executor.map(job.align, (row for row in rows if row not in unread)):
        found.append(aligned)
        progress("refine", len(rows) + len(unread) + len(found), 2 * len(rows))
    return _apply(model, seen, job, found, tuple(model.images[seen.image_ids[row]].name for row in sorted(unread)))


@dataclass(frozen=True, eq=False)
class _Aligned:
    """The alignment of the observations `rows` of one image, which of them it is good for, and what is found there."""

    rows: IndexArray
    alignment: Alignment
    is_good: BoolArray
    found: Found


class _KeptImages:
    """Some images by their row, until they are taken; safe to use from several threads."""

    def __init__(self) -> None:
        self._images: dict[int, Pyramid] = {}
        self._num_bytes = 0
        self._lock = threading.Lock()

    def put(self, row: int, image: Pyramid) -> None:
        """Keep an image if there is room for it."""
        with self._lock:
            if self._num_bytes + image.num_bytes <= _KEPT_BYTES:
                self._images[row] = image
                self._num_bytes += image.num_bytes

    def take(self, row: int) -> Pyramid | None:
        """An image that was kept, which is forgotten."""
        with self._lock:
            image = self._images.pop(row, None)
            self._num_bytes -= 0 if image is None else image.num_bytes
            return image


@dataclass(frozen=True, eq=False)
class _Refinement:
    """The data of one refinement. `extract` fills the templates of all points, image by image; `align` uses them."""

    model: pycolmap.Reconstruction
    seen: Observations
    path_from_name: Mapping[str, Path]
    config: RefinementConfig
    references: IndexArray
    """[P] observation of each point that is its reference."""
    spacings: Float64Array
    """[P] pixels of the reference between samples."""
    views: PlaneViews
    """Of the planes of the points."""
    planes: Float64Array
    """[P, 2, 2] where the samples of the templates lie on these."""
    warps: Float64Array
    """[M, 2, 2] pixels of the observation per sample of the template."""
    templates: UInt8Array
    """[P, size + 2, size + 2]; bytes, because a scene has many points."""
    has_template: BoolArray
    """[P] whether the template was extracted."""
    is_settled: BoolArray
    """[M] whether the observation was aligned before."""
    allows: Callable[[str, Float64Array], BoolArray] | None
    """Whether points may be found at pixels of an image, by its name."""
    point_ids: IndexArray
    """[P] ids of the points."""
    kept: _KeptImages = field(default_factory=_KeptImages)
    """Images that `extract` has read and `align` needs."""

    @classmethod
    def prepare(
        cls,
        model: pycolmap.Reconstruction,
        seen: Observations,
        path_from_name: Mapping[str, Path],
        config: RefinementConfig,
        is_settled: BoolArray,
        allows: Callable[[str, Float64Array], BoolArray] | None,
    ) -> _Refinement:
        """Choose references, and predict how the other images distort their patches."""
        views = view_planes(model, seen)
        references, spacings = choose_references(seen, views, is_settled)
        planes = planes_from_samples(views, references, spacings)
        with np.errstate(invalid="ignore"):
            warps = views.pixels_from_plane @ planes[seen.points]
        size = config.patch_size + 2
        num_points = len(references)
        templates, has_template = np.zeros((num_points, size, size), np.uint8), np.zeros(num_points, np.bool_)
        predicted = references, spacings, views, planes, warps
        ids = np.array(seen.point_ids, np.int64)
        return cls(model, seen, path_from_name, config, *predicted, templates, has_template, is_settled, allows, ids)

    def extract(self, row: int) -> bool:
        """Sample the templates of the points whose reference is in an image; returns whether it can be read."""
        image = self._read(row)
        if image is None:
            return False
        if self._compared(row).any():
            self.kept.put(row, image)
        points = np.flatnonzero(self.seen.images[self.references] == row)
        size = self.config.patch_size + 2
        centers = self.seen.xy[self.references[points]]
        warps = np.eye(2) * self.spacings[points, None, None]
        is_inside = image.contains(centers, warps, size)
        values = image.sample(centers, warps, grid(size)).reshape(-1, size, size)
        self.templates[points] = np.round(values)
        self.has_template[points] = is_inside
        return True

    def align(self, row: int) -> _Aligned:
        """Align the observations of an image with the templates of their points."""
        seen, config = self.seen, self.config
        rows = np.arange(seen.starts[row], seen.starts[row + 1])[self._compared(row)]
        rows = rows[self.has_template[seen.points[rows]]]
        image = self.kept.take(row) or self._read(row)
        assert image is not None  # it was read by `extract`
        rows = rows[image.contains(seen.xy[rows], self.warps[rows], config.patch_size)]
        expected = self._expected(row, image)
        max_shift_px = config.max_shift_px * max(1.0, max(self._size(row)) / FULL_SIZE_PX)
        aligned = align(
            image,
            np.concatenate([seen.xy[rows], expected.xy]),
            np.concatenate([self.warps[rows], expected.warps]),
            self.templates[np.concatenate([seen.points[rows], expected.points])],
            config.num_iterations,
            max_shift_px,
        )
        own, other = aligned.part(slice(len(rows))), aligned.part(slice(len(rows), None))
        is_good = self._is_good(own, seen.xy[rows], config.min_correlation, max_shift_px)
        is_found = self._is_good(other, expected.xy, _MIN_FOUND_CORRELATION, max_shift_px)
        if self.allows is not None:
            is_found &= self.allows(self.model.images[seen.image_ids[row]].name, other.centers)
        ids = self.point_ids[expected.points[is_found]]
        images = np.full(len(ids), seen.image_ids[row])
        return _Aligned(rows, own, is_good, Found(images, ids, other.centers[is_found]))

    def _is_good(self, aligned: Alignment, xy: Float64Array, min_correlation: float, max_shift_px: float) -> BoolArray:
        """Which alignments from the first pixels [N, 2] are within the limits."""
        is_sure = (aligned.after >= min_correlation) & (aligned.sigmas_px <= self.config.max_sigma_px)
        return np.asarray(is_sure & (np.linalg.norm(aligned.centers - xy, axis=1) <= max_shift_px))

    def _expected(self, row: int, image: Pyramid) -> Expected:
        """The points that are to be looked for in an image."""
        if not self.config.complete_tracks:
            return Expected.none()
        expected = expected_in(self.model, self.seen, self.views, self.references, self.planes, row)
        expected = expected.chosen(np.flatnonzero(self.has_template[expected.points]))
        is_inside = image.contains(expected.xy, expected.warps, self.config.patch_size)
        return expected.chosen(np.flatnonzero(is_inside))

    def _compared(self, row: int) -> BoolArray:
        """Which observations of an image are to be aligned with another one."""
        rows = np.arange(self.seen.starts[row], self.seen.starts[row + 1])
        is_compared = (self.references[self.seen.points[rows]] != rows) & ~self.is_settled[rows]
        return np.asarray(is_compared & np.isfinite(self.warps[rows]).all(axis=(1, 2)))

    def _size(self, row: int) -> tuple[int, int]:
        camera = self.model.cameras[self.model.images[self.seen.image_ids[row]].camera_id]
        return camera.width, camera.height

    def _read(self, row: int) -> Pyramid | None:
        image = self.model.images[self.seen.image_ids[row]]
        if image.name not in self.path_from_name:
            return None
        try:
            file = Image.read(self.path_from_name[image.name], image.name)
            if file.size != self._size(row):
                return None
            return Pyramid(*file.at_least(_REDUCED_SIZE_PX, colour=False))
        except DataError:  # readable when its features were extracted, so it was changed meanwhile
            return None


def _apply(
    model: pycolmap.Reconstruction,
    seen: Observations,
    job: _Refinement,
    found: Sequence[_Aligned],
    unread_images: tuple[str, ...],
) -> RefinementReport:
    """Move the keypoints of a model, and report it."""
    sigmas, xy = np.full(len(seen), DETECTED_SIGMA_PX), seen.xy.copy()
    shifts: list[Float64Array] = []
    before: list[Float64Array] = []
    after: list[Float64Array] = []
    for one in found:
        rows, alignment = one.rows[one.is_good], one.alignment
        if len(rows) > 0:
            image_id = seen.image_ids[int(np.searchsorted(seen.starts, rows[0], side="right")) - 1]
            move_keypoints(model, image_id, seen.keypoints[rows], alignment.centers[one.is_good])
        xy[rows] = alignment.centers[one.is_good]
        sigmas[rows] = np.hypot(alignment.sigmas_px[one.is_good], REFERENCE_SIGMA_PX)
        shifts.append(np.linalg.norm(alignment.centers[one.is_good] - seen.xy[rows], axis=1))
        before.append(alignment.before[one.is_good])
        after.append(alignment.after[one.is_good])
    is_aligned = sigmas < DETECTED_SIGMA_PX
    sigmas[job.references[np.unique(seen.points[is_aligned])]] = REFERENCE_SIGMA_PX
    sigmas[job.is_settled] = np.nan
    return RefinementReport(
        len(seen.positions),
        len(seen),
        int(is_aligned.sum()),
        _median(shifts),
        _median(before),
        _median(after),
        unread_images,
        _sigmas_of_images(model, seen, sigmas),
        replace(seen, xy=xy),
        Found.joined([one.found for one in found]),
    )


def _settled_rows(seen: Observations, settled: Mapping[int, BoolArray]) -> BoolArray:
    """[M] whether each observation is one of the keypoints that are masked, by number of their image."""
    rows = np.zeros(len(seen), np.bool_)
    for row, image_id in enumerate(seen.image_ids):
        if image_id in settled:
            rows[seen.of(row)] = settled[image_id][seen.keypoints[seen.of(row)]]
    return rows


def _median(parts: list[Float64Array]) -> float:
    values = np.concatenate([np.zeros(0), *parts])
    return float(np.median(values)) if len(values) > 0 else 0.0


def _sigmas_of_images(
    model: pycolmap.Reconstruction, seen: Observations, sigmas_px: Float64Array
) -> dict[int, Float32Array]:
    by_image = {}
    for row, image_id in enumerate(seen.image_ids):
        by_image[image_id] = np.full(model.images[image_id].num_points2D(), np.nan, np.float32)
        by_image[image_id][seen.keypoints[seen.of(row)]] = sigmas_px[seen.of(row)]
    return by_image
