"""Two images from nearly the same place should match everywhere. Where whole parts stay unmatched, places differ.

Twins that are equal in every pixel match completely. But what stands around them differs: seen from the same side, the
matches cover the twin, and end at its border. In a true pair from one place, matches cover all parts with keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array
from sfm_lightglue.lookalikes.views import ImageView, PairView

MAX_ANGLE_DEG = 5.0
"""Images are taken from nearly the same place if the median angle between the two rays of an inlier is at most this."""

_MAX_LARGE_ANGLE_DEG = 9.0
"""Limit of the 90th percentile of this angle."""

_MAX_SCALE = 0.15
"""Limit of the median binary logarithm of the ratio of the scales of matched keypoints."""

_NUM_NEAREST = 6
"""A keypoint is alone if neither it nor any of its nearest keypoints is matched; so many are looked at in all."""

_BORDER = 0.05
"""Width of the border of the other image in which nothing is expected, as a fraction of the longer side."""

_NEAR = 0.06
"""The other image must have keypoints this near to the expected place, as a fraction of the longer side."""

_NUM_NEAR = 3
"""Number of these keypoints."""

_MIN_KEYPOINTS = 20
"""Number of keypoints that the other image should see too."""

_USUAL = 3.4, -11.0
"""In true pairs, the logit of the fraction of keypoints that are alone is usually near to this linear function of the
fraction of the others that are matched. It was read off photographs and set by hand."""


@dataclass(frozen=True, slots=True)
class RayAngles:
    """Angles between the two rays of the inliers of a pair, and whether both images are taken from nearly one place.

    Args:
        median_deg: median angle in degrees; NaN if it is not known.
        is_same_view: whether the images should match everywhere.
    """

    median_deg: float
    is_same_view: bool


def ray_angles(images: tuple[ImageView, ImageView], pair: PairView) -> RayAngles:
    """The angles between the two rays of each inlier of a pair.

    Args:
        images: of the pair.
        pair: its inliers and its rotation.
    """
    first, second = images
    if first.focal_px is None or second.focal_px is None or len(pair.rows) == 0:
        return RayAngles(nan, False)
    rays0, rays1 = (
        _rays(image.keypoints[pair.rows[:, side]], image, focal_px)
        for side, (image, focal_px) in enumerate(((first, first.focal_px), (second, second.focal_px)))
    )
    turned = rays0 @ pair.rotation.T
    norms = np.linalg.norm(turned, axis=1) * np.linalg.norm(rays1, axis=1)
    angles = np.degrees(np.arccos(np.clip((turned * rays1).sum(axis=1) / norms, -1, 1)))
    median, large = np.percentile(angles, [50, 90]).tolist()
    is_near = median <= MAX_ANGLE_DEG and large <= _MAX_LARGE_ANGLE_DEG
    return RayAngles(median, is_near and _has_same_scale((first, second), (first.focal_px, second.focal_px), pair))


def same_view_conflict(images: tuple[ImageView, ImageView], pair: PairView) -> float:
    """How much more of two images from nearly one place stays unmatched in whole parts than is usual, as a logit.

    Near to 0 in true pairs, 1 to 3 where different things stand around equal twins.

    Args:
        images: of the pair.
        pair: its inliers and its rotation.

    Returns:
        The smaller value of both sides; NaN if the images are not taken from nearly the same place.

    Source: Zach, Irschara and Bischof, What can missing correspondences tell us about 3D structure and motion?, 2008,
    for the idea; the statistic is ours.
    """
    if not ray_angles(images, pair).is_same_view:
        return nan
    rows = pair.rows[:, 0], pair.rows[:, 1]
    firsts = images[0].is_first, images[1].is_first
    is_settled = all(first is not None and bool(first[row].all()) for first, row in zip(firsts, rows, strict=True))
    values = [
        _conflict(images[side], images[1 - side], rows[side], is_settled, rotation)
        for side, rotation in ((0, pair.rotation), (1, pair.rotation.T))
    ]
    return float(min(values)) if not np.isnan(values).any() else nan


def _conflict(image: ImageView, other: ImageView, rows: AnyArray, is_settled: bool, rotation: Float64Array) -> float:
    """The statistic of one side: of the keypoints of the image that the other one should see."""
    assert image.focal_px is not None and other.focal_px is not None  # see `ray_angles`
    is_matched = np.zeros(len(image.keypoints), np.bool_)
    is_matched[rows] = True
    is_asked = _asked(image, is_settled)
    keypoints, is_matched = image.keypoints[is_asked], is_matched[is_asked]
    rays = _rays(keypoints, image, image.focal_px) @ rotation.T
    size = np.array(other.size, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = rays[:, :2] / rays[:, 2:] * other.focal_px + size / 2
        border = _BORDER * size.max()
        is_inside = (rays[:, 2] > 0) & ((expected > border) & (expected < size - border)).all(axis=1)
    others = other.keypoints[_asked(other, is_settled)]
    if is_inside.sum() < _MIN_KEYPOINTS or len(others) < _NUM_NEAR:
        return nan
    keypoints, is_matched = keypoints[is_inside], is_matched[is_inside]
    _, nearest = cKDTree(keypoints).query(keypoints, k=_NUM_NEAREST)
    distances, _ = cKDTree(others).query(expected[is_inside], k=[_NUM_NEAR])
    has_others = np.asarray(distances)[:, 0] < _NEAR * size.max()
    num_asked = int(has_others.sum())
    if num_asked < _MIN_KEYPOINTS:
        return nan
    alone = float((~is_matched[nearest]).all(axis=1)[has_others].mean())
    matched = float(is_matched[has_others].mean()) / max(1 - alone, 1e-6)
    alone = min(max(alone, 1 / num_asked), 1 - 1 / num_asked)
    return float(np.log(alone / (1 - alone)) - (_USUAL[0] + _USUAL[1] * matched))


def _asked(image: ImageView, is_settled: bool) -> BoolArray:
    """The keypoints [N] that were matched: only the first ones if these settled the pair."""
    if is_settled and image.is_first is not None:
        return image.is_first
    return np.ones(len(image.keypoints), np.bool_)


def _rays(keypoints: AnyArray, image: ImageView, focal_px: float) -> Float64Array:
    """Rays [N, 3] of keypoints, without distortion and with the principal point in the middle."""
    centered = (keypoints.astype(np.float64) - np.array(image.size) / 2) / focal_px
    return np.column_stack([centered, np.ones(len(keypoints))])


def _has_same_scale(images: tuple[ImageView, ImageView], focal_px: tuple[float, float], pair: PairView) -> bool:
    scales = [image.scales for image in images]
    if scales[0] is None or scales[1] is None:
        return True
    ratios = np.maximum(scales[1][pair.rows[:, 1]], 1e-9) / np.maximum(scales[0][pair.rows[:, 0]], 1e-9)
    return abs(float(np.log2(np.median(ratios) * focal_px[0] / focal_px[1]))) <= _MAX_SCALE
