"""SIFT in a pool of processes: images and features are in shared memory, only numbers of slots go through pipes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.sift import SiftConfig
from sfm_lightglue.synthetic.photo_scenes.resampling import grey
from sfm_lightglue.training.data.labelled_scenes import TrainingView
from sfm_lightglue.training.data.sift_worker import REPORT, STARTED, TASK, SlotLayout, Slots, work

_SHARED_FOLDER = Path("/dev/shm")
_SHARED_SHARE = 0.8
"""Fraction of the free shared memory that is used at most: whoever writes beyond the end of it is killed."""

_REPORTS_AT_ONCE = 256
_END_S = 5.0


class SiftPool:
    """A `Describer` with processes for SIFT of one thread each.

    The processes end with `close`, and when this process ends in any way. The shared memory has no name any more as
    soon as all processes have started, so that nothing is left of it then.

    Args:
        config: of the detector.
        num_processes: at least 1; fewer if there is not one slot for each.
        max_pixels: of an image.
        max_images: images that are submitted without waiting; fewer if there is little shared memory.
        is_pinned: whether the images come from a GPU.

    Raises:
        DataError: if there is too little shared memory.
    """

    def __init__(
        self, config: SiftConfig, num_processes: int, max_pixels: int, max_images: int = 256, is_pinned: bool = False
    ) -> None:
        self._slots = Slots(_fitting(SlotLayout(max_images, max_pixels, config.max_keypoints)))
        num_processes = min(num_processes, self._slots.layout.num_slots)
        self._is_pinned = is_pinned and _pin(self._slots.memory)
        context = get_context("spawn")
        task_reader, self._tasks = context.Pipe(duplex=False)
        self._reports, report_writer = context.Pipe(duplex=False)
        arguments = (task_reader, report_writer, self._slots.layout, self._slots.memory.name, config)
        self._processes = [
            context.Process(target=work, args=arguments, daemon=True, name=f"sift-{k}") for k in range(num_processes)
        ]
        for process in self._processes:
            process.start()
        task_reader.close()
        report_writer.close()
        self._num_starting = num_processes
        self._free = list(range(self._slots.layout.num_slots))
        self._unsent: list[int] = []
        self._places: dict[int, tuple[int, int]] = {}
        """For each slot in use, the ticket and the index of its image."""
        self._results: dict[int, list[TrainingView | None]] = {}
        self._num_tickets = 0
        self._failure: str | None = None

    def submit(self, images: Sequence[Tensor]) -> int:
        """Begin with some images; waits while there is no free slot.

        Args:
            images: [H, W, 3] or [H, W] uint8 each, on one device.

        Returns:
            The number to give to `result`.

        Raises:
            DataError: if a process has ended or failed.
            ValueError: if an image has too many pixels.
        """
        most = self._slots.layout.max_pixels
        largest = max((image.shape[0] * image.shape[1] for image in images), default=0)
        if largest > most:
            raise ValueError(f"SiftPool: an image of {largest} pixels, more than {most}")
        ticket = self._num_tickets = self._num_tickets + 1
        self._results[ticket] = [None] * len(images)
        for idx, image in enumerate(images):
            while not self._free:
                self._send()
                self._collect()
            slot = self._free.pop()
            self._places[slot] = ticket, idx
            self._slots.sizes[slot] = image.shape[:2]
            levels = grey(image) if image.ndim == 3 else image
            torch.from_numpy(self._slots.image(slot)).copy_(levels, non_blocking=self._is_pinned)
            self._unsent.append(slot)
        self._send()
        return ticket

    def result(self, ticket: int) -> list[TrainingView]:
        """The features of the images of one call of `submit`, once.

        Raises:
            DataError: if a process has ended or failed.
        """
        while any(view is None for view in self._results[ticket]):
            self._collect()
        return [view for view in self._results.pop(ticket) if view is not None]

    def close(self) -> None:
        """End the processes and free the shared memory."""
        if self._tasks.closed:
            return
        self._tasks.close()
        self._reports.close()
        for process in self._processes:
            process.join(_END_S)
            if process.is_alive():
                process.kill()
                process.join()
        if self._num_starting > 0:
            self._unlink()
        if self._is_pinned:
            _cuda_runtime().cudaHostUnregister(_address(self._slots.memory))
        self._slots.close()

    def __enter__(self) -> SiftPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self) -> None:
        """Hand the images to the processes as soon as they are in the shared memory."""
        if self._is_pinned:
            torch.cuda.current_stream().synchronize()
        try:
            for slot in self._unsent:
                os.write(self._tasks.fileno(), TASK.pack(slot))
        except BrokenPipeError:  # there is no process any more
            self._failure = self._failure or self._end_of_process()
            raise DataError(self._failure) from None
        self._unsent.clear()

    def _collect(self) -> None:
        """Wait for at least one report, and fetch the features of all reported images."""
        if self._failure is None:
            ready = wait([self._reports, *(process.sentinel for process in self._processes)])
            data = os.read(self._reports.fileno(), _REPORTS_AT_ONCE * REPORT.size) if self._reports in ready else b""
            if not data:
                self._failure = self._end_of_process()
            for slot, count, has_failed in REPORT.iter_unpack(data):
                self._note(slot, count, bool(has_failed))
        if self._failure is not None:
            raise DataError(self._failure)

    def _note(self, slot: int, count: int, has_failed: bool) -> None:
        if slot == STARTED:
            self._num_starting -= 1
            if self._num_starting == 0:
                self._unlink()
            return
        if has_failed:
            self._failure = f"SIFT of a rendered image failed ({self._slots.read_message(slot, count)})"
            return
        ticket, idx = self._places.pop(slot)
        self._results[ticket][idx] = self._slots.read(slot, count)
        self._free.append(slot)

    def _end_of_process(self) -> str:
        ended = wait([process.sentinel for process in self._processes], _END_S)
        for process in self._processes:
            if process.sentinel in ended:
                process.join(_END_S)
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        return (
            f"a process for SIFT has ended (exit code {codes[0] if codes else 'unknown'}), perhaps for lack of memory; "
            "the same command continues"
        )

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._slots.memory.unlink()


def _address(memory: SharedMemory) -> int:
    assert memory.buf is not None
    return int(np.frombuffer(memory.buf, np.uint8).ctypes.data)


def _pin(memory: SharedMemory) -> bool:
    """Lock shared memory into place, so that a GPU copies to it without waiting; whether that is possible."""
    if not torch.cuda.is_available():
        return False
    if int(_cuda_runtime().cudaHostRegister(_address(memory), memory.size, 0)) == 0:
        return True
    with contextlib.suppress(RuntimeError):  # CUDA would report the failure again at the next call
        torch.zeros(1, device="cuda").add_(1)
    return False


def _cuda_runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _fitting(wanted: SlotLayout) -> SlotLayout:
    """The layout with as many slots as fit into the free shared memory.

    Raises:
        DataError: if not even one slot fits.
    """
    if not _SHARED_FOLDER.is_dir():
        return wanted
    free = int(shutil.disk_usage(_SHARED_FOLDER).free * _SHARED_SHARE)
    num_slots = min(wanted.num_slots, free * wanted.num_slots // wanted.num_bytes)
    if num_slots < 1:
        raise DataError(
            f"{_SHARED_FOLDER}: {free >> 20} MB are usable, too few for images of processes for SIFT; allow "
            "more shared memory, which containers limit"
        )
    return replace(wanted, num_slots=num_slots)
