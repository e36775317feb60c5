"""Two views of random points with exactly known poses: no images, no detector."""

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import as_pycolmap, make_camera
from sfm_lightglue.two_view.correspondences import MatchedPair
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import Camera, Features, Matches

SIZE = (1200, 900)
PINHOLE = make_camera("PINHOLE", SIZE, (1000, 1000, 600, 450))
OPENCV = make_camera("OPENCV", SIZE, (1000, 1010, 590, 460, -0.2, 0.05, 0.002, -0.003))
RADIAL = make_camera("SIMPLE_RADIAL", (800, 1000), (760, 395, 510, -0.08))

POSE = Rigid3.from_rotvec([0.05, -0.2, 0.03], [1.0, -0.1, 0.15])
"""About 12 degrees of rotation and a baseline of 1; the points are at distances from 4 to 9."""


@dataclass
class Views:
    """Input of a pose estimate, and the ground truth."""

    features: tuple[Features, Features]
    matches: Matches
    cameras: tuple[Camera, Camera]
    pose: Rigid3
    is_true: np.ndarray

    def estimate(self, config=None, seed=0):
        return estimate_two_view_geometry(*self.features, self.matches, *self.cameras, config, seed)

    @property
    def pair(self):
        return MatchedPair(self.features, self.matches, self.cameras)

    def swapped(self):
        swapped = self.matches.swapped()
        order = np.argsort(self.matches.indices[:, 1], kind="stable")
        return Views(self.features[::-1], swapped, self.cameras[::-1], self.pose.inverse(), self.is_true[order])


def make_features(pixels, size):
    n = len(pixels)
    return Features(np.asarray(pixels, np.float32), np.ones(n, np.float32), np.zeros((n, 1), np.float32), size)


def make_views(
    pose=POSE,
    num_points=300,
    noise_px=0.5,
    outlier_ratio=0.0,
    cameras=(PINHOLE, PINHOLE),
    seed=0,
    points=None,
    scored=False,
):
    """Noisy keypoints of points that both cameras see, then outliers at random pixels, in random order.

    All matches have score 1. If `scored`, they have random scores that do not depend on their correctness.
    """
    generator = np.random.default_rng(seed)
    if points is None:
        points = generator.uniform([-8, -8, 4], [8, 8, 9], (60 * num_points, 3))
    seen = [as_pycolmap(camera).img_from_cam(p) for camera, p in zip(cameras, (points, pose @ points), strict=True)]
    visible = (points[:, 2] > 0) & ((pose @ points)[:, 2] > 0)
    for pixels, camera in zip(seen, cameras, strict=True):
        visible &= ((pixels > 2) & (pixels < np.array(camera.size) - 2)).all(axis=1)
    rows = np.flatnonzero(visible)[:num_points]
    assert len(rows) == num_points
    num_false = round(num_points * outlier_ratio / (1 - outlier_ratio))
    pixels = []
    for seen_by, camera in zip(seen, cameras, strict=True):
        true = np.clip(seen_by[rows] + generator.normal(scale=noise_px, size=(num_points, 2)), 0, camera.size)
        pixels.append(np.concatenate([true, generator.uniform(0, camera.size, (num_false, 2))]))
    n = num_points + num_false
    order = generator.permutation(n)  # of image 1's features
    scores = generator.uniform(0.1, 1, n).astype(np.float32) if scored else np.ones(n, np.float32)
    matches = Matches(np.stack([np.arange(n), np.argsort(order)], axis=1).astype(np.int32), scores)
    features = (make_features(pixels[0], cameras[0].size), make_features(pixels[1][order], cameras[1].size))
    return Views(features, matches, cameras, pose, np.arange(n) < num_points)


def plane_points(pose_of_plane=None, num_points=20_000, seed=0):
    """Points of a tilted plane in front of the camera."""
    flat = np.random.default_rng(seed).uniform(-8, 8, (num_points, 3)) * [1, 1, 0]
    return (pose_of_plane or Rigid3.from_rotvec([0.5, 0.3, 0.1], [0, 0, 7])) @ flat
