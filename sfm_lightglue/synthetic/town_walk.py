"""The walk of a person through the streets of a town: where each image of `render_town` is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3

CROSSINGS = (5, 4)
"""Numbers of crossings along x and y."""

SPACING_M = (34.0, 29.0)
"""Distances of neighbouring crossings along x and y."""

Crossing = tuple[int, int]

_STEP_M, _STEP_DEG = 1.8, 14.0
"""A person takes the next image after this distance, or after this turn on the spot."""

_CORNER_M = 3.5
"""Radius of the bend at a crossing."""

_SWAY_M, _SWAY_DEG = 1.3, 38.0
"""Largest distance from the middle of the street, and largest angle of the view to the direction of the walk."""

_SWAY_PERIODS_M = (47.0, 26.0)
"""Lengths of the walk after which the distance from the middle and the angle of the view repeat."""

_HEIGHTS_M, _RISES_DEG = (1.5, 1.8), (4.0, 10.0)


@dataclass(frozen=True, slots=True)
class _Place:
    """A point of the walk: position in metres, direction in radians, and length of the way to it in metres."""

    x: float
    y: float
    heading: float
    way_m: float


def walk_through_town(num_images: int, seed: int) -> list[Rigid3]:
    """Poses cam_from_world along a walk with loops; those of the first images do not depend on the number of images.

    Args:
        num_images: number of poses.
        seed: of the way, and of the views.
    """
    rng = np.random.default_rng([seed, 1 << 25])
    phases = rng.uniform(0, 2 * np.pi, 2)
    crossings = [(int(rng.integers(CROSSINGS[0])), int(rng.integers(CROSSINGS[1])))]
    num_visits: dict[frozenset[Crossing], int] = {}
    places: list[_Place] = []
    while len(places) < num_images:
        while len(crossings) < 3:
            crossings.append(_next_crossing(crossings, num_visits, rng))
        way_m = places[-1].way_m if places else 0.0
        places += _along_street(crossings[0], crossings[1], crossings[2], way_m)
        del crossings[0]
    return [_pose(place, phases, np.random.default_rng([seed, idx])) for idx, place in enumerate(places[:num_images])]


def _next_crossing(
    crossings: list[Crossing], num_visits: dict[frozenset[Crossing], int], rng: np.random.Generator
) -> Crossing:
    """A neighbour of the last crossing, not the one before it.

    It is to the left if that street was not walked yet, which leads around a block, else by one of the streets that
    were walked least often.
    """
    x, y = crossings[-1]
    possible = [
        one
        for one in ((x + 1, y), (x, y + 1), (x - 1, y), (x, y - 1))
        if 0 <= one[0] < CROSSINGS[0] and 0 <= one[1] < CROSSINGS[1] and one not in crossings[-2:-1]
    ]
    visits = [num_visits.get(frozenset((crossings[-1], one)), 0) for one in possible]
    best = [one for one, number in zip(possible, visits, strict=True) if number == min(visits)]
    chosen = best[int(rng.integers(len(best)))]
    if len(crossings) > 1:
        before_x, before_y = crossings[-2]
        left = (x - (y - before_y), y + (x - before_x))
        chosen = left if left in best and min(visits) == 0 else chosen
    street = frozenset((crossings[-1], chosen))
    num_visits[street] = num_visits.get(street, 0) + 1
    return chosen


def position_m(crossing: Crossing) -> Float64Array:
    """(x, y) of the middle of a crossing."""
    return np.array(crossing, np.float64) * SPACING_M


def _along_street(start: Crossing, end: Crossing, after: Crossing, way_m: float) -> list[_Place]:
    """Places from behind the bend at the first crossing to the end of the bend at the second one."""
    first, last, beyond = position_m(start), position_m(end), position_m(after)
    length = float(np.linalg.norm(last - first)) - 2 * _CORNER_M
    along, across = (last - first) / np.linalg.norm(last - first), (beyond - last) / np.linalg.norm(beyond - last)
    heading = float(np.arctan2(along[1], along[0]))
    turn = float(along[0] * across[1] - along[1] * across[0]) * np.pi / 2  # 0 straight on, else a quarter
    places = []
    for distance in np.arange(0.0, length, _STEP_M).tolist():
        x, y = first + along * (_CORNER_M + distance)
        places.append(_Place(float(x), float(y), heading, way_m + distance + _STEP_M))
    way_m = places[-1].way_m
    num_steps = int(np.ceil(90 / _STEP_DEG)) if turn else int(2 * _CORNER_M / _STEP_M)
    for step in range(num_steps):
        fraction = step / num_steps
        bend = fraction * turn
        if turn:
            ahead, aside = _CORNER_M * np.sin(abs(bend)), _CORNER_M * (1 - np.cos(bend))
        else:
            ahead, aside = 2 * _CORNER_M * fraction, 0.0
        x, y = last - along * _CORNER_M + along * ahead + across * aside
        way_m += _CORNER_M * (abs(turn) or 2.0) / num_steps
        places.append(_Place(float(x), float(y), heading + bend, way_m))
    return places


def _pose(place: _Place, phases: Float64Array, rng: np.random.Generator) -> Rigid3:
    """The view at a place: the person sways between the houses, and looks ahead and at the houses in turn."""
    waves = np.sin(2 * np.pi * place.way_m / np.array(_SWAY_PERIODS_M) + phases)
    aside = _SWAY_M * waves[0] + rng.normal(0, 0.15)
    view = place.heading + np.radians(_SWAY_DEG * waves[1] + rng.normal(0, 3))
    left = np.array([-np.sin(place.heading), np.cos(place.heading)])
    x, y = np.array([place.x, place.y]) + aside * left
    center = np.array([x, y, rng.uniform(*_HEIGHTS_M)])
    rise = np.tan(np.radians(rng.uniform(*_RISES_DEG)))
    target = center + np.array([np.cos(view), np.sin(view), rise])
    return Rigid3.look_at(center, target, np.array([*rng.normal(0, 0.02, 2), 1.0]))
