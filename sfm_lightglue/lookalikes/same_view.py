"""Two images from nearly the same place should match everywhere. Where whole parts stay unmatched, places differ.

Twins that are equal in every pixel match completely. But what stands around them differs: seen from the same side, the
matches cover the twin, and end at its border. In a true pair from one place, matches cover all parts with keypoints.

Something that moves, such as a person before a wall, is unmatched too. But it is matched in no other pair together with
what stands still, as the surroundings of twins are: only such keypoints count. And what it hides is unmatched in the
image that shows it only, surroundings in both images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array
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

_STANDING = 0.004
"""A keypoint stands if the other image has one this near at the same pixel, as a fraction of the longer side."""

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


def same_view_conflict(
    images: tuple[ImageView, ImageView],
    pair: PairView,
    angles: RayAngles,
    stands_still: tuple[BoolArray, BoolArray] | None = None,
) -> float:
    """How much more of two images from nearly one place stays unmatched in whole parts than is usual, as a logit.

    -4 to -0.5 in true pairs, up to 4 where different things stand around equal twins.

    Args:
        images: of the pair.
        pair: its inliers and its rotation.
        angles: of the pair, see `ray_angles`.
        stands_still: for both images, the keypoints [N] that count beside the inliers: those that are known to stand
            still with them, see `PairTracks.matched_with`, or see `unknown_surroundings`; None for all.

    Returns:
        The smaller value of both sides; NaN if the images are not taken from nearly the same place.

    Source: Zach, Irschara and Bischof, What can missing correspondences tell us about 3D structure and motion?, 2008,
    for the idea; the statistic is ours.
    """
    if not angles.is_same_view:
        return nan
    if stands_still is None:
        stands_still = np.ones(len(images[0].keypoints), np.bool_), np.ones(len(images[1].keypoints), np.bool_)
    rows = pair.rows[:, 0], pair.rows[:, 1]
    is_asked = [pair.is_asked(side, len(images[side].keypoints)) for side in (0, 1)]
    first, second = (_side(images[side], rows[side], is_asked[side], stands_still[side]) for side in (0, 1))
    values = _conflict(first, second, pair.rotation), _conflict(second, first, pair.rotation.T)
    return float(min(values)) if not np.isnan(values).any() else nan


def unknown_surroundings(
    images: tuple[ImageView, ImageView], num_pairs: tuple[AnyArray, AnyArray]
) -> tuple[BoolArray, BoolArray]:
    """For both images of a pair, the keypoints [N] that no pair matches, and that do not stand.

    Nothing is known of what they show. If it moves, it leaves what it hides without a match in one image only. What
    stands at the same pixels of both images is the background of an object that turns.

    Args:
        images: of the pair.
        num_pairs: for both images, the number of pairs [N] in which each keypoint is an inlier.
    """
    first, second = images
    radius_px = _STANDING * max(first.size)
    trees = cKDTree(first.keypoints), cKDTree(second.keypoints)
    found = []
    for side, image in enumerate(images):
        is_unknown: BoolArray = num_pairs[side] == 0
        if len(first.keypoints) > 0 and len(second.keypoints) > 0:
            distances, _ = trees[1 - side].query(image.keypoints, distance_upper_bound=radius_px)
            is_unknown = is_unknown & np.isinf(distances)
        found.append(is_unknown)
    return found[0], found[1]


@dataclass(frozen=True, eq=False, slots=True)
class _Side:
    """The keypoints of one image that were matched, or tried to.

    Args:
        image: of the keypoints.
        keypoints: [N, 2] of them.
        is_matched: [N] inliers.
        is_still: [N] keypoints that are known to stand still with the inliers.
        is_alone: [N] keypoints far from inliers.
    """

    image: ImageView
    keypoints: Float32Array
    is_matched: BoolArray
    is_still: BoolArray
    is_alone: BoolArray


def _side(image: ImageView, rows: AnyArray, is_asked: BoolArray, stands_still: BoolArray) -> _Side:
    is_matched = np.zeros(len(image.keypoints), np.bool_)
    is_matched[rows] = True
    keypoints, is_matched, is_still = image.keypoints[is_asked], is_matched[is_asked], stands_still[is_asked]
    is_alone: BoolArray = np.zeros(len(keypoints), np.bool_)
    if len(keypoints) >= _NUM_NEAREST:
        _, nearest = cKDTree(keypoints).query(keypoints, k=_NUM_NEAREST)
        is_alone[:] = (~is_matched[nearest]).all(axis=1)
    return _Side(image, keypoints, is_matched, is_still | is_matched, is_alone)


def _conflict(side: _Side, other: _Side, rotation: Float64Array) -> float:
    """The statistic of one side: of the keypoints of the image that the other one should see."""
    assert side.image.focal_px is not None and other.image.focal_px is not None  # see `ray_angles`
    rays = _rays(side.keypoints, side.image, side.image.focal_px) @ rotation.T
    size = np.array(other.image.size, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = rays[:, :2] / rays[:, 2:] * other.image.focal_px + size / 2
        border = _BORDER * size.max()
        is_asked = (rays[:, 2] > 0) & ((expected > border) & (expected < size - border)).all(axis=1)
    is_asked[is_asked] = _are_near(expected[is_asked], other.keypoints[other.is_still], _NEAR * size.max())
    num_asked = int(is_asked.sum())
    if num_asked < _MIN_KEYPOINTS:
        return nan
    matched = float(side.is_matched[is_asked].mean()) / max(1 - float(side.is_alone[is_asked].mean()), 1e-6)
    is_asked &= side.is_still
    # What hides a part of one image leaves keypoints alone in the other one only; other surroundings in both.
    is_alone = side.is_alone & is_asked
    is_alone[is_alone] = _are_alone_there(expected[is_alone], other, _NEAR * size.max())
    alone = float(is_alone.sum() / max(is_asked.sum(), 1))
    alone = min(max(alone, 1 / num_asked), 1 - 1 / num_asked)
    return float(np.log(alone / (1 - alone)) - (_USUAL[0] + _USUAL[1] * matched))


def _are_near(points: AnyArray, others: AnyArray, limit_px: float) -> BoolArray:
    """Which points [N] have several others within a distance."""
    if len(points) == 0 or len(others) < _NUM_NEAR:
        return np.zeros(len(points), np.bool_)
    distances, _ = cKDTree(others).query(points, k=[_NUM_NEAR])
    is_near: BoolArray = np.asarray(distances)[:, 0] < limit_px
    return is_near


def _are_alone_there(points: AnyArray, other: _Side, limit_px: float) -> BoolArray:
    """Which points [N] have keypoints near them in the other image that are all alone, of those that stand still."""
    others = other.keypoints[other.is_still]
    if len(points) == 0 or len(others) < _NUM_NEAREST:
        return np.zeros(len(points), np.bool_)
    distances, nearest = cKDTree(others).query(points, k=_NUM_NEAREST)
    are_alone = other.is_alone[other.is_still][nearest].all(axis=1)
    are_near: BoolArray = np.asarray(distances)[:, _NUM_NEAR - 1] < limit_px
    return are_near & are_alone


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
