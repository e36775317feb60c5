"""The start of a map from two frames; it waits while the camera stands or only turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.feature_matching import FeatureMatching
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.intrinsics import FocalLengthVotes
from sfm_lightglue.tracking.new_keyframe import ReferenceFactory, Tracks
from sfm_lightglue.tracking.optical_flow import FlowImage, follow
from sfm_lightglue.tracking.reference import Reference
from sfm_lightglue.tracking.relative_motion import parallax_deg, relative_pose_of
from sfm_lightglue.two_view.relative_pose import RelativePose
from sfm_lightglue.types import Camera

_MIN_LEFT = 0.3
"""If a smaller fraction of the points of the first frame is left, a later frame becomes the first."""

_MIN_FLOW = 0.004
"""Median displacement of the points, as a fraction of the image's width, from which a start is tried."""

_MIN_CHANGE = 0.05
"""Relative change of this displacement after which another start is tried."""


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
        self.first_name = ""
        """Name of the frame with which a later one may start a map; "" before the first frame."""
        self._last_try = 0.0

    def add(self, frame: Frame, image: FlowImage) -> InitializingFrame:
        """Follow the points to the next frame, and try to start a map."""
        if self._restart_at_next or not self._follow(frame, image):
            self._restart(frame, image)
            return InitializingFrame(self._first.track_ids, self._pixels, None)
        start = self._try_start(frame, image)
        return InitializingFrame(self._first.track_ids[self._slots], self._pixels, start)

    def _restart(self, frame: Frame, image: FlowImage) -> None:
        self._first, self.first_name = self._factory.first(frame, image), frame.name
        self._slots, self._pixels, self._image = np.arange(len(self._first.pixels)), self._first.pixels, image
        self._feature_rows, self._last_try = np.full(len(self._slots), -1), 0.0
        self._restart_at_next = len(self._slots) < self._config.initialization.min_points

    def _follow(self, frame: Frame, image: FlowImage) -> bool:
        """Follow the points; False if too few are left."""
        pixels, found = follow(self._image, image, self._pixels, self._pixels, self._config.flow)
        min_left = max(self._config.initialization.min_points, _MIN_LEFT * len(self._first.pixels))
        if found.sum() < min_left and not self._rematch(frame):
            return False
        if found.sum() >= min_left:
            self._slots, self._pixels = self._slots[found], pixels[found]
            self._feature_rows = np.full(len(self._slots), -1)
        self._image = image
        return True

    def _rematch(self, frame: Frame) -> bool:
        """Match the frame with the first one by features, whose keypoints then begin the tracks."""
        first_frame = self._first.frame
        if first_frame is None:
            return False
        matched = self._matching.match_frames(first_frame, frame)
        if len(matched.rows0) < self._config.initialization.min_points:
            return False
        tracks = Tracks.of_features(matched.features0, matched.rows0)
        first_image = self._matching.flow_image(first_frame)
        self._first = self._factory.at_features(first_frame, first_image, matched.features0, tracks)
        self._slots, self._pixels = (
            np.arange(len(matched.rows0)),
            matched.features1.keypoints[matched.rows1].astype(np.float64),
        )
        self._feature_rows = matched.rows1
        return True

    def _try_start(self, frame: Frame, image: FlowImage) -> Start | None:
        then = self._first.pixels[self._slots]
        displacement = np.median(np.linalg.norm(self._pixels - then, axis=1))
        changed = abs(displacement - self._last_try) / max(self._last_try, 1e-9)
        if displacement < _MIN_FLOW * self._camera.width or changed < _MIN_CHANGE:
            return None
        self._last_try = displacement
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
        tracks = Tracks(self._pixels[rows], self._slots[rows], np.full(len(rows), -1), self._feature_rows[rows])
        second = self._factory.second(frame, image, self._first, tracks)
        pose = relative.cam1_from_cam0
        if pose is not None:
            second.local_xyz[relative.point_inlier_idxs] = pose @ relative.points
        return second

    def _is_good(self, relative: RelativePose) -> bool:
        options, uncertainty = self._config.initialization, relative.uncertainty
        if uncertainty is None or uncertainty.direction_deg is None:
            return False
        return (
            relative.alternative_pose is None
            and uncertainty.direction_deg <= options.max_direction_error_deg
            and len(relative.points) >= options.min_points
            and parallax_deg(relative) >= options.min_parallax_deg
        )
