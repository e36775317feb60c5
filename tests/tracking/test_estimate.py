"""The time of a sequence is measured where there is a map, and includes what is done at the end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfm_lightglue.tracking import estimate as module
from sfm_lightglue.tracking.estimate import estimate_tracking
from tests.helpers.videos import write_frames

START_S, FRAME_S, WAITING_S, MATCH_S = 0.01, 0.1, 3.0, 0.5


class Clock:
    """Time that passes only where a fake says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class FakeTracker:
    """Starts a map at its third frame, and makes a keyframe of each tenth frame, which is mapped in `wait`."""

    clock: Clock
    num_start = 3
    loading_s = 0.0

    def __init__(self, *_: object, matcher: Any) -> None:
        self.matcher, self.num_frames, self.num_waiting = matcher, 0, 0
        self.slam_map = SimpleNamespace(keyframes={})
        self.clock.now += self.loading_s

    def __enter__(self) -> FakeTracker:
        return self

    def __exit__(self, *_: object) -> None: ...

    def track(self, *_: object) -> None:
        self.num_frames += 1
        self.clock.now += FRAME_S if self.slam_map.keyframes else START_S
        if self.num_frames == self.num_start:
            self.slam_map.keyframes.update({idx: SimpleNamespace(num_features=9, features=idx) for idx in range(2)})
        self.num_waiting += bool(self.slam_map.keyframes) and self.num_frames % 10 == 0

    def wait(self) -> None:
        for _ in range(self.num_waiting):
            self.clock.now += WAITING_S
            idx = len(self.slam_map.keyframes)
            self.slam_map.keyframes[idx] = SimpleNamespace(num_features=9, features=idx)
        self.num_waiting = 0


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    clock = Clock()

    class Matcher:
        def match(self, *_: object) -> None:
            clock.now += MATCH_S

    class Tracker(FakeTracker):
        pass

    Tracker.clock = clock
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "Tracker", Tracker)
    monkeypatch.setattr(module, "MATCHERS", SimpleNamespace(build=lambda *_: Matcher()))
    return Tracker


def test_frames_are_measured_after_the_start_with_waiting_keyframes_and_final_matches(
    tmp_path: Path, tracker: type[FakeTracker]
) -> None:
    found = estimate_tracking(write_frames(tmp_path / "walk", 50))
    assert found.has_map and found.num_measured == 30
    assert found.frame_s == pytest.approx(FRAME_S + 3 * WAITING_S / 30)
    assert (found.keyframe_share, found.match_s) == pytest.approx((0.1, MATCH_S))
    assert found.seconds == pytest.approx(50 * (FRAME_S + 0.1 * WAITING_S + 0.1 * 4 * MATCH_S))


def test_networks_are_loaded_before_frames_are_measured(tmp_path: Path, tracker: type[FakeTracker]) -> None:
    tracker.num_start, tracker.loading_s = 1000, 10.0
    assert estimate_tracking(write_frames(tmp_path / "walk", 20)).frame_s == pytest.approx(START_S)


def test_without_a_map_the_estimate_says_so(tmp_path: Path, tracker: type[FakeTracker]) -> None:
    tracker.num_start = 1000
    found = estimate_tracking(write_frames(tmp_path / "walk", 100))
    assert not found.has_map and found.num_measured == 90
    assert found.frame_s == pytest.approx(START_S) and found.match_s == 0


def test_a_start_that_turns_out_bad_does_not_end_the_search(tmp_path: Path, tracker: type[FakeTracker]) -> None:
    wait = tracker.wait

    def is_bad_at_first(one: FakeTracker) -> None:
        if one.num_frames == FakeTracker.num_start:
            one.slam_map.keyframes.clear()
            tracker.num_start = 9
        wait(one)

    tracker.wait = is_bad_at_first  # type: ignore[method-assign]
    found = estimate_tracking(write_frames(tmp_path / "walk", 50))
    assert tracker.num_start == 9 and found.has_map and found.num_measured == 30


def test_a_sequence_that_ends_with_the_start_is_measured_before_it(tmp_path: Path, tracker: type[FakeTracker]) -> None:
    found = estimate_tracking(write_frames(tmp_path / "walk", 3))
    assert found.has_map and found.num_measured == 2 and found.frame_s == pytest.approx(START_S)
