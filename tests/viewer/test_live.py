"""The window of a tracker at work: what is sent to its process, and that it never stops the tracker."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.features import Features
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.tracking.frame import Frame, FrameRecord
from sfm_lightglue.tracking.slam_map import Keyframe, SlamMap
from sfm_lightglue.types import Camera
from sfm_lightglue.viewer import live, live_worker
from sfm_lightglue.viewer.live import LiveView, state_arrays
from sfm_lightglue.viewer.live_state import packed, unpacked
from sfm_lightglue.viewer.live_worker import TRACK_COLOR, with_tracks

SIZE = (1280, 960)
FRAME = Frame(4, "a.jpg", 0.1, np.full((960, 1280), 7, np.uint8))
PIXELS = np.array([[100.0, 200.0], [1279.5, 959.5]], np.float32)


def pose_at(x: float) -> Rigid3:
    return Rigid3(np.eye(3), np.array([-x, 0.0, 0.0]))


def two_keyframes() -> SlamMap:
    """A map of two keyframes with three points, the second one without colour."""
    slam_map = SlamMap(Camera("PINHOLE", *SIZE, (1000.0, 1000.0, 640.0, 480.0)))
    keypoints = np.zeros((3, 2), np.float32)
    features = Features(keypoints, np.ones(3, np.float32), np.ones((3, 128), np.float32), SIZE)
    none = np.full(3, -1, np.int64)
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for idx, each in ((0, colors), (1, None)):
        slam_map.add_keyframe(
            Keyframe(
                idx, idx, f"{idx}.jpg", idx, 0, pose_at(idx), features, keypoints, none, idx - 1, none, colors=each
            )
        )
    slam_map.add_points(np.array([[0.0, 0, 5], [1, 0, 5]]), [[(0, 2), (1, 0)], [(0, 0), (1, 1)]])
    return slam_map


def record(pose: Rigid3 | None, map_id: int | None) -> FrameRecord:
    return FrameRecord(4, "a.jpg", 0.1, "lost" if pose is None else "tracked", pose, map_id, 9, 1.0)


def test_a_state_has_points_cameras_and_the_frame_with_its_tracks() -> None:
    state = state_arrays(two_keyframes(), record(pose_at(2), 0), FRAME, PIXELS)
    assert state["points"].tolist() == [[0, 0, 5], [1, 0, 5]]
    assert state["point_colors"].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert len(state["line_vertices"]) == 3 * 8 and len(state["segments"]) == 3 * 10
    assert state["line_vertices"][::8].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert (state["line_colors"][-10:] == 1).all(), "the camera of the frame is white"
    assert state["segments"].max() == 23
    assert state["image"].shape == (480, 640, 3) and (state["image"] == 7).all()
    assert state["pixels"].tolist() == [[50, 100], [639.75, 479.75]]


def test_a_lost_frame_shows_the_map_and_no_camera() -> None:
    state = state_arrays(two_keyframes(), record(None, None), FRAME, PIXELS[:0])
    assert len(state["points"]) == 2 and len(state["line_vertices"]) == 16
    empty = state_arrays(SlamMap(two_keyframes().camera), record(None, None), FRAME, PIXELS[:0])
    assert len(empty["points"]) == len(empty["line_vertices"]) == len(empty["segments"]) == 0


def test_many_points_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_POINTS", 1)
    assert len(state_arrays(two_keyframes(), record(None, None), FRAME, PIXELS)["points"]) == 1


def test_states_come_out_of_a_stream_as_they_went_in() -> None:
    states = [{"a": np.arange(3.0), "b": np.zeros((0, 2), np.uint8)}, {"a": np.ones(1)}]
    stream = io.BytesIO(b"".join(map(packed, states)))
    for state in states:
        found = unpacked(stream)
        assert found is not None and found.keys() == state.keys()
        assert all((found[name] == state[name]).all() and found[name].dtype == state[name].dtype for name in state)
    assert unpacked(stream) is None
    assert unpacked(io.BytesIO(packed(states[0])[:-1])) is None, "a torn one"


def test_a_state_is_written_without_keywords_of_newer_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.2, `np.savez` takes `allow_pickle` for the name of an array."""
    savez = np.savez

    def of_numpy_2_0(file: Any, *arrays: Any, **named: Any) -> None:
        assert all(isinstance(array, np.ndarray) for array in named.values()), named.keys()
        savez(file, *arrays, **named)

    monkeypatch.setattr(np, "savez", of_numpy_2_0)
    assert unpacked(io.BytesIO(packed({"a": np.ones(1)}))) is not None


def test_tracks_are_squares_also_at_the_edge() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    drawn = with_tracks(image, np.array([[5.5, 6.5], [29.9, 19.9], [-3.0, 50.0]]))
    assert (drawn[5:8, 4:7] == TRACK_COLOR).all() and (drawn[18:, 28:] == TRACK_COLOR).all()
    assert (drawn != 0).any(axis=2).sum() == 9 + 4
    assert not image.any()


READER = """
import sys
from sfm_lightglue.viewer.live_state import unpacked
count = 0
while (state := unpacked(sys.stdin.buffer)) is not None:
    count += 1
    open(sys.argv[1], "w").write(f"{count} {len(state['points'])}")
"""


def show_until(view: LiveView, is_done: Any) -> None:
    tracker: Any = SimpleNamespace(slam_map=two_keyframes(), tracked_pixels=PIXELS)
    end_s = time.monotonic() + 20
    while not is_done() and time.monotonic() < end_s:
        view.show(tracker, FRAME, record(pose_at(2), 0))
        time.sleep(0.02)
    assert is_done()


def test_the_process_of_the_window_gets_states(tmp_path: Path) -> None:
    view = LiveView([sys.executable, "-c", READER, str(tmp_path / "seen.txt")])
    show_until(view, lambda: (tmp_path / "seen.txt").exists() and (tmp_path / "seen.txt").read_text().endswith(" 2"))
    view.close()


@pytest.mark.skipif(os.name != "posix", reason="sessions of POSIX")
def test_ctrl_c_in_the_terminal_does_not_reach_the_window(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'seen.txt')!r}, 'w').write(f'{{os.getsid(0)}}.'); input()"
    view = LiveView([sys.executable, "-c", code])
    show_until(view, lambda: (tmp_path / "seen.txt").exists() and (tmp_path / "seen.txt").read_text().endswith("."))
    assert (tmp_path / "seen.txt").read_text() != f"{os.getsid(0)}."
    view.close()


@pytest.mark.parametrize(("code", "told"), [("raise SystemExit('error: no display answers')", True), ("pass", False)])
def test_a_window_that_ends_is_told_once_if_it_failed(
    code: str, told: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = LiveView([sys.executable, "-c", code])
    ended = LiveView._has_ended
    seen: list[bool] = []
    monkeypatch.setattr(LiveView, "_has_ended", lambda self: seen.append(ended(self)) or seen[-1])
    with caplog.at_level("WARNING", logger="sfm_lightglue"):
        show_until(view, lambda: seen.count(True) >= 3)
    assert [("no display answers" in message) for message in caplog.messages] == ([True] if told else [])
    view.close()


class FakeWindow:
    """Counts what is asked of Open3D's window; it is closed after some rounds."""

    def __init__(self) -> None:
        self.num_polls = self.num_draws = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: SimpleNamespace()

    def create_window(self, *arguments: Any, **options: Any) -> bool:
        return True

    def poll_events(self) -> bool:
        self.num_polls += 1
        return self.num_polls <= 20

    def update_renderer(self) -> None:
        self.num_draws += 1


@pytest.mark.parametrize("has_frame", [False, True])
def test_the_window_draws_only_new_states_and_pauses_between(has_frame: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"points": np.zeros((0, 3)), "line_vertices": np.zeros((0, 3)), "segments": np.zeros((0, 2), int)}
    if has_frame:
        state |= {"image": np.zeros((4, 4, 3), np.uint8), "pixels": np.zeros((0, 2))}
    windows, pauses = [FakeWindow(), FakeWindow()], []
    opened = iter(windows)
    open3d = SimpleNamespace(
        visualization=SimpleNamespace(Visualizer=lambda: next(opened)),
        geometry=SimpleNamespace(Image=lambda image: image),
    )
    states = iter([None, state, state])
    newest = SimpleNamespace(take=lambda: next(states, None), has_ended=False)
    monkeypatch.setitem(sys.modules, "open3d", open3d)
    monkeypatch.setattr(live_worker, "has_display", lambda: True)
    monkeypatch.setattr(live_worker, "Newest", lambda: newest)
    monkeypatch.setattr(live_worker, "time", SimpleNamespace(sleep=pauses.append))
    live_worker.main(["test"])
    assert [window.num_draws for window in windows] == ([2, 2] if has_frame else [2, 0])
    assert pauses == [live_worker.IDLE_S] * 18
    assert windows[1].num_polls == (19 if has_frame else 0), "the frame is moved and closed by the user"


def test_a_state_after_the_end_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that reads a snapshot may come too late."""
    view = LiveView([sys.executable, "-c", READER, str(tmp_path / "seen.txt")])
    state = {"points": np.zeros((1, 3))}
    assert view.send(state)
    view.close()
    assert not view.send(state)
    assert not caplog.messages


def test_without_a_display_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "require_open3d", lambda: None)
    monkeypatch.setattr("sfm_lightglue.viewer.show.sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match="there is no display"):
        LiveView.open("walk")
