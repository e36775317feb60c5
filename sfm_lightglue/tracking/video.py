"""Frames of video files and of cameras, read by OpenCV, or by PyAV where OpenCV has no decoder."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.formats import HEAD_BYTES, find_format
from sfm_lightglue.input_file import open_regular_file
from sfm_lightglue.messages import install_hint, shown_path
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.sources import DEFAULT_FPS, FrameSource, frame_name, is_camera_address

logger = logging.getLogger(__name__)

MAX_DAMAGED_FRAMES = 50
"""After so many frames in a row that cannot be decoded, a video has ended."""

_FFMPEG_LOG_VARIABLE, _QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"
"""Environment of OpenCV's decoder, which else prints to standard error."""


class _Decoded(NamedTuple):
    """One frame of a video: RGB upright, and its time, None if the file does not state it."""

    number: int
    image: UInt8Array | None
    time_s: float | None


class VideoSource(FrameSource):
    """The frames of a video file, upright by its metadata. Frames that cannot be decoded are named and left out.

    Args:
        path: of the file.
        fps: frames a second in place of the times in the file.

    Raises:
        DataError: if it cannot be read, is no video, or has no frame that can be decoded.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        super().__init__(shown_path(path))
        self._path, self._fps = path, fps
        _require_video(path)
        capture = _open(str(path))
        with contextlib.closing(_Released(capture)):
            self.num_frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) or None
            rate = float(capture.get(cv2.CAP_PROP_FPS))
            is_readable = capture.isOpened() and any(capture.read()[0] for _ in range(MAX_DAMAGED_FRAMES))
        self._rate = rate if np.isfinite(rate) and rate > 0 else DEFAULT_FPS
        self._decode = _decoded_by_opencv
        if not is_readable:
            if importlib.util.find_spec("av") is None:
                raise DataError(
                    f"{self.name}: OpenCV has no decoder for this file, or it is damaged; convert it to MP4 (H.264), or"
                    f" let PyAV read it: {install_hint('video')}"
                )
            self._decode, self.num_frames = _decoded_by_pyav, None

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        idx, last_s, size, damaged = 0, -np.inf, None, list[int]()
        for number, image, time_s in self._decode(self._path):
            if image is None:
                damaged.append(number)
                continue
            for each in damaged:  # those at the end are no frames: containers state too many
                self.skip(frame_name(each), "cannot be decoded")
            damaged.clear()
            frame_s = number / self._fps if self._fps else time_s
            if frame_s is None or (frame_s <= last_s and number > 0):
                frame_s = max(number / self._rate, last_s + 0.5 / self._rate)
            frame = Frame(idx, frame_name(number), frame_s, image)
            size = size or frame.size
            if self.has_size(frame, size):
                yield frame
                idx, last_s = idx + 1, frame_s
        if idx == 0:
            raise DataError(f"{self.name}: no frame can be decoded; convert the file to MP4 (H.264)")


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def read(self) -> tuple[bool, Any]:
        """Whether there is a frame, and the frame in BGR, uint8 [H, W, 3]."""

    def release(self) -> None:
        """Close it."""


class CameraSource(FrameSource):
    """A camera or a stream. A thread reads it and keeps the newest frame; frames that nobody took are counted.

    Args:
        name: in messages.
        capture: the opened camera.
    """

    is_live, can_repeat = True, False

    def __init__(self, name: str, capture: Capture) -> None:
        super().__init__(name)
        self._capture = capture
        self._changed = threading.Condition()
        self._newest: tuple[float, UInt8Array] | None = None
        self._has_ended = self._is_closed = False
        self._thread = threading.Thread(target=self._read, daemon=True, name="camera")

    @classmethod
    def open(cls, address: str, fps: float | None = None) -> CameraSource:
        """Open the camera of a number or an address.

        Raises:
            DataError: if OpenCV cannot open it.
        """
        capture = _open(int(address) if address.isdecimal() else address)
        if not capture.isOpened():
            raise DataError(
                f"{shown_path(address)}: no camera answers at this address; the first camera of a machine is 0, and"
                " streams are rtsp:// or http:// addresses"
            )
        if fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        return cls(shown_path(address), capture)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        idx, number, size = 0, 0, None
        while (newest := self._next()) is not None:
            time_s, image = newest
            frame = Frame(idx, frame_name(number), time_s, _rgb(image))
            number, size = number + 1, size or frame.size
            if self.has_size(frame, size):
                yield frame
                idx += 1
        if idx == 0:
            raise DataError(f"{self.name}: the camera gives no frame")

    def close(self) -> None:
        """Stop the thread and release the camera."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _next(self) -> tuple[float, UInt8Array] | None:
        """The newest frame as soon as there is one; None at the end."""
        with self._changed:
            while self._newest is None and not (self._has_ended or self._is_closed or self.is_to_end()):
                self._changed.wait(timeout=0.5)  # so that signals are handled
            newest, self._newest = self._newest, None
            return newest

    def _read(self) -> None:
        """Take frames until the camera is closed, gives none any more, or fails; then release it."""
        try:
            self._take_frames()
        except Exception as error:
            logger.warning("%s: the camera failed (%s)", self.name, error)
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
            self._capture.release()

    def _take_frames(self) -> None:
        start_s, num_failures = time.monotonic(), 0
        while not self._is_closed and num_failures < MAX_DAMAGED_FRAMES:
            is_frame, image = self._capture.read()
            if not is_frame:
                num_failures += 1
                time.sleep(0.01)
                continue
            num_failures = 0
            with self._changed:
                self.num_dropped += self._newest is not None
                self._newest = time.monotonic() - start_s, image
                self._changed.notify_all()


class _Released:
    """Closes a capture in a `with` statement."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def close(self) -> None:
        self._capture.release()


def _open(source: str | int) -> cv2.VideoCapture:
    os.environ.setdefault(_FFMPEG_LOG_VARIABLE, _QUIET)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(source, _backend(source))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if capture.isOpened():
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _backend(source: str | int) -> int:
    """FFmpeg for files, where OpenCV has it: other readers print to the standard streams about damaged files."""
    is_file = isinstance(source, str) and "://" not in source and not is_camera_address(source)
    has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
    return cv2.CAP_FFMPEG if is_file and has_ffmpeg else cv2.CAP_ANY


def _rgb(image: Any) -> UInt8Array:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) if image.ndim == 3 else image


def _require_video(path: Path) -> None:
    """Refuse what cannot be a video with a better message than that no decoder was found."""
    try:
        with open_regular_file(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error
    if not head:
        raise DataError(f"{shown_path(path)}: the file is empty")
    if find_format(head) not in {None, "GIF"}:
        raise DataError(f"{shown_path(path)}: one image; give the folder of the frames, or a video")


def _decoded_by_opencv(path: Path) -> Iterator[_Decoded]:
    capture = _open(str(path))
    with contextlib.closing(_Released(capture)):
        num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number, num_failures = 0, 0
        while num_failures < MAX_DAMAGED_FRAMES and not (num_failures and 0 < num_frames <= number):
            is_frame, image = capture.read()
            num_failures = 0 if is_frame else num_failures + 1
            time_s = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000 if is_frame else None
            yield _Decoded(number, _rgb(image) if is_frame else None, time_s)
            number += 1


def _decoded_by_pyav(path: Path) -> Iterator[_Decoded]:
    import av

    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{shown_path(path)}: has no video")
            for packet in container.demux(container.streams.video[0]):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    yield _Decoded(number, None, None)
                    number += 1
                    continue
                for frame in frames:
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield _Decoded(number, np.ascontiguousarray(pixels), frame.time)
                    number += 1
    except (av.error.FFmpegError, OSError) as error:
        if number == 0:
            raise DataError(
                f"{shown_path(path)}: not a video that can be decoded ({error.strerror or error})"
            ) from error
        logger.warning("%s: ends after frame %d (%s)", shown_path(path), number - 1, error.strerror or error)
