"""The lens of a camera in the two families that other programs know: perspective with Brown's terms, and fisheye.

perspective, with x, y on the plane z = 1 and r² = x² + y²:
    radial = (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)
    x' = x radial + 2 p1 x y + p2 (r² + 2 x²),  y' = y radial + p1 (r² + 2 y²) + 2 p2 x y
fisheye, with the angle θ between the ray and the axis:
    θ' = θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸),  (x', y') = (x, y) θ' / r
pixels: (fx x' + cx, fy y' + cy).

Source: the camera models of COLMAP (src/colmap/sensor/models.h) and of OpenCV's calib3d.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sfm_lightglue.types import Camera

Family = Literal["perspective", "fisheye"]

_SAME = 1e-9
"""Relative difference up to which two focal lengths, or a principal point and the centre, count as equal."""


@dataclass(frozen=True, slots=True)
class Lens:
    """Intrinsics of an image in pixels, COLMAP's convention: the corner of the image is (0, 0).

    Args:
        family: of the projection.
        size: (width, height) in pixels.
        focal: fx and fy in pixels.
        center: cx and cy in pixels.
        k: k1 to k6 of a perspective lens, k1 to k4 of a fisheye.
        p: p1 and p2.
    """

    family: Family
    size: tuple[int, int]
    focal: tuple[float, float]
    center: tuple[float, float]
    k: tuple[float, ...]
    p: tuple[float, float] = (0.0, 0.0)

    @property
    def has_one_focal_length(self) -> bool:
        """Whether fx is fy."""
        return math.isclose(*self.focal, rel_tol=_SAME)

    @property
    def is_centered(self) -> bool:
        """Whether the principal point is the centre of the image."""
        return all(abs(value - side / 2) <= _SAME * side for value, side in zip(self.center, self.size, strict=True))

    @property
    def num_radial(self) -> int:
        """How many of the radial coefficients are needed: the index of the last one that is not 0, plus 1."""
        return max((index for index, value in enumerate(self.k, start=1) if value != 0), default=0)

    @property
    def is_tangential(self) -> bool:
        """Whether p1 or p2 is not 0."""
        return self.p != (0.0, 0.0)


def lens_of(camera: Camera) -> Lens | None:
    """The lens of a camera; None if its model belongs to neither family."""
    convert = _FROM_MODEL.get(camera.model)
    return None if convert is None else convert(camera.size, camera.params)


def _perspective(size: tuple[int, int], *numbers: float, p: tuple[float, float] = (0.0, 0.0)) -> Lens:
    fx, fy, cx, cy, *k = numbers
    return Lens("perspective", size, (fx, fy), (cx, cy), (*k, *([0.0] * (6 - len(k)))), p)


def _fisheye(size: tuple[int, int], *numbers: float) -> Lens:
    fx, fy, cx, cy, *k = numbers
    return Lens("fisheye", size, (fx, fy), (cx, cy), (*k, *([0.0] * (4 - len(k)))))


def _opencv(size: tuple[int, int], p: Sequence[float]) -> Lens:
    # COLMAP's order is k1, k2, p1, p2, then k3 to k6.
    return _perspective(size, *p[:6], *p[8:], p=(p[6], p[7]))


_FROM_MODEL: dict[str, Callable[[tuple[int, int], tuple[float, ...]], Lens]] = {
    "SIMPLE_PINHOLE": lambda size, p: _perspective(size, p[0], *p),
    "PINHOLE": lambda size, p: _perspective(size, *p),
    "SIMPLE_RADIAL": lambda size, p: _perspective(size, p[0], *p),
    "RADIAL": lambda size, p: _perspective(size, p[0], *p),
    "OPENCV": _opencv,
    "FULL_OPENCV": _opencv,
    "SIMPLE_FISHEYE": lambda size, p: _fisheye(size, p[0], *p),
    "FISHEYE": lambda size, p: _fisheye(size, *p),
    "SIMPLE_RADIAL_FISHEYE": lambda size, p: _fisheye(size, p[0], *p),
    "RADIAL_FISHEYE": lambda size, p: _fisheye(size, p[0], *p),
    "OPENCV_FISHEYE": lambda size, p: _fisheye(size, *p),
}


@dataclass(frozen=True, slots=True)
class LensLimits:
    """What the cameras of a format can have.

    Args:
        families: of projections.
        num_radial: largest number of radial coefficients by family.
        tangential: p1 and p2.
        two_focal_lengths: fx and fy that differ.
        principal_point: one that is not the centre of the image.
    """

    families: tuple[Family, ...]
    num_radial: dict[Family, int]
    tangential: bool = False
    two_focal_lengths: bool = False
    principal_point: bool = False

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """What the format lacks for the first camera that does not fit it, None if all fit."""
        return next((text for text in map(self._problem_of, cameras) if text is not None), None)

    def _problem_of(self, camera: Camera) -> str | None:
        lens = lens_of(camera)
        if lens is None:
            return f"the camera model {camera.model}"
        if lens.family not in self.families:
            return f"{lens.family} cameras"
        if lens.num_radial > self.num_radial[lens.family]:
            most = self.num_radial[lens.family]
            return f"more than {most} coefficients of distortion" if most else "a distortion"
        if lens.is_tangential and not self.tangential:
            return "a tangential distortion"
        if not lens.has_one_focal_length and not self.two_focal_lengths:
            return "two focal lengths fx and fy"
        if not lens.is_centered and not self.principal_point:
            return "a principal point that is not the centre of the image"
        return None


BROWN_AND_FISHEYE = LensLimits(
    ("perspective", "fisheye"),
    {"perspective": 3, "fisheye": 4},
    tangential=True,
    two_focal_lengths=True,
    principal_point=True,
)
"""Both families with the distortions of Brown and Kannala-Brandt, but without rational ones."""
