"""Local mapping: keyframes in, points and adjusted poses out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array, IndexArray
from sfm_lightglue.execution.threads import num_usable_cores, on_one_core, ordered_map
from sfm_lightglue.geometry.transforms import Sim3
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.tracking.adjustment import adjust_keyframes, window_of
from sfm_lightglue.tracking.config import TrackerConfig, pixel_factor
from sfm_lightglue.tracking.culling import PointTrials, remove_redundant_keyframes
from sfm_lightglue.tracking.frame_store import StoredMatches
from sfm_lightglue.tracking.guided_matching import PlacePoints, match_by_projection, place_points
from sfm_lightglue.tracking.precise_adjustment import LastAdjustment, adjust_precisely
from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.tracking.triangulation import Triangulated, triangulate_tracks

_MAX_CHAIN = 8
"""Keyframes through which a track of optical flow is followed back."""

_UNADJUSTED_FACTOR = 2.0
"""Limits are larger by this factor for the pose of a keyframe that was not adjusted yet."""

_MAX_DESCRIPTOR_DISTANCE = 0.63
"""Largest distance of the descriptors, of length 1, of a point and a feature near its projection."""

_NUM_EXACT = 12
"""The latest keyframes whose features are kept as they were extracted; the others take a quarter of the memory."""

_MIN_KEYFRAMES_TO_REFINE = (6, 12)
"""Focal lengths are refined in maps of so many keyframes, and the distortion in maps of so many."""


class _Rows(NamedTuple):
    """Rows [M] of a keyframe and of a partner whose features match."""

    here: IndexArray
    there: IndexArray


class LocalMapper:
    """Adds keyframes to the map, with new points, and adjusts what is around them.

    Args:
        slam_map: changed in place.
        matcher: of the features of two keyframes.
        config: options; the table `mapping` belongs to this class.
    """

    def __init__(self, slam_map: SlamMap, matcher: Matcher, config: TrackerConfig) -> None:
        self._map = slam_map
        self._matcher = matcher
        self._config = config
        self._trials = PointTrials()
        self._num_added: Counter[int] = Counter()  # by map
        self._exact: deque[Keyframe] = deque()
        self._tried: set[tuple[int, int]] = set()  # pairs of keyframes that were matched, the earlier one first

    def start(self, first: Keyframe, second: Keyframe) -> bool:
        """Begin a map with two keyframes.

        Args:
            first: with its pose.
            second: with its pose, at distance 1, and the tracks of optical flow from the first in `previous_rows`.

        Returns:
            Whether there are enough points that fit both. If not, the map has neither of them.
        """
        for keyframe in (first, second):
            self._add(keyframe)
        self._match_and_add_points(second, [first.idx])
        adjust_keyframes(self._map, [second.idx], *self._limits(), max_iterations=20)
        good = self._map.points_of([second.idx])
        if len(good) >= self._config.initialization.min_points:
            return True
        del self._num_added[first.map_id]
        for keyframe in (second, first):
            self._map.remove_keyframe(keyframe.idx)
        return False

    def add(self, keyframe: Keyframe, is_busy: bool = False) -> None:
        """Add a keyframe: match it, give it points, adjust its surroundings, remove what is wrong or redundant.

        Args:
            keyframe: with its pose, and the points of its tracks in `point_ids`.
            is_busy: other keyframes wait, so that it is matched with a single one.
        """
        self._add(keyframe)
        mapping = self._config.mapping
        covisible = [idx for idx, _ in self._map.covisible(keyframe.idx, min_shared=1)]
        self._observe_points(keyframe, covisible[: 2 * mapping.window])
        num_partners = min(1, mapping.num_partners) if is_busy else mapping.num_partners
        self._match_and_add_points(keyframe, self._partners(keyframe)[:num_partners])
        window = window_of(self._map, keyframe.idx, mapping.window)
        adjust_keyframes(self._map, window, *self._limits(), mapping.max_iterations)
        self._trials.judge(self._map, keyframe.map_id, self._num_added[keyframe.map_id])
        if mapping.remove_redundant:
            remove_redundant_keyframes(self._map, keyframe.idx)

    def _add(self, keyframe: Keyframe) -> None:
        self._map.add_keyframe(keyframe)
        self._num_added[keyframe.map_id] += 1
        self._exact.append(keyframe)
        while len(self._exact) > _NUM_EXACT:
            self._exact.popleft().compact()

    def continue_trials(self, kept_id: int, joined_id: int) -> None:
        """Let young points of a map that was joined with another one prove themselves there.

        Args:
            kept_id: of the map that stays.
            joined_id: of the map that ended.
        """
        self._trials.continue_in(kept_id, joined_id, self._num_added[kept_id])

    def adjust_all(self, map_id: int, is_rough: bool = False) -> None:
        """Adjust all keyframes and points of a map, and the intrinsics if the configuration says so.

        Only the map with most keyframes refines the intrinsics, which all maps share.

        Args:
            map_id: of a map; one with fewer than two keyframes stays as it is.
            is_rough: once and with a larger tolerance, where another adjustment follows.
        """
        refined = self._refined_params(map_id)
        members, min_decrease = self._map.members(map_id), 1e-3 if is_rough else 1e-4
        for _ in range(1 if is_rough else 2):
            num_removed = adjust_keyframes(self._map, members[1:], *self._limits(), 30, refined, min_decrease)
            members = [idx for idx in members if idx in self._map.keyframes]
            if num_removed == 0:
                break

    def adjust_precisely(self, map_id: int) -> LastAdjustment:
        """Adjust a map for the last time: as `adjust_all`, but by the precision of aligned observations if it can be.

        Args:
            map_id: of the map.

        Returns:
            How it was adjusted.
        """
        if self._config.mapping.align_patches:
            _, max_error_px = self._limits()
            refined = self._refined_params(map_id)
            done = adjust_precisely(self._map, map_id, max_error_px, self._num_threads(), refined)
        else:
            done = LastAdjustment(False, "`mapping.align_patches` is false")
        if not done.uses_patches:
            self.adjust_all(map_id)
        return done

    def _limits(self) -> tuple[float, float]:
        """Scale of the loss and largest error, in pixels of the frames."""
        factor = pixel_factor(self._map.camera.size)
        return self._config.mapping.loss_px * factor, self._config.mapping.max_error_px * factor

    def _refined_params(self, map_id: int) -> tuple[int, ...]:
        """Indices of the parameters of the camera that a map refines."""
        camera, num_keyframes = self._map.camera, len(self._map.members(map_id))
        if camera.source == "given" and not self._config.refine_camera:
            return ()
        if self._map.map_ids_by_size()[:1] != [map_id]:
            return ()
        native = as_pycolmap(camera)
        groups = (native.focal_length_idxs(), native.extra_params_idxs())
        enough = zip(groups, _MIN_KEYFRAMES_TO_REFINE, strict=True)
        return tuple(sorted(index for group, needed in enough if num_keyframes >= needed for index in group))

    def complete(self, map_id: int) -> None:
        """Match the keyframes of a map with more of their surroundings, when there is time.

        Args:
            map_id: of the map; it is to be adjusted afterwards.
        """
        jobs: list[tuple[Keyframe, list[Keyframe]]] = []
        for idx in self._map.members(map_id):
            keyframe = self._map.keyframes[idx]
            partners = self._partners(keyframe)[: self._config.mapping.num_final_partners]
            untried = [other for other in partners if _in_order(idx, other) not in self._tried]
            self._tried.update(_in_order(idx, other) for other in untried)
            jobs.append((keyframe, [self._map.keyframes[other] for other in untried]))
        matched = ordered_map(lambda job: self._matched(*job), jobs, self._num_threads())
        for (keyframe, untried_partners), matches in zip(jobs, matched, strict=True):
            self._add_points(keyframe, untried_partners, matches)

    def _partners(self, keyframe: Keyframe) -> list[int]:
        """Keyframes to match with: those with most points in common that are far enough for the depth."""
        if keyframe.num_features == 0:
            return []
        with self._map.lock:
            point_ids = keyframe.point_ids[keyframe.point_ids >= 0]
            if len(point_ids) == 0:
                return [keyframe.previous_idx] if keyframe.previous_idx >= 0 else []
            depth = float(np.median((keyframe.cam_from_world @ self._map.xyz(point_ids))[:, 2]))
            center = keyframe.cam_from_world.center
            centers = {
                idx: self._map.keyframes[idx].cam_from_world.center
                for idx, _ in self._map.covisible(keyframe.idx)
                if self._map.keyframes[idx].num_features > 0
            }
        min_distance = np.radians(self._config.mapping.min_parallax_deg) * depth
        far = [idx for idx, other in centers.items() if np.linalg.norm(other - center) >= min_distance]
        return far

    def _match_and_add_points(self, keyframe: Keyframe, partner_idxs: Sequence[int]) -> None:
        """Match a keyframe with partners, and add the points that they have in common."""
        partners = [self._map.keyframes[idx] for idx in partner_idxs]
        self._tried.update(_in_order(keyframe.idx, idx) for idx in partner_idxs)
        # The tracker often waits for this: its core matches one of the partners.
        num_threads = min(len(partners), self._num_threads())
        self._add_points(keyframe, partners, self._matched(keyframe, partners, num_threads))

    def _add_points(self, keyframe: Keyframe, partners: Sequence[Keyframe], matches: Sequence[_Rows]) -> None:
        """Share points with matched partners, and triangulate the tracks without a point."""
        _, max_error_px = self._limits()
        with self._map.lock:
            candidates = self._flow_tracks(keyframe)
            for partner, (rows, partner_rows) in zip(partners, matches, strict=True):
                self._share_points(keyframe, partner, rows, partner_rows, _UNADJUSTED_FACTOR * max_error_px)
                _extend(candidates, partner, rows, partner_rows)
        tracks = [
            [(keyframe.idx, row), *((idx, other) for idx, other in others.items() if self._is_free(idx, other))]
            for row, others in sorted(candidates.items())
            if keyframe.point_ids[row] < 0
        ]
        tracks = [track for track in tracks if len(track) >= 2]
        found_points = triangulate_tracks(
            self._map.camera,
            self._map.keyframes,
            tracks,
            _UNADJUSTED_FACTOR * max_error_px,
            self._config.mapping.min_parallax_deg,
        )
        ids = self._map.add_points(*_without_conflicts(found_points))
        self._trials.begin(ids.tolist(), keyframe.map_id, self._num_added[keyframe.map_id])

    def _matched(self, keyframe: Keyframe, partners: Sequence[Keyframe], num_threads: int = 1) -> list[_Rows]:
        """Rows of a keyframe and of each partner whose features match. The order of names is that of other jobs."""
        matcher, features = self._matcher, keyframe.features
        match = matcher.match_keyframes if isinstance(matcher, StoredMatches) else matcher.match

        def rows_with(partner: Keyframe) -> _Rows:
            is_first = keyframe.name <= partner.name
            sides = (features, partner.features) if is_first else (partner.features, features)
            with on_one_core():
                matches = match(*sides) if is_first else match(*sides).swapped()
            return _Rows(*matches.indices.astype(np.int64).T)

        return list(ordered_map(rows_with, partners, num_threads))

    def _num_threads(self) -> int:
        """Threads that match pairs at the same time."""
        return min(self._config.threads, num_usable_cores())

    def _observe_points(self, keyframe: Keyframe, covisible: Sequence[int]) -> None:
        """Let features of a keyframe observe points of covisible keyframes that it does not observe yet."""
        if len(covisible) == 0:
            return
        points = place_points(self._map, covisible)
        is_unseen = ~np.isin(points.point_ids, keyframe.point_ids)
        points = PlacePoints(points.point_ids[is_unseen], points.xyz[is_unseen], points.descriptors[is_unseen])
        pose, features = keyframe.cam_from_world, keyframe.features
        _, max_error_px = self._limits()
        found = match_by_projection(
            self._map.camera,
            features,
            Sim3(1.0, pose.R, pose.t),
            points,
            _UNADJUSTED_FACTOR * max_error_px,
            _MAX_DESCRIPTOR_DISTANCE,
        )
        with self._map.lock:
            for row, point_id in zip(found.rows.tolist(), points.point_ids[found.points].tolist(), strict=True):
                self._map.add_observation(point_id, keyframe.idx, row)

    def _is_free(self, idx: int, row: int) -> bool:
        """Whether a keypoint has no point: sharing may have given it one after its track was found."""
        return bool(self._map.keyframes[idx].point_ids[row] < 0)

    def _flow_tracks(self, keyframe: Keyframe) -> dict[int, dict[int, int]]:
        """For each row of a keyframe without a point: rows of its track in earlier keyframes, by idx."""
        tracks: dict[int, dict[int, int]] = {}
        here = np.flatnonzero(keyframe.point_ids < 0)
        previous_idx, there = keyframe.previous_idx, keyframe.previous_rows[here]
        for _ in range(_MAX_CHAIN):
            here, there = here[there >= 0], there[there >= 0]
            if previous_idx not in self._map.keyframes or len(here) == 0:
                break
            previous = self._map.keyframes[previous_idx]
            is_free = previous.point_ids[there] < 0
            here, there = here[is_free], there[is_free]
            for row, previous_row in zip(here.tolist(), there.tolist(), strict=True):
                tracks.setdefault(row, {})[previous_idx] = previous_row
            previous_idx, there = previous.previous_idx, previous.previous_rows[there]
        return tracks

    def _share_points(
        self, keyframe: Keyframe, partner: Keyframe, rows: IndexArray, partner_rows: IndexArray, max_error_px: float
    ) -> None:
        """Give the points of matched keypoints to both, and make one of two points, where they fit the images."""
        ids, partner_ids = keyframe.point_ids[rows], partner.point_ids[partner_rows]
        fits_here = self._fits(keyframe, rows, partner_ids, max_error_px)
        fits_there = self._fits(partner, partner_rows, ids, max_error_px)
        for row, other_row, here, there in zip(
            *(array.tolist() for array in (rows, partner_rows, fits_here, fits_there)), strict=True
        ):
            point_id, other_id = int(keyframe.point_ids[row]), int(partner.point_ids[other_row])
            if point_id < 0 and other_id >= 0 and here:
                self._map.add_observation(other_id, keyframe.idx, row)
            elif point_id >= 0 and other_id < 0 and there:
                self._map.add_observation(point_id, partner.idx, other_row)
            elif point_id >= 0 and other_id >= 0 and point_id != other_id and here and there:
                counts = self._map.num_observations([other_id, point_id])
                kept, dropped = (other_id, point_id) if counts[0] >= counts[1] else (point_id, other_id)
                self._map.fuse(kept, dropped)

    def _fits(self, keyframe: Keyframe, rows: IndexArray, point_ids: AnyArray, max_error_px: float) -> BoolArray:
        """Whether each point projects to the keypoint of its row; False where there is no point."""
        xyz, pixels = self._map.xyz(point_ids), keyframe.keypoints[rows]
        errors = reprojection_errors_px(self._map.camera, keyframe.cam_from_world, xyz, pixels)
        fits: BoolArray = errors <= max_error_px
        return fits


def _in_order(idx: int, other: int) -> tuple[int, int]:
    return min(idx, other), max(idx, other)


def _extend(
    candidates: dict[int, dict[int, int]], partner: Keyframe, rows: IndexArray, partner_rows: IndexArray
) -> None:
    """Add the matched keypoints of a partner that have no point to the tracks that end in these rows."""
    is_free = partner.point_ids[partner_rows] < 0
    for row, partner_row in zip(rows[is_free].tolist(), partner_rows[is_free].tolist(), strict=True):
        candidates.setdefault(row, {}).setdefault(partner.idx, partner_row)


def _without_conflicts(found: Triangulated) -> tuple[Float64Array, list[list[tuple[int, int]]]]:
    """Points and their tracks; a keypoint that occurs in several tracks stays in the first one."""
    taken: set[tuple[int, int]] = set()
    tracks = []
    for track in found.tracks:
        tracks.append([pair for pair in track if pair not in taken])
        taken.update(track)
    has_two = np.array([len(track) >= 2 for track in tracks], bool)
    return found.xyz[has_two], [track for track in tracks if len(track) >= 2]
