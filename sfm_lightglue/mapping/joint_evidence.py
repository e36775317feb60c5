"""What all images of two models say about a position of one model in the other: which points are found where expected.

Two models of one place see the same surface where they overlap, so an image of one model should show the points of the
other. If places that look alike lie on top of each other, it shows only those that look alike.

Source: C. Zach, A. Irschara and H. Bischof, What can missing correspondences tell us about 3D structure and motion?,
CVPR 2008, for the idea; the statistic is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.geometry.transforms import Rigid3, Sim3

if TYPE_CHECKING:
    import pycolmap

_MAX_ANGLE_DEG, _MAX_SCALE = 30.0, 1.8
"""Largest angle between two views of a point that is expected to be found again, and the largest ratio of distances."""

_RADIUS_PX, _REFERENCE_SIZE_PX = 5.0, 400.0
"""Distance from its expected place within which a point is looked for, in pixels of images whose longer side is at most
the second number. It grows with larger images: two models bend, and the position of one in the other is not exact."""

_NUM_CANDIDATES = 8
"""Nearest keypoints that are compared."""

_BORDER = 0.02
"""Width of the border of an image in which no point is expected, as a fraction of the longer side."""

_NUM_NEAR, _BEHIND = 5, 1.1
"""Points of an image, near the expected place, that show how far the surface is there. A point that is more than this
many times as far is hidden."""

_MAX_IMAGES, _MAX_POINTS = 40, 3000
"""Images and points of a model that are looked at; evenly chosen from more."""

_MIN_SHOWN = 3
"""Fewest points of the other model that are found in an image that counts."""

_TRACK_QUANTILE, _LEAST_SIMILARITY = 0.25, 0.68
"""Descriptors match if they are as similar as this quantile of those of neighbouring observations of one point, but at
least this similar."""


@dataclass(frozen=True, eq=False, slots=True)
class EvidenceView:
    """An image of a model.

    Args:
        pose: `cam_from_world`.
        camera: its intrinsics.
        pixels: [N, 2] its keypoints.
        descriptors: [N, D] of length 1.
        point_rows: [N] point that each keypoint observes, -1 for none.
    """

    pose: Rigid3
    camera: pycolmap.Camera
    pixels: Float64Array
    descriptors: Float32Array
    point_rows: IndexArray


@dataclass(frozen=True, eq=False, slots=True)
class EvidenceSide:
    """A model with the descriptors of its keypoints.

    Args:
        views: of its images.
        xyz: [P, 3] its points.
    """

    views: tuple[EvidenceView, ...]
    xyz: Float64Array

    @classmethod
    def of_model(cls, model: pycolmap.Reconstruction, descriptors_of: Callable[[str], AnyArray]) -> EvidenceSide:
        """A model, or an even choice of its images and points.

        Args:
            model: of images with features.
            descriptors_of: gives those [N, D] of the first N keypoints of an image.
        """
        images = sorted((model.images[k] for k in model.reg_image_ids()), key=lambda image: str(image.name))
        chosen = _evenly(len(images), _MAX_IMAGES)
        ids = np.array(sorted(model.point3D_ids()), np.int64)
        ids = ids[_evenly(len(ids), _MAX_POINTS)]
        xyz = np.array([model.points3D[k].xyz for k in ids.tolist()], np.float64).reshape(-1, 3)
        return cls(tuple(_view(model, images[k], ids, descriptors_of(images[k].name)) for k in chosen.tolist()), xyz)

    def track_similarities(self) -> Float64Array:
        """Similarities of the descriptors of observations of one point that follow each other in the list of images."""
        last: dict[int, AnyArray] = {}
        found = []
        for view in self.views:
            for row in np.flatnonzero(view.point_rows >= 0).tolist():
                point, descriptor = int(view.point_rows[row]), view.descriptors[row]
                if point in last:
                    found.append(float(last[point] @ descriptor))
                last[point] = descriptor
        return np.array(found, np.float64)


class EvidenceSides:
    """Sides of models, each of which is computed once.

    Args:
        descriptors_of: gives those [N, D] of the first N keypoints of an image.
    """

    def __init__(self, descriptors_of: Callable[[str], AnyArray]) -> None:
        self._descriptors_of = descriptors_of
        self._known: dict[int, tuple[pycolmap.Reconstruction, EvidenceSide]] = {}

    def __call__(self, model: pycolmap.Reconstruction) -> EvidenceSide:
        """The side of a model, which must not change."""
        if id(model) not in self._known:  # the model is kept, so that its id stays its own
            self._known[id(model)] = model, EvidenceSide.of_model(model, self._descriptors_of)
        return self._known[id(model)][1]


@dataclass(frozen=True, eq=False, slots=True)
class JointEvidence:
    """The points of two models that images of the other one should show, and those that they do.

    Args:
        num_expected: of points and images, counted for each image.
        num_matched: of them, found near the expected place.
        num_points: different points of the target, and of the source, that are found in an image of the other one.
        num_images: images of the target, and of the source, in which enough points of the other one are found.
    """

    num_expected: int
    num_matched: int
    num_points: tuple[int, int]
    num_images: tuple[int, int]

    @property
    def fraction(self) -> float:
        """Of the expected points that are found."""
        return self.num_matched / max(self.num_expected, 1)


def joint_evidence(
    target: EvidenceSide, source: EvidenceSide, target_from_source: Sim3, min_similarity: float
) -> JointEvidence:
    """Look for the points of each model in the images of the other.

    Args:
        target: a model.
        source: another model.
        target_from_source: between their worlds, as it is supposed.
        min_similarity: smallest cosine between descriptors that match.
    """
    num_expected, num_matched, num_points, num_images = 0, 0, [], []
    for points, images, images_from_points in (
        (target, source, target_from_source.inverse()),
        (source, target, target_from_source),
    ):
        is_found, num_showing = np.zeros(len(points.xyz), np.bool_), 0
        for rows, is_matched in _looked_for(points, images, images_from_points, min_similarity):
            num_expected, num_matched = num_expected + len(rows), num_matched + int(is_matched.sum())
            is_found[rows[is_matched]] = True
            num_showing += bool(is_matched.sum() >= _MIN_SHOWN)
        num_points.append(int(is_found.sum()))
        num_images.append(num_showing)
    of_target, of_source = num_points
    in_source, in_target = num_images
    return JointEvidence(num_expected, num_matched, (of_target, of_source), (in_target, in_source))


def least_similarity(sides: Sequence[EvidenceSide]) -> float:
    """The smallest cosine between descriptors that match, by those of the points of models."""
    similarities = np.concatenate([side.track_similarities() for side in sides])
    usual = float(np.quantile(similarities, _TRACK_QUANTILE)) if len(similarities) > 0 else 1.0
    return max(usual, _LEAST_SIMILARITY)


def _evenly(num: int, most: int) -> IndexArray:
    return np.unique(np.linspace(0, max(num - 1, 0), min(num, most)).astype(np.int64))


def _view(
    model: pycolmap.Reconstruction, image: pycolmap.Image, ids: IndexArray, descriptors: AnyArray
) -> EvidenceView:
    found = np.asarray(descriptors, np.float32)
    own = point_ids_of(image)[: len(found)]
    point_rows = np.full(len(own), -1, np.int64)
    if len(ids) > 0:
        rows = np.minimum(np.searchsorted(ids, own), len(ids) - 1)
        point_rows = np.where((own >= 0) & (ids[rows] == own), rows, -1)
    unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-12))
    pose = Rigid3.from_matrix(image.cam_from_world().matrix())
    return EvidenceView(pose, model.cameras[image.camera_id], pixels_of(image)[: len(found)], unit, point_rows)


def _looked_for(
    points: EvidenceSide, images: EvidenceSide, images_from_points: Sim3, min_similarity: float
) -> Iterator[tuple[IndexArray, BoolArray]]:
    """For each image, the points [M] that it should show, and whether it does [M]."""
    xyz = images_from_points @ points.xyz
    centers = [images_from_points @ view.pose.center for view in points.views]
    for view in images.views:
        observed = np.flatnonzero(view.point_rows >= 0)
        if len(observed) < _NUM_NEAR:
            continue
        rows, pixels, depths = _projected(view, xyz)
        if len(rows) == 0:
            continue
        surface = (view.pose @ images.xyz[view.point_rows[observed]])[:, 2]
        near = cKDTree(view.pixels[observed]).query(pixels, _NUM_NEAR)[1]
        is_seen = depths < _BEHIND * np.median(surface[near], axis=1)
        rows, pixels = rows[is_seen], pixels[is_seen]
        descriptors, is_similar = _most_alike_views(points, xyz, centers, view.pose.center, rows)
        rows, pixels = rows[is_similar], pixels[is_similar]
        if len(rows) > 0:
            yield rows, _is_found(view, pixels, descriptors[is_similar]) >= min_similarity


def _projected(view: EvidenceView, xyz: Float64Array) -> tuple[IndexArray, Float64Array, Float64Array]:
    """Rows [M] of the points inside an image, their pixels [M, 2] and depths [M]."""
    camera, in_camera = view.camera, view.pose @ xyz
    size = np.array([camera.width, camera.height], np.float64)
    border, reach = _BORDER * size.max(), size.max() / camera.mean_focal_length()
    rows = np.flatnonzero(
        (in_camera[:, 2] > 1e-9) & (np.abs(in_camera[:, :2]).max(axis=1, initial=0) < reach * in_camera[:, 2])
    )
    pixels = np.asarray(camera.img_from_cam(in_camera[rows]), np.float64).reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        is_inside: BoolArray = ((pixels > border) & (pixels < size - border)).all(axis=1)
    return rows[is_inside], pixels[is_inside], in_camera[rows[is_inside], 2]


def _most_alike_views(
    points: EvidenceSide, xyz: Float64Array, centers: Sequence[Float64Array], center: Float64Array, rows: IndexArray
) -> tuple[Float32Array, BoolArray]:
    """The descriptors [M, D] of points by their own images with the most similar view, and whether it is similar."""
    size = points.views[0].descriptors.shape[1]
    descriptors, best = np.zeros((len(rows), size), np.float32), np.full(len(rows), np.cos(np.radians(_MAX_ANGLE_DEG)))
    is_similar = np.zeros(len(rows), np.bool_)
    rays = xyz[rows] - center
    distances = np.linalg.norm(rays, axis=1)
    for view, own_center in zip(points.views, centers, strict=True):
        keypoint = np.full(len(xyz), -1, np.int64)
        own = np.flatnonzero(view.point_rows >= 0)
        keypoint[view.point_rows[own]] = own
        own_rays = xyz[rows] - own_center
        own_distances = np.linalg.norm(own_rays, axis=1)
        cosines = (rays * own_rays).sum(axis=1) / np.maximum(distances * own_distances, 1e-12)
        ratios = distances / np.maximum(own_distances, 1e-12)
        better = np.flatnonzero(
            (keypoint[rows] >= 0) & (cosines >= best) & (ratios < _MAX_SCALE) & (ratios > 1 / _MAX_SCALE)
        )
        descriptors[better] = view.descriptors[keypoint[rows[better]]]
        best[better], is_similar[better] = cosines[better], True
    return descriptors, is_similar


def _is_found(view: EvidenceView, pixels: Float64Array, descriptors: Float32Array) -> Float64Array:
    """The largest similarity [M] of the keypoints near places of an image to descriptors; -1 without a keypoint."""
    radius = _RADIUS_PX * max(1.0, max(view.camera.width, view.camera.height) / _REFERENCE_SIZE_PX)
    number = min(_NUM_CANDIDATES, len(view.pixels))
    distances, near = cKDTree(view.pixels).query(pixels, number, distance_upper_bound=radius)
    distances, near = np.reshape(distances, (-1, number)), np.reshape(near, (-1, number))
    is_near = np.isfinite(distances)
    compared = view.descriptors[np.where(is_near, near, 0)]  # [M, K, D]
    similarities = np.where(is_near, np.einsum("mkd,md->mk", compared, descriptors), -1.0)
    return np.asarray(similarities.max(axis=1), np.float64)
