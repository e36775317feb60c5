"""What a kind of scene with look-alikes is made of: its content and its camera path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.solids import Point, Solid


@dataclass(frozen=True, eq=False)
class Request:
    """What a kind is asked for.

    Args:
        texels_per_m: resolution of textures at the nearest surface of the kind.
        rng: source of all random numbers.
        difference: whether small things, such as a poster, a car or a tree, tell the twins apart.
        dense: whether neighbouring images are near each other.
        revisit: whether the camera comes back to twins that it has seen, so that similar images are true overlaps.
    """

    texels_per_m: float
    rng: np.random.Generator
    difference: bool
    dense: bool
    revisit: bool

    def count(self, dense: int, sparse: int) -> int:
        """Number of images of one pass."""
        return dense if self.dense else sparse


@dataclass(frozen=True, eq=False)
class Layout:
    """The content and the cameras of a scene.

    Args:
        solids: all solids with their painters.
        poses: cam_from_world in the order of the walk, in metres; z points up.
    """

    solids: Sequence[Solid]
    poses: Sequence[Rigid3]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of scene.

    Args:
        nearest_view_m: distance at which texels are as large as pixels.
        focal_35mm_mm: 35 mm equivalent focal length.
        build: makes content and cameras.
    """

    nearest_view_m: float
    focal_35mm_mm: int
    build: Callable[[Request], Layout]


def aimed(center: Point, target: Point, rng: np.random.Generator, jitter_m: float = 0.15) -> Rigid3:
    """A hand-held camera: place and target vary by about `jitter_m`, and the roll by a degree."""
    place = np.array(center) + rng.normal(0, jitter_m, 3) * (1, 1, 0.5)
    aim = np.array(target) + rng.normal(0, jitter_m, 3)
    return Rigid3.look_at(place, aim, np.array([*rng.normal(0, 0.02, 2), 1.0]))


def ring(
    count: int, radius_m: float, height_m: float, target_m: float, turn_deg: float, rng: np.random.Generator
) -> list[Rigid3]:
    """Cameras on a circle around the vertical through the origin that look at it.

    Args:
        count: number of cameras.
        radius_m: of the circle.
        height_m: of the cameras.
        target_m: height of the point at which they look.
        turn_deg: angle from the first camera to the one after the last.
        rng: source of random numbers.
    """
    start = rng.uniform(0, 2 * np.pi)
    poses = []
    for idx in range(count):
        angle = start + np.radians(turn_deg) * idx / count
        radius = radius_m * (1 + 0.05 * np.sin(2.1 * idx))
        center = (radius * np.cos(angle), radius * np.sin(angle), height_m)
        poses.append(aimed(center, (0, 0, target_m), rng, 0.02 * radius_m))
    return poses


def there_and_back(xs: Sequence[float], revisit: bool) -> list[float]:
    """Places of a walk along a line; with a revisit, every second one is seen again on the way back."""
    way = list(xs)
    return way + [x + 0.3 * (xs[1] - xs[0]) for x in way[::-2]] if revisit else way
