"""The position of a model on the Earth, or in another frame in metres, from known positions of its images.

Errors of GPS are metres and often shared by neighbouring images, so a small scene cannot be scaled by it: a model is
left as it is where scale or orientation would be a guess.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.transforms import Sim3, umeyama
from sfm_lightglue.scene.local_frame import LocalPositions

logger = logging.getLogger(__name__)

GEOREGISTRATION_VERSION = 1
"""Part of the key of finished models: raised whenever other alignments are found or accepted."""

GPS_ERROR_M, GPS_ALTITUDE_ERROR_M = 3.0, 6.0
"""Standard deviations of a horizontal coordinate and of the altitude of geographic positions that are assumed at least:
a few images fit by chance."""

_MIN_IMAGES = 3

_LINE_RATIO = 0.02
"""Positions lie on a line if their spread across it is at most this fraction of the spread along it."""

_MAX_SCALE_ERROR = 0.1
"""Largest relative standard deviation of the scale."""

_MAX_ROTATION_ERROR_DEG = 10.0
"""Largest standard deviation of the orientation."""

_MAX_RIG_SCALE_ERROR = 0.2
"""Largest difference from 1 of the scale of a model with distances in rigs, if the positions tell the scale well."""

_MIN_RIG_BASELINE_M = 1e-3
"""Smallest distance between cameras of a rig that are apart."""

_MAX_RESIDUAL = 0.3
"""Largest median distance between camera centres and positions, as a fraction of the spread of the positions."""

_MIN_FITTING = 0.6
"""Smallest fraction of the images whose positions must fit."""

_OUTLIER_FACTOR = 3.0
"""A position whose distance is this multiple of the median distance does not fit."""

_MAX_TRIPLES = 300
"""Sets of three images that are tried; chosen at random from more."""

_NUM_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class GeoRegistration:
    """The similarity from the world of a model to a frame in metres.

    Args:
        local_from_model: the similarity.
        origin: latitude, longitude (degrees) and altitude (metres) of the frame with the axes east, north and up; None
            if the positions were given in another frame.
        residuals_m: distance between camera centre and position of each image that has a position, by name.
        outliers: names of the images whose positions were not used, sorted.
        scale_error: relative standard deviation of the scale; 0 if rigs determine it.
        rotation_error_deg: standard deviation of the orientation, about the axis that is least certain.
    """

    local_from_model: Sim3
    origin: tuple[float, float, float] | None
    residuals_m: Mapping[str, float]
    outliers: tuple[str, ...]
    scale_error: float
    rotation_error_deg: float

    @property
    def names(self) -> tuple[str, ...]:
        """Images whose positions were used, sorted."""
        return tuple(sorted(self.residuals_m.keys() - set(self.outliers)))

    @property
    def median_residual_m(self) -> float:
        """Of the images whose positions were used."""
        return float(np.median([self.residuals_m[name] for name in self.names]))

    def apply(self, model: pycolmap.Reconstruction) -> None:
        """Move a model into the frame in metres."""
        similarity = self.local_from_model
        matrix = np.column_stack([similarity.scale * similarity.R, similarity.t])
        model.transform(pycolmap.Sim3d(matrix))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        similarity = self.local_from_model
        keys = ("latitude_deg", "longitude_deg", "altitude_m")
        return {
            "frame": "given" if self.origin is None else "east_north_up",
            "origin": None if self.origin is None else dict(zip(keys, self.origin, strict=True)),
            "local_from_model": {
                "scale": similarity.scale,
                "rotation": similarity.R.tolist(),
                "translation_m": similarity.t.tolist(),
            },
            "num_used": len(self.names),
            "median_residual_m": self.median_residual_m,
            "scale_error": self.scale_error,
            "rotation_error_deg": self.rotation_error_deg,
            "images": {
                name: {"residual_m": residual_m, "used": name not in self.outliers}
                for name, residual_m in sorted(self.residuals_m.items())
            },
        }


def georegister(
    model: pycolmap.Reconstruction, positions: LocalPositions, assumed_error_m: float | None = None
) -> GeoRegistration | None:
    """Align the camera centres of a model with known positions.

    A model with rigs of cameras at known distances keeps its scale, as these are metres.

    Args:
        model: any model; not changed.
        positions: of images, some of which may not be in the model.
        assumed_error_m: standard deviation of a coordinate that is assumed at least; None takes that of GPS for
            geographic positions, and 0 for positions in another frame.

    Returns:
        The alignment; None if the positions do not determine it. The log tells why.
    """
    errors_m = np.full(3, assumed_error_m or 0.0)
    if assumed_error_m is None and positions.origin is not None:
        errors_m = np.array([GPS_ERROR_M, GPS_ERROR_M, GPS_ALTITUDE_ERROR_M])
    poses = poses_of_model(model)
    row_from_name = {name: row for row, name in enumerate(positions.names) if name in poses}
    names = sorted(row_from_name)
    if len(names) < _MIN_IMAGES:
        logger.debug("%d images of the model have a position, %d are needed for metres", len(names), _MIN_IMAGES)
        return None
    centers = np.array([poses[name].center for name in names])
    targets = positions.xyz_m[[row_from_name[name] for name in names]]
    found = _robust_similarity(centers, targets)
    problem: str | None = "the positions or the camera centres coincide"
    if found is not None:
        fits = found[1]
        result = _result(names, centers, targets, found, positions.origin, errors_m)
        problem = None
        if _has_rig_baseline(model):
            problem = _problem_of_rigs(result)
            rigid = umeyama(centers[fits], targets[fits], with_scale=False)
            result = _result(names, centers, targets, (rigid, fits), positions.origin, errors_m)
            result = replace(result, scale_error=0.0)
        problem = problem or _problem(result, centers, targets, fits)
        if problem is None:
            return result
    if np.unique(targets, axis=0, return_counts=True)[1].max() > len(targets) / 2:
        problem = "most of these positions are equal"
    logger.warning("the model is not in metres: %d images have a position, but %s", len(names), problem)
    return None


def _result(
    names: list[str],
    centers: Float64Array,
    targets: Float64Array,
    found: tuple[Sim3, BoolArray],
    origin: tuple[float, float, float] | None,
    assumed_errors_m: Float64Array,
) -> GeoRegistration:
    similarity, fits = found
    residuals_m = np.linalg.norm(similarity @ centers - targets, axis=1)
    num_free = max(3 * int(fits.sum()) - 7, 1)
    measured_m = math.sqrt(float((residuals_m[fits] ** 2).sum()) / num_free)
    # The errors of the positions are no lever arm: the camera centres tell the extent.
    errors = _errors(similarity.scale * centers[fits] @ similarity.R.T, np.maximum(assumed_errors_m, measured_m))
    return GeoRegistration(
        similarity,
        origin,
        dict(zip(names, residuals_m.tolist(), strict=True)),
        tuple(name for name, is_used in zip(names, fits.tolist(), strict=True) if not is_used),
        *errors,
    )


def _errors(points: Float64Array, errors_m: Float64Array) -> tuple[float, float]:
    """Uncertainty of a similarity that moves points to measured positions with least squared distances.

    Args:
        points: [N, 3] in the frame of the positions.
        errors_m: [3] standard deviation of each coordinate of the positions.

    Returns:
        Relative standard deviation of the scale; standard deviation of the rotation about its least certain axis,
        degrees.
    """
    centred = points - points.mean(axis=0)
    sum_squares = max(float((centred**2).sum()), 1e-12)
    # A small rotation w moves a point p by w x p.
    moves = np.stack([np.cross(axis, centred) for axis in np.eye(3)], axis=2)
    inverse = np.linalg.inv(np.einsum("nki,nkj->ij", moves, moves) + 1e-12 * sum_squares * np.eye(3))
    covariance = inverse @ np.einsum("nki,k,nkj->ij", moves, errors_m**2, moves) @ inverse
    scale_error = float(np.linalg.norm(centred * errors_m)) / sum_squares
    return scale_error, math.degrees(math.sqrt(max(float(np.linalg.eigvalsh(covariance)[-1]), 0.0)))


def _has_rig_baseline(model: pycolmap.Reconstruction) -> bool:
    """Whether cameras of a rig are apart: their distance is the unit of the model."""
    poses = [pose for rig in model.rigs.values() for pose in rig.non_ref_sensors.values()]
    return any(pose is not None and np.linalg.norm(pose.translation) >= _MIN_RIG_BASELINE_M for pose in poses)


def _problem_of_rigs(result: GeoRegistration) -> str | None:
    """Why an alignment contradicts the distances in rigs; None if it does not."""
    scale = result.local_from_model.scale
    if abs(scale - 1) <= max(_MAX_RIG_SCALE_ERROR, _OUTLIER_FACTOR * result.scale_error):
        return None
    return f"the distances between the cameras of a rig are {scale:.2f} times as long by them"


def _problem(result: GeoRegistration, centers: Float64Array, targets: Float64Array, fits: BoolArray) -> str | None:
    """Why an alignment is not sure; None if it is."""
    num_fitting = len(result.names)
    if num_fitting < max(_MIN_IMAGES, _MIN_FITTING * len(targets)):
        return f"only {num_fitting} of them agree with the model"
    for points in (centers[fits], targets[fits]):
        spread = _spread(points)
        if spread[1] <= _LINE_RATIO * spread[0]:
            return "they lie on a line, which leaves the rotation around it open"
    extent_m = float(np.linalg.norm(_spread(targets[fits])))
    if result.median_residual_m > _MAX_RESIDUAL * extent_m:
        return (
            f"their positions differ from the model by {result.median_residual_m:.1f} m (median), over an extent of"
            f" {extent_m:.1f} m"
        )
    if result.scale_error > _MAX_SCALE_ERROR:
        return f"they determine its scale only to {result.scale_error:.0%}: its extent is {extent_m:.1f} m"
    if result.rotation_error_deg > _MAX_ROTATION_ERROR_DEG:
        return f"they determine its orientation only to {result.rotation_error_deg:.0f} degrees"
    return None


def _robust_similarity(centers: Float64Array, targets: Float64Array) -> tuple[Sim3, BoolArray] | None:
    """The similarity with the least median distance of three images, refined on the images that fit.

    Returns:
        The similarity from centres to targets, and which images fit [N]; None if points coincide.

    Source: Rousseeuw, Least median of squares regression, 1984.
    """
    candidates = []
    for triple in _triples(len(centers)):
        similarity = _similarity(centers[triple], targets[triple])
        if similarity is not None:
            candidates.append((_median_distance(similarity, centers, targets), similarity))
    if not candidates:
        return None
    similarity = min(candidates, key=lambda each: each[0])[1]
    fits = np.zeros(len(centers), np.bool_)
    for _ in range(_NUM_ROUNDS):
        distances = np.linalg.norm(similarity @ centers - targets, axis=1)
        found = distances <= _OUTLIER_FACTOR * np.median(distances) + 1e-9
        refined = _similarity(centers[found], targets[found]) if found.sum() >= _MIN_IMAGES else None
        if refined is None or np.array_equal(found, fits):
            break
        similarity, fits = refined, found
    return (similarity, fits) if fits.any() else None


def _triples(num: int) -> IndexArray:
    if math.comb(num, 3) <= _MAX_TRIPLES:
        return np.array(list(combinations(range(num), 3)), np.int64)
    generator = np.random.default_rng(0)
    return np.stack([generator.choice(num, 3, replace=False) for _ in range(_MAX_TRIPLES)])


def _similarity(centers: Float64Array, targets: Float64Array) -> Sim3 | None:
    """By least squares; None if points coincide."""
    try:
        return umeyama(centers, targets)
    except ValueError:
        return None


def _median_distance(similarity: Sim3, centers: Float64Array, targets: Float64Array) -> float:
    return float(np.median(np.linalg.norm(similarity @ centers - targets, axis=1)))


def _spread(points: Float64Array) -> Float64Array:
    """Standard deviations [3] along the main axes of points [N, 3], the largest first."""
    centred = points - points.mean(axis=0)
    spread: Float64Array = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred / len(points))[::-1], 0))
    return spread
