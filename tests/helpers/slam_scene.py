"""Keyframes of a synthetic scene: known points, known poses, matches by equal descriptors."""

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.identity import Identity
from sfm_lightglue.tracking.projection import is_inside, project
from sfm_lightglue.tracking.slam_map import Keyframe
from sfm_lightglue.types import Camera, Matches

CAMERA = Camera("OPENCV", 640, 480, (500.0, 505.0, 320.0, 240.0, -0.05, 0.01, 0.0005, -0.0005))


class ExactMatcher:
    """Matches features of the same point, which have the same descriptor."""

    identity = Identity("exact", 1, ())
    batch_size = 1

    def match(self, features0: Features, features1: Features) -> Matches:
        firsts = (features0.descriptors[:, 0], features1.descriptors[:, 0])
        _, rows0, rows1 = np.intersect1d(*firsts, return_indices=True)
        order = np.argsort(rows0)
        indices = np.stack([rows0, rows1], axis=1)[order].astype(np.int32)
        return Matches(indices, np.ones(len(indices), np.float32))

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        return [self.match(*pair) for pair in pairs]


class Walk:
    """A camera that walks past a wall of points. Even points are features, odd ones are followed by optical flow.

    Args:
        noise_px: standard deviation of the observations.
        num_points: of the scene.
    """

    def __init__(self, noise_px: float = 0.0, num_points: int = 800) -> None:
        self.random = np.random.default_rng(0)
        self.xyz = self.random.uniform((-5.0, -3.0, 4.0), (14.0, 3.0, 9.0), (num_points, 3))
        descriptors = self.random.normal(size=(num_points, 32)).astype(np.float32)
        self.descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
        self.noise_px = noise_px
        self.numbers: dict[int, np.ndarray] = {}
        """Number of the point of each row, by keyframe."""

    @staticmethod
    def pose(idx: int) -> Rigid3:
        """Half a unit to the right per keyframe, looking a little to the sides."""
        R = rotation_from_rotvec(np.array([0.02 * np.cos(idx), 0.05 * np.sin(idx), 0.01 * idx]))
        return Rigid3(R, -R @ np.array([0.5 * idx, 0.05 * np.sin(idx), 0.1 * np.cos(idx) - 0.1]))

    def keyframe(self, idx: int, pose: Rigid3 | None = None) -> Keyframe:
        """Observations from the true pose; `pose` is what the keyframe believes."""
        pixels, _ = project(CAMERA, self.pose(idx), self.xyz)
        pixels += self.noise_px * self.random.normal(size=pixels.shape)
        seen = np.flatnonzero(is_inside(CAMERA, pixels))
        numbers = np.concatenate([seen[seen % 2 == 0], seen[seen % 2 == 1]])
        keypoints = pixels[numbers].astype(np.float32)
        num_features = int((numbers % 2 == 0).sum())
        descriptors = self.descriptors[numbers[:num_features]]
        features = Features(keypoints[:num_features], np.ones(num_features, np.float32), descriptors, CAMERA.size)
        self.numbers[idx] = numbers
        return Keyframe(
            idx=idx,
            frame_idx=10 * idx,
            name=f"{10 * idx:05}.jpg",
            time_s=idx / 3,
            map_id=0,
            cam_from_world=pose or self.pose(idx),
            features=features,
            keypoints=keypoints,
            point_ids=np.full(len(numbers), -1, np.int64),
            previous_idx=idx - 1,
            previous_rows=self._previous_rows(idx, numbers),
        )

    def _previous_rows(self, idx: int, numbers: np.ndarray) -> np.ndarray:
        rows = np.full(len(numbers), -1, np.int64)
        if idx - 1 in self.numbers:
            before = self.numbers[idx - 1]
            _, here, there = np.intersect1d(numbers, before, return_indices=True)
            is_corner = numbers[here] % 2 == 1
            rows[here[is_corner]] = there[is_corner]
        return rows

    def with_tracked_points(self, keyframe: Keyframe, previous: Keyframe) -> Keyframe:
        """The keyframe with the points of its tracks, as the tracker makes it."""
        has_track = keyframe.previous_rows >= 0
        keyframe.point_ids[has_track] = previous.point_ids[keyframe.previous_rows[has_track]]
        return keyframe


def disturbed(pose: Rigid3, random: np.random.Generator, size: float = 0.02) -> Rigid3:
    """A pose with random errors of `size` radians and units."""
    R = rotation_from_rotvec(size / 3 * random.normal(size=3)) @ pose.R
    return Rigid3(R, pose.t + size * random.normal(size=3))
