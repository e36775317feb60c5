"""A walk around a ring, whose map drifts in scale; parts of its wall can look alike."""

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec
from sfm_lightglue.identity import Identity
from sfm_lightglue.tracking.projection import is_inside, project
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera, Matches

CAMERA = Camera("PINHOLE", 640, 480, (500.0, 500.0, 320.0, 240.0))
NUM_STEPS = 40
"""Keyframes of a whole turn."""

RADIUS = 7.0


class NearestMatcher:
    """Mutual nearest neighbours among descriptors, with a ratio test in both directions."""

    identity = Identity("nearest of ring", 1, ())
    batch_size = 1

    def __init__(self):
        self.num_calls = 0

    def match(self, features0, features1):
        self.num_calls += 1
        products = features0.descriptors @ features1.descriptors.T
        rows = np.arange(len(products))
        columns = products.argmax(axis=1)
        good = (products.argmax(axis=0)[columns] == rows) & (products[rows, columns] > 0.9)
        indices = np.stack([rows[good], columns[good]], axis=1).astype(np.int32)
        return Matches(indices, np.ones(len(indices), np.float32))

    def match_batch(self, pairs):
        return [self.match(*pair) for pair in pairs]


class Ring:
    """Points on a wall around a ring, with descriptors as SIFT's, and a camera that walks inside.

    Args:
        num_points: of the wall.
        growth: factor of the scale from keyframe to keyframe.
        alike: fraction of the points of the first quarter that occur again, turned by half a turn; in one corner of
            it if `alike_in_corner`.
        noise_px: standard deviation of the keypoints.
    """

    def __init__(self, num_points=2400, growth=1.0, alike=0.0, alike_in_corner=False, noise_px=0.3):
        self.random = np.random.default_rng(0)
        angles = self.random.uniform(0, 2 * np.pi, num_points)
        radii = self.random.uniform(RADIUS + 3, RADIUS + 6, num_points)
        heights = self.random.uniform(-2, 2, num_points)
        self.xyz = np.stack([radii * np.sin(angles), heights, radii * np.cos(angles)], axis=1)
        self.descriptors = self.random.exponential(size=(num_points, 128)) ** 2
        self.scores = self.random.uniform(size=num_points).astype(np.float32)
        if alike > 0:
            self._repeat(angles, alike, alike_in_corner)
        self.descriptors /= np.linalg.norm(self.descriptors, axis=1, keepdims=True)
        self.noise_px = noise_px
        self.poses = {0: self.true_pose(0)}
        self.growth = growth

    def _repeat(self, angles, alike, in_corner):
        first = np.flatnonzero((angles > np.pi / 4) & (angles < 3 * np.pi / 4))
        other = np.flatnonzero((angles > 5 * np.pi / 4) & (angles < 7 * np.pi / 4))
        if in_corner:
            near = np.abs(angles[first] - np.pi / 2) + 0.1 * np.abs(self.xyz[first, 1])
            first = first[np.argsort(near)]
        number = int(alike * min(len(first), len(other)))
        first, other = first[:number], other[:number]
        self.xyz[other] = self.xyz[first] * [-1, 1, -1]
        self.descriptors[other] = self.descriptors[first]
        self.scores[other] = self.scores[first]

    @staticmethod
    def true_pose(step):
        """`cam_from_world` that looks outwards, a little ahead."""
        angle = 2 * np.pi * step / NUM_STEPS
        R = rotation_from_rotvec(np.array([0.0, angle + 0.3, 0.0])).T
        return Rigid3(R, -R @ (RADIUS * np.array([np.sin(angle), 0.02 * np.sin(5 * angle), np.cos(angle)])))

    def drifted_pose(self, step):
        """The pose in a map whose scale grows from step to step."""
        for idx in range(max(self.poses) + 1, step + 1):
            relative = self.true_pose(idx) @ self.true_pose(idx - 1).inverse()
            moved = Rigid3(relative.R, relative.t * self.growth**idx)
            self.poses[idx] = moved @ self.poses[idx - 1]
        return self.poses[step]

    def drift(self, step):
        """Similarity from the true world to the map, around a keyframe."""
        pose, true = self.drifted_pose(step), self.true_pose(step)
        back = pose.inverse()
        return Sim3(self.growth**step, back.R @ true.R, self.growth**step * back.R @ true.t + back.t)

    def features(self, step, offset=(0.0, 0.0, 0.0)):
        """Features at a step, from a camera that stands `offset` beside, and the numbers of their points."""
        pose = self.true_pose(step)
        pixels, _ = project(CAMERA, Rigid3(pose.R, pose.t - np.asarray(offset)), self.xyz)
        pixels += self.noise_px * self.random.normal(size=pixels.shape)
        seen = np.flatnonzero(is_inside(CAMERA, pixels, 1.0))
        noisy = self.descriptors[seen] + 0.004 * self.random.uniform(size=(len(seen), 128))
        noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
        features = Features(
            pixels[seen].astype(np.float32),
            self.scores[seen],
            noisy.astype(np.float32),
            CAMERA.size,
            scales=1 + self.scores[seen],
        )
        return features, seen

    def add_to(self, slam_map, idx, step, map_id=0, map_from_drifted=None):
        """Add the keyframe of a step, with points for what the last five keyframes saw too."""
        to_map = map_from_drifted or Sim3.identity()
        features, seen = self.features(step)
        pose = self.drifted_pose(step)
        R = pose.R @ to_map.R.T
        cam_from_world = Rigid3(R, -R @ (to_map @ pose.center))
        none = np.full(len(seen), -1, np.int64)
        has_previous = idx - 1 in slam_map.keyframes and slam_map.keyframes[idx - 1].map_id == map_id
        previous_idx = idx - 1 if has_previous else -1
        keyframe = Keyframe(
            idx, idx, f"{idx:05}.png", idx / 2, map_id, cam_from_world, features, features.keypoints, none,
            previous_idx, none.copy(),
        )  # fmt: skip
        slam_map.add_keyframe(keyframe)
        if not hasattr(slam_map, "numbers"):
            slam_map.numbers = {}
        numbers = slam_map.numbers[idx] = dict(zip(seen.tolist(), range(len(seen)), strict=True))
        for other in range(idx - 1, max(idx - 6, -1), -1):
            if other in slam_map.keyframes and slam_map.keyframes[other].map_id == map_id:
                self._share(slam_map, keyframe, numbers, other, to_map @ self.drift(step))
        return keyframe

    def _share(self, slam_map, keyframe, numbers, other, map_from_true):
        before = slam_map.keyframes[other]
        for number, row in slam_map.numbers[other].items():
            here = numbers.get(number)
            if here is None or keyframe.point_ids[here] >= 0:
                continue
            if before.point_ids[row] >= 0:
                slam_map.add_observation(int(before.point_ids[row]), keyframe.idx, here)
            else:
                slam_map.add_points(map_from_true @ self.xyz[number][None], [[(other, row), (keyframe.idx, here)]])


def ring_map(ring, steps):
    """A map of the keyframes of some steps, in order."""
    slam_map = SlamMap(CAMERA)
    for idx, step in enumerate(steps):
        ring.add_to(slam_map, idx, step)
    return slam_map
