"""The similarity between two models that have images in common, checked by the points that these images observe.

Every two common images give a candidate: the rotation from their orientations, the scale from their distance. The
candidate under which most observations of the common images fit wins, and is refined on the images that fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, project_to_rotation, umeyama

MIN_COMMON = 3
"""Fewest common images. A similarity has seven unknowns, three centres have nine coordinates."""

_MIN_COMMON_ON_LINE = 5
"""Fewest common images whose centres lie on a line: the rotation around it follows from the orientations only."""

_LINE_RATIO = 0.02
"""Centres lie on a line if their spread across it is at most this fraction of the spread along it."""

_MIN_BASELINE = 0.01
"""Smallest spread of the centres, as a fraction of the median depth of the observed points. Else the scale is
unknown."""

_MAX_SCALE_ERROR = 0.1
"""Largest change of the scale that moves points by the median error. Short baselines are consistent with many scales.
"""

_MAX_ERROR_PX = 12.0
"""Largest reprojection error of a consistent observation, in pixels of images of up to 1600 pixels. The two models were
adjusted apart: two halves of a scene of 41 images with three in common had a median error of 3 pixels."""

_MAX_MEDIAN_ERROR_PX = 6.0
"""Largest median of these errors over the observations of the consistent images."""

_MIN_CONSISTENT = 0.7
"""Smallest fraction of consistent observations, of an image and of all consistent images together."""

_MIN_CONSISTENT_IMAGES = 0.6
"""Smallest fraction of the common images that are consistent: else one of the models is wrong about the others."""

_MIN_OBSERVATIONS = 20
"""Fewest observations of a common image in each of the models."""

_MAX_IMAGES, _MAX_PER_IMAGE = 30, 100
"""Common images, and observations of each in a model, that are used; evenly chosen from more."""

_NUM_POINT_ROUNDS, _MIN_POINT_PAIRS = 3, 20
"""Refinements by points with common observations, and the fewest such points."""

_REFERENCE_SIZE_PX = 1600.0


@dataclass(frozen=True, slots=True)
class ModelAlignment:
    """The position of one model in another.

    Args:
        target_from_source: between the worlds of the models.
        names: of the common images that are consistent, sorted.
        median_error_px: median reprojection error of the points of one model in the images of the other, the larger of
            the two, in pixels of images of up to 1600 pixels.
        consistent_share: fraction of these observations with an error of at most 12 pixels.
    """

    target_from_source: Sim3
    names: tuple[str, ...]
    median_error_px: float
    consistent_share: float


@dataclass(frozen=True, slots=True)
class NotMerged:
    """Why two models stay apart.

    Args:
        reason: in words.
    """

    reason: str


def align_models(source: pycolmap.Reconstruction, target: pycolmap.Reconstruction) -> ModelAlignment | NotMerged:
    """Align a model with another one by their common images.

    Args:
        source: a model.
        target: another model of the same database.
    """
    names = sorted(name for name, _ in registered_images(source) & registered_images(target))
    if len(names) < MIN_COMMON:
        return NotMerged(f"{len(names)} common images, at least {MIN_COMMON} are needed")
    common = _Common.of(source, target, _evenly(names, _MAX_IMAGES))
    if len(common.names) < MIN_COMMON:
        return NotMerged(f"only {len(common.names)} of {len(names)} common images observe enough points in both models")
    scored = [(common.fit(candidate), candidate) for candidate in common.candidates()]
    if not scored:
        return NotMerged("the centres of the common images coincide: there is no scale")
    fit, similarity = max(scored, key=lambda each: each[0].score)
    for refined in common.refinements(similarity, fit.consistent):
        fit, similarity = max((fit, similarity), (common.fit(refined), refined), key=lambda each: each[0].score)
    problem = common.problem(fit)
    if problem is not None:
        return NotMerged(problem)
    chosen = tuple(name for name, is_consistent in zip(common.names, fit.consistent, strict=True) if is_consistent)
    return ModelAlignment(similarity, chosen, fit.median_error_px, fit.share)


def registered_images(model: pycolmap.Reconstruction) -> set[tuple[str, int]]:
    """Names and identifiers of the registered images. Two databases can have images of the same name."""
    return {(model.images[image_id].name, image_id) for image_id in model.reg_image_ids()}


def _images(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Image]:
    return {model.images[image_id].name: model.images[image_id] for image_id in sorted(model.reg_image_ids())}


def _evenly(names: Sequence[str], most: int) -> list[str]:
    if len(names) <= most:
        return list(names)
    return [names[idx] for idx in np.linspace(0, len(names) - 1, most).round().astype(int).tolist()]


@dataclass(frozen=True, eq=False, slots=True)
class _Fit:
    """How well a similarity fits.

    Args:
        consistent: whether each common image is consistent.
        share: of consistent observations in the consistent images.
        median_error_px: over these observations, in the direction where it is larger; infinite without consistent
            images.
        score: sum over the images of the share of consistent observations, and less than one for smaller errors.
    """

    consistent: tuple[bool, ...]
    share: float
    median_error_px: float
    score: float


@dataclass(frozen=True, eq=False, slots=True)
class _Observed:
    """Points of a model that common images observe.

    Args:
        idxs: [K] index of the common image.
        xyz: [K, 3] in the world of the model.
        rays: [K, 3] direction of length 1 of the keypoint in the camera frame, by the intrinsics of this model.
        px_per_radian: [K] focal length in pixels of an image of at most 1600 pixels.
    """

    idxs: IndexArray
    xyz: Float64Array
    rays: Float64Array
    px_per_radian: Float64Array

    def errors_px(self, poses: Sequence[Rigid3], poses_from_points: Sim3) -> Float64Array:
        """Errors [K] of the points, moved by a similarity, in cameras with the given poses."""
        R = np.stack([pose.R for pose in poses])[self.idxs]
        t = np.stack([pose.t for pose in poses])[self.idxs]
        in_camera = np.einsum("kij,kj->ki", R, poses_from_points @ self.xyz) + t
        sine = np.linalg.norm(np.cross(in_camera, self.rays), axis=1)
        errors: Float64Array = np.arctan2(sine, (in_camera * self.rays).sum(axis=1)) * self.px_per_radian
        return errors


@dataclass(frozen=True, eq=False, slots=True)
class _Common:
    """The common images of two models.

    Args:
        names: of the images.
        poses: `cam_from_world` of each in the source and in the target.
        observed: points of the source and of the target.
        point_pairs: points [K, 3] of the source and of the target with the same observation in a common image.
    """

    names: tuple[str, ...]
    poses: tuple[tuple[Rigid3, ...], tuple[Rigid3, ...]]
    observed: tuple[_Observed, _Observed]
    point_pairs: tuple[Float64Array, Float64Array]

    @classmethod
    def of(cls, source: pycolmap.Reconstruction, target: pycolmap.Reconstruction, names: Sequence[str]) -> _Common:
        images = [_images(model) for model in (source, target)]
        usable = tuple(name for name in names if min(each[name].num_points3D for each in images) >= _MIN_OBSERVATIONS)
        poses = tuple(
            tuple(Rigid3.from_matrix(each[name].cam_from_world().matrix()) for name in usable) for each in images
        )
        observed = tuple(
            _observed(model, [each[name] for name in usable])
            for model, each in zip((source, target), images, strict=True)
        )
        pairs = _point_pairs(source, target, [(images[0][name], images[1][name]) for name in usable])
        return cls(usable, (poses[0], poses[1]), (observed[0], observed[1]), pairs)

    def centers(self, side: int) -> Float64Array:
        return np.array([pose.center for pose in self.poses[side]])

    def candidates(self) -> Iterator[Sim3]:
        """A similarity `target_from_source` of every two images."""
        for pair in combinations(range(len(self.names)), 2):
            similarity = self._by_orientations(list(pair))
            if similarity is not None:
                yield similarity

    def refinements(self, similarity: Sim3, consistent: Sequence[bool]) -> Iterator[Sim3]:
        """Similarities of the consistent images by orientations and by centres, and of points observed in common."""
        idxs = np.flatnonzero(consistent).tolist()
        if len(idxs) >= MIN_COMMON:
            similarity = self._by_orientations(idxs) or similarity
            yield similarity
            yield umeyama(self.centers(0)[idxs], self.centers(1)[idxs])
        source, target = self.point_pairs
        for _ in range(_NUM_POINT_ROUNDS if len(source) >= _MIN_POINT_PAIRS else 0):
            distances = np.linalg.norm(similarity @ source - target, axis=1)
            near = distances <= 2 * np.median(distances)
            similarity = umeyama(source[near], target[near])
            yield similarity

    def _by_orientations(self, idxs: Sequence[int]) -> Sim3 | None:
        """A similarity with the mean rotation between the orientations; None if centres coincide."""
        products = [self.poses[1][idx].R.T @ self.poses[0][idx].R for idx in idxs]
        R = project_to_rotation(np.sum(products, axis=0))
        source, target = (self.centers(side)[idxs] for side in (0, 1))
        lengths = [float(np.linalg.norm(each - each.mean(axis=0))) for each in (source, target)]
        if min(lengths) <= 0:
            return None
        scale = lengths[1] / lengths[0]
        return Sim3(scale, R, target.mean(axis=0) - scale * R @ source.mean(axis=0))

    def fit(self, target_from_source: Sim3) -> _Fit:
        """How well a similarity fits, in both directions."""
        errors = (
            self.observed[0].errors_px(self.poses[1], target_from_source),
            self.observed[1].errors_px(self.poses[0], target_from_source.inverse()),
        )
        shares = [
            np.bincount(each.idxs, weights=found <= _MAX_ERROR_PX, minlength=len(self.names))
            / np.maximum(np.bincount(each.idxs, minlength=len(self.names)), 1)
            for each, found in zip(self.observed, errors, strict=True)
        ]
        share = np.minimum(*shares)
        consistent = share >= _MIN_CONSISTENT
        of_sides = [found[consistent[o.idxs]] for o, found in zip(self.observed, errors, strict=True)]
        used = np.concatenate(of_sides)
        median = max(float(np.median(each)) if len(each) > 0 else np.inf for each in of_sides)
        total = float((used <= _MAX_ERROR_PX).mean()) if len(used) > 0 else 0.0
        return _Fit(tuple(consistent.tolist()), total, median, float(share.sum()) + 1 / (2 + median))

    def problem(self, fit: _Fit) -> str | None:
        """Why a fit does not suffice; None if it does."""
        idxs = np.flatnonzero(fit.consistent)
        if len(idxs) < max(MIN_COMMON, _MIN_CONSISTENT_IMAGES * len(self.names)):
            return f"only {len(idxs)} of {len(self.names)} common images have consistent poses in both models"
        if fit.median_error_px > _MAX_MEDIAN_ERROR_PX:
            return (
                f"points of one model have a median error of {fit.median_error_px:.1f} px in the images of the other"
                f" (limit {_MAX_MEDIAN_ERROR_PX:.0f} px)"
            )
        for side, observed in enumerate(self.observed):
            centers = self.centers(side)[idxs]
            spread = np.linalg.svd(centers - centers.mean(axis=0), compute_uv=False) / np.sqrt(len(idxs))
            poses = np.stack([pose.as_matrix() for pose in self.poses[side]])[observed.idxs]
            depth = float(np.median((poses[:, 2] * homogeneous(observed.xyz)).sum(axis=1)))
            if spread[0] <= _MIN_BASELINE * depth:
                return "the centres of the common images nearly coincide: the scale is not determined"
            parallax_px = float(np.median(observed.px_per_radian)) * float(np.linalg.norm(spread)) / depth
            if fit.median_error_px > _MAX_SCALE_ERROR * parallax_px:
                return (
                    f"the scale is not determined: the common images have a parallax of {parallax_px:.0f} px, and a"
                    f" median error is {fit.median_error_px:.1f} px"
                )
            if spread[1] <= _LINE_RATIO * spread[0] and len(idxs) < _MIN_COMMON_ON_LINE:
                return (
                    f"the centres of the {len(idxs)} common images lie on a line, at least {_MIN_COMMON_ON_LINE} are"
                    " needed then"
                )
        return None


def _point_pairs(
    source: pycolmap.Reconstruction,
    target: pycolmap.Reconstruction,
    images: Sequence[tuple[pycolmap.Image, pycolmap.Image]],
) -> tuple[Float64Array, Float64Array]:
    """Points [K, 3] of two models with the same observation; a pair of points that several images share once."""
    ids = set()
    for image0, image1 in images:
        rows = set(image0.get_observation_point2D_idxs()) & set(image1.get_observation_point2D_idxs())
        ids |= {(image0.points2D[row].point3D_id, image1.points2D[row].point3D_id) for row in rows}
    pairs = [(source.points3D[id0].xyz, target.points3D[id1].xyz) for id0, id1 in sorted(ids)]
    both = np.array(pairs, np.float64).reshape(-1, 2, 3)
    return both[:, 0], both[:, 1]


def _observed(model: pycolmap.Reconstruction, images: Sequence[pycolmap.Image]) -> _Observed:
    idxs, xyz, rays, focal = [], [], [], []
    for idx, image in enumerate(images):
        rows = image.get_observation_point2D_idxs()
        rows = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MAX_PER_IMAGE)).astype(int))]
        points = [image.points2D[row] for row in rows]
        camera = model.cameras[image.camera_id]
        directions = homogeneous(np.asarray(camera.cam_from_img(np.array([point.xy for point in points]))))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        valid = np.isfinite(directions).all(axis=1)
        idxs.append(np.full(int(valid.sum()), idx))
        xyz.append(np.array([model.points3D[point.point3D_id].xyz for point in points])[valid])
        rays.append(directions[valid])
        size = max(camera.width, camera.height)
        focal.append(np.full(int(valid.sum()), camera.mean_focal_length() * min(1.0, _REFERENCE_SIZE_PX / size)))
    if not idxs:
        return _Observed(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    return _Observed(np.concatenate(idxs), np.concatenate(xyz), np.concatenate(rays), np.concatenate(focal))
