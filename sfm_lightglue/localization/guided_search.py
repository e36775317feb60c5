"""A pose -> many more matches: keypoints near the projections of the points that the map sees there, and a better pose.

The matcher sees few keypoints of an image, and few images of the map. With a pose, the points of all images around are
projected, and compared with all keypoints of the dense layer that are near enough. As many of them fit as after
densifying a map, so that the pose becomes as exact as those of the map.

Source: Schönberger and Frahm, Structure-from-Motion Revisited, 2016, section 4.4 (completion of tracks), here for one
    image; Sattler et al., Efficient & Effective Prioritized Matching for Large-Scale Image-Based Localization, 2017
    (search for points of the surroundings in the image).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.features import DenseFeatures
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.localization.appearance import MapAppearance, Surroundings, sizes_in_pixels
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.localization.matching import PointMatches
from sfm_lightglue.localization.pose import EstimatedPose, fitting, refined_pose
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera

_NUM_IMAGES = 12
"""Images of the map whose points are looked for, those that see most of the points that fit the pose."""

_NUM_ROUNDS = 2
"""Searches, each with the pose of the one before."""

_NUM_OBSERVATIONS = 3
"""Observations of a point whose descriptors are compared: those from the most similar views."""

_NUM_NEAREST = 8
"""Keypoints that are compared at each projection."""

_MAX_ANGLE_DEG = 60.0
"""Largest angle between the rays of the image and of an observation to a point."""

_ANGLE_UNIT_DEG = 30.0
"""A difference of the viewing directions by so much makes views as different as twice the size."""

_MAX_SIZE_RATIO = 2.0
"""Largest ratio of the diameter of a keypoint and of that which an observation predicts."""

_NUM_DEVIATIONS = 3.0
"""The radius of the search, in standard deviations of keypoint and projection."""

_MIN_RADIUS_PX = 1.5
"""Smallest radius, in pixels of the image that the detector saw."""

_MAX_DISTANCE = 0.6
"""Largest distance of two descriptors of length 1. With 0.8, a third of shuffled descriptors found a match within the
radius; with 0.6, 1 to 8 %, and 1 to 6 % of the right matches are lost."""

_MAX_RATIO = 0.9
"""Largest ratio of the distances of the best descriptor and of the next one within the radius, of another place."""

_OTHER_PLACE_PX = 1.5
"""Keypoints and projections that are nearer to each other are at the same place, in pixels that the detector saw."""

_MIN_KEPT = 0.8
"""So many of the matcher's inliers must still fit the new pose."""

_MIN_FOUND = 0.5
"""So many keypoints must be found and fit, compared with the matcher's inliers: fewer may be chance."""

_ROWS_AT_A_TIME = 1 << 15


@dataclass(frozen=True, eq=False, slots=True)
class GuidedPose:
    """A pose from matches of the dense layer.

    Args:
        pose: whose inliers are those of the matches of the first pose.
        num_inliers: keypoints of the dense layer that the search found, and that fit.
    """

    pose: EstimatedPose
    num_inliers: int


@dataclass(frozen=True, eq=False, slots=True)
class _Keypoints:
    """The dense layer of the image."""

    pixels: Float64Array
    sizes_px: Float64Array
    descriptors: Float32Array
    tree: cKDTree
    unit_px: float

    @classmethod
    def of(cls, dense: DenseFeatures) -> _Keypoints:
        pixels = dense.keypoints.astype(np.float64)
        return cls(
            pixels, sizes_in_pixels(dense), dense.unit_descriptors(), cKDTree(pixels), dense.shrink_factor or 1.0
        )


@dataclass(frozen=True, eq=False, slots=True)
class _Pairs:
    """Pairs of a point and a keypoint.

    Args:
        point: [C] index of a point of the surroundings.
        row: [C] keypoint.
        projected: [C, 2] pixels of the projection.
        similarity: [C] cosine of the descriptors.
    """

    point: IndexArray
    row: IndexArray
    projected: Float64Array
    similarity: Float32Array


def guided_pose(
    first: EstimatedPose,
    matches: PointMatches,
    dense: DenseFeatures,
    camera: Camera,
    points: MapPoints,
    appearance: MapAppearance,
    max_error_px: float,
) -> GuidedPose | None:
    """Find further matches around a pose, and refine it by them.

    Args:
        first: an accepted pose.
        matches: of the image with points of the map, of which some fit it.
        dense: all keypoints of the image; the first ones are those of the matches.
        camera: intrinsics before any estimate.
        points: of the map.
        appearance: of the points.
        max_error_px: largest reprojection error of an inlier, and largest radius of the search.

    Returns:
        None if the first pose is not better supported afterwards, or the new one is not determined.
    """
    fits = first.inlier_mask
    names = points.most_common_images(np.unique(matches.point_ids[fits]), _NUM_IMAGES)
    seen = [one for one in map(appearance.of, names) if len(one.point_ids) > 0]
    if not seen or len(dense) == 0:
        return None
    around, keypoints = Surroundings.of(seen), _Keypoints.of(dense)
    own_pixels = keypoints.pixels[matches.rows]
    pose, noise_px = first, _noise_px(first, own_pixels[fits], matches.xyz[fits])
    views = _similar_views(around, first)
    num_found = 0
    for _ in range(_NUM_ROUNDS):
        found = _found(around, views, keypoints, pose, noise_px, max_error_px)
        others = np.flatnonzero(fits & ~np.isin(matches.rows, found.row))
        pixels = np.concatenate([keypoints.pixels[found.row], own_pixels[others]])
        xyz = np.concatenate([around.xyz[found.point], matches.xyz[others]])
        refined = refined_pose(pose, pixels, xyz, camera, max_error_px)
        if refined is None:
            return None
        pose, num_found = refined, int(refined.inlier_mask[: len(found.row)].sum())
        noise_px = _noise_px(pose, pixels[pose.inlier_mask], xyz[pose.inlier_mask])
    if pose.covariance is None:
        return None
    again = fitting(pose.cam_from_world, as_pycolmap(pose.camera), own_pixels, matches.xyz, max_error_px)
    num_first, num_kept = int(fits.sum()), int((again & fits).sum())
    if num_kept < _MIN_KEPT * num_first or num_found < _MIN_FOUND * num_first or pose.inlier_mask.sum() <= num_first:
        return None
    kept = EstimatedPose(pose.cam_from_world, pose.camera, again, pose.covariance)
    return GuidedPose(kept, num_found)


def _noise_px(pose: EstimatedPose, pixels: Float64Array, xyz: Float64Array) -> float:
    """Standard deviation of a coordinate of keypoints, from the median of the lengths of their residuals."""
    projected = np.asarray(as_pycolmap(pose.camera).img_from_cam(pose.cam_from_world @ xyz)).reshape(-1, 2)
    return float(np.median(np.linalg.norm(projected - pixels, axis=1)) / np.sqrt(2 * np.log(2)))


def _found(
    around: Surroundings,
    views: IndexArray,
    keypoints: _Keypoints,
    pose: EstimatedPose,
    noise_px: float,
    max_radius_px: float,
) -> _Pairs:
    """The keypoints that resemble a point near their place, and no other one there; each point and keypoint once."""
    native = as_pycolmap(pose.camera)
    point = np.flatnonzero((views >= 0).any(axis=1))
    in_cam = pose.cam_from_world @ around.xyz[point]
    point, in_cam = point[in_cam[:, 2] > 0], in_cam[in_cam[:, 2] > 0]
    projected = np.asarray(native.img_from_cam(in_cam), np.float64).reshape(-1, 2)
    inside = ((projected >= 0) & (projected <= (native.width, native.height))).all(axis=1)
    point, in_cam, projected = point[inside], in_cam[inside], projected[inside]
    variance = noise_px**2 + _projection_variance(in_cam, pose, native.mean_focal_length())
    least = min(_MIN_RADIUS_PX * keypoints.unit_px, max_radius_px)
    radius = np.clip(_NUM_DEVIATIONS * np.sqrt(variance), least, max_radius_px)
    found = keypoints.tree.query(projected, k=_NUM_NEAREST, distance_upper_bound=max_radius_px)
    distance, nearest = np.asarray(found[0], np.float64), np.asarray(found[1], np.int64)
    index, column = np.nonzero(distance <= radius[:, None])
    row = nearest[index, column]
    sizes = around.sizes * (native.mean_focal_length() / _depths(around, pose.cam_from_world))
    similarity = _similarities(around, keypoints, views[point[index]], row, sizes)
    kept = similarity >= 1 - _MAX_DISTANCE**2 / 2
    pairs = _Pairs(point[index][kept], row[kept], projected[index][kept], similarity[kept])
    return _distinct(pairs, keypoints)


def _depths(around: Surroundings, pose: Rigid3) -> Float64Array:
    """Depth [O] of the point of each observation; a small positive number behind the camera."""
    return np.maximum((pose @ around.xyz)[:, 2], 1e-9)[around.point]


def _similar_views(around: Surroundings, estimate: EstimatedPose) -> IndexArray:
    """[P, V] observations of each point from the views that are most similar to a pose, -1 for none."""
    pose, focal_px = estimate.cam_from_world, as_pycolmap(estimate.camera).mean_focal_length()
    xyz = around.xyz[around.point]
    rays, others = xyz - pose.center, xyz - around.centers
    lengths = np.linalg.norm(rays, axis=1) * np.linalg.norm(others, axis=1)
    cosine = (rays * others).sum(axis=1) / np.maximum(lengths, 1e-12)
    depth = (pose @ around.xyz)[around.point, 2]
    usable = np.flatnonzero((cosine >= np.cos(np.radians(_MAX_ANGLE_DEG))) & (depth > 0))
    unlike = np.degrees(np.arccos(np.minimum(cosine[usable], 1))) / _ANGLE_UNIT_DEG
    ratio = around.sizes[usable] * focal_px / depth[usable] / around.sizes_px[usable]
    unlike += np.nan_to_num(np.abs(np.log2(ratio)))
    order = usable[np.lexsort((usable, unlike, around.point[usable]))]
    point = around.point[order]
    rank = np.arange(len(order)) - np.searchsorted(point, point)
    chosen = rank < _NUM_OBSERVATIONS
    views = np.full((len(around.point_ids), _NUM_OBSERVATIONS), -1, np.int64)
    views[point[chosen], rank[chosen]] = order[chosen]
    return views


def _projection_variance(in_cam: Float64Array, pose: EstimatedPose, focal_px: float) -> Float64Array:
    """Variance [N] of the projections of points [N, 3] in the direction in which it is largest, in squared pixels."""
    if pose.covariance is None:
        return np.full(len(in_cam), np.inf)
    x, y, z = in_cam.T
    J = np.zeros((len(in_cam), 2, 3))
    J[:, 0, 0] = J[:, 1, 1] = focal_px / z
    J[:, 0, 2], J[:, 1, 2] = -focal_px * x / z**2, -focal_px * y / z**2
    turned = in_cam - pose.cam_from_world.t
    moves = np.zeros((len(in_cam), 3, 6))  # of x_cam = exp(w) R x_world + t + v
    moves[:, 0, 1], moves[:, 0, 2] = turned[:, 2], -turned[:, 1]
    moves[:, 1, 0], moves[:, 1, 2] = -turned[:, 2], turned[:, 0]
    moves[:, 2, 0], moves[:, 2, 1] = turned[:, 1], -turned[:, 0]
    moves[:, :, 3:] = np.eye(3)
    J = J @ moves
    return np.asarray(np.linalg.eigvalsh(J @ pose.covariance @ J.transpose(0, 2, 1))[:, 1], np.float64)


def _similarities(
    around: Surroundings, keypoints: _Keypoints, views: IndexArray, row: IndexArray, sizes: Float64Array
) -> Float32Array:
    """Largest cosine [C] of the descriptors of keypoints [C] and of observations [C, V] that have about their size."""
    pair, column = np.nonzero(views >= 0)
    observation = views[pair, column]
    with np.errstate(invalid="ignore"):
        ratio = sizes[observation] / keypoints.sizes_px[row[pair]]
        fits = ~((ratio > _MAX_SIZE_RATIO) | (ratio < 1 / _MAX_SIZE_RATIO))  # unknown sizes fit
    pair, observation = pair[fits], observation[fits]
    used, position = np.unique(observation, return_inverse=True)
    descriptors = around.descriptors(used)
    best = np.full(len(row), -1, np.float32)
    for first in range(0, len(pair), _ROWS_AT_A_TIME):
        part = slice(first, first + _ROWS_AT_A_TIME)
        own, other = keypoints.descriptors[row[pair[part]]], descriptors[position[part]]
        np.maximum.at(best, pair[part], np.einsum("cd,cd->c", own, other))
    return best


def _distinct(pairs: _Pairs, keypoints: _Keypoints) -> _Pairs:
    """Pairs that are the best of their point and of their keypoint, and clearly better than the next place."""
    limit_px = _OTHER_PLACE_PX * keypoints.unit_px
    pixels = keypoints.pixels[pairs.row]
    of_point, next_of_point = _best(pairs.point, pairs.similarity, pixels, limit_px)
    of_row, next_of_row = _best(pairs.row, pairs.similarity, pairs.projected, limit_px)
    gap = np.maximum(1 - pairs.similarity, 0)
    next_gap = 1 - np.maximum(next_of_point, next_of_row)
    chosen = np.flatnonzero(of_point & of_row & (gap <= _MAX_RATIO**2 * next_gap))
    return _Pairs(pairs.point[chosen], pairs.row[chosen], pairs.projected[chosen], pairs.similarity[chosen])


def _best(
    group: IndexArray, similarity: Float32Array, places: Float64Array, limit_px: float
) -> tuple[BoolArray, Float32Array]:
    """Which pairs [C] are the best of their group, and for each pair the next similarity at another place."""
    order = np.lexsort((np.arange(len(group)), -similarity, group))
    _, first, position = np.unique(group[order], return_index=True, return_inverse=True)
    best = order[first]
    is_best = np.zeros(len(group), np.bool_)
    is_best[best] = True
    number = np.empty(len(group), np.int64)
    number[order] = position.ravel()
    is_other = np.linalg.norm(places - places[best[number]], axis=1) > limit_px
    following = np.full(len(best), -1, np.float32)
    np.maximum.at(following, number[is_other], similarity[is_other])
    return is_best, following[number]
