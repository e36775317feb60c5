"""Labels of keypoints and overlap of views, for one pair at a time, in numpy: the reference for the batched code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, IndexArray, Int32Array
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M, PosedCamera
from sfm_lightglue.training.data.labelled_scenes import IGNORED, MATCHED, UNMATCHABLE, StateArray
from sfm_lightglue.training.data.labels import LabelConfig

_SAME_DEPTH = 0.02
_BEHIND = 0.04
_EDGE_CURVATURE = 0.01

_OFFSETS = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)])


def shared_view(
    depth0: Float32Array, camera0: PosedCamera, depth1: Float32Array, camera1: PosedCamera, step: int = 16
) -> float:
    """Overlap of two views: mean of the fractions of each image that are visible in the other.

    Only every `step`-th pixel along both axes is used.
    """
    shares = []
    for depth, camera, other_depth, other in ((depth0, camera0, depth1, camera1), (depth1, camera1, depth0, camera0)):
        y, x = np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step]
        depths = depth[y, x].ravel()
        pixels = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
        visible, _ = visibility(*other.project(camera.unproject(pixels, depths)), other_depth)
        shares.append(float((visible & (depths > 0)).mean()) if len(depths) else 0.0)
    return (shares[0] + shares[1]) / 2


def depths_at(depth: Float32Array, pixels: AnyArray) -> tuple[Float64Array, BoolArray]:
    """Depths at pixels, and whether they are uncertain because of a nearby edge.

    Inverse depth is affine on planes, so it is interpolated. A large second difference is an edge.

    Args:
        depth: [H, W] metres, 0 where no surface is visible.
        pixels: [N, 2] within the image.

    Returns:
        Depths [N] in metres, 0 where no surface is visible; uncertain [N] bool.
    """
    inverse = np.where(depth > 0, 1 / np.maximum(depth, np.float32(MIN_DEPTH_M)), np.float32(0))
    height, width = depth.shape
    columns = np.clip(np.floor(pixels[:, 0]).astype(np.int64), 0, width - 1)
    rows = np.clip(np.floor(pixels[:, 1]).astype(np.int64), 0, height - 1)
    center = inverse[rows, columns].astype(np.float64)
    left, right, above, below = (
        inverse[np.clip(rows + dy, 0, height - 1), np.clip(columns + dx, 0, width - 1)].astype(np.float64)
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))
    )
    inner = (columns > 0) & (columns < width - 1) & (rows > 0) & (rows < height - 1)
    bends = np.maximum(np.abs(left + right - 2 * center), np.abs(above + below - 2 * center))
    uncertain = inner & (bends > _EDGE_CURVATURE * center)
    offset_x, offset_y = pixels[:, 0] - columns - 0.5, pixels[:, 1] - rows - 0.5
    moved = center + (right - left) / 2 * offset_x + (below - above) / 2 * offset_y
    smooth = inner & ~uncertain & (moved > 0)
    interpolated = np.where(smooth, moved, center)
    return np.where(center > 0, 1 / np.maximum(interpolated, 1e-12), 0.0), uncertain


def outside_image(pixels: Float64Array, depths: Float64Array, camera: PosedCamera) -> BoolArray:
    """Whether points [N] are behind the camera or outside of its image."""
    out: BoolArray = (depths < MIN_DEPTH_M) | (pixels < 0).any(1) | (pixels >= np.asarray(camera.size)).any(1)
    return out


def visibility(pixels: Float64Array, depths: Float64Array, depth: Float32Array) -> tuple[BoolArray, BoolArray]:
    """Whether points at pixels [N, 2] with depths [N] are visible; whether they are occluded: [N] each.

    A point is visible if its depth is that of one of the nine pixels around it, and occluded if it is behind all of
    them.
    """
    height, width = depth.shape
    inside = (depths >= MIN_DEPTH_M) & (pixels >= 0).all(1) & (pixels < (width, height)).all(1)
    at = np.floor(np.where(inside[:, None], pixels, 0)).astype(np.int64)[:, None] + _OFFSETS
    around = depth[np.clip(at[..., 1], 0, height - 1), np.clip(at[..., 0], 0, width - 1)].astype(np.float64)
    behind = inside & ((around > 0) & (depths[:, None] > around * (1 + _BEHIND))).all(1)
    seen = inside & ((around > 0) & (np.abs(around - depths[:, None]) <= _SAME_DEPTH * around)).any(1)
    return seen, behind


@dataclass(frozen=True, eq=False)
class SeenKeypoints:
    """Keypoints of a view with known depth.

    Args:
        keypoints: [N, 2] float32 pixels.
        scales: [N] float32 pixels.
        depth: [H, W] float32 metres, 0 where no surface is visible.
        camera: of the view.
    """

    keypoints: Float32Array
    scales: Float32Array
    depth: Float32Array
    camera: PosedCamera


@dataclass(frozen=True, eq=False)
class _Reprojection:
    """Keypoints of one view reprojected into another.

    Args:
        pixels: [N, 2] in the other view.
        depths: [N] in the other view, in metres.
        own_depths: [N] in the view of the keypoints, in metres; 0 where no surface is visible.
        visible: [N] whether the point is visible in the other view.
        hidden: [N] whether it is certainly not visible: occluded or outside the image.
    """

    pixels: Float64Array
    depths: Float64Array
    own_depths: Float64Array
    visible: BoolArray
    hidden: BoolArray


def label_pair(
    view0: SeenKeypoints, view1: SeenKeypoints, config: LabelConfig
) -> tuple[Int32Array, StateArray, StateArray]:
    """Matches and the states of all keypoints.

    Two keypoints match if they are mutually nearest among the keypoints that have fitting scales and are visible in
    the other view.

    Returns:
        Matches [M, 2] as indices, sorted; states [N0] and [N1].
    """
    to1 = _reproject(view0, view1)
    to0 = _reproject(view1, view0)
    squared01 = _squared_distances(to1.pixels, view1.keypoints)  # [N0, N1] in view 1
    squared10 = _squared_distances(to0.pixels, view0.keypoints).T  # [N0, N1] in view 0
    limit = config.min_distance_px**2
    rows0, rows1 = np.nonzero((squared01 <= limit) | (squared10 <= limit))  # [C] candidates
    squared01, squared10 = squared01[rows0, rows1], squared10[rows0, rows1]
    fits = _fitting_scales(view0, view1, to1, to0, (rows0, rows1), config.max_scale_ratio)
    visible = fits & to1.visible[rows0] & to0.visible[rows1]
    errors = np.sqrt(np.maximum(squared01, squared10))
    good = visible & (errors < config.max_error_px)
    matches = _mutual(rows0[good], rows1[good], errors[good])
    alone0, alone1 = np.ones(len(view0.keypoints), np.bool_), np.ones(len(view1.keypoints), np.bool_)
    alone0[rows0[(squared01 <= limit) | (fits & ~to0.hidden[rows1])]] = False
    alone1[rows1[(squared10 <= limit) | (fits & ~to1.hidden[rows0])]] = False
    return matches, _states(to1, alone0, matches[:, 0]), _states(to0, alone1, matches[:, 1])


def _reproject(source: SeenKeypoints, target: SeenKeypoints) -> _Reprojection:
    own_depths, uncertain = depths_at(source.depth, source.keypoints)
    pixels, depths = target.camera.project(source.camera.unproject(source.keypoints, own_depths))
    visible, behind = visibility(pixels, depths, target.depth)
    known = own_depths > 0
    outside = outside_image(pixels, depths, target.camera)
    hidden = known & (outside | (behind & ~uncertain))
    return _Reprojection(pixels, depths, own_depths, visible & known, hidden)


def _fitting_scales(
    view0: SeenKeypoints,
    view1: SeenKeypoints,
    to1: _Reprojection,
    to0: _Reprojection,
    rows: tuple[IndexArray, IndexArray],
    max_ratio: float,
) -> BoolArray:
    """Whether the ratio of scales of candidates [C] fits the magnification, averaged over both directions."""
    changes01 = _log_magnification(view0, view1, to1)[rows[0]]
    changes10 = _log_magnification(view1, view0, to0)[rows[1]]
    log0, log1 = (np.log(np.maximum(view.scales, 1e-6)).astype(np.float64) for view in (view0, view1))
    ratios = np.abs(log0[rows[0]] + (changes01 - changes10) / 2 - log1[rows[1]])
    fits: BoolArray = ratios <= np.log(max_ratio)
    return fits


def _log_magnification(source: SeenKeypoints, target: SeenKeypoints, reprojection: _Reprojection) -> Float64Array:
    """Logarithms [N] of the magnification from one view to the other at the keypoints, without foreshortening."""
    own, there = (np.maximum(depths, MIN_DEPTH_M) for depths in (reprojection.own_depths, reprojection.depths))
    logarithms: Float64Array = np.log(target.camera.focal_px / there * own / source.camera.focal_px)
    return logarithms


def _squared_distances(points: Float64Array, others: Float32Array) -> Float32Array:
    """Squared distances [N, M] of pixels [N, 2] and [M, 2]; pixels far outside the image are clipped."""
    near = np.clip(points, -1e6, 1e6).astype(np.float32)
    across = near[:, :1] - others[:, 0]
    down = near[:, 1:] - others[:, 1]
    across *= across
    down *= down
    across += down
    return across


def _mutual(rows0: IndexArray, rows1: IndexArray, errors: Float32Array) -> Int32Array:
    """Candidates [C] with the smallest error [C] for both their keypoints: [M, 2], sorted."""
    order = np.lexsort((rows1, rows0, errors))
    best0 = order[np.unique(rows0[order], return_index=True)[1]]
    best1 = order[np.unique(rows1[order], return_index=True)[1]]
    kept = np.intersect1d(best0, best1)
    pairs = np.stack([rows0[kept], rows1[kept]], axis=1).astype(np.int32)
    return pairs[np.argsort(pairs[:, 0])]


def _states(reprojection: _Reprojection, alone: BoolArray, matched: Int32Array) -> StateArray:
    states = np.full(len(alone), IGNORED, np.int8)
    states[reprojection.hidden | (reprojection.visible & alone)] = UNMATCHABLE
    states[matched] = MATCHED
    return states
