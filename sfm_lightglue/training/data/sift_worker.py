"""One process of a pool for SIFT. It does not import torch, which would take most of its start and memory."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray, UInt8Array
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.training.data.labelled_scenes import TrainingView, quantised

TASK = struct.Struct("<i")
"""Number of a slot."""

REPORT = struct.Struct("<iii")
"""Number of a slot, or `STARTED`; number of keypoints, or of bytes of a message; whether it failed (0 or 1)."""

STARTED = -1


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """Shapes of the arrays in the shared memory."""

    num_slots: int
    max_pixels: int
    max_keypoints: int

    @property
    def parts(self) -> tuple[tuple[tuple[int, ...], Any], ...]:
        """Shape and type of each array: numbers, image sizes, images, descriptors."""
        slots, keypoints = self.num_slots, self.max_keypoints
        return (
            ((slots, keypoints, 5), np.float32),
            ((slots, 2), np.int32),
            ((slots, self.max_pixels), np.uint8),
            ((slots, keypoints, 128), np.uint8),
        )

    @property
    def num_bytes(self) -> int:
        """Size of the shared memory."""
        return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.parts)


class Slots:
    """Images and their features in shared memory.

    A process of a pool works in one slot at a time. `numbers` [S, K, 5] are x, y, scale, orientation, score; `sizes`
    [S, 2] are (height, width); `images` [S, max_pixels] grey levels, row by row; `descriptors` [S, K, 128].
    """

    def __init__(self, layout: SlotLayout, name: str | None = None) -> None:
        self.layout = layout
        self.memory = SharedMemory(name, create=name is None, size=layout.num_bytes)
        arrays, start = [], 0
        for shape, dtype in layout.parts:
            arrays.append(np.ndarray(shape, dtype, self.memory.buf, start))
            start += arrays[-1].nbytes
        self.numbers, self.sizes, self.images, self.descriptors = arrays

    def image(self, slot: int) -> AnyArray:
        """The image [H, W] of a slot."""
        height, width = self.sizes[slot]
        pixels: AnyArray = self.images[slot, : height * width].reshape(height, width)
        return pixels

    def write(self, slot: int, view: TrainingView) -> None:
        """Store the features of the image of a slot."""
        count = len(view)
        columns = (view.scales, view.orientations, view.scores)
        self.numbers[slot, :count, :2] = view.keypoints
        self.numbers[slot, :count, 2:] = np.stack(columns, axis=1)
        self.descriptors[slot, :count] = view.descriptors

    def read(self, slot: int, count: int) -> TrainingView:
        """A copy of the features of a slot."""
        height, width = self.sizes[slot]
        numbers = self.numbers[slot, :count]
        scales, orientations, scores = (numbers[:, column].copy() for column in (2, 3, 4))
        descriptors = self.descriptors[slot, :count].copy()
        return TrainingView(numbers[:, :2].copy(), scales, orientations, scores, descriptors, (int(width), int(height)))

    def write_message(self, slot: int, message: str) -> int:
        """Store a message in place of an image, and return its number of bytes."""
        data = np.frombuffer(message.encode()[: self.images.shape[1]], np.uint8)
        self.images[slot, : len(data)] = data
        return len(data)

    def read_message(self, slot: int, count: int) -> str:
        """The message of a slot."""
        return self.images[slot, :count].tobytes().decode(errors="replace")

    def close(self) -> None:
        """Free the memory in this process."""
        del self.numbers, self.sizes, self.images, self.descriptors
        self.memory.close()


def sift_view(extractor: SiftExtractor, image: UInt8Array) -> TrainingView:
    """SIFT features of an image [H, W] of grey levels, as they are stored."""
    features = extractor.extract(Image.from_array(image))
    assert features.scales is not None and features.orientations is not None
    return TrainingView(
        features.keypoints,
        features.scales,
        features.orientations,
        features.scores,
        quantised(features.descriptors),
        features.image_size,
    )


def work(tasks: Connection, reports: Connection, layout: SlotLayout, name: str, config: SiftConfig) -> None:
    """Describe the images of slots until the other end of `tasks` is closed, which the end of its process does too.

    All processes of a pool read the same pipe and write to the same pipe. Reads and writes of a few bytes are atomic,
    so no lock is needed that a killed process could keep.

    Args:
        tasks: numbers of slots (`TASK`).
        reports: what was done (`REPORT`).
        layout: of the shared memory.
        name: of the shared memory.
        config: of the detector.
    """
    cv2.setNumThreads(1)
    slots = Slots(layout, name)
    extractor = SiftExtractor(config)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        os.write(reports.fileno(), REPORT.pack(STARTED, 0, 0))
        while record := os.read(tasks.fileno(), TASK.size):
            (slot,) = TASK.unpack(record)
            os.write(reports.fileno(), REPORT.pack(slot, *_describe(slots, slot, extractor)))
    slots.close()


def _describe(slots: Slots, slot: int, extractor: SiftExtractor) -> tuple[int, int]:
    """Write the features of the image of a slot, or the message of an error: their number, and whether it failed."""
    try:
        view = sift_view(extractor, slots.image(slot))
        slots.write(slot, view)
        return len(view), 0
    except Exception as error:
        return slots.write_message(slot, f"{type(error).__name__}: {error}"), 1
