"""The map of a rendered scene with exact points, of which observations can be disturbed or removed."""

from __future__ import annotations

import functools

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.synthetic import SyntheticScene, render_scene
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.tracking.optical_flow import FlowImage
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from tests.helpers.refinable_models import exact_model

MAX_IMAGE_SIZE = 1280


@functools.cache
def scene() -> SyntheticScene:
    """Four views of a square, 320 x 240 pixels."""
    return render_scene(4, (320, 240), seed=1)


@functools.cache
def _tracks() -> tuple[np.ndarray, list[list[tuple[int, int]]], list[np.ndarray]]:
    """Points [P, 3], (keyframe, row) of their observations, and pixels [N, 2] of the rows of each keyframe."""
    model = exact_model(scene())
    ids = sorted(model.point3D_ids())
    tracks = [sorted((one.image_id - 1, one.point2D_idx) for one in model.points3D[i].track.elements) for i in ids]
    pixels = [np.array([point.xy for point in model.images[n + 1].points2D]) for n in range(model.num_images())]
    return np.array([model.points3D[number].xyz for number in ids]), tracks, pixels


def rendered_map(noise_px: float = 0.0, max_track: int = 4, max_image_size: int = MAX_IMAGE_SIZE) -> SlamMap:
    """True poses and points; observations with noise.

    Args:
        noise_px: standard deviation of the keypoints.
        max_track: observations of a point at most; the others are left out.
        max_image_size: of the images of keyframes.
    """
    xyz, tracks, pixels = _tracks()
    random, slam_map = np.random.default_rng(0), SlamMap(scene().camera)
    for idx, name in enumerate(scene().names):
        keypoints = (pixels[idx] + random.normal(scale=noise_px, size=pixels[idx].shape)).astype(np.float32)
        none = np.full(len(keypoints), -1, np.int64)
        slam_map.add_keyframe(
            Keyframe(
                idx,
                idx,
                name,
                idx / 30,
                0,
                scene().cam_from_world_from_name[name],
                no_features(),
                keypoints,
                none,
                idx - 1,
                none.copy(),
                image=CompactImage.of(FlowImage.of(scene().images[name], max_image_size)),
            )
        )
    slam_map.add_points(xyz, [track[:max_track] for track in tracks])
    return slam_map


def no_features() -> Features:
    """Of an image without any."""
    return Features(
        np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 32), np.float32), scene().camera.size
    )
