"""Frames of video files and of cameras."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.tracking import video
from sfm_lightglue.tracking.sources import open_source
from sfm_lightglue.tracking.video import MAX_DAMAGED_FRAMES, CameraSource
from tests.helpers.videos import damage_frame, panned_images, turn_by_metadata, write_video


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_frames_and_times_of_a_video(tmp_path: Path, suffix: str) -> None:
    images = panned_images(12)
    source = open_source(write_video(tmp_path / f"a{suffix}", images, fps=20))
    frames = list(source)
    assert [frame.name for frame in frames] == [f"frame_{i:06d}.jpg" for i in range(12)]
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(12) / 20, abs=2e-3)
    errors = [np.abs(frame.image.astype(int) - image).mean() for frame, image in zip(frames, images, strict=True)]
    assert max(errors) < 12, "RGB, up to the loss of the codec"
    assert source.num_frames == 12 and source.images is None and source.can_repeat
    assert [frame.time_s for frame in open_source(tmp_path / f"a{suffix}", fps=5)] == pytest.approx(np.arange(12) / 5)


def test_videos_are_upright_by_their_metadata(tmp_path: Path) -> None:
    images = panned_images(3)
    path = write_video(tmp_path / "a.mp4", images)
    turn_by_metadata(path, height=120)
    (first, *_) = open_source(path)
    assert first.size == (120, 160)
    assert np.abs(first.image.astype(int) - np.rot90(images[0], -1)).mean() < 12


def test_frames_that_cannot_be_decoded_are_named_and_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", panned_images(12))
    damage_frame(path, 5)
    source = open_source(path)
    frames = list(source)
    assert [skipped.name for skipped in source.skipped] == ["frame_000005.jpg"]
    assert [frame.name for frame in frames] == [f"frame_{i:06d}.jpg" for i in range(12) if i != 5]
    assert [frame.idx for frame in frames] == list(range(11))
    assert frames[5].time_s == pytest.approx(6 / 20)


def test_files_that_are_no_video_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_video(tmp_path / "a.mp4", panned_images(6)).read_bytes()
    for name, data in (("cut.mp4", content[: len(content) // 2]), ("text.mp4", b"hello"), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    for name, told in (
        ("cut.mp4", r'no decoder for this file, or it is damaged; .*pip install "sfm-lightglue\[video\]"'),
        ("text.mp4", "no decoder for this file"),
        ("empty.mp4", "the file is empty"),
        ("image.png", "one image; give the folder of the frames"),
    ):
        with pytest.raises(DataError, match=rf"{name}: .*{told}"):
            open_source(tmp_path / name)


@pytest.mark.parametrize("is_turned", [False, True])
def test_pyav_gives_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_turned: bool) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    path = write_video(tmp_path / "a.mp4", panned_images(5))
    if is_turned:
        turn_by_metadata(path, height=120)
    expected = list(open_source(path))
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source, backend: NoCapture())
    found = list(open_source(path))
    assert [(one.name, one.size) for one in found] == [(one.name, one.size) for one in expected]
    assert [one.time_s for one in found] == pytest.approx([one.time_s for one in expected])
    assert max(np.abs(a.image.astype(int) - b.image).max() for a, b in zip(found, expected, strict=True)) <= 3


def test_an_error_of_pyav_after_some_frames_ends_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    av = pytest.importorskip("av", reason="needs the extra video")
    path = write_video(tmp_path / "a.mp4", panned_images(5))
    opened = av.open

    @contextlib.contextmanager
    def open_failing(name: str) -> Iterator[Any]:
        with opened(name) as container:

            def demux(stream: Any) -> Iterator[Any]:
                yield from itertools.islice(container.demux(stream), 3)
                raise av.error.OSError(5, "Input/output error")

            yield SimpleNamespace(streams=container.streams, demux=demux)

    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source, backend: NoCapture())
    monkeypatch.setattr(av, "open", open_failing)
    with caplog.at_level("WARNING", logger="sfm_lightglue"):
        frames = list(open_source(path))
    assert 1 <= len(frames) <= 3
    assert f"a.mp4: ends after frame {len(frames) - 1} (" in caplog.text


def test_pyav_says_what_it_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    (tmp_path / "text.mp4").write_bytes(b"hello" * 100)
    with pytest.raises(DataError, match=r"text\.mp4: not a video that can be decoded"):
        list(open_source(tmp_path / "text.mp4"))


class NoCapture:
    """A capture of OpenCV that opened nothing."""

    def isOpened(self) -> bool:
        return False

    def get(self, what: int) -> float:
        return -1.0

    def release(self) -> None:
        pass


class FakeCamera:
    """Frames whose pixels are their number; each comes when it is let."""

    def __init__(self, number: int) -> None:
        self.number, self.asked, self.given = number, 0, 0
        self.is_let = threading.Semaphore(0)
        self.is_released = threading.Event()

    def read(self) -> tuple[bool, UInt8Array]:
        self.asked += 1
        if self.given < self.number:
            self.is_let.acquire()
            self.given += 1
            return True, np.full((4, 6, 3), self.given, np.uint8)
        return False, np.zeros((0, 0, 3), np.uint8)

    def release(self) -> None:
        self.is_released.set()


def let(camera: FakeCamera, number: int) -> None:
    """Let some frames come, and wait until the thread has taken all of them and asks for the next one."""
    asked = camera.given + number + 1
    camera.is_let.release(number)
    while camera.asked < asked:
        time.sleep(0.001)


def test_the_newest_frame_of_a_camera_is_taken_and_the_others_are_counted() -> None:
    camera = FakeCamera(6)
    source = CameraSource("camera", camera)
    frames = iter(source)
    threading.Timer(0.01, lambda: camera.is_let.release()).start()
    first = next(frames)
    let(camera, 4)
    second = next(frames)
    let(camera, 1)
    third = next(frames)
    assert [int(frame.image[0, 0, 0]) for frame in (first, second, third)] == [1, 5, 6]
    assert [frame.name for frame in (first, second, third)] == [f"frame_{i:06d}.jpg" for i in range(3)]
    assert 0 <= first.time_s < second.time_s < third.time_s
    assert source.num_dropped == 3
    assert list(frames) == [], f"the camera failed {MAX_DAMAGED_FRAMES} times"
    assert camera.is_released.wait(60)


def test_a_camera_that_waits_can_be_ended() -> None:
    camera = FakeCamera(3)
    source = CameraSource("camera", camera)
    frames = iter(source)
    threading.Timer(0.01, lambda: camera.is_let.release()).start()
    next(frames)
    source.is_to_end = lambda: True
    assert list(frames) == []
    camera.is_let.release(2)
    source.close()
    assert camera.is_released.wait(60)


class FailingCamera(FakeCamera):
    """A camera whose driver fails after its frames."""

    def read(self) -> tuple[bool, UInt8Array]:
        if self.given == self.number:
            raise RuntimeError("unplugged")
        return super().read()


def test_a_camera_that_fails_ends(caplog: pytest.LogCaptureFixture) -> None:
    camera = FailingCamera(1)
    camera.is_let.release()
    with caplog.at_level("WARNING", logger="sfm_lightglue"):
        frames = list(CameraSource("camera", camera))
    assert len(frames) == 1 and camera.is_released.wait(60)
    assert caplog.messages == ["camera: the camera failed (unplugged)"]


class ResizingCamera(FakeCamera):
    """A camera whose second frame has another size."""

    def read(self) -> tuple[bool, UInt8Array]:
        is_frame, image = super().read()
        return is_frame, image[:-1] if self.given == 2 else image


def test_frames_of_another_size_from_a_camera_are_named_and_left_out() -> None:
    camera = ResizingCamera(3)
    source = CameraSource("camera", camera)
    frames = []

    def let_the_third() -> None:
        while not source.skipped:
            time.sleep(0.001)
        camera.is_let.release()

    camera.is_let.release()
    for frame in source:
        frames.append((frame.idx, frame.name, frame.size))
        if frame.idx == 0:
            let(camera, 1)
            threading.Thread(target=let_the_third, daemon=True).start()
    assert frames == [(0, "frame_000000.jpg", (6, 4)), (1, "frame_000002.jpg", (6, 4))]
    assert [(one.name, one.reason) for one in source.skipped] == [
        ("frame_000001.jpg", "6 x 3 pixels, the first frame has 6 x 4")
    ]


def test_a_camera_without_frames_and_no_camera_are_errors() -> None:
    with pytest.raises(DataError, match="camera: the camera gives no frame"):
        list(CameraSource("camera", FakeCamera(0)))
    with pytest.raises(DataError, match="no camera answers at this address"):
        open_source("rtsp://127.0.0.1:1/stream")
