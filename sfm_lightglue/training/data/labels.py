"""Labels of keypoints of pairs of views by reprojection with exact depths and poses, for many pairs at once.

V is the number of views, P of pairs, N of stored keypoints of a view (padded), C of candidates for matches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M
from sfm_lightglue.synthetic.photo_scenes.visibility import DepthViews, depths_at, sight
from sfm_lightglue.training.data.labelled_scenes import MATCHED, UNMATCHABLE

_FAR_PX = 1e6
"""Reprojections are clipped to this distance, so that float32 holds them."""

_BAND_GAP = 4 * _FAR_PX
"""Difference of the keys of two points with the same x in neighbouring bands."""


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """When two keypoints show the same point of the scene."""

    max_error_px: float = 3.0
    """Matching keypoints reproject onto each other within this distance, in both images."""

    min_distance_px: float = 5.0
    """A keypoint is unmatchable only if no keypoint is within this distance of its reprojection."""

    max_scale_ratio: float = 2.0
    """Largest factor between the ratio of the scales and the ratio expected from depths and focal lengths."""

    def __post_init__(self) -> None:
        if not 0 < self.max_error_px <= self.min_distance_px or self.max_scale_ratio <= 1:
            raise ConfigError("labels: expected 0 < max_error_px <= min_distance_px and max_scale_ratio > 1")


@dataclass(frozen=True, slots=True, eq=False)
class SeenKeypoints:
    """Keypoints of views with known depth, on the device of the depths.

    Args:
        views: V views.
        keypoints: [V, N, 2] float32 pixels, padded with zeros.
        counts: [V] int64 numbers of keypoints.
        scales: [V, N] float32 pixels; None for features without scale.
    """

    views: DepthViews
    keypoints: Tensor
    counts: Tensor
    scales: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class PairStates:
    """Labels of pairs of views; padding has no partner and the state 0.

    Args:
        partners: [P, N] int64, index of the match in the second view of each keypoint of the first view, -1 for none.
        states: [P, 2, N] int8 of the keypoints of both views.
    """

    partners: Tensor
    states: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Reprojections:
    """The keypoints of each view of each pair in the other view; the first index is the view of the keypoints.

    Args:
        pixels: [2, P, N, 2] float32 in the other view.
        visible: [2, P, N] whether the point is visible in the other view.
        hidden: [2, P, N] whether it is certainly not visible: occluded or outside the image.
        log_changes: [2, P, N] float64 logarithm of the magnification, without foreshortening.
    """

    pixels: Tensor
    visible: Tensor
    hidden: Tensor
    log_changes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Pairs of keypoints of which one reprojects near the other; some are there twice.

    Args:
        flat: [2, C] int64 indices of both keypoints in flat arrays [P * N].
        squared_px: [2, C] float32 squared distances between the reprojection of the first keypoint and the second, and
            vice versa.
    """

    flat: Tensor
    squared_px: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Values [2, P, N] of the keypoints of both views: [2, C]."""
        return values.flatten(1).gather(1, self.flat)


def label_pairs(seen: SeenKeypoints, pairs: Tensor, config: LabelConfig) -> PairStates:
    """Matches and the states of all keypoints.

    Two keypoints match if they are mutually nearest among the keypoints that have fitting scales and are visible in
    the other view. Without scales, all scales fit.

    Args:
        seen: keypoints of V views.
        pairs: [P, 2] int64 indices of views.
        config: the limits.
    """
    num_stored, sides = seen.keypoints.shape[1], pairs.T.contiguous()
    is_keypoint = torch.arange(num_stored, device=pairs.device) < seen.counts[sides, None]  # [2, P, N]
    reprojections = _reproject(seen, pairs)
    candidates = _candidates(seen.keypoints[sides], is_keypoint, reprojections.pixels, config.min_distance_px)
    fits = _fitting_scales(seen, pairs, reprojections, candidates, config.max_scale_ratio)
    errors = candidates.squared_px.amax(0).sqrt()
    is_good = fits & candidates.of(reprojections.visible).all(0) & (errors < config.max_error_px)
    matched = _mutual(candidates.flat[:, is_good], errors[is_good], is_keypoint[0].numel())
    is_near = candidates.squared_px <= config.min_distance_px**2
    is_near |= fits & ~candidates.of(reprojections.hidden).flip(0)
    has_near = pairs.new_zeros(2, len(pairs) * num_stored)
    has_near.scatter_reduce_(1, candidates.flat, is_near.long(), "amax")
    is_alone = has_near.view_as(is_keypoint) == 0
    is_unmatchable = (reprojections.hidden | (reprojections.visible & is_alone)) & is_keypoint
    states = is_unmatchable.flatten(1).to(torch.int8) * UNMATCHABLE
    states.scatter_(1, matched, MATCHED)
    partners = pairs.new_full((len(pairs) * num_stored,), -1)
    partners[matched[0]] = matched[1] % num_stored
    return PairStates(partners.view(-1, num_stored), states.view_as(is_keypoint).transpose(0, 1))


def _reproject(seen: SeenKeypoints, pairs: Tensor) -> _Reprojections:
    views = seen.views
    own_depths, uncertain = depths_at(views, seen.keypoints)
    sources, targets = torch.cat([pairs, pairs.flip(1)]).unbind(1)  # [2 P]
    pixels, depths = views.project(views.unproject(seen.keypoints, own_depths)[sources], sources, targets)
    found = sight(views, targets, pixels, depths)
    own_depths = own_depths[sources]
    is_known = own_depths > 0
    hidden = is_known & (found.outside | (found.occluded & ~uncertain[sources]))
    zooms = views.focals_px[targets, None] / views.focals_px[sources, None]
    log_changes = (zooms * own_depths.clamp(min=MIN_DEPTH_M) / depths.clamp(min=MIN_DEPTH_M)).log()
    shape = (2, len(pairs), seen.keypoints.shape[1])
    near = pixels.clamp(-_FAR_PX, _FAR_PX).float()
    return _Reprojections(
        near.view(*shape, 2), (found.visible & is_known).view(shape), hidden.view(shape), log_changes.view(shape)
    )


def _candidates(positions: Tensor, is_keypoint: Tensor, pixels: Tensor, radius_px: float) -> _Candidates:
    """Keypoints [2, P, N, 2] that are within a radius of the reprojection [2, P, N, 2] of a keypoint of the other view.

    The image is cut into bands, and the keypoints of a view are sorted by band, then by x, so that few distances are
    computed: a circle touches two bands.
    """
    targets, is_target = positions.flip(0), is_keypoint.flip(0)
    reach = radius_px + 0.01  # for the rounding of the sums
    x, y = targets.double().unbind(-1)
    keys = (x + (y / (2 * reach)).floor() * _BAND_GAP).masked_fill(~is_target, torch.inf)
    keys, order = keys.sort(2)  # [2, P, N]
    x, y = pixels.double().unbind(-1)
    place = x + ((y - reach) / (2 * reach)).floor() * _BAND_GAP
    places = torch.cat([place, place + _BAND_GAP], 2)  # [2, P, 2 * N]
    first = torch.searchsorted(keys, places - reach)
    numbers = (torch.searchsorted(keys, places + reach) - first) * is_keypoint.repeat(1, 1, 2)
    query = torch.repeat_interleave(numbers.flatten())  # [D] indices in flat arrays [2 * P * 2 * N]
    rank = torch.arange(len(query), device=query.device) - (numbers.flatten().cumsum(0) - numbers.flatten())[query]
    num_stored = is_keypoint.shape[2]
    start = query.div(2 * num_stored, rounding_mode="floor") * num_stored  # of the pair in arrays [2 * P * N]
    source = start + query % num_stored
    target = start + order.flatten()[start + first.flatten()[query] + rank]
    squared = _squared_distances(pixels.flatten(0, 2)[source], targets.flatten(0, 2)[target])
    is_near = squared <= radius_px**2
    source, target = source[is_near], target[is_near]
    size = is_keypoint[0].numel()
    both = torch.stack([source, target]) % size
    flat = torch.where(source < size, both, both.flip(0))
    rows = flat[..., None].expand(-1, -1, 2)
    there = pixels.flatten(1, 2).gather(1, rows)
    return _Candidates(flat, _squared_distances(there, positions.flatten(1, 2).gather(1, rows).flip(0)))


def _squared_distances(points: Tensor, others: Tensor) -> Tensor:
    return (points - others).square().sum(-1)


def _fitting_scales(
    seen: SeenKeypoints, pairs: Tensor, reprojections: _Reprojections, candidates: _Candidates, max_ratio: float
) -> Tensor:
    """Whether the ratio of scales of candidates [C] fits the magnification, averaged over both directions."""
    if seen.scales is None:
        return torch.ones_like(candidates.flat[0], dtype=torch.bool)
    logarithms = candidates.of(seen.scales.clamp(min=1e-6).log().double()[pairs.T])
    changes = candidates.of(reprojections.log_changes)
    ratios = logarithms[0] + (changes[0] - changes[1]) / 2 - logarithms[1]
    return ratios.abs() <= math.log(max_ratio)


def _mutual(flat: Tensor, errors: Tensor, size: int) -> Tensor:
    """Candidates [2, G] with the smallest error [G] for both their keypoints, of `size` each; then the lowest index."""
    is_best = torch.ones_like(errors, dtype=torch.bool)
    for own, other in (flat, flat.flip(0)):
        least = errors.new_full((size,), torch.inf).scatter_reduce_(0, own, errors, "amin")
        rivals = torch.where(errors == least[own], other, size)
        best = other.new_full((size,), size).scatter_reduce_(0, own, rivals, "amin")
        is_best &= best[own] == other
    return flat[:, is_best]
