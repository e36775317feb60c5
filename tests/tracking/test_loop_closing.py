"""Loops: the drift of a ring disappears, and places that only look alike do not close one."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Sim3, rotation_from_rotvec, umeyama
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.loop_closing import LoopCloser
from sfm_lightglue.tracking.place_matching import distinct_places
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from sfm_lightglue.tracking.place_verification import PlaceVerifier, VerifiedPlace
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from tests.helpers.slam_ring import CAMERA, NUM_STEPS, NearestMatcher, Ring, ring_map

GROWTH = 1.007
"""Of the scale from keyframe to keyframe."""


class Walked:
    """A map that grows by keyframes, with its loop closer."""

    def __init__(self, ring):
        self.ring, self.slam_map, self.places = ring, SlamMap(CAMERA), PlaceRecognition()
        self.matcher = NearestMatcher()
        mapper = LocalMapper(self.slam_map, self.matcher, TrackerConfig())
        self.closer = LoopCloser(self.slam_map, self.places, self.matcher, mapper, TrackerConfig(), seed=0)
        self.steps = {}

    def walk(self, steps, **options):
        """Closures of these steps, by keyframe."""
        closures = {}
        for step in steps:
            idx = len(self.steps)
            self.steps[idx] = step
            self.places.add(self.ring.add_to(self.slam_map, idx, step, **options))
            closure = self.closer.close(idx)
            if closure is not None:
                closures[idx] = closure
                return closures
        return closures

    def rms_error(self):
        idxs = sorted(self.slam_map.keyframes)
        found = np.stack([self.slam_map.keyframes[idx].cam_from_world.center for idx in idxs])
        truth = np.stack([self.ring.true_pose(self.steps[idx]).center for idx in idxs])
        return float(np.sqrt(((umeyama(found, truth) @ found - truth) ** 2).sum(axis=1).mean()))


def test_a_ring_with_scale_drift_is_closed():
    walked = Walked(Ring(growth=GROWTH))
    assert walked.walk(range(NUM_STEPS - 2)) == {}
    before = walked.rms_error()
    closures = walked.walk(range(NUM_STEPS - 2, NUM_STEPS + 6))
    (closure,) = closures.values()
    assert before > 0.4
    assert walked.rms_error() < 0.15 * before
    assert abs(NUM_STEPS - (closure.idx - closure.other_idx)) <= 3
    assert closure.scale == pytest.approx(GROWTH ** (closure.other_idx - closure.idx), rel=0.03)
    assert closure.merged_map_id is None
    shared = dict(walked.slam_map.covisible(closure.idx))
    assert shared[closure.other_idx] >= 30
    assert walked.slam_map.revision == 1
    np.testing.assert_allclose(walked.slam_map.keyframes[0].cam_from_world.t, walked.ring.true_pose(0).t, atol=1e-9)
    assert walked.slam_map.keyframes[closure.idx].scale == pytest.approx(closure.scale, rel=0.05)


def test_a_walk_without_return_closes_nothing_and_matches_nothing():
    walked = Walked(Ring(growth=GROWTH))
    assert walked.walk(range(NUM_STEPS - 12)) == {}
    assert walked.matcher.num_calls == 0


def test_walls_that_look_alike_are_no_loop():
    walked = Walked(Ring(alike=1.0))
    assert walked.walk(range(NUM_STEPS - 12)) == {}
    assert walked.matcher.num_calls > 0
    assert walked.rms_error() < 1e-6
    assert walked.slam_map.revision == 0


def test_only_a_whole_place_is_verified():
    """A small object that occurs twice is none; what was seen from two steps of one place is one."""
    quarter = NUM_STEPS // 4
    for ring, steps, expected in (
        (Ring(alike=0.07, alike_in_corner=True), (*range(quarter - 4, quarter + 2), *range(24, 32)), set()),
        (Ring(), (*range(6), *range(NUM_STEPS - 8, NUM_STEPS + 2)), {0, 1}),
    ):
        slam_map = ring_map(ring, steps)
        verifier = PlaceVerifier(slam_map, NearestMatcher(), TrackerConfig(), seed=0)
        last = len(steps) - 1
        found = [verifier.verify(last, other) for other in range(6)]
        assert {place.other_idx for place in found if place is not None} >= expected
        assert expected or not any(found)


def test_a_keyframe_without_features_is_no_objection():
    """A keyframe that was mapped by optical flow alone sees points of the place, but has nothing to compare."""
    steps = (*range(6), *range(NUM_STEPS - 8, NUM_STEPS + 2))
    slam_map = ring_map(Ring(), steps)
    last = len(steps) - 1
    one = slam_map.keyframes[last - 1]
    slam_map.keyframes[one.idx] = Keyframe(
        one.idx, one.frame_idx, one.name, one.time_s, one.map_id, one.cam_from_world, one.features.rows([]),
        one.keypoints, one.point_ids, one.previous_idx, one.previous_rows,
    )  # fmt: skip
    assert (one.point_ids >= 0).sum() > 100
    assert PlaceVerifier(slam_map, NearestMatcher(), TrackerConfig(), seed=0).verify(last, 0) is not None


def test_a_loop_closes_beside_places_that_look_alike():
    walked = Walked(Ring(growth=GROWTH, alike=1.0))
    closures = walked.walk(range(NUM_STEPS + 8))
    assert [abs(NUM_STEPS - (one.idx - one.other_idx)) <= 3 for one in closures.values()] == [True]


@pytest.mark.parametrize("num_second", [8, 20])
def test_maps_are_joined_where_they_meet(num_second):
    """The second map begins elsewhere, in its own frame and unit; its keyframes reach the first map at the end."""
    ring = Ring()
    walked = Walked(ring)
    assert walked.walk(range(14)) == {}
    steps = list(range(NUM_STEPS - num_second, NUM_STEPS + 6))
    closures = walked.walk(steps, map_id=1, map_from_drifted=OTHER)
    (closure,) = closures.values()
    larger = 0 if num_second == 8 else 1
    assert closure.merged_map_id == larger
    assert walked.slam_map.map_ids() == [larger]
    assert closure.scale == pytest.approx(1 / 2.5, rel=0.01)
    assert walked.rms_error() < 0.02


@pytest.mark.parametrize(("first", "is_met"), [(NUM_STEPS - 8, True), (20, False)], ids=["meet", "do not meet"])
def test_maps_that_meet_are_joined_at_the_end_too(first, is_met):
    walked = maps_of(range(14), range(first, first + 14))
    closures = walked.closer.join_maps()
    assert len(closures) == is_met
    assert len(walked.slam_map.map_ids()) == 2 - is_met
    if is_met:
        assert walked.rms_error() < 0.02


OTHER = Sim3(2.5, rotation_from_rotvec(np.array([0.3, -1.0, 0.2])), np.array([3.0, -7.0, 1.0]))


def maps_of(*parts):
    """Maps of some steps each, the first in the frame of the ring and the others in another one, not joined yet."""
    walked = Walked(Ring())
    for map_id, steps in enumerate(parts):
        for step in steps:
            idx = len(walked.steps)
            walked.steps[idx] = step
            options = {"map_id": map_id, "map_from_drifted": OTHER} if map_id else {}
            walked.places.add(walked.ring.add_to(walked.slam_map, idx, step, **options))
    return walked


def test_a_place_of_two_other_maps_joins_none_of_them():
    walked = maps_of(range(10), range(10), range(10))
    assert walked.closer.join_maps() == []
    assert walked.closer.close(28) is None and walked.closer.close(29) is None
    assert walked.slam_map.map_ids() == [0, 1, 2]


@pytest.mark.parametrize("wrong", [Sim3(1.0, np.eye(3), np.array([4.0, 0, 0])), Sim3(1.5, np.eye(3), np.zeros(3))])
def test_two_keyframes_must_agree_before_maps_are_joined(wrong):
    """The first one gives a wrong similarity, as in a place that looks alike."""
    walked = maps_of(range(14), range(NUM_STEPS - 8, NUM_STEPS + 6))
    verify, tried = walked.closer._verifier.verify, []

    def wrong_once(idx, other):
        place = verify(idx, other)
        if place is None:
            return None
        tried.append(idx)
        moved = place.place_from_world if len(tried) > 1 else wrong @ place.place_from_world
        center = moved @ walked.slam_map.keyframes[idx].cam_from_world.center
        return replace(place, place_from_world=moved, center=center)

    walked.closer._verifier.verify = wrong_once
    (closure,) = walked.closer.join_maps()
    assert closure.idx == tried[-1] and len(set(tried)) >= 3
    assert walked.rms_error() < 0.02


def test_a_single_keyframe_joins_no_maps():
    walked = maps_of(range(14), range(NUM_STEPS - 8, NUM_STEPS + 6))
    verify, first = walked.closer._verifier.verify, []

    def verify_one(idx, other):
        place = None if first and idx != first[0] else verify(idx, other)
        first.extend([idx] if place is not None else [])
        return place

    walked.closer._verifier.verify = verify_one
    assert walked.closer.join_maps() == [] and len(first) > 0
    assert walked.slam_map.revision == 0


@pytest.mark.parametrize(("keyframes", "are_joined"), [((23, 24), False), ((23, 27), True)])
def test_keyframes_that_see_the_same_points_do_not_confirm_each_other(keyframes, are_joined):
    walked = maps_of(range(14), range(NUM_STEPS - 8, NUM_STEPS + 6))
    verify, tried = walked.closer._verifier.verify, set()

    def verify_these(idx, other):
        tried.add(idx)
        return verify(idx, other) if idx in keyframes else None

    walked.closer._verifier.verify = verify_these
    assert len(walked.closer.join_maps()) == are_joined
    assert tried.issuperset(keyframes)


def test_keyframes_and_pairs_of_maps_that_did_not_change_are_compared_once():
    walked = maps_of(range(14), range(NUM_STEPS - 8, NUM_STEPS + 6), range(16, 21), range(24, 29))
    query, verify, asked, tried = walked.places.query_keyframe, walked.closer._verifier.verify, [], []
    of_small = set(range(28, 38))

    def query_all(idx, num, excluded=()):
        asked.append(idx)
        others = sorted(of_small - set(excluded), reverse=True)
        return query(idx, num, excluded) if not of_small & set(excluded) else [(idx, 0.2) for idx in others]

    walked.places.query_keyframe = query_all
    walked.closer._verifier.verify = lambda idx, other: tried.append((idx, other)) or verify(idx, other)
    assert len(walked.closer.join_maps()) == 1
    of_both = [pair for pair in tried if of_small.issuperset(pair)]
    assert len(of_both) == len(set(of_both)) >= 10
    assert sorted(idx for idx in asked if idx in of_small) == sorted(of_small)


def test_young_points_of_a_joined_map_stay_on_trial():
    walked = maps_of(range(14), range(NUM_STEPS - 8, NUM_STEPS + 6))
    calls = []
    walked.closer._mapper.continue_trials = lambda *maps: calls.append(maps)
    (closure,) = walked.closer.join_maps()
    assert calls == [(closure.merged_map_id, 1 - closure.merged_map_id)]


@pytest.mark.parametrize(("others", "is_second"), [(range(0), False), (range(14), False), (range(15, 30), True)])
def test_a_second_evidence_has_points(others, is_second, monkeypatch):
    """Those of a keyframe may have been removed since."""
    walked = Walked(Ring())
    walked.walk(range(3))
    place, other = (VerifiedPlace(idx, 0, Sim3.identity(), Sim3.identity(), np.zeros(3), 1.0, 20, ()) for idx in (1, 2))
    monkeypatch.setattr(walked.closer, "_points_of", lambda one: set(range(100, 150) if one is place else others))
    monkeypatch.setattr(walked.closer, "_is_same_pose", lambda *_: True)
    assert walked.closer._is_confirmed(place, [other]) == is_second


class Answers:
    """Similarities and verified places that are told: what was verified is noted."""

    def __init__(self, walked, similarities):
        self.similarities, self.tried = similarities, []
        walked.places.query_keyframe = lambda *_: [(0, self.similarities.pop(0))]
        walked.closer._verifier.verify = lambda idx, other: self.tried.append(idx)


@pytest.mark.parametrize(
    ("similarities", "tried"),
    [([0.2] * 8, [20, 21, 23, 26]), ([0.16, 0.3, 0.51, 0.64, 0.72, 0.72], [20, 21, 22, 23, 24])],
    ids=["equally similar", "more and more similar"],
)
def test_keyframes_are_skipped_after_failures_unless_they_are_more_similar(similarities, tried):
    walked = Walked(Ring())
    walked.walk(range(20))
    answers = Answers(walked, list(similarities))
    assert walked.walk(range(20, 20 + len(similarities))) == {}
    assert answers.tried == tried


def test_a_place_is_that_of_a_keyframe_with_points():
    slam_map = ring_map(Ring(), range(30))
    for row, point_id in enumerate(slam_map.keyframes[2].point_ids.tolist()):
        if point_id >= 0 and row > 5:
            slam_map.remove_observation(point_id, 2)
    similar = [(2, 0.5), (3, 0.4), (1, 0.3), (20, 0.38), (4, 0.01)]
    assert distinct_places(slam_map, similar, 0.07) == [3, 20]
    assert distinct_places(slam_map, similar[:1], 0.07) == [2]
    assert distinct_places(slam_map, similar, 0.6) == []


def test_a_removed_keyframe_is_not_found():
    walked = Walked(Ring())
    walked.walk(range(NUM_STEPS - 2))
    for idx in range(12):
        walked.slam_map.remove_keyframe(idx)
    assert walked.walk(range(NUM_STEPS - 2, NUM_STEPS + 6)) == {}
    assert walked.closer.close(0) is None


def test_a_second_run_gives_the_same_bytes():
    centers = []
    for _ in range(2):
        walked = Walked(Ring(growth=GROWTH))
        assert walked.walk(range(NUM_STEPS + 6))
        poses = [one.cam_from_world for one in walked.slam_map.keyframes.values()]
        centers.append(np.stack([pose.center for pose in poses]).tobytes())
    assert centers[0] == centers[1]
