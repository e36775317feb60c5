"""Levels of detail: which points and cameras are drawn while the view moves, so that it stays fluent."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, IndexArray

NUM_LEVELS = 10
"""Levels of the octree of voxels; the finest voxels have 1/1024 of the side of the cloud."""

TARGET_FRAME_S = 1 / 20
"""A frame of a moving view should take this long at most."""

MIN_MOVING_POINTS = 4_000
"""Points that are drawn while the view moves, however slow that is."""

MAX_SLOWDOWN, MAX_SPEEDUP = 0.5, 1.5
"""Limits of the change of the number of points from one frame to the next."""

FIRST_PART = 50_000
"""Points of the first part of a resting view; each further part is twice as large."""

MAX_PART = 1_000_000


def octree_order(points: Float32Array, seed: int = 0) -> IndexArray:
    """Rows of points, from coarse to fine: the first rows are spread over the whole cloud.

    The points are sorted along a Morton curve. The first point in each voxel of a level belongs to that level, and the
    levels follow each other; within a level the order is random. So the first n rows hit all occupied voxels of each
    level that fits into n.

    Args:
        points: [N, 3], finite.
        seed: of the order within a level.

    Returns:
        A permutation of the rows [N].
    """
    if len(points) == 0:
        return np.zeros(0, np.int64)
    codes = morton_codes(points)
    order = np.argsort(codes, kind="stable")
    differing = codes[order][1:] ^ codes[order][:-1]
    levels = np.concatenate([[0], np.maximum(_level_of_difference(differing), 1)])
    shuffled = np.random.default_rng(seed).permutation(len(points))
    rows: IndexArray = order[shuffled[np.argsort(levels[shuffled], kind="stable")]]
    return rows


def morton_codes(points: Float32Array) -> AnyArray:
    """The voxel of each point [N] at the finest level, its three coordinates with their bits in turn."""
    lowest = points.min(axis=0)
    side = float((points.max(axis=0) - lowest).max()) or 1.0
    cells = np.minimum((points - lowest) * (2**NUM_LEVELS / side), 2**NUM_LEVELS - 1).astype(np.uint32)
    codes = np.zeros(len(points), np.uint32)
    for axis in range(3):
        codes |= _spread_bits(cells[:, axis]) << np.uint32(axis)
    return codes


def _spread_bits(values: AnyArray) -> AnyArray:
    """Put two zeros between the bits of integers of ten bits."""
    spread = values.astype(np.uint32)
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        spread = (spread | (spread << np.uint32(shift))) & np.uint32(mask)
    return spread


def _level_of_difference(differing: AnyArray) -> AnyArray:
    """The coarsest level at which two neighbours of the curve are in different voxels; one beyond the last if none."""
    exponent = np.frexp(differing.astype(np.float64))[1]  # number of bits; 0 for 0
    return np.where(exponent == 0, NUM_LEVELS + 1, NUM_LEVELS - (exponent - 1) // 3)


def moving_rows(order: IndexArray, is_in_view: BoolArray, number: int) -> IndexArray:
    """The points that are drawn while the view moves: half of them from the whole cloud, half from what was in view.

    Args:
        order: [N] of `octree_order`.
        is_in_view: [N] whether each point is in the picture when the movement begins.
        number: of points.

    Returns:
        Different rows, at most `number` of them; both halves in turn, so that the first rows are a coarser choice.
    """
    if number >= len(order):
        return order
    everywhere, rest = order[: number // 2], order[number // 2 :]
    visible = rest[is_in_view[rest]][: number - len(everywhere)]
    shorter = min(len(everywhere), len(visible))
    mixed = np.stack([everywhere[:shorter], visible[:shorter]], axis=1).reshape(-1)
    return np.concatenate([mixed, everywhere[shorter:], visible[shorter:]])


def next_number(number: int, frame_s: float, num_points: int) -> int:
    """How many points the next frames of a moving view have, from the time that a frame took.

    Args:
        number: of points of that frame.
        frame_s: its time in seconds.
        num_points: of the cloud.
    """
    factor = np.clip(TARGET_FRAME_S / max(frame_s, 1e-6), MAX_SLOWDOWN, MAX_SPEEDUP)
    if 0.7 <= factor <= 1.3:  # near enough: the picture should not flicker
        return number
    return int(min(max(number * factor, MIN_MOVING_POINTS), max(num_points, MIN_MOVING_POINTS)))


def number_after_rest(number: int, frame_s: float, num_points: int) -> int:
    """How many points the next movement begins with, from the time that a frame with all points took.

    Args:
        number: of points that it would begin with otherwise; it never gets less, since the frame may have had other
            work too.
        frame_s: time of the frame in seconds.
        num_points: of the cloud.
    """
    return max(number, min(num_points, int(num_points * TARGET_FRAME_S / max(frame_s, 1e-6))))


def parts(num_points: int) -> list[slice]:
    """Slices of a cloud that are added to a resting view one by one, so that it never waits long for all points."""
    slices, start, size = [], 0, FIRST_PART
    while start < num_points:
        slices.append(slice(start, min(start + size, num_points)))
        start, size = start + size, min(2 * size, MAX_PART)
    return slices


def nearest_cameras(frusta: Float32Array, eye: Float64Array, forward: Float64Array, number: int) -> IndexArray:
    """The cameras whose thumbnails are shown: the nearest ones in front of the eye, which is not in their frusta.

    Args:
        frusta: [F, 8, 3].
        eye: [3].
        forward: [3] viewing direction.
        number: of cameras.

    Returns:
        At most `number` rows, the nearest first.
    """
    offsets = frusta[:, 1:5].mean(axis=1) - eye
    lengths = np.linalg.norm(frusta[:, 1] - frusta[:, 0], axis=1)
    is_apart = np.linalg.norm(frusta[:, 0] - eye, axis=1) > lengths
    in_front = np.flatnonzero((offsets @ forward > 0) & is_apart)
    distances = np.linalg.norm(offsets[in_front], axis=1)
    return in_front[np.argsort(distances, kind="stable")[:number]]


def camera_rows(num_cameras: int, number: int) -> IndexArray:
    """At most `number` of the cameras, evenly spaced: those that are drawn while the view moves."""
    if number >= num_cameras:
        return np.arange(num_cameras)
    return np.arange(number) * num_cameras // max(number, 1)
