"""How the mouse moves the viewpoint, and the viewpoints of a turntable. Up stays up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.geometry.transforms import rotation_from_rotvec

HALF_TURN_PX = 0.75
"""A movement of the mouse by this fraction of the height of the window turns the view by 180 degrees."""

MAX_ELEVATION_DEG = 88.0
"""The view never looks straight along the up axis: there the direction to the right would be lost."""

ZOOM_STEP = 0.88
"""Factor of the distance for a step of the wheel."""

MIN_DISTANCE, MAX_DISTANCE = 0.005, 30.0
"""Limits of the distance from the target, in radii of the scene."""


def turned(view: Viewpoint, right_px: float, down_px: float, height_px: int) -> Viewpoint:
    """Turn the scene around the target as the mouse moves.

    Args:
        view: before.
        right_px: movement of the mouse to the right.
        down_px: movement of the mouse downwards.
        height_px: of the window.
    """
    scale = np.pi / (HALF_TURN_PX * height_px)
    offset = rotation_from_rotvec(-right_px * scale * view.up) @ (view.eye - view.target)
    distance = float(np.linalg.norm(offset))
    elevation = float(np.arcsin(np.clip(offset @ view.up / distance, -1, 1)))
    highest = np.radians(MAX_ELEVATION_DEG)
    new = float(np.clip(elevation + down_px * scale, -highest, highest))
    level = offset - (offset @ view.up) * view.up
    if np.linalg.norm(level) < 1e-9 * distance:
        level = _any_perpendicular(view.up)
    level = level / np.linalg.norm(level)
    return replace(view, eye=view.target + distance * (np.cos(new) * level + np.sin(new) * view.up))


def shifted(view: Viewpoint, right_px: float, down_px: float, height_px: int) -> Viewpoint:
    """Shift eye and target, so that what is at the distance of the target follows the mouse."""
    R = view.cam_from_world.R
    distance = float(np.linalg.norm(view.eye - view.target))
    unit = 2 * distance * np.tan(np.radians(view.vertical_fov_deg) / 2) / height_px
    shift = -unit * (right_px * R[0] + down_px * R[1])
    return replace(view, eye=view.eye + shift, target=view.target + shift)


def zoomed(view: Viewpoint, steps: float) -> Viewpoint:
    """Move the eye towards the target, or away from it for a negative number of steps."""
    offset = view.eye - view.target
    distance = float(np.linalg.norm(offset))
    new = float(np.clip(distance * ZOOM_STEP**steps, MIN_DISTANCE, MAX_DISTANCE))
    return replace(view, eye=view.target + offset * (new / distance))


def aimed(view: Viewpoint, target: Float64Array) -> Viewpoint:
    """Look at another target from the same direction and distance."""
    return replace(view, eye=view.eye + (target - view.target), target=np.asarray(target, np.float64))


def through_camera(view: Viewpoint, frustum: Float64Array) -> Viewpoint:
    """The viewpoint of a camera of the model; the target is at the same distance as before.

    Args:
        view: before.
        frustum: [8, 3] vertices of the camera.
    """
    center = np.asarray(frustum[0], np.float64)
    forward = frustum[1:5].mean(axis=0) - center
    forward = forward / np.linalg.norm(forward)
    if abs(forward @ view.up) > np.sin(np.radians(MAX_ELEVATION_DEG)):
        forward = forward + 0.05 * _any_perpendicular(view.up)
        forward = forward / np.linalg.norm(forward)
    distance = float(np.linalg.norm(view.eye - view.target))
    return replace(view, eye=center, target=center + distance * forward)


def with_up(view: Viewpoint, up: Float64Array) -> Viewpoint:
    """The same eye and target with another up axis; the eye moves if it would look along that axis."""
    return turned(replace(view, up=up / np.linalg.norm(up)), 0.0, 0.0, 1000)


def turntable(view: Viewpoint, num_frames: int) -> list[Viewpoint]:
    """Viewpoints on a full circle around the up axis through the target, the first one is `view`."""
    offset = view.eye - view.target
    turns = [rotation_from_rotvec(2 * np.pi * frame / num_frames * view.up) for frame in range(num_frames)]
    return [replace(view, eye=view.target + R @ offset) for R in turns]


def fitted_for_turn(view: Viewpoint, positions: AnyArray, aspect: float) -> Viewpoint:
    """The viewpoint of a turntable that has all positions in every picture, from the direction of a view.

    A position with the coordinates (x, y, z) in the frame of a camera at the target is in the picture from the distance
    d if |x| <= a (z + d), a the half width at depth 1, and likewise for y.

    Args:
        view: before.
        positions: [N, 3], at least one.
        aspect: width divided by height of the pictures.
    """
    offset = view.eye - view.target
    distance = float(np.linalg.norm(offset))
    R = view.cam_from_world.R
    level = np.stack([R[0], view.up, np.cross(R[0], view.up)])  # right, up and a horizontal axis
    in_level = positions @ level.T
    target = (in_level.min(axis=0) + in_level.max(axis=0)) / 2 @ level
    half_height = np.tan(np.radians(view.vertical_fov_deg) / 2) * _TURN_MARGIN
    least = 0.0
    for turned_view in turntable(replace(view, eye=target + offset, target=target), _NUM_FITTED):
        x, y, z = turned_view.cam_from_world.R @ (positions - target).T
        needed = np.maximum(np.abs(x) / (half_height * aspect), np.abs(y) / half_height) - z
        least = max(least, float(needed.max()))
    return replace(view, target=target, eye=target + offset * (max(least, MIN_DISTANCE) / distance))


_TURN_MARGIN = 0.94
"""Part of the picture that may be filled."""

_NUM_FITTED = 24
"""Views of a turn that are looked at."""


def _any_perpendicular(axis: Float64Array) -> Float64Array:
    other = np.eye(3)[int(np.argmin(np.abs(axis)))]
    found: Float64Array = np.cross(axis, other)
    return found / np.linalg.norm(found)
