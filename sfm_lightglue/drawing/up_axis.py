"""The direction that is up in a model whose frame is arbitrary, from gravity or from how its cameras were held."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray

MIN_TURNED = 0.05
"""Smallest second eigenvalue of the mean of `right rightᵀ` at which cameras look in different enough directions; two
directions that differ by 26 degrees give it."""

MAX_TILTED_DEG = 60.0
"""Largest angle between the two estimates of up at which the one from the horizons is used."""


MIN_AGREEMENT = 0.9
"""Smallest length of the mean of unit vectors of gravity that agree: they differ by 26 degrees from it on average."""


def up_of_gravity(rotations: Float64Array, gravities: Float64Array) -> Float64Array | None:
    """Up, from the gravity that cameras measured.

    Args:
        rotations: [F, 3, 3] of `cam_from_world`.
        gravities: [F, 3] unit vectors in which gravity pulls, in the axes of each camera.

    Returns:
        A unit vector [3]; None if there is no measurement, or they contradict each other.
    """
    if len(rotations) == 0:
        return None
    mean = np.einsum("fji,fj->fi", rotations, gravities).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < MIN_AGREEMENT:
        return None
    up: Float64Array = -mean / length
    return up


def up_of_cameras(rotations: Float64Array, quarter_turns: IndexArray) -> Float64Array:
    """Up, from cameras that people hold with a level horizon.

    The horizontal axis of each upright image is perpendicular to gravity, also if the camera looks down. If the cameras
    look in different directions, up is the axis that is most perpendicular to all of them. Otherwise it is the mean
    of the images' own upward directions.

    Args:
        rotations: [F, 3, 3] of `cam_from_world`.
        quarter_turns: [F] clockwise turns that make each stored image upright; 0 where it is not known.

    Returns:
        A unit vector [3]; -y if there is no camera.
    """
    if len(rotations) == 0:
        return np.array([0.0, -1.0, 0.0])
    right, up = _upright_axes(rotations, quarter_turns)
    mean = up.mean(axis=0)
    if np.linalg.norm(mean) < 0.2:  # the cameras are rolled in all directions: use the first
        mean = up[0]
    mean = mean / np.linalg.norm(mean)
    values, vectors = np.linalg.eigh(np.einsum("fi,fj->ij", right, right) / len(right))
    axis = vectors[:, 0] * (1.0 if vectors[:, 0] @ mean >= 0 else -1.0)
    is_level = values[1] >= MIN_TURNED and values[0] <= 0.25 * values[1]
    is_near = axis @ mean >= np.cos(np.radians(MAX_TILTED_DEG))
    found: Float64Array = axis if is_level and is_near else mean
    return found


def _upright_axes(rotations: Float64Array, quarter_turns: IndexArray) -> tuple[Float64Array, Float64Array]:
    """Directions to the right and up in each upright image, in the world [F, 3]."""
    # In stored pixels, (right, up) of the upright image is (x, -y), (-y, -x), (-x, y) or (y, x).
    right_xy = np.array([[1, 0], [0, -1], [-1, 0], [0, 1]])[quarter_turns % 4]
    up_xy = np.array([[0, -1], [-1, 0], [0, 1], [1, 0]])[quarter_turns % 4]
    axes = rotations[:, :2]  # the camera's x and y axis in the world
    return np.einsum("fk,fkj->fj", right_xy, axes), np.einsum("fk,fkj->fj", up_xy, axes)
