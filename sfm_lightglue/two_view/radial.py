"""The radial distortion of COLMAP's SIMPLE_RADIAL model, and which cameras leave it open.

A distorted point is u (1 + k |u|²), with u the undistorted point on the plane z = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class OpenDistortion:
    """The cameras of a pair whose radial distortion nobody stated.

    Args:
        groups: the images that share one unknown coefficient, 0 and 1: (), ((0,),), ((1,),), ((0,), (1,)) or ((0, 1),).
    """

    groups: tuple[tuple[int, ...], ...]

    def coefficients(self, values: Float64Array) -> tuple[float, float]:
        """The coefficient of image 0 and of image 1, from one value for each group; 0 if it is not open."""
        of_side = {side: float(value) for group, value in zip(self.groups, values, strict=True) for side in group}
        return of_side.get(0, 0.0), of_side.get(1, 0.0)


def open_distortion(cameras: tuple[Camera, Camera]) -> OpenDistortion:
    """Find the cameras whose distortion is unknown: those whose distortion parameters are all zero, or absent.

    Users who give a focal length often leave out the distortion. Two cameras with the same size (turned or not) and
    the same focal length share a coefficient.

    Args:
        cameras: of image 0 and of image 1.
    """
    native = [as_pycolmap(camera) for camera in cameras]
    is_open = [not any(one.params[i] for i in one.extra_params_idxs()) for one in native]
    if all(is_open) and sorted(cameras[0].size) == sorted(cameras[1].size):
        focals = [sorted(one.params[i] for i in one.focal_length_idxs()) for one in native]
        if focals[0] == focals[1]:
            return OpenDistortion(((0, 1),))
    return OpenDistortion(tuple((side,) for side in (0, 1) if is_open[side]))


def distort(points: Float64Array, k: float) -> Float64Array:
    """Distort points [N, 2]."""
    distorted: Float64Array = points * (1 + k * np.einsum("ni,ni->n", points, points))[:, None]
    return distorted


def undistort(points: Float64Array, k: float) -> Float64Array:
    """Undo the distortion of points [N, 2]; a point that has no inverse moves to the largest radius that has one.

    The radius is the root of the cubic equation r (1 + k r²) = distorted radius, by triple angles.
    """
    if abs(k) < 1e-12:
        return points
    radius = np.maximum(np.sqrt(np.einsum("ni,ni->n", points, points)), 1e-12)
    scale = 2 / np.sqrt(3 * abs(k))
    if k > 0:
        found = scale * np.sinh(np.arcsinh(3 / scale * radius) / 3)
    else:
        # Beyond scale / 3 a negative coefficient moves points back to the centre.
        found = scale * np.sin(np.arcsin(np.minimum(3 / scale * radius, 1)) / 3)
    undistorted: Float64Array = points * (found / radius)[:, None]
    return undistorted
