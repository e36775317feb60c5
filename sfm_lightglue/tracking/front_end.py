"""The state of the camera from frame to frame: searching a start, tracked, or lost."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.back_end import BackEnd
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.feature_matching import FoundFrame, is_sure
from sfm_lightglue.tracking.frame import Frame, TrackState
from sfm_lightglue.tracking.frame_tracker import LiveTracks, TrackedFrame, track_frame
from sfm_lightglue.tracking.initialization import Initializer, Start
from sfm_lightglue.tracking.keyframes import View, is_keyframe
from sfm_lightglue.tracking.lost_frames import LostFrames
from sfm_lightglue.tracking.mapping_thread import MAX_WAITING
from sfm_lightglue.tracking.new_keyframe import ReferenceFactory, Tracks
from sfm_lightglue.tracking.optical_flow import FlowImage
from sfm_lightglue.tracking.reference import MapStart, Reference, RelativePose, relative_to
from sfm_lightglue.tracking.slam_map import Keyframe, ReferencePose

_URGENT_FACTOR = 4
"""A frame with fewer points than this multiple of `pose.min_inliers` waits for room where too many keyframes wait."""

_MAX_LAG = 1
"""A frame that should become a keyframe, or that optical flow loses, waits until so few earlier keyframes are to be
mapped, at most `keyframes.max_lag_s`. Poses far ahead of the map come from points that no adjustment has seen, and
their errors add up. A larger lag would not save time: where keyframes come faster than they are mapped, all wait as
long."""

_NUM_REMATCHED = 2
"""The last keyframes by which it is searched."""

_YOUNG_FRAMES = 8
_YOUNG_S = 0.5
"""A map that loses the camera within fewer frames, and less time, of its start is dropped: its start was probably
wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What was found for a frame.

    Args:
        state: of the camera.
        track_ids: [N] running numbers of the tracks in the frame.
        pixels: [N, 2] where they are.
        cam_from_world: pose, None without.
        map_id: map of the pose.
        relative: the pose relative to a keyframe.
        num_inliers: points that fit.
    """

    state: TrackState
    track_ids: IndexArray
    pixels: Float64Array
    cam_from_world: Rigid3 | None = None
    map_id: int | None = None
    relative: RelativePose | None = None
    num_inliers: int = 0


class _Found(NamedTuple):
    """A frame that was found by its features, relative to a keyframe."""

    found: FoundFrame
    relative: RelativePose


class FrontEnd:
    """Finds the pose of each frame, and makes keyframes.

    Args:
        back_end: the map.
        config: options.
    """

    def __init__(self, back_end: BackEnd, config: TrackerConfig) -> None:
        self._back, self._config = back_end, config
        self._map = back_end.slam_map
        self._first_camera = self._map.camera
        self._factory = ReferenceFactory(config.flow)
        self._initializer = self._new_initializer()
        self._live: LiveTracks | None = None
        self._most_points = 0
        self._starts: list[tuple[int, int, float]] = []  # first and second frame, and time of this, of each map
        self.lost = LostFrames()
        """Frames without a pose."""
        self._deadline = 0.0  # of all waits of the frame that is processed, one of `time.monotonic`
        self._lost_since: Frame | None = None
        self._lost_at: Reference | None = None  # the keyframe before the camera was lost
        self._lost_before_start: Frame | None = None  # `_lost_since` before the last start of a map

    @property
    def num_tracks(self) -> int:
        """Tracks that were begun so far."""
        return self._factory.num_tracks

    @property
    def start_name(self) -> str:
        """Name of the frame from which a start of a map is searched; "" if none is."""
        return "" if self._live is not None else self._initializer.first_name

    def process(self, frame: Frame) -> Outcome:
        """Find the pose of the next frame."""
        self._deadline = time.monotonic() + self._config.keyframes.max_lag_s
        image = FlowImage.of(frame.image, self._config.max_image_size)
        if self._live is not None:
            outcome = self._track(frame, image, self._live) or self._rematch(frame, image, self._live)
            if outcome is not None:
                return outcome
            self._lose(frame, self._live)
        return self._find(frame, image) or self._initialize(frame, image)

    # Tracked

    def _track(self, frame: Frame, image: FlowImage, live: LiveTracks) -> Outcome | None:
        tracked = track_frame(live, image, self._map, self._config, self._config.seed + frame.idx)
        if tracked is None:
            return None
        outcome = self._outcome("tracked", live, tracked.cam_from_world, tracked.base.map_id, tracked.num_inliers)
        self._most_points = max(self._most_points, tracked.num_inliers)
        if is_keyframe(self._view(frame, live, tracked), self._config.keyframes):
            self._add_keyframe(frame, live, tracked.num_inliers)
        return outcome

    def _add_keyframe(self, frame: Frame, live: LiveTracks, num_inliers: int) -> None:
        """Make a keyframe of a frame, if not too many wait for mapping."""
        thread = self._back.thread
        if thread.is_full and num_inliers >= _URGENT_FACTOR * self._config.pose.min_inliers:
            return
        features = None if thread.is_full else self._back.matching.features_later(frame)
        thread.wait_until(self._deadline, _MAX_LAG)
        if thread.is_full:
            return
        reference = self._factory.following(frame, live, self._map)
        reference.features = features or self._back.matching.features_later(frame)
        self._begin_from(reference, live.image, live.velocity, frame)
        thread.submit(reference)

    def _view(self, frame: Frame, live: LiveTracks, tracked: TrackedFrame) -> View:
        return View(
            tracked.num_inliers,
            self._most_points,
            len(live.slots) / len(live.reference.pixels),
            tracked.parallax_deg,
            frame.time_s - self._reference_time_s,
        )

    def _begin_from(self, reference: Reference, image: FlowImage, velocity: Rigid3, frame: Frame) -> None:
        """Follow the points of a keyframe from its frame on."""
        self._live = LiveTracks(
            image,
            reference,
            np.arange(len(reference.pixels)),
            reference.pixels,
            RelativePose(reference.idx, Rigid3.identity(), 1.0),
            velocity,
        )
        self._most_points, self._reference_time_s = 0, frame.time_s

    def _outcome(
        self, state: TrackState, live: LiveTracks, cam_from_world: Rigid3, map_id: int, num_inliers: int
    ) -> Outcome:
        return Outcome(state, live.track_ids, live.pixels, cam_from_world, map_id, live.relative, num_inliers)

    # Lost

    def _rematch(self, frame: Frame, image: FlowImage, live: LiveTracks) -> Outcome | None:
        """Find a frame by its features where optical flow failed; if that fails, when the last keyframes are mapped."""
        tried: set[int] = set()
        self._back.matching.features(frame)  # meanwhile, the mapping goes on
        self._back.thread.wait_until(self._deadline, _MAX_LAG)
        if self._back.thread.is_full:  # what is found becomes a keyframe
            return None
        found = self._found_by_latest(frame, live.reference, tried, 1)
        if found is None:
            self._back.thread.wait_until(self._deadline)
            found = self._found_by_latest(frame, live.reference, tried)
        return None if found is None else self._continue_at(frame, image, found, "tracked")

    def _found_by_latest(
        self, frame: Frame, reference: Reference, tried: set[int], number: int = _NUM_REMATCHED
    ) -> _Found | None:
        """Find a frame by the last keyframes, so many, of the map of a reference; not by those that were tried."""
        with self._map.lock:
            base = reference.place(self._map)
            members = [] if base is None else self._map.members(base.map_id)
            latest = [self._map.keyframes[idx] for idx in reversed(members)]
        with_features = [keyframe for keyframe in latest if keyframe.num_features > 0]
        untried = [keyframe for keyframe in with_features[:number] if keyframe.idx not in tried]
        for keyframe in untried:
            tried.add(keyframe.idx)
            found = self._found_in_one_world(functools.partial(self._found_at, frame, keyframe))
            if found is not None:
                return found
        return None

    def _found_at(self, frame: Frame, keyframe: Keyframe) -> FoundFrame | None:
        return self._back.matching.find_by_keyframe(frame, keyframe, self._map, self._config.seed + frame.idx)

    def _found_in_one_world(self, find: Callable[[], FoundFrame | None]) -> _Found | None:
        """What is found, relative to a keyframe; again if a loop moved the map meanwhile, and None if that fails too.

        Args:
            find: takes a second, and the pose that it finds is one in the world at its begin.
        """
        for _ in range(2):
            revision = self._map.revision
            found = find()
            if found is None:
                return None
            with self._map.lock:
                if self._map.revision == revision:
                    keyframe_idx = found.keyframe_idx if found.keyframe_idx >= 0 else self._most_covisible(found)
                    base = None if keyframe_idx is None else self._map.reference(keyframe_idx)
                    if keyframe_idx is None or base is None:
                        return None
                    return _Found(found, relative_to(keyframe_idx, base, found.cam_from_world))
        return None

    def _continue_at(self, frame: Frame, image: FlowImage, placed: _Found, state: TrackState) -> Outcome:
        """Make a keyframe of a frame that was found by its features, and follow its points."""
        features, (found, relative) = self._back.matching.features(frame), placed
        tracks = Tracks.of_features(features, found.rows, found.point_ids)
        reference = self._factory.at_features(frame, image, features, tracks)
        reference.relative = relative
        if found.keyframe_idx >= 0:
            reference.matched_idx = found.keyframe_idx
            reference.matched_rows = np.full(len(reference.pixels), -1)
            reference.matched_rows[: len(found.rows)] = found.keyframe_rows
        self._begin_from(reference, image, Rigid3.identity(), frame)
        self._lost_since = None
        self._back.thread.submit(reference)
        tracks_of = reference.track_ids, reference.pixels
        return Outcome(state, *tracks_of, found.cam_from_world, found.map_id, relative, found.num_points)

    def _most_covisible(self, found: FoundFrame) -> int | None:
        """The keyframe that sees most of the points of a frame; None if all of them were removed meanwhile."""
        with self._map.lock:
            point_ids = self._map.resolve(found.point_ids)
            seen = [idx for point_id in point_ids[point_ids >= 0].tolist() for idx in self._map.track(point_id)]
        return int(np.bincount(seen).argmax()) if seen else None

    def _lose(self, frame: Frame, live: LiveTracks) -> None:
        if live.reference.is_before_start(self._map):
            # Without a limit: it ends soon, and a lost camera gains nothing before it is known whether there is a map.
            self._back.thread.wait()
        is_bad_start = live.reference.place(self._map) is None
        self._live = None
        self._back.event("lost", frame.idx)
        if is_bad_start:
            self._lost_since = self._lost_before_start  # there never was a map: the camera was lost all the time
            self._back.event("reinitialized", frame.idx, "the points of the start of a map did not fit")
        else:
            self._lost_since, self._lost_at = frame, live.reference
        map_id = self._young_map(frame, live)
        if map_id is not None:
            # What is mapped there may join the map with an older one. No points are followed that a camera could lose.
            self._back.thread.wait()
            map_id = self._young_map(frame, live)
        if map_id is not None:
            self._back.drop_map(map_id)
            self._back.event("reinitialized", frame.idx, f"map {map_id} lost the camera soon after its start")
        if not self._map.keyframes:
            self._lost_since, self._map.camera = None, self._first_camera
        self._initializer = self._new_initializer()

    def _young_map(self, frame: Frame, live: LiveTracks) -> int | None:
        """The map that is followed, if it was started shortly before a frame and has no older keyframes."""
        with self._map.lock:
            base = live.reference.place(self._map)
            if base is None:
                return None
            oldest = self._map.keyframes[self._map.members(base.map_id)[0]]
            first_idx, start_idx, start_s = self._starts[base.map_id]
        is_young = frame.idx - start_idx < _YOUNG_FRAMES and frame.time_s - start_s < _YOUNG_S
        return base.map_id if is_young and oldest.frame_idx >= first_idx else None

    def _find(self, frame: Frame, image: FlowImage) -> Outcome | None:
        """Find a lost camera anywhere in the maps."""
        if not self._map.keyframes:
            return None
        features = self._back.matching.features(frame)
        if not self._back.thread.wait_until(self._deadline, MAX_WAITING):  # what is found becomes a keyframe
            self.lost.add(frame.idx, features)
            return None
        placed = self._found_in_one_world(lambda: self._back.relocalizer.relocalize(features, frame.size))
        if placed is None and self._lost_at is not None and not self._is_lost_for_long(frame):
            placed = self._found_by_latest(frame, self._lost_at, set())
            if placed is not None and not is_sure(placed.found, features, self._map.camera):
                placed = None
        if placed is None:
            self.lost.add(frame.idx, features)
            return None
        self._back.event("relocalized", frame.idx, f"map {placed.found.map_id}, {placed.found.num_points} points")
        return self._continue_at(frame, image, placed, "relocalized")

    # Searching a start

    def _new_initializer(self) -> Initializer:
        return Initializer(self._map.camera, self._config, self._factory, self._back.matching)

    def _initialize(self, frame: Frame, image: FlowImage) -> Outcome:
        searched = self._initializer.add(frame, image)
        state: TrackState = "initializing" if not self._map.keyframes else "lost"
        may_start = self._lost_since is None or self._is_lost_for_long(frame)
        if searched.start is not None and may_start and self._start(frame, searched.start):
            reference = searched.start.second
            if self._live is None:
                raise ValueError("a map started without tracks")
            pose = reference.place(self._map)
            if pose is not None:
                return Outcome(
                    "tracked",
                    reference.track_ids,
                    reference.pixels,
                    pose.cam_from_world,
                    pose.map_id,
                    self._live.relative,
                    int((~np.isnan(reference.xyz(self._map, np.arange(len(reference.pixels)))[:, 0])).sum()),
                )
        return Outcome(state, searched.track_ids, searched.pixels)

    def _is_lost_for_long(self, frame: Frame) -> bool:
        options, since = self._config.recovery, self._lost_since
        if since is None:
            return False
        return frame.time_s - since.time_s >= options.max_lost_s and frame.idx - since.idx >= options.min_lost_frames

    def _start(self, frame: Frame, start: Start) -> bool:
        """Start a map with two frames; False if it is mapped at once and is bad.

        Where mapping has its own thread, the next frames are tracked by the points of the two frames until the map is
        there. If it turns out bad, they have no place any more, and the camera is lost.
        """
        thread, first, second = self._back.thread, start.first, start.second
        first_idx = frame.idx if first.frame is None else first.frame.idx
        if not thread.wait_until(self._deadline, MAX_WAITING):
            return False
        camera, is_first = self._map.camera, not self._map.keyframes
        for reference in (first, second):
            if reference.frame is not None:
                reference.features = self._back.matching.features_later(reference.frame)
        second.start = MapStart(first, ReferencePose(start.second_from_first, len(self._starts), 1.0), camera)
        if camera.source == "guessed":
            self._map.camera = start.camera
        thread.submit(second)
        if second.place(self._map) is None:
            return False
        self._begin_from(start.second, FlowImage.of(frame.image, self._config.max_image_size), Rigid3.identity(), frame)
        detail = f"median parallax {start.parallax_deg:.1f} degrees"
        self._back.event("initialized" if is_first else "map_started", frame.idx, detail)
        self._starts.append((first_idx, frame.idx, frame.time_s))
        self._lost_before_start, self._lost_since = self._lost_since, None
        self._initializer = self._new_initializer()
        return True
