"""Two places of the map become one: shared points, joined maps, adjusted surroundings."""

from __future__ import annotations

from collections.abc import Iterable

from sfm_lightglue.tracking.adjustment import adjust_keyframes, window_of
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.place_verification import VerifiedPlace
from sfm_lightglue.tracking.slam_map import SlamMap

_WINDOW = 20
"""Keyframes around the place that are adjusted."""

_FEW_KEYFRAMES = 40
"""A map with at most so many keyframes is adjusted as a whole."""

_START_FACTOR = 4.0
"""Limit of observations in the first adjustment: the two sides do not fit exactly before it."""


def merge_maps(slam_map: SlamMap, place: VerifiedPlace) -> int:
    """Join the maps of two keyframes that show the same place.

    The larger map stays as it is, of two equal ones the older. The other one gets its scale, and its keyframes.

    Args:
        slam_map: the map.
        place: where they meet.

    Returns:
        `map_id` of the map that has all keyframes.
    """
    with slam_map.lock:
        map_id, other_id = slam_map.keyframes[place.idx].map_id, slam_map.keyframes[place.other_idx].map_id
        sizes = {one: len(slam_map.members(one)) for one in (map_id, other_id)}
        kept = max(sizes, key=lambda one: (sizes[one], -one))
        if kept == other_id:
            slam_map.join(other_id, map_id, place.place_from_world)
        else:
            slam_map.join(map_id, other_id, place.place_from_world.inverse())
        return kept


def fuse_points(slam_map: SlamMap, links: Iterable[tuple[int, int, int]]) -> int:
    """Let keypoints see the points of the place, and make one point of those that are the same.

    Args:
        slam_map: the map.
        links: (keyframe, row, point).

    Returns:
        Number of links that hold afterwards.
    """
    num_fused = 0
    with slam_map.lock:
        for idx, row, given in links:
            point_id = int(slam_map.resolve([given])[0])
            if point_id < 0 or idx not in slam_map.keyframes:
                continue
            before = int(slam_map.keyframes[idx].point_ids[row])
            if before < 0:
                slam_map.add_observation(point_id, idx, row)
            elif before != point_id:
                slam_map.fuse(point_id, before)
            num_fused += int(slam_map.keyframes[idx].point_ids[row]) == point_id
    return num_fused


def adjust_around(slam_map: SlamMap, mapper: LocalMapper, config: TrackerConfig, idx: int) -> None:
    """Adjust what is around a keyframe whose place was recognised; small maps as a whole.

    Args:
        slam_map: the map.
        mapper: adjusts small maps.
        config: options.
        idx: keyframe.
    """
    factor = pixel_factor(slam_map.camera.size)
    loss_px, max_error_px = config.mapping.loss_px * factor, config.mapping.max_error_px * factor
    window = window_of(slam_map, idx, _WINDOW)
    for limit_px in (_START_FACTOR * max_error_px, max_error_px):
        adjust_keyframes(slam_map, window, loss_px, limit_px, config.mapping.max_iterations)
    map_id = slam_map.keyframes[idx].map_id
    if len(slam_map.members(map_id)) <= _FEW_KEYFRAMES:
        mapper.adjust_all(map_id)
