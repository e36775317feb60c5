"""What is done with a keyframe: extract its features, map it, close loops."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray, UInt8Array
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.tracking.absolute_pose import absolute_pose
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.tracking.config import PoseConfig, pixel_factor
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.frame_store import StoredFeatures
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.optical_flow import FlowImage
from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.reference import MapStart, Reference
from sfm_lightglue.tracking.slam_map import Keyframe, ReferencePose, SlamMap

_MAX_INHERITED_ERROR_PX = 4.0
"""Largest reprojection error of a point that a track brings from the keyframe before, in pixels of a 640 px image."""

_MIN_INLIER_SHARE = 0.5
"""A pose that fits a smaller fraction of the points of the tracks does not replace that of the front end."""

_REFINING = (6, 12, 24, 48)
"""Numbers of keyframes of a map at which unknown intrinsics are refined with all of it."""


class KeyframeMapping:
    """Brings keyframes of the front end into the map.

    Args:
        slam_map: the map.
        extractor: of the features.
        mapper: adds keyframes to the map.
        after: called with each keyframe that was mapped.
        is_busy: whether other keyframes wait.
        pose: limits of poses.
        seed: of everything random.
        max_image_size: longer side, in pixels, of the images that keyframes keep; None keeps none.
    """

    def __init__(
        self,
        slam_map: SlamMap,
        extractor: Extractor,
        mapper: LocalMapper,
        after: Callable[[Keyframe], None],
        is_busy: Callable[[], bool] = lambda: False,
        pose: PoseConfig | None = None,
        seed: int = 0,
        max_image_size: int | None = None,
    ) -> None:
        self._map, self._extractor, self._mapper, self._after = slam_map, extractor, mapper, after
        self._is_busy, self._pose = is_busy, pose or PoseConfig()
        self._seed, self._max_image_size = seed, max_image_size
        self._num_refined: dict[int, int] = {}  # of _REFINING, by map
        self.track_ids_of: dict[int, IndexArray] = {}
        """Running numbers of the tracks of the rows of each keyframe, -1 without, by its idx."""

    def start(self, first: Reference, second: Reference, second_from_first: Rigid3, map_id: int) -> bool:
        """Start a map with two keyframes; False if it is bad and was dropped."""
        identity = ReferencePose(Rigid3.identity(), map_id, 1.0)
        keyframe0 = self._keyframe(first, identity)
        with self._map.lock:
            first.keyframe = keyframe0  # rows of the second are those of the first
        keyframe1 = self._keyframe(second, ReferencePose(second_from_first, map_id, 1.0))
        is_good = self._mapper.start(keyframe0, keyframe1)
        with self._map.lock:
            first.keyframe, second.keyframe = (keyframe0, keyframe1) if is_good else (None, None)
        if not is_good:
            return False
        for reference, keyframe in ((first, keyframe0), (second, keyframe1)):
            reference.forget()
            self._after(keyframe)
        return True

    def add(self, reference: Reference) -> None:
        """Map a keyframe; one whose map was dropped meanwhile is left out."""
        with one_blas_thread():  # once for all that limits it in turn: that takes two milliseconds
            self._add(reference)

    def _add(self, reference: Reference) -> None:
        if reference.start is not None:
            self._add_start(reference, reference.start)
            return
        with self._map.lock:
            placed = reference.place(self._map)
        if placed is None:
            return
        keyframe = self._keyframe(reference, placed)
        self._mapper.add(keyframe, self._is_busy())
        with self._map.lock:
            reference.keyframe = keyframe
        reference.forget()
        self._refine_intrinsics(keyframe.map_id)
        self._after(keyframe)

    def _add_start(self, second: Reference, start: MapStart) -> None:
        """Start a map; if it is bad, frames that were tracked meanwhile have no place."""
        is_good = self.start(start.first, second, start.pose.cam_from_world, start.pose.map_id)
        with self._map.lock:
            second.start = None
            if not is_good and start.camera_before.source == "guessed":
                self._map.camera = start.camera_before  # any other one may have been refined meanwhile

    def _refine_intrinsics(self, map_id: int) -> None:
        """Refine unknown intrinsics with the largest map, once at each of some numbers of its keyframes."""
        if self._map.camera.source == "given" or self._map.map_ids_by_size()[0] != map_id:
            return
        num_reached = int(np.searchsorted(_REFINING, len(self._map.members(map_id)), side="right"))
        if num_reached > self._num_refined.get(map_id, 0):
            self._num_refined[map_id] = num_reached
            self._mapper.adjust_all(map_id)

    def _keyframe(self, reference: Reference, placed: ReferencePose) -> Keyframe:
        frame = reference.frame
        if frame is None:
            raise ValueError(f"keyframe {reference.idx}: it was mapped before")
        features = reference.features
        if isinstance(features, Future):
            features = features.result()
        if features is None:
            features = self._extractor.extract(Image.from_array(frame.image, frame.name))
        if isinstance(self._extractor, StoredFeatures):
            self._extractor.keep(features)
        reference.features = None
        corners = reference.pixels[reference.feature_rows < 0].astype(np.float32)
        keypoints = np.concatenate([features.keypoints, corners])
        point_ids, previous_rows, track_ids = (np.full(len(keypoints), -1, np.int64) for _ in range(3))
        keyframe = Keyframe(
            reference.idx,
            frame.idx,
            frame.name,
            frame.time_s,
            placed.map_id,
            placed.cam_from_world,
            features,
            keypoints,
            point_ids,
            -1,
            previous_rows,
            placed.scale,
            _colors(frame, keypoints),
            self._image(frame),
        )
        rows = reference.rows_with(len(features))
        point_ids[rows], track_ids[rows] = reference.point_ids, reference.track_ids
        self.track_ids_of[reference.idx] = track_ids
        previous = reference.previous
        if previous is not None:
            keyframe.previous_idx = previous.idx
            previous_rows[rows] = previous.rows(reference.previous_slots)
        elif reference.matched_idx >= 0:
            keyframe.previous_idx = reference.matched_idx
            previous_rows[rows] = reference.matched_rows
        self._inherit(keyframe, previous)
        return keyframe

    def _image(self, frame: Frame) -> CompactImage | None:
        if self._max_image_size is None:
            return None
        return CompactImage.of(FlowImage.of(frame.image, self._max_image_size))

    def _inherit(self, keyframe: Keyframe, reference: Reference | None) -> None:
        """Give the tracks the points that the keyframe before got after this one was made, where they fit.

        The pose came from points that the map did not have, if this keyframe was made before that one was mapped: it
        is found again by those that the map has now.
        """
        with self._map.lock:
            previous = self._map.keyframes.get(keyframe.previous_idx) if reference is None else reference.keyframe
            if previous is None:
                return
            keyframe.point_ids = self._map.resolve(keyframe.point_ids)
            here = np.flatnonzero((keyframe.point_ids < 0) & (keyframe.previous_rows >= 0))
            ids = self._map.resolve(previous.point_ids[keyframe.previous_rows[here]])
            here, ids = here[ids >= 0], ids[ids >= 0]
            if len(here) == 0:  # the front end had the same points
                return
            rows = np.concatenate([np.flatnonzero(keyframe.point_ids >= 0), here])
            known = np.concatenate([keyframe.point_ids[keyframe.point_ids >= 0], ids])
            xyz, camera = self._map.xyz(known), self._map.camera
        factor = pixel_factor(camera.size)
        limit_px, pixels = self._pose.max_error_px * factor, keyframe.keypoints[rows]
        seed = self._seed + keyframe.frame_idx
        found = absolute_pose(pixels, xyz, camera, seed, limit_px, keyframe.cam_from_world)
        if found is not None and found.num_inliers >= max(self._pose.min_inliers, _MIN_INLIER_SHARE * len(rows)):
            keyframe.cam_from_world = found.cam_from_world
        errors = reprojection_errors_px(camera, keyframe.cam_from_world, xyz, pixels)[len(rows) - len(here) :]
        fits = errors <= _MAX_INHERITED_ERROR_PX * factor
        keyframe.point_ids[here[fits]] = ids[fits]


def _colors(frame: Frame, keypoints: Float32Array) -> UInt8Array:
    """Colours [N, 3] of the pixels at keypoints."""
    height, width = frame.image.shape[:2]
    columns, rows = np.floor(keypoints).astype(np.int64).T
    found = frame.image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return found if found.ndim == 2 else np.repeat(found[:, None], 3, axis=1)
