"""Where the camera and the points of a frame are expected in the next one."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.projection import is_inside, pixels_from_cam, project, rays_from_pixels
from sfm_lightglue.types import Camera


def expected_pixels(
    camera: Camera, before: Rigid3, after: Rigid3, pixels: Float64Array, xyz: Float64Array
) -> Float64Array:
    """Where points are expected in the next frame; points of unknown depth have the median depth of the others.

    Args:
        camera: intrinsics.
        before: `cam_from_world` of the frame before.
        after: expected `cam_from_world` of the next frame.
        pixels: [N, 2] in the frame before.
        xyz: [N, 3] points in the world, NaN for unknown ones.

    Returns:
        [N, 2] pixels; those of the frame before where no better guess lies in the image.
    """
    known = ~np.isnan(xyz[:, 0])
    if not known.any():
        return pixels
    in_cam = np.zeros((len(pixels), 3))
    in_cam[known] = before @ xyz[known]
    rays = rays_from_pixels(camera, pixels[~known])
    in_cam[~known] = rays / rays[:, 2:] * np.median(in_cam[known, 2])
    expected = pixels_from_cam(camera, (after @ before.inverse()) @ in_cam)
    shift = expected - _seen(camera, in_cam, pixels)
    expected = pixels + shift
    return np.where(is_inside(camera, expected)[:, None], expected, pixels)


def _seen(camera: Camera, in_cam: Float64Array, pixels: Float64Array) -> Float64Array:
    """Projections of the points before the motion: the guess adds the expected shift to the observed pixels."""
    projected, _ = project(camera, Rigid3.identity(), in_cam)
    return np.where(np.isnan(projected), pixels, projected)
