"""Matches of features between frames, where optical flow fails."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.execution.threads import on_one_core
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.optical_flow import FlowImage
from sfm_lightglue.tracking.place_matching import share_of_image
from sfm_lightglue.tracking.pose_from_matches import MatchesWithPoints, pose_from_matches
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFrames:
    """Corresponding features of two frames: `rows0` [N] of `features0`, and `rows1` [N] of `features1`."""

    features0: Features
    features1: Features
    rows0: IndexArray
    rows1: IndexArray


@dataclass(frozen=True, slots=True, eq=False)
class FoundFrame:
    """The pose of a frame whose features match points of the map.

    Args:
        map_id: of the map.
        cam_from_world: the pose.
        rows: [M] rows of the features that fit.
        point_ids: [M] their points, -1 without.
        keyframe_idx: keyframe with which they were matched, -1 for several.
        keyframe_rows: [M] their rows there; empty for several.
    """

    map_id: int
    cam_from_world: Rigid3
    rows: IndexArray
    point_ids: IndexArray
    keyframe_idx: int = -1
    keyframe_rows: IndexArray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def num_points(self) -> int:
        """Number of points that fit."""
        return int((self.point_ids >= 0).sum())


def is_sure(found: FoundFrame, features: Features, camera: Camera) -> bool:
    """Whether a frame is found without doubt by a keyframe that need not be near: by many matches all over the image.

    Args:
        found: the frame.
        features: of the frame.
        camera: of the frame.
    """
    return (
        len(found.rows) >= _MIN_SURE_MATCHES
        and share_of_image(camera, features.keypoints[found.rows]) >= _MIN_SURE_CELLS
    )


class FeatureMatching:
    """Extracts features of frames and matches them; keeps those of the last frames.

    Args:
        extractor: of the features.
        matcher: of the features.
        config: options.
    """

    def __init__(self, extractor: Extractor, matcher: Matcher, config: TrackerConfig) -> None:
        self._extractor, self._matcher, self._config = extractor, matcher, config
        self._recent: dict[int, Features] = {}
        self._pool = ThreadPoolExecutor(1, "features") if config.threads > 1 else None

    def flow_image(self, frame: Frame) -> FlowImage:
        """The image of a frame for optical flow."""
        return FlowImage.of(frame.image, self._config.max_image_size)

    def features(self, frame: Frame) -> Features:
        """Features of a frame."""
        if frame.idx not in self._recent:
            self._recent = dict(list(self._recent.items())[-_NUM_RECENT:])
            self._recent[frame.idx] = self._extract(frame)
        return self._recent[frame.idx]

    def features_later(self, frame: Frame) -> Features | Future[Features]:
        """Features of a frame from a thread of their own, one frame after the other; at once with one thread."""
        if self._pool is None or frame.idx in self._recent:
            return self.features(frame)
        return self._pool.submit(self._extract, frame)

    def _extract(self, frame: Frame) -> Features:
        with on_one_core():
            return self._extractor.extract(Image.from_array(frame.image, frame.name))

    def close(self) -> None:
        """End the thread; features that were not begun are left out."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def match_frames(self, frame0: Frame, frame1: Frame) -> MatchedFrames:
        """Match the features of two frames."""
        features0, features1 = self.features(frame0), self.features(frame1)
        rows0, rows1 = self._matcher.match(features0, features1).indices.T.astype(np.int64)
        return MatchedFrames(features0, features1, rows0, rows1)

    def find_by_keyframe(self, frame: Frame, keyframe: Keyframe, slam_map: SlamMap, seed: int) -> FoundFrame | None:
        """Find the pose of a frame by matching its features with those of a keyframe.

        Where few matches see points of the map, all matches together confirm the pose.

        Args:
            frame: to find.
            keyframe: of the map, probably nearby.
            slam_map: with its points.
            seed: of RANSAC.
        """
        return self.find_by_features(self.features(frame), keyframe, slam_map, seed)

    def find_by_features(
        self, features: Features, keyframe: Keyframe, slam_map: SlamMap, seed: int
    ) -> FoundFrame | None:
        """As `find_by_keyframe`, from the features of a frame."""
        before = keyframe.features
        rows0, rows1 = self._matcher.match(before, features).indices.T.astype(np.int64)
        with slam_map.lock:
            ids = slam_map.resolve(keyframe.point_ids[rows0])
            matches = MatchesWithPoints(
                slam_map.camera,
                keyframe.cam_from_world,
                before.keypoints[rows0].astype(np.float64),
                features.keypoints[rows1].astype(np.float64),
                slam_map.xyz(ids),
                self._config.pose.max_error_px * pixel_factor(features.image_size),
            )
        found = pose_from_matches(matches, self._config.pose.min_inliers, seed)
        if found is None:
            return None
        fits = found.inlier_mask
        return FoundFrame(keyframe.map_id, found.cam_from_world, rows1[fits], ids[fits], keyframe.idx, rows0[fits])


_MIN_SURE_MATCHES, _MIN_SURE_CELLS = 50, 0.3
"""Matches, and the fraction of the cells of the image with some, of a frame that is found without doubt."""

_NUM_RECENT = 3
"""Number of frames whose features are kept."""
