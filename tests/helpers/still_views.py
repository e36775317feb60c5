"""Images of a wall and of what stands or moves before it, by pinhole cameras with known poses, as the cues see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from sfm_lightglue.lookalikes.views import ImageView, PairView

SIZE = (640, 480)
FOCAL_PX = 500.0
DISTANCE = 8.0
PERSON = (80, 300)
"""Width and height of a person in pixels."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The keypoints of an image.

    Args:
        image: the keypoints.
        looks: [N] what a keypoint looks like; equal numbers match.
        places: [N] number of the thing that a keypoint belongs to; matches of one thing alone fit one geometry.
        rotation: [3, 3] of the camera.
        of_item: [3, 3] from an item that turns, thing 1, to the camera; None without one.
    """

    image: ImageView
    looks: np.ndarray
    places: np.ndarray
    rotation: np.ndarray
    of_item: np.ndarray | None = None


def pairs_of(seen: Sequence[Seen]) -> list[PairView]:
    """The pairs of all images: equal looks of the thing with the most of them, of which most are found."""
    rng = np.random.default_rng(3)
    pairs = []
    for first, second in combinations(range(len(seen)), 2):
        looks, rows0, rows1 = np.intersect1d(seen[first].looks, seen[second].looks, return_indices=True)
        places = seen[first].places[rows0]
        largest = int(np.bincount(places).argmax())
        is_found = (places == largest) & (rng.random(len(looks)) < 0.9)
        rows = np.column_stack([rows0, rows1])[is_found]
        if len(rows) >= 30:
            ends = [each.of_item if largest == 1 else each.rotation for each in (seen[first], seen[second])]
            rotation = ends[1] @ ends[0].T
            pairs.append(PairView(first, second, rows, len(rows), len(rows), len(rows), 0.9, rotation))
    return pairs


def seen_by(points: np.ndarray, looks: np.ndarray, places: np.ndarray, center: np.ndarray, yaw_deg: float) -> Seen:
    """What a camera sees of points [N, 3], with noise of half a pixel; some keypoints are not detected."""
    rng = np.random.default_rng(round(1000 * (abs(yaw_deg) + float(np.abs(center).sum()))))
    yaw = np.radians(yaw_deg)
    rotation = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    rays = (points - center) @ rotation.T
    pixels = rays[:, :2] / rays[:, 2:] * FOCAL_PX + np.array(SIZE) / 2 + rng.normal(0, 0.5, (len(points), 2))
    rows = np.flatnonzero(((pixels > 0) & (pixels < SIZE)).all(axis=1) & (rng.random(len(points)) < 0.85))
    return Seen(
        ImageView(pixels[rows].astype(np.float32), SIZE, focal_px=FOCAL_PX), looks[rows], places[rows], rotation
    )


def wall(num_points: int = 1600, start: float = -8.0, end: float = 8.0) -> np.ndarray:
    """Points [N, 3] of a wall that is not quite flat."""
    rng = np.random.default_rng(int(abs(start)))
    low, high = [start, -4.0, DISTANCE - 0.3], [end, 4.0, DISTANCE + 0.3]
    return rng.uniform(low, high, (num_points, 3))


def with_person(seen: Seen, left: float, number: int) -> Seen:
    """An image with a person before the wall, who looks like no one in another image.

    Args:
        seen: the image without.
        left: edge of the person in pixels.
        number: of the image.
    """
    rng = np.random.default_rng(number)
    points = seen.image.keypoints
    top = SIZE[1] - PERSON[1]
    is_hidden = (points[:, 0] > left) & (points[:, 0] < left + PERSON[0]) & (points[:, 1] > top)
    person = rng.uniform([left, top], [left + PERSON[0], SIZE[1]], (90, 2)).astype(np.float32)
    return Seen(
        ImageView(np.concatenate([points[~is_hidden], person]), SIZE, focal_px=FOCAL_PX),
        np.concatenate([seen.looks[~is_hidden], 10**6 * (number + 1) + np.arange(90)]),
        np.concatenate([seen.places[~is_hidden], np.full(90, 9)]),
        seen.rotation,
    )


def walked_by(images_with_person: Sequence[int], num_images: int = 16) -> list[Seen]:
    """Images of one wall from near places, with a person who walks by in some of them."""
    points = wall()
    numbers, ones = np.arange(len(points)), np.zeros(len(points), np.int64)
    rng = np.random.default_rng(1)
    found = []
    for number in range(num_images):
        center = np.array([0.25 * number - 2.0, 0.03 * (number % 3), 0.0])
        seen = seen_by(points, numbers, ones, center, float(rng.uniform(-3, 3)))
        has_person = number in images_with_person
        found.append(with_person(seen, float(rng.uniform(20, 540)), number) if has_person else seen)
    return found


def turntable(num_images: int = 16, step_deg: float = 4.0) -> list[Seen]:
    """An object that turns before a standing wall, seen by a camera that stands still."""
    rng = np.random.default_rng(2)
    behind, height, azimuth = wall(900), rng.uniform(-1.1, 1.1, 2200), rng.uniform(0, 2 * np.pi, 2200)
    radius = 0.9 + 0.2 * rng.random(2200)
    found = []
    for number in range(num_images):
        turned = azimuth + np.radians(step_deg * number)
        item = np.column_stack([radius * np.sin(turned), height, 4 - radius * np.cos(turned)])
        is_front = np.cos(turned) > 0.35
        points = np.concatenate([behind, item[is_front]])
        looks = np.concatenate([np.arange(900), 900 + np.flatnonzero(is_front)])
        places = np.repeat([0, 1], [900, int(is_front.sum())])
        is_free = (places == 1) | (np.abs(points[:, :2] / points[:, 2:]) > [0.3, 0.35]).any(axis=1)
        camera = np.array([0.0, 0.0, 1e-3 * number])
        angle = np.radians(step_deg * number)
        of_item = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        seen = seen_by(points[is_free], looks[is_free], places[is_free], camera, 0.0)
        found.append(replace(seen, of_item=of_item))
    return found


def twin_walls(num_images: int = 16) -> list[Seen]:
    """Half of the images show a wall, half another one that is equal in the middle."""
    first, second = wall(), wall(start=-7.0)
    is_equal = np.abs(first[:, 0]) < 3.0
    second[is_equal] = first[is_equal]
    is_inside = ~is_equal & (np.abs(second[:, 0]) < 3.0)
    second[is_inside, 0] += np.sign(second[is_inside, 0]) * 3.0
    numbers, places = np.arange(len(first)), np.zeros(len(first), np.int64)
    found = []
    for number in range(num_images):
        is_second = number >= num_images // 2
        center = np.array([0.25 * (number % (num_images // 2)) - 1.0, 0.03 * (number % 3), 0.001 * number])
        looks = np.where(is_equal | (not is_second), numbers, 10**5 + numbers)
        found.append(seen_by(second if is_second else first, looks, places, center, 1.0 * (number % 3)))
    return found


def lone_surroundings(num_sides: int = 4, per_side: int = 5) -> list[Seen]:
    """A house with equal sides, walked around: the same views of each side, and around it things that no image shares.

    The views of one side differ by more than the surroundings of an image reach.
    """
    points = wall(2400)
    is_side = np.abs(points[:, 0]) < 2.6
    numbers, places = np.arange(len(points)), np.zeros(len(points), np.int64)
    found = []
    for number in range(num_sides * per_side):
        step = number % per_side - (per_side - 1) / 2
        center = np.array([1.4 * step, 0.03 * (number // per_side), 0.001 * number])
        looks = np.where(is_side, numbers, 10**5 * (number + 1) + numbers)
        found.append(seen_by(points, looks, places, center, 9.0 * step))
    return found


def before_sea(num_images: int = 16) -> list[Seen]:
    """A walk along a wall above water, whose waves look different in each image."""
    points = wall(2400)
    is_wall = points[:, 1] < 0.8
    numbers, places = np.arange(len(points)), np.zeros(len(points), np.int64)
    found = []
    for number in range(num_images):
        center = np.array([0.3 * number - 2.4, 0.01 * (number % 3), 0.001 * number])
        looks = np.where(is_wall, numbers, 10**5 * (number + 1) + numbers)
        found.append(seen_by(points, looks, places, center, 0.5 * (number % 3)))
    return found
