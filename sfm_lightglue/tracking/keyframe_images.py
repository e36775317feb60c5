"""The images of keyframes as files, for sequences whose frames are none: `densify` and other jobs need them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.images.image import Image
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.slam_map import SlamMap
from sfm_lightglue.tracking.sources import FrameSource

JPEG_QUALITY = 95

MAX_RECENT_BYTES = 128 * 2**20
"""Memory for the last frames, as JPEG, of a sequence that cannot be read again: their keyframes are made later. The
frame from which a start is searched is kept beside them."""


def jpeg_bytes(image: UInt8Array) -> bytes:
    """An image [H, W, 3] RGB or [H, W] as JPEG."""
    pixels = image[..., ::-1] if image.ndim == 3 else image
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(data)


def as_jpeg(frame: Image) -> Image:
    """The file that is written for a frame, from its pixels."""
    return frame if isinstance(frame.data, bytes) else Image(frame.name, jpeg_bytes(frame.data))


class KeyframeImages:
    """Writes the images of keyframes into a folder while the sequence is tracked.

    Args:
        folder: that is made with the first image.
        source: of the frames.
    """

    def __init__(self, folder: Path, source: FrameSource) -> None:
        self.folder, self._source = folder, source
        self._recent: deque[tuple[str, bytes]] = deque()
        self._num_bytes = 0
        self._start = "", b""
        self._written: set[str] = set()

    def add(self, frame: Frame, slam_map: SlamMap | None, start_name: str) -> None:
        """Keep a frame for some time, and write the images of new keyframes.

        Nothing is done for sources whose frames are files, or can be read again.

        Args:
            frame: that was tracked.
            slam_map: with the keyframes; None if there is no map yet.
            start_name: of the frame from which a start of a map is searched, which is kept; "" if none is.

        Raises:
            StoreError: if a file cannot be written.
        """
        if self._source.images is not None or self._source.can_repeat:
            return
        newest = frame.name, jpeg_bytes(frame.image)
        self._recent.append(newest)
        self._num_bytes += len(newest[1])
        while self._num_bytes > MAX_RECENT_BYTES and len(self._recent) > 1:
            self._num_bytes -= len(self._recent.popleft()[1])
        if slam_map is not None:
            with slam_map.lock:
                names = {keyframe.name for keyframe in slam_map.keyframes.values()}
            self._write_kept(names)
        if start_name == frame.name:  # not before: the map of the start before may have come only now
            self._start = newest

    def finish(self, keyframes: Collection[str]) -> list[str]:
        """Write the images that are missing, and remove those of former keyframes.

        Args:
            keyframes: names of the keyframes of the models.

        Returns:
            Names of the files in the folder, sorted.
        """
        if self._source.images is not None:
            return []
        if not self._source.can_repeat:
            self._write_kept(set(keyframes))  # those that were mapped after the last frame
        waiting = set(keyframes) - self._written
        if self._source.can_repeat and waiting:
            for frame in self._source:
                if frame.name in waiting:
                    self._write(frame.name, jpeg_bytes(frame.image))
                    waiting.remove(frame.name)
                if not waiting:
                    break
        return sorted(self._written & set(keyframes))

    def _write_kept(self, names: set[str]) -> None:
        """Write the images with some names that are not written yet, as far as they are kept."""
        waiting = names - self._written
        for name, data in (self._start, *self._recent) if waiting else ():
            if name in waiting - self._written:
                self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        with store_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)
        self._written.add(name)
