"""The map with all that adds to it: one object for the front end."""

from __future__ import annotations

from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.feature_matching import FeatureMatching
from sfm_lightglue.tracking.keyframe_mapping import KeyframeMapping
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.mapping_thread import MappingThread
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera


class BackEnd:
    """The map, and what maps keyframes, finds frames and closes loops in it.

    Args:
        camera: of the frames.
        extractor: of the features.
        matcher: of the features.
        config: options.
    """

    def __init__(self, camera: Camera, extractor: Extractor, matcher: Matcher, config: TrackerConfig) -> None:
        self.slam_map = SlamMap(camera)
        self.matching = FeatureMatching(extractor, matcher, config)
        self.mapper = LocalMapper(self.slam_map, matcher, config, config.seed)
        self.keyframes = KeyframeMapping(self.slam_map, extractor, self.mapper, self._after)
        self.thread = MappingThread(self.keyframes.add, config.threads)

    def _after(self, keyframe: Keyframe) -> None:
        """What follows the mapping of a keyframe."""

    def drop_map(self, map_id: int) -> None:
        """Remove all keyframes of a map."""
        self.thread.wait()
        for idx in self.slam_map.members(map_id):
            self.slam_map.remove_keyframe(idx)
