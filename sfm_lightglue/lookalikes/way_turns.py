"""Rotations of a camera on a way: pairs that turn back or close no round show places that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.geometry.transforms import rotation_angles_deg
from sfm_lightglue.lookalikes.views import PairView

_MIN_TURN_DEG, _PER_DEVIATION = 15.0, 4.0
"""Neighbours turn back if they turn against the usual rotation, and differ from it by more than this angle, and by more
than this multiple of the median difference, per step. So it seems between equal sides of a tower."""

_MIN_USUAL_DEG, _USUAL_PER_DEVIATION = 5.0, 2.0
"""A way has a usual rotation if it is at least this angle, and this multiple of the median difference from it."""

_MIN_AROUND_DEG = 30.0
"""Smallest difference between the rotation of a pair and that along the way, from which both images show different
sides."""


def turns_back(pairs: Sequence[PairView], steps: Float64Array, max_step: int) -> BoolArray:
    """Which neighbours on a way [P] are turned against the rotation that is usual for as many steps.

    A camera that turns around a corner, or further than usual, is no sign of places that look alike.

    Args:
        pairs: of images that are numbered in their order; either image may be the first one.
        steps: [P] differences of their positions on the way; NaN if they are not known.
        max_step: largest difference of neighbours.
    """
    is_back: BoolArray = np.zeros(len(pairs), np.bool_)
    if not (steps == 1).any():
        return is_back
    turns = np.degrees(Rotation.from_matrix(_ahead(pairs)).as_rotvec())
    usual, deviation = _usual_turn(turns[steps == 1])
    if not usual.any():
        return is_back
    limit = max(_MIN_TURN_DEG, _PER_DEVIATION * deviation)
    for step in range(1, max_step + 1):
        rows = np.flatnonzero(steps == step)
        is_unlike = np.linalg.norm(turns[rows] - step * usual, axis=1) > step * limit
        is_back[rows] = is_unlike & (turns[rows] @ usual < 0)
    return is_back


def turns_around(pairs: Sequence[PairView], steps: Float64Array) -> BoolArray:
    """Which pairs [P] are turned unlike the way between their images: they show different sides, and no second round.

    Between neighbours that turn back or have no pair, the usual rotation is taken. Pairs say nothing if there is none.

    Args:
        pairs: as for `turns_back`.
        steps: as for `turns_back`.
    """
    found = way_deviations(pairs, steps)
    is_around: BoolArray = found.is_known & (found.angles_deg > _MIN_AROUND_DEG)
    return is_around


@dataclass(frozen=True, eq=False, slots=True)
class WayDeviations:
    """How the rotations of pairs differ from those along the way between their images.

    Args:
        angles_deg: [P] angles between both.
        is_known: [P] whether the rotation along the way is known, or can be filled by the usual one.
        is_filled: [P] whether the usual rotation was taken for a part of the way.
    """

    angles_deg: Float64Array
    is_known: BoolArray
    is_filled: BoolArray


def way_deviations(pairs: Sequence[PairView], steps: Float64Array) -> WayDeviations:
    """Compare the rotations of pairs with those along the way between their images.

    Between neighbours that turn back or have no pair, the usual rotation is taken; if there is none, nothing is known
    of pairs across such a gap.

    Args:
        pairs: as for `turns_back`.
        steps: as for `turns_back`.
    """
    ahead = _ahead(pairs)
    single = np.flatnonzero((steps == 1) & ~turns_back(pairs, steps, 1))
    if len(single) == 0:
        nothing = np.zeros(len(pairs), np.bool_)
        return WayDeviations(np.zeros(len(pairs)), nothing, nothing)
    usual, _ = _usual_turn(np.degrees(Rotation.from_matrix(ahead[single]).as_rotvec()))
    ends = np.sort(np.array([(pair.image0, pair.image1) for pair in pairs]), axis=1)
    pair_from_first = dict(zip(ends[single, 0].tolist(), single.tolist(), strict=True))
    filled = Rotation.from_rotvec(usual, degrees=True).as_matrix()
    rotations, gaps = [np.eye(3)], [0]
    for image in range(int(ends.max())):
        idx = pair_from_first.get(image)
        rotations.append((filled if idx is None else ahead[idx]) @ rotations[-1])
        gaps.append(gaps[-1] + (idx is None))
    on_way, num_gaps = np.array(rotations), np.array(gaps)
    expected = on_way[ends[:, 1]] @ on_way[ends[:, 0]].transpose(0, 2, 1)
    is_filled: BoolArray = num_gaps[ends[:, 0]] != num_gaps[ends[:, 1]]
    angles: Float64Array = rotation_angles_deg(ahead.transpose(0, 2, 1) @ expected)
    return WayDeviations(angles, ~is_filled | bool(usual.any()), is_filled & ~np.isnan(steps))


def _ahead(pairs: Sequence[PairView]) -> Float64Array:
    """The rotations [P, 3, 3] of pairs from the image that comes first on the way."""
    return np.array([pair.rotation if pair.image0 < pair.image1 else pair.rotation.T for pair in pairs], np.float64)


def _usual_turn(turns: Float64Array) -> tuple[Float64Array, float]:
    """The usual rotation vector [3] of neighbours in degrees, 0 if there is none, and the median difference from it."""
    usual: Float64Array = np.median(turns, axis=0)
    deviation = float(np.median(np.linalg.norm(turns - usual, axis=1)))
    has_usual = np.linalg.norm(usual) >= max(_MIN_USUAL_DEG, _USUAL_PER_DEVIATION * deviation)
    return usual * has_usual, deviation
