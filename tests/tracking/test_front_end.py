"""Starts of maps by the tracker: bad ones, second ones, and those of a camera whose focal length is unknown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Sim3, rotation_from_rotvec, umeyama
from sfm_lightglue.synthetic.corridor import Corridor
from sfm_lightglue.synthetic.hard_frames import with_blackout
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking import front_end
from sfm_lightglue.tracking.config import KeyframeConfig, RecoveryConfig, TrackerConfig
from sfm_lightglue.tracking.feature_matching import FeatureMatching, FoundFrame
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.keyframe_mapping import KeyframeMapping
from sfm_lightglue.tracking.local_mapper import LocalMapper
from sfm_lightglue.tracking.mapping_thread import MAX_WAITING, MappingThread
from sfm_lightglue.tracking.reference import Reference
from sfm_lightglue.tracking.relocalization import Relocalizer
from sfm_lightglue.tracking.slam_map import Keyframe
from sfm_lightglue.tracking.tracker import Tracker
from sfm_lightglue.types import Camera

START = 9
"""Frame with which the first map starts."""

CONFIG = TrackerConfig.from_mapping(
    {
        "threads": 1,
        "extractor": {"max_keypoints": 250},
        "matcher": {"name": "nearest"},
        "initialization": {"max_focal_wait_s": 0.0},
    }
)
"""Few keypoints and the quick matcher: the images are small."""

IN_THREADS = replace(CONFIG, threads=2)

IMPATIENT = replace(CONFIG, recovery=RecoveryConfig(max_lost_s=0.0, min_lost_frames=1))


@cache
def corridor() -> ImageSequence:
    """A walk whose images are rendered once."""
    sequence = Corridor((256, 192)).sequence(130)

    @cache
    def image(idx: int) -> UInt8Array:
        return sequence.image(idx)

    return ImageSequence("walk", sequence.camera, sequence.names, sequence.times_s, sequence.cam_from_world, image)


def two_places() -> ImageSequence:
    """A cut between two places that do not see each other."""
    return corridor().take([*range(20), *range(100, 120)])


def tracked(sequence: ImageSequence, camera: Camera | None, config: TrackerConfig = CONFIG) -> Tracker:
    tracker = Tracker(camera, config)
    for name, time_s, image in zip(sequence.names, sequence.times_s.tolist(), sequence.images(), strict=True):
        tracker.track(image, time_s, name)
    return tracker


def kinds(tracker: Tracker) -> list[str]:
    return [event.kind for event in tracker.events]


def relative_error(tracker: Tracker, sequence: ImageSequence, map_id: int) -> float:
    """Error of the centres of the frames of a map after alignment, as a fraction of their way."""
    posed = [one for one in tracker.records if one.map_id == map_id]
    centers = np.array([one.cam_from_world.center for one in posed if one.cam_from_world is not None])
    truth = sequence.centers[[one.frame_idx for one in posed]]
    errors = umeyama(centers, truth) @ centers - truth
    return float(np.sqrt((errors**2).sum(axis=1).mean()) / np.linalg.norm(np.diff(truth, axis=0), axis=1).sum())


def test_a_tracker_that_is_not_finished_ends_its_thread() -> None:
    before = set(threading.enumerate())
    with Tracker(corridor().camera, replace(CONFIG, threads=2)) as tracker:
        tracker.track(corridor().image(0), 0.0)
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before


def test_a_camera_waits_for_the_map_and_extracts_features_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapping goes on here only when the tracker waits for it."""
    submitted: list[tuple[int, bool]] = []
    may_go_on = threading.Semaphore(0)
    add, submit, wait_until = KeyframeMapping.add, MappingThread.submit, MappingThread.wait_until

    def slow_add(mapping: KeyframeMapping, reference: Reference) -> None:
        may_go_on.acquire(timeout=60)
        add(mapping, reference)

    def noted(thread: MappingThread, reference: Reference) -> None:
        submitted.append((thread.num_unfinished, isinstance(reference.features, Future)))
        submit(thread, reference)

    def waiting(thread: MappingThread, deadline: float, num_left: int = 0) -> bool:
        for _ in range(thread.num_unfinished - num_left):
            may_go_on.release()
        return wait_until(thread, time.monotonic() + 60.0, num_left)

    monkeypatch.setattr(KeyframeMapping, "add", slow_add)
    monkeypatch.setattr(MappingThread, "submit", noted)
    monkeypatch.setattr(MappingThread, "wait_until", waiting)
    config = replace(CONFIG, threads=2, keyframes=KeyframeConfig(max_parallax_deg=0.7))
    tracker = tracked(corridor().take(range(30)), corridor().camera, config)
    may_go_on.release(len(submitted))
    tracker.finish()
    assert submitted[0] == (0, True), "also the start of a map is mapped while tracking goes on"
    assert len(submitted) >= 4 and set(submitted[1:]) == {(1, True)}, "one keyframe is mapped meanwhile, but no more"
    assert relative_error(tracker, corridor(), 0) < 0.02


@pytest.fixture
def mapping_may_go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, the thread for mapping stands at the first keyframe after the start of the map."""
    may_go_on, add = threading.Event(), KeyframeMapping.add

    def slow_add(mapping: KeyframeMapping, reference: Reference) -> None:
        if reference.start is None:
            may_go_on.wait(60)
        add(mapping, reference)

    monkeypatch.setattr(KeyframeMapping, "add", slow_add)
    yield may_go_on
    may_go_on.set()


WITHOUT_WAIT = replace(IN_THREADS, keyframes=KeyframeConfig(max_parallax_deg=0.7, max_lag_s=0.0))


@pytest.mark.parametrize("urgent_factor", [4, 1000])
def test_where_nothing_is_mapped_in_time_few_keyframes_wait_and_all_frames_are_tracked(
    urgent_factor: int, mapping_may_go_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_waiting, extracted, full_waits = [], set(), []
    submit, wait_until = MappingThread.submit, MappingThread.wait_until
    features_later = FeatureMatching.features_later

    def submitted(thread: MappingThread, reference: Reference) -> None:
        is_start = reference.start is not None
        submit(thread, reference)
        if is_start:
            thread.wait()
        else:
            num_waiting.append(thread.num_unfinished)

    def waiting(thread: MappingThread, deadline: float, num_left: int = 0) -> bool:
        if thread.is_full:
            full_waits.append(num_left)
        return wait_until(thread, deadline, num_left)

    def noted(matching: FeatureMatching, frame: Frame) -> Features | Future[Features]:
        extracted.add(frame.idx)
        return features_later(matching, frame)

    monkeypatch.setattr(front_end, "_URGENT_FACTOR", urgent_factor)
    monkeypatch.setattr(MappingThread, "submit", submitted)
    monkeypatch.setattr(MappingThread, "wait_until", waiting)
    monkeypatch.setattr(FeatureMatching, "features_later", noted)
    tracker = tracked(corridor().take(range(40)), corridor().camera, WITHOUT_WAIT)
    assert num_waiting == [1, 2, 3, 4, MAX_WAITING + 1]
    assert len(extracted) == 2 + len(num_waiting), "frames that become no keyframe need no features"
    assert (len(full_waits) > 0) == (urgent_factor == 1000), "only frames with few points wait for room"
    assert kinds(tracker) == ["initialized"]
    mapping_may_go_on.set()
    tracker.finish()
    assert relative_error(tracker, corridor(), 0) < 0.02


def test_a_frame_with_few_points_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, num_waiting = threading.Semaphore(0), []
    add, submit, wait_until = KeyframeMapping.add, MappingThread.submit, MappingThread.wait_until

    def slow_add(mapping: KeyframeMapping, reference: Reference) -> None:
        may_go_on.acquire(timeout=60)
        add(mapping, reference)

    def submitted(thread: MappingThread, reference: Reference) -> None:
        submit(thread, reference)
        num_waiting.append(thread.num_unfinished)

    def waiting(thread: MappingThread, deadline: float, num_left: int = 0) -> bool:
        if not thread.is_full:
            return wait_until(thread, deadline, num_left)
        may_go_on.release()
        return wait_until(thread, time.monotonic() + 60, MAX_WAITING)

    monkeypatch.setattr(front_end, "_URGENT_FACTOR", 1000)
    monkeypatch.setattr(KeyframeMapping, "add", slow_add)
    monkeypatch.setattr(MappingThread, "submit", submitted)
    monkeypatch.setattr(MappingThread, "wait_until", waiting)
    tracker = tracked(corridor().take(range(40)), corridor().camera, WITHOUT_WAIT)
    may_go_on.release(100)
    tracker.finish()
    assert len(num_waiting) > MAX_WAITING + 2 and max(num_waiting) == MAX_WAITING + 1
    assert relative_error(tracker, corridor(), 0) < 0.02


def test_a_camera_that_is_lost_while_too_many_keyframes_wait_is_found_when_they_are_mapped(
    mapping_may_go_on: threading.Event,
) -> None:
    sequence = with_blackout(corridor().take(range(44)), 38, 2)
    tracker = tracked(sequence.take(range(42)), sequence.camera, WITHOUT_WAIT)
    assert [one.state for one in tracker.records[-4:]] == ["lost"] * 4
    mapping_may_go_on.set()
    tracker.wait()
    for idx in (42, 43):
        tracker.track(sequence.image(idx), float(sequence.times_s[idx]))
    assert [one.state for one in tracker.records[-2:]] == ["relocalized", "tracked"]
    tracker.close()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_map_that_loses_the_camera_soon_is_dropped_and_another_start_is_searched(is_known: bool) -> None:
    sequence = with_blackout(corridor().take(range(30)), START + 5, 2)
    tracker = tracked(sequence.take(range(START + 7)), sequence.camera if is_known else None)
    assert kinds(tracker) == ["initialized", "lost", "reinitialized"]
    assert tracker.slam_map.keyframes == {}
    assert tracker.slam_map.camera.source == ("given" if is_known else "guessed"), "that of a bad start is kept"
    for idx in range(START + 7, 30):
        tracker.track(sequence.image(idx), float(sequence.times_s[idx]))
    tracker.finish()
    assert kinds(tracker)[3:] == ["initialized"], "the camera was lost, but not from a map that exists"
    assert relative_error(tracker, sequence, 1) < 0.02
    assert all((one.cam_from_world is None) == (one.map_id is None) for one in tracker.records)
    assert tracker.slam_map.camera.source == ("given" if is_known else "estimated")


def test_a_frame_that_is_found_while_a_loop_moves_the_map_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence, num_calls = with_blackout(corridor().take(range(28)), 20, 2), 0
    relocalize = Relocalizer.relocalize

    def with_loop(relocalizer: Relocalizer, features: Features, size: tuple[int, int]) -> FoundFrame | None:
        nonlocal num_calls
        found = relocalize(relocalizer, features, size)
        if found is not None and num_calls == 0:
            moved = Sim3(1.5, rotation_from_rotvec(np.array([0.1, 0.5, 0.2])), np.array([1.0, -2.0, 3.0]))
            tracker.slam_map.move(dict.fromkeys(tracker.slam_map.keyframes, moved))
        num_calls += found is not None
        return found

    monkeypatch.setattr(Relocalizer, "relocalize", with_loop)
    tracker = Tracker(sequence.camera, CONFIG)
    for idx, image in enumerate(sequence.images()):
        tracker.track(image, float(sequence.times_s[idx]))
    assert num_calls == 2 and kinds(tracker) == ["initialized", "lost", "relocalized"]
    tracker.finish()
    assert relative_error(tracker, sequence, 0) < 0.02


def test_the_focal_length_of_a_failed_start_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[str] = []

    def start(mapper: LocalMapper, *keyframes: object) -> bool:
        sources.append(tracker.slam_map.camera.source)
        return False

    monkeypatch.setattr(LocalMapper, "start", start)
    tracker = Tracker(None, CONFIG)
    for idx in range(START + 3):
        tracker.track(corridor().image(idx), float(corridor().times_s[idx]))
    assert len(sources) > 1 and set(sources) == {"estimated"}
    assert tracker.slam_map.camera.source == "guessed"


@pytest.mark.parametrize("is_known", [True, False])
def test_frames_that_were_tracked_from_a_start_that_turns_out_bad_have_no_pose(
    is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, num_starts, add_start = threading.Event(), 0, LocalMapper.start

    def start(mapper: LocalMapper, first: Keyframe, second: Keyframe) -> bool:
        nonlocal num_starts
        num_starts += 1
        return may_go_on.wait(60) and num_starts > 1 and add_start(mapper, first, second)

    monkeypatch.setattr(LocalMapper, "start", start)
    sequence = corridor().take(range(30))
    tracker = tracked(sequence.take(range(START + 3)), sequence.camera if is_known else None, IN_THREADS)
    assert [one.state for one in tracker.records[-3:]] == ["tracked"] * 3
    assert all(one.num_inliers > 50 for one in tracker.records[-3:])
    may_go_on.set()
    tracker.wait()
    assert tracker.slam_map.camera.source == ("given" if is_known else "guessed")
    for idx in range(START + 3, 30):
        tracker.track(sequence.image(idx), float(sequence.times_s[idx]))
        tracker.wait()
    assert kinds(tracker) == ["initialized", "lost", "reinitialized", "initialized"]
    tracker.finish()
    assert {one.map_id for one in tracker.records} <= {1, None}
    assert relative_error(tracker, sequence, 1) < 0.02


def test_after_a_bad_start_a_camera_is_lost_for_as_long_as_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence, num_starts, add_start = corridor().take([*range(20), *range(100, 130)]), 0, LocalMapper.start

    def start(mapper: LocalMapper, first: Keyframe, second: Keyframe) -> bool:
        nonlocal num_starts
        num_starts += 1
        return num_starts != 2 and add_start(mapper, first, second)

    monkeypatch.setattr(LocalMapper, "start", start)
    tracker = Tracker(sequence.camera, replace(IN_THREADS, recovery=RecoveryConfig(max_lost_s=0.0, min_lost_frames=15)))
    for idx, image in enumerate(sequence.images()):
        tracker.track(image, float(sequence.times_s[idx]))
        tracker.wait()
    assert kinds(tracker) == ["initialized", "lost", "map_started", "lost", "reinitialized", "map_started"]
    tracker.close()


def test_a_camera_that_is_lost_before_its_map_is_there_waits_for_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    add_start = LocalMapper.start

    def slow_start(mapper: LocalMapper, first: Keyframe, second: Keyframe) -> bool:
        time.sleep(0.5)
        return add_start(mapper, first, second)

    monkeypatch.setattr(LocalMapper, "start", slow_start)
    sequence = with_blackout(corridor().take(range(30)), START + 1, 2)
    tracker = tracked(sequence, sequence.camera, replace(IN_THREADS, keyframes=KeyframeConfig(max_lag_s=0.0)))
    assert kinds(tracker)[:3] == ["initialized", "lost", "reinitialized"], "a map that is lost so soon is dropped"
    assert tracker.records[START + 1].waiting_ms > 200
    tracker.finish()
    assert relative_error(tracker, sequence, 1) < 0.02


@pytest.mark.parametrize("is_known", [True, False])
def test_a_second_map_leaves_the_first_one_right(is_known: bool) -> None:
    sequence = two_places()
    tracker = tracked(sequence, sequence.camera if is_known else None, IMPATIENT)
    tracker.finish()
    assert kinds(tracker) == ["initialized", "lost", "map_started"]
    assert sorted(tracker.reconstructions) == [0, 1]
    for map_id in (0, 1):
        assert relative_error(tracker, sequence, map_id) < 0.02
    assert [one.map_id for one in tracker.records[:20]] == [0] * 20


def test_a_map_that_took_over_an_older_one_is_not_dropped() -> None:
    sequence = two_places()
    tracker = Tracker(sequence.camera, IMPATIENT)
    for image, time_s in zip(sequence.images(), sequence.times_s.tolist(), strict=True):
        tracker.track(image, time_s)
        if kinds(tracker)[-1:] == ["map_started"]:
            break
    for keyframe in tracker.slam_map.keyframes.values():
        keyframe.map_id = 1
    tracker.track(np.zeros_like(sequence.image(0)), 100.0)
    assert kinds(tracker)[-2:] == ["map_started", "lost"]
    assert tracker.slam_map.map_ids() == [1]


def test_a_map_is_young_by_its_start_not_by_the_keyframes_that_are_left() -> None:
    tracker = tracked(corridor().take(range(START + 13)), corridor().camera)
    first, *others, last = sorted(tracker.slam_map.keyframes)
    assert others and tracker.slam_map.keyframes[last].frame_idx > START + 5
    for idx in others:
        tracker.slam_map.remove_keyframe(idx)
    tracker.track(np.zeros_like(corridor().image(0)), 100.0)
    assert kinds(tracker) == ["initialized", "lost"]
    assert first in tracker.slam_map.keyframes
