"""The map with all that adds to it: one object for the front end."""

from __future__ import annotations

from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.feature_matching import FeatureMatching
from sfm_lightglue.tracking.frame import EventKind, TrackingEvent
from sfm_lightglue.tracking.keyframe_mapping import KeyframeMapping
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.loop_closing import LoopCloser, LoopClosure
from sfm_lightglue.tracking.mapping_thread import MappingThread
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from sfm_lightglue.tracking.precise_adjustment import LastAdjustment
from sfm_lightglue.tracking.relocalization import Relocalizer
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
        self._config = config
        self.slam_map = SlamMap(camera)
        self.matching = FeatureMatching(extractor, matcher, config)
        self.mapper = LocalMapper(self.slam_map, matcher, config)
        self.places = PlaceRecognition(config.seed)
        self.relocalizer = Relocalizer(self.slam_map, self.places, matcher, config, config.seed)
        self._closer = LoopCloser(self.slam_map, self.places, matcher, self.mapper, config, config.seed)
        self.keyframes = KeyframeMapping(
            self.slam_map,
            extractor,
            self.mapper,
            self._after,
            self._is_busy,
            config.pose,
            config.seed,
            config.max_image_size if config.mapping.align_patches else None,
        )
        self.thread = MappingThread(self.keyframes.add, config.threads)
        self.events: list[TrackingEvent] = []
        self.last_adjustments: dict[int, LastAdjustment] = {}
        """By map, after `finish`."""

    def _is_busy(self) -> bool:
        """Whether keyframes wait, beside the one that is mapped and the one that the tracker lets wait anyway."""
        return self.thread.num_unfinished > 2

    def _after(self, keyframe: Keyframe) -> None:
        """Remember the place of a keyframe that was mapped, and close loops there."""
        self.places.add(keyframe)
        closure = self._closer.close(keyframe.idx) if self._config.loop_closing else None
        if closure is not None:
            self._tell(closure, keyframe.frame_idx)

    def _tell(self, closure: LoopClosure, frame_idx: int) -> None:
        detail = f"keyframes {closure.idx} and {closure.other_idx}, {closure.num_inliers} points"
        if closure.merged_map_id is None:
            self.event("loop_closed", frame_idx, f"{detail}, scale {closure.scale:.3f}")
        else:
            self.event("maps_merged", frame_idx, f"{detail}, map {closure.merged_map_id}")

    def close(self) -> None:
        """Map what waits, and end all threads.

        Raises:
            Exception: that the mapping of a keyframe raised.
        """
        try:
            self.thread.close()
        finally:
            self.matching.close()

    def abandon(self) -> None:
        """End all threads without mapping what waits."""
        self.thread.abandon()
        self.matching.close()

    def finish(self) -> None:
        """Adjust and complete all maps, and join those that show a common place."""
        for map_id in self.slam_map.map_ids_by_size():  # the largest refines the camera that the others then have
            self.mapper.adjust_all(map_id, is_rough=True)
            self.mapper.complete(map_id)
        closures = self._join_maps() if len(self.slam_map.map_ids()) > 1 else []
        for closure in closures:
            self._tell(closure, self.slam_map.keyframes[closure.idx].frame_idx)
        for map_id in self.slam_map.map_ids_by_size():
            self.last_adjustments[map_id] = self.mapper.adjust_precisely(map_id)

    def _join_maps(self) -> list[LoopClosure]:
        """Join maps that show a common place; they are adjusted before and after it."""
        if not self._config.loop_closing:
            return []
        for map_id in self.slam_map.map_ids_by_size():
            self.mapper.adjust_all(map_id)
        closures = self._closer.join_maps()
        for map_id in self.slam_map.map_ids_by_size() if closures else ():
            self.mapper.adjust_all(map_id)
        return closures

    def event(self, kind: EventKind, frame_idx: int, detail: str = "") -> None:
        """Note that something happened."""
        self.events.append(TrackingEvent(kind, frame_idx, detail))

    def drop_map(self, map_id: int) -> None:
        """Remove all keyframes of a map."""
        self.thread.wait()
        for idx in self.slam_map.members(map_id):
            self.slam_map.remove_keyframe(idx)
            self.places.remove(idx)
