"""Camera paths of the scenes with repeated structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.render import image_names
from sfm_lightglue.synthetic.solids import Enclosure

Range = tuple[float, float]
"""Smallest and largest value of a random number."""


@dataclass(frozen=True, slots=True)
class RingPath:
    """An irregular ring of cameras that look across an enclosure.

    Args:
        step_deg: angle between neighbouring cameras as seen from the middle, as long as `turn_deg` is not exceeded.
        turn_deg: largest angle between the first and the last camera.
        radius: distances from the middle, relative to the distances of the walls.
        height_m: heights of the cameras.
        rise_deg: angles above the horizon.
        heading_deg: the view direction differs from that through the middle by at most this angle.
    """

    step_deg: float = 23.0
    turn_deg: float = 320.0
    radius: Range = (0.32, 0.46)
    height_m: Range = (1.6, 2.4)
    rise_deg: Range = (5.0, 10.0)
    heading_deg: float = 8.0


def ring_poses(num_images: int, walls: Enclosure, path: RingPath, rng: np.random.Generator) -> dict[str, Rigid3]:
    """Poses on a ring inside four walls.

    Args:
        num_images: at least 2.
        walls: around the cameras.
        path: sizes of the ring.
        rng: source of random numbers.

    Returns:
        cam_from_world by name of the image.
    """
    turn_deg = min(path.step_deg * (num_images - 1), path.turn_deg) * rng.uniform(0.92, 1.08)
    start = rng.uniform(0, 360)
    way = 1 if rng.random() < 0.5 else -1
    jitter = 0.2 * turn_deg / (num_images - 1)
    poses = {}
    for idx, name in enumerate(image_names(num_images)):
        angle = np.radians(start + way * (turn_deg * idx / (num_images - 1) + rng.uniform(-jitter, jitter)))
        radius = rng.uniform(*path.radius) * np.array([walls.width, walls.depth]) / 2
        center = np.array([*(radius * (np.cos(angle), np.sin(angle))), rng.uniform(*path.height_m)])
        heading = angle + np.pi + np.radians(rng.uniform(-path.heading_deg, path.heading_deg))
        poses[name] = _looking(center, float(heading), rng.uniform(*path.rise_deg), rng)
    return poses


def walk_poses(num_images: int, step_m: float, distance_m: float, rng: np.random.Generator) -> dict[str, Rigid3]:
    """Poses of a walk along +x beside a row of facades at y = 0, which look obliquely at the facades.

    Args:
        num_images: at least 2.
        step_m: mean distance between neighbouring cameras.
        distance_m: of the cameras from the facades, on the side of -y.
        rng: source of random numbers.

    Returns:
        cam_from_world by name of the image; the first camera is near x = 0.
    """
    oblique_deg = rng.uniform(25, 40)
    poses = {}
    for idx, name in enumerate(image_names(num_images)):
        x = step_m * (idx + rng.uniform(-0.2, 0.2))
        center = np.array([x, -distance_m + rng.uniform(-0.6, 0.6), rng.uniform(1.5, 1.8)])
        heading = np.radians(90 - oblique_deg + rng.uniform(-6, 6))
        poses[name] = _looking(center, float(heading), rng.uniform(6, 11), rng)
    return poses


def _looking(center: np.ndarray, heading: float, rise_deg: float, rng: np.random.Generator) -> Rigid3:
    """A camera with a heading in radians and a little roll."""
    target = center + np.array([np.cos(heading), np.sin(heading), np.tan(np.radians(rise_deg))])
    return Rigid3.look_at(center, target, np.array([*rng.normal(0, 0.02, 2), 1.0]))
