"""Frames in which the camera was lost: at the end, they are searched again in the finished maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sfm_lightglue.features import Features
from sfm_lightglue.tracking.back_end import BackEnd
from sfm_lightglue.tracking.compact_features import CompactFeatures
from sfm_lightglue.tracking.feature_matching import FoundFrame, is_sure
from sfm_lightglue.tracking.frame import FrameRecord

_MAX_FRAMES = 60
"""Frames that are kept; each takes a quarter of a megabyte, and some tenths of a second at the end."""

_MIN_FEATURES = 100
"""Dark or covered frames have fewer, and are not searched again."""

_NUM_NEAREST = 2
"""Keyframes of about the same time by which a frame is searched, where its look is not enough."""


class LostFrames:
    """The features of frames without a pose, the latest ones."""

    def __init__(self) -> None:
        self._features: dict[int, CompactFeatures] = {}

    def __len__(self) -> int:
        return len(self._features)

    def add(self, frame_idx: int, features: Features) -> None:
        """Keep the features of a frame that was not found."""
        if len(features) < _MIN_FEATURES:
            return
        self._features[frame_idx] = CompactFeatures.of(features)
        while len(self._features) > _MAX_FRAMES:
            del self._features[min(self._features)]

    def found(self, records: Sequence[FrameRecord], back_end: BackEnd, seed: int) -> tuple[FrameRecord, ...]:
        """The records of a sequence, with poses of lost frames that the finished maps show.

        Args:
            records: final ones of all frames, by index.
            back_end: with the finished maps.
            seed: of RANSAC.
        """
        return tuple(
            self._searched(record, self._features[record.frame_idx].as_features(), back_end, seed)
            if record.cam_from_world is None and record.frame_idx in self._features
            else record
            for record in records
        )

    def _searched(self, record: FrameRecord, features: Features, back_end: BackEnd, seed: int) -> FrameRecord:
        found = back_end.relocalizer.relocalize(features, features.image_size)
        found = found or self._found_nearby(record, features, back_end, seed)
        if found is None:
            return record
        pose, number = found.cam_from_world, found.num_points
        return replace(record, state="tracked", cam_from_world=pose, map_id=found.map_id, num_inliers=number)

    def _found_nearby(self, record: FrameRecord, features: Features, back_end: BackEnd, seed: int) -> FoundFrame | None:
        slam_map = back_end.slam_map
        with_features = [one for _, one in sorted(slam_map.keyframes.items()) if one.num_features > 0]
        nearest = sorted(with_features, key=lambda one: abs(one.frame_idx - record.frame_idx))[:_NUM_NEAREST]
        tried = (back_end.matching.find_by_features(features, one, slam_map, seed) for one in nearest)
        camera = slam_map.camera
        return next((found for found in tried if found is not None and is_sure(found, features, camera)), None)
