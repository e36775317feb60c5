"""The start of a map from two frames; it waits while the camera stands or only turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3, direction_angles_deg
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.feature_matching import FeatureMatching
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.intrinsics import FocalLengthVotes
from sfm_lightglue.tracking.new_keyframe import ReferenceFactory
from sfm_lightglue.tracking.optical_flow import FlowImage, follow
from sfm_lightglue.tracking.reference import Reference
from sfm_lightglue.two_view.relative_pose import RelativePose, relative_pose_from_matches
from sfm_lightglue.types import Camera, Matches

_MIN_LEFT = 0.3
"""If a smaller fraction of the points of the first frame is left, a later frame becomes the first."""

_MIN_FLOW = 0.004
"""Median displacement of the points, as a fraction of the image's width, from which a start is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Two frames that start a map.

    Args:
        first: whose camera is the world.
        second: its tracks continue those of the first.
        second_from_first: relative pose with translation 1.
        camera: intrinsics; a focal length that was unknown is estimated.
        parallax_deg: median angle of the points.
    """

    first: Reference
    second: Reference
    second_from_first: Rigid3
    camera: Camera
    parallax_deg: float


@dataclass(frozen=True, slots=True, eq=False)
class InitializingFrame:
    """The points that are followed before there is a map.

    Args:
        track_ids: [N] running numbers of the tracks.
        pixels: [N, 2] in the frame.
        start: of a map, if the frame and the first one start it.
    """

    track_ids: IndexArray
    pixels: Float64Array
    start: Start | None


class Initializer:
    """Searches two frames that start a map.

    Args:
        camera: intrinsics; with the source "guessed", the focal length is estimated.
        config: options.
        factory: makes the keyframes.
        matching: matches frames between which optical flow fails.
    """

    def __init__(
        self, camera: Camera, config: TrackerConfig, factory: ReferenceFactory, matching: FeatureMatching
    ) -> None:
        self._camera, self._config, self._factory, self._matching = camera, config, factory, matching
        self._votes = FocalLengthVotes(camera, config.initialization)
        self._restart_at_next = True

    def add(self, frame: Frame, image: FlowImage) -> InitializingFrame:
        """Follow the points to the next frame, and try to start a map."""
        if self._restart_at_next or not self._follow(frame, image):
            self._restart(frame, image)
            return InitializingFrame(self._first.track_ids, self._pixels, None)
        start = self._try_start(frame, image)
        return InitializingFrame(self._first.track_ids[self._slots], self._pixels, start)

    def _restart(self, frame: Frame, image: FlowImage) -> None:
        self._first = self._factory.first(frame, image)
        self._slots, self._pixels, self._image = np.arange(len(self._first.pixels)), self._first.pixels, image
        self._restart_at_next = len(self._slots) < self._config.initialization.min_points

    def _follow(self, frame: Frame, image: FlowImage) -> bool:
        """Follow the points; False if too few are left."""
        pixels, found = follow(self._image, image, self._pixels, self._pixels, self._config.flow)
        min_left = max(self._config.initialization.min_points, _MIN_LEFT * len(self._first.pixels))
        if found.sum() < min_left and not self._rematch(frame, image):
            return False
        if found.sum() >= min_left:
            self._slots, self._pixels = self._slots[found], pixels[found]
        self._image = image
        return True

    def _rematch(self, frame: Frame, image: FlowImage) -> bool:
        """Match the frame with the first one by features, whose keypoints then begin the tracks."""
        first_frame = self._first.frame
        if first_frame is None:
            return False
        matched = self._matching.match_frames(first_frame, frame)
        if len(matched.pixels0) < self._config.initialization.min_points:
            return False
        self._first = self._factory.first(first_frame, self._matching.flow_image(first_frame), matched.pixels0)
        self._slots, self._pixels = np.arange(len(matched.pixels0)), matched.pixels1
        return True

    def _try_start(self, frame: Frame, image: FlowImage) -> Start | None:
        then = self._first.pixels[self._slots]
        displacement = np.median(np.linalg.norm(self._pixels - then, axis=1))
        if displacement < _MIN_FLOW * self._camera.width:
            return None
        relative = relative_pose_of(then, self._pixels, self._camera, self._config.seed)
        self._votes.add(frame.time_s, relative)
        if not self._is_good(relative):
            return None
        camera = self._votes.camera
        if camera is None:
            return None
        if self._camera.source == "guessed":  # the pose with the focal length that all pairs agree upon
            relative = relative_pose_of(then, self._pixels, camera, self._config.seed)
            if not self._is_good(relative):
                return None
        pose = relative.cam1_from_cam0
        if pose is None:
            return None
        return Start(self._first, self._second(frame, image, relative), pose, camera, parallax_deg(relative))

    def _second(self, frame: Frame, image: FlowImage, relative: RelativePose) -> Reference:
        rows = relative.inliers.indices[:, 0]
        return self._factory.second(frame, image, self._first, self._slots[rows], self._pixels[rows])

    def _is_good(self, relative: RelativePose) -> bool:
        options = self._config.initialization
        return (
            relative.verdict in ("general", "planar")
            and relative.alternative_pose is None
            and relative.uncertainty is not None
            and relative.uncertainty.direction_deg <= options.max_direction_error_deg
            and len(relative.points) >= options.min_points
            and parallax_deg(relative) >= options.min_parallax_deg
        )


def parallax_deg(relative: RelativePose) -> float:
    """Median angle between the two rays to the points of a pair, 0 without points."""
    pose = relative.cam1_from_cam0
    if pose is None or len(relative.points) == 0:
        return 0.0
    return float(np.median(direction_angles_deg(relative.points, relative.points - pose.center)))


def relative_pose_of(pixels0: Float64Array, pixels1: Float64Array, camera: Camera, seed: int) -> RelativePose:
    """The relative pose of two frames from corresponding pixels [N, 2]."""
    number = len(pixels0)
    features0, features1 = (_without_descriptors(pixels, camera.size) for pixels in (pixels0, pixels1))
    rows = np.arange(number, dtype=np.int32)
    matches = Matches(np.stack([rows, rows], axis=1), np.ones(number, np.float32))
    return relative_pose_from_matches(features0, features1, matches, camera, camera, seed=seed, is_same_camera=True)


def _without_descriptors(pixels: Float64Array, size: tuple[int, int]) -> Features:
    """Features at some pixels. Their descriptors are numbers, so that no two are alike."""
    number = len(pixels)
    keypoints = np.clip(pixels, 0, np.nextafter(np.array(size, np.float32), np.float32(0))).astype(np.float32)
    return Features(keypoints, np.ones(number, np.float32), np.arange(number, dtype=np.float32)[:, None] * 10.0, size)
