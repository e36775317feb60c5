"""A corridor that leads around a block of rooms, walked with a hand-held camera: video with exact poses.

The walls differ from place to place; doors, pictures, cabinets and lamps stand out from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.corridor_walls import CorridorPlan, corridor_solids
from sfm_lightglue.synthetic.face_view import faces_of_box, render_faces
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.synthetic.render import check_size
from sfm_lightglue.synthetic.shapes import Box
from sfm_lightglue.synthetic.solids import solid_world
from sfm_lightglue.types import Camera

FRAMES_PER_S = 30.0

_FOCAL = 0.66
"""Focal length relative to the width of the image: 74 degrees from left to right, as of phones."""

_NEAREST_VIEW_M = 1.3
"""Distance at which texels are as large as pixels; textures of nearer surfaces are magnified."""

_SAMPLES_PER_M = 100
_HEIGHT_M = 1.55
_NOISE = 2.0
"""Standard deviation of the noise of the sensor, in grey values."""


@dataclass(frozen=True, slots=True)
class CorridorWalk:
    """A walk around a corridor.

    Args:
        plan: sizes of the corridor.
        step_m: way between two frames.
        lane_m: distance of the walk from the inner walls.
        corner_m: radius of the bends at the corners.
        ahead_m: the camera looks at the point of the way that is so far ahead.
        sway_deg: largest angle by which the view swings to the left and right of that point.
    """

    plan: CorridorPlan
    step_m: float
    lane_m: float
    corner_m: float
    ahead_m: float
    sway_deg: float


LOOP = CorridorWalk(CorridorPlan((9.5, 7.5), 2.4), 0.0435, 1.2, 0.9, 1.3, 9.0)
"""23 m around four rooms: the camera is back after 525 frames, 17.5 seconds at the speed of a walk."""

SMALL_LOOP = CorridorWalk(CorridorPlan((5.0, 4.9), 2.25), 0.075, 0.3, 0.4, 0.4, 4.0)
"""3.5 m around a pillar: the camera is back after 47 frames."""


class Corridor:
    """Views of the corridor. Each is rendered when it is asked for.

    Args:
        size: (width, height) in pixels, at least 64 each.
        seed: of walls, things, walk and noise. The same seed gives the same bytes on one machine with one version of
            numpy and OpenCV.
        walk: sizes of the corridor and of the steps.

    Raises:
        ValueError: if `size` is too small.
    """

    def __init__(self, size: tuple[int, int] = (640, 480), seed: int = 0, walk: CorridorWalk = LOOP) -> None:
        check_size("Corridor", 2, size)
        width, height = size
        self.camera = Camera("SIMPLE_PINHOLE", width, height, (_FOCAL * width, width / 2, height / 2))
        self.walk, self.seed = walk, seed
        solids = corridor_solids(walk.plan, self.camera.params[0] / _NEAREST_VIEW_M, seed)
        with ThreadPoolExecutor(2) as executor:
            world = solid_world(solids, seed, executor)
        self._faces = [
            face
            for solid, textures in zip(solids, world.textures, strict=True)
            if isinstance(solid.shape, Box)
            for face in faces_of_box(solid.shape, textures, sorted(solid.painters))
        ]
        self._way = _rounded_rectangle(walk)

    @property
    def loop_m(self) -> float:
        """Length of one round."""
        return len(self._way) / _SAMPLES_PER_M

    @property
    def frames_per_round(self) -> int:
        """The frame of this index is the first one after a full round."""
        return int(np.ceil(self.loop_m / self.walk.step_m))

    def pose(self, idx: int) -> Rigid3:
        """The pose `cam_from_world` of a frame of the walk, in metres; z of the world points up."""
        way_m = idx * self.walk.step_m
        x, y = self._at(way_m)
        ahead = self._at(way_m + self.walk.ahead_m) - (x, y)
        sway = _waves(idx, self.seed)
        heading = np.arctan2(ahead[1], ahead[0]) + np.radians(self.walk.sway_deg) * sway[0]
        left = np.array([-np.sin(heading), np.cos(heading)])
        center = np.array([*(np.array([x, y]) + 0.04 * sway[1] * left), _HEIGHT_M + 0.025 * sway[2]])
        target = center + np.array([np.cos(heading), np.sin(heading), -0.04 + 0.06 * sway[3]])
        up = np.array([*(0.025 * sway[4] * left), 1.0])
        return Rigid3.look_at(center, target, up)

    def render(self, cam_from_world: Rigid3, noise_idx: int = 0) -> UInt8Array:
        """The image [H, W, 3] uint8 RGB from a pose.

        Args:
            cam_from_world: within the corridor.
            noise_idx: the noise of the sensor differs from number to number.
        """
        image = render_faces(self._faces, self.camera, cam_from_world)
        rng = np.random.default_rng([self.seed, 1 << 22, noise_idx])
        noisy = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(_NOISE)
        return np.clip(np.round(noisy), 0, 255).astype(np.uint8)

    def sequence(self, num_frames: int, name: str = "corridor") -> ImageSequence:
        """The first frames of the walk, at 30 frames a second."""
        return self.along([self.pose(idx) for idx in range(num_frames)], name)

    def along(self, poses: Sequence[Rigid3], name: str) -> ImageSequence:
        """A sequence of the views from any poses within the corridor, at 30 frames a second."""
        return ImageSequence(
            name,
            self.camera,
            tuple(f"{name}_{idx:05d}.jpg" for idx in range(len(poses))),
            np.arange(len(poses)) / FRAMES_PER_S,
            tuple(poses),
            lambda idx: self.render(poses[idx], idx),
            is_metric=True,
        )

    def _at(self, way_m: float) -> Float64Array:
        """(x, y) of a point of the way."""
        position = way_m * _SAMPLES_PER_M % len(self._way)
        before = int(position)
        rest = position - before
        after = self._way[(before + 1) % len(self._way)]
        return np.asarray((1 - rest) * self._way[before] + rest * after, np.float64)


def corridor_loop(num_frames: int = 600, size: tuple[int, int] = (640, 480), seed: int = 0) -> ImageSequence:
    """A walk around the corridor: 525 frames a round, 600 frames see the first 3 m again.

    Raises:
        ValueError: if `size` is too small.
    """
    return Corridor(size, seed).sequence(num_frames)


def small_corridor_loop(num_frames: int = 60, size: tuple[int, int] = (640, 480), seed: int = 0) -> ImageSequence:
    """A walk around a pillar in 47 frames, for tests: 60 frames see the first metre again.

    Raises:
        ValueError: if `size` is too small.
    """
    return Corridor(size, seed, SMALL_LOOP).sequence(num_frames, "small_corridor")


def _rounded_rectangle(walk: CorridorWalk) -> Float64Array:
    """Points [N, 2] of one round, counter-clockwise, at equal distances of about 1 / _SAMPLES_PER_M."""
    half = np.array(walk.plan.inner_m) / 2 + walk.lane_m
    radius = walk.corner_m
    corners = []
    for quarter, (sign_x, sign_y) in enumerate(((1, -1), (1, 1), (-1, 1), (-1, -1))):
        angles = np.radians(90 * quarter - 90 + np.linspace(0, 90, 91))
        middle = (half - radius) * (sign_x, sign_y)
        corners.append(middle + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    outline = np.concatenate([[(0.0, -half[1])], *corners, [(0.0, -half[1])]])
    way_m = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    places = np.linspace(0, way_m[-1], round(way_m[-1] * _SAMPLES_PER_M), endpoint=False)
    return np.stack([np.interp(places, way_m, axis) for axis in outline.T], axis=1)


def _waves(idx: int, seed: int) -> Float64Array:
    """How hands and steps move the camera at a frame: [5] numbers within -1 and 1, smooth over time.

    They are the view to the side, the place to the side, the height, the view up and down, and the roll. The periods
    have no common multiple, so that no two rounds are equal.
    """
    periods_s = np.array([[5.3, 2.1], [2.3, 1.1], [0.57, 1.9], [3.1, 0.83], [2.7, 1.3]])
    phases = np.random.default_rng([seed, 1 << 23]).uniform(0, 2 * np.pi, periods_s.shape)
    waves = np.sin(2 * np.pi * idx / FRAMES_PER_S / periods_s + phases)
    return np.asarray(0.75 * waves[:, 0] + 0.25 * waves[:, 1])
