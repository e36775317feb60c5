"""Shards of training scenes made in the background during training."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import DataError, SfmError, StoreError
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.training.data.labelled_pairs import SceneConfig
from sfm_lightglue.training.data.labelled_scenes import TrainingScene
from sfm_lightglue.training.data.shard_makers import end_with, make_shards
from sfm_lightglue.training.data.shards import (
    SCENES_PER_SHARD,
    ShardArrays,
    read_shard,
    read_shard_arrays,
    require_writable,
    shard_folder,
)

_END_S = 5.0
_KILLED = "a process that makes training scenes was killed, perhaps for lack of memory; the same command continues"


class ShardProducer:
    """A `ShardSource` whose shards are made by worker processes, in order, and kept on the disk.

    Training can start when the first shard exists. The workers end when all shards exist, with `close`, or when this
    process ends in any way; finished shards are kept.

    Args:
        photos: folder or archive of photographs for textures.
        cache_dir: folder below which the shards are stored.
        seed: of the scenes.
        num_shards: number of shards to make.
        num_processes: number of workers; 0 uses existing shards only. On a GPU, they compute SIFT features.
        config: how scenes are made.
        device: on which scenes are rendered, "cpu" or "cuda".
        scenes_per_shard: number of scenes of a shard.

    Raises:
        DataError: if there are no photographs.
        StoreError: if workers shall run and the folder of the shards cannot be written.
    """

    def __init__(
        self,
        photos: Path,
        cache_dir: Path,
        seed: int,
        num_shards: int,
        num_processes: int,
        config: SceneConfig | None = None,
        device: str = "cpu",
        scenes_per_shard: int = SCENES_PER_SHARD,
    ) -> None:
        config = config or SceneConfig()
        self.folder = shard_folder(cache_dir, PhotoLibrary.open(photos), seed, config, scenes_per_shard)
        self._num_shards = num_shards
        self._process = None
        self._failure: SfmError | None = None
        if num_processes > 0:
            require_writable(self.folder)  # else a worker would find it out after its first shard
            context = get_context("spawn")
            self._reports, sender = context.Pipe(duplex=False)
            places = (photos, cache_dir, seed, range(num_shards))
            arguments = (sender, os.getpid(), *places, num_processes, config, scenes_per_shard, device)
            self._process = context.Process(target=_produce, args=arguments, name="shards")
            self._process.start()
            sender.close()

    def available(self) -> list[int]:
        """Indices of the shards on the disk, ascending.

        Raises:
            StoreError: if a worker could not write.
            DataError: if a worker failed otherwise, or was killed.
        """
        if self._failure is None:
            self._failure = self._reported_failure()
        if self._failure is not None:
            raise self._failure
        idxs = {int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdecimal()}
        return sorted(idx for idx in idxs if idx < self._num_shards)

    def read(self, shard_idx: int) -> list[TrainingScene]:
        """The scenes of a shard.

        Raises:
            DataError: if the file is missing or damaged.
        """
        return read_shard(self._path(shard_idx))

    def read_arrays(self, shard_idx: int) -> ShardArrays:
        """The arrays of a shard.

        Raises:
            DataError: if the file is missing or damaged.
        """
        return read_shard_arrays(self._path(shard_idx))

    def _path(self, shard_idx: int) -> Path:
        return self.folder / f"{shard_idx:06d}.npz"

    def _reported_failure(self) -> SfmError | None:
        if self._process is None or not self._reports.poll():
            return None
        try:
            is_of_store, message = self._reports.recv()
            return StoreError(message) if is_of_store else DataError(message)
        except EOFError:  # the process has ended and reported nothing
            self._process.join()
            return DataError(f"{self.folder}: {_KILLED}") if self._process.exitcode else None

    @property
    def is_working(self) -> bool:
        """Whether shards are being made."""
        return self._process is not None and self._process.is_alive()

    def close(self) -> None:
        """End the workers."""
        if self._process is None or self._process.pid is None or not self._process.is_alive():
            return
        self._process.terminate()
        self._process.join(_END_S)
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # The workers are in the process group that `_produce` created; before that there are no workers.
                if os.getpgid(self._process.pid) == self._process.pid:
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()

    def __enter__(self) -> ShardProducer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _produce(reports: Connection, parent_pid: int, photos: Path, cache_dir: Path, *arguments: Any) -> None:
    """Make all shards, in a new process group that ends with the parent process or with the first error.

    Args:
        reports: for the error.
        parent_pid: of the parent.
        photos: of `make_shards`, as the following arguments.
        cache_dir: likewise.
        arguments: likewise.
    """
    os.setsid()
    end_with(parent_pid, lambda: os.killpg(0, signal.SIGKILL))
    signal.signal(signal.SIGTERM, _end)
    try:
        for _ in make_shards(photos, cache_dir, *arguments):
            pass
    except _EndError:
        return
    except BrokenProcessPool:
        reports.send((False, f"{cache_dir}: {_KILLED}"))
    except SfmError as error:
        reports.send((isinstance(error, StoreError), str(error)))
    except OSError as error:
        reports.send((True, f"{cache_dir}: cannot be written ({error.strerror or error})"))
    except Exception as error:  # of torch or OpenCV, for example for lack of GPU memory
        reports.send((False, f"making training scenes failed ({type(error).__name__}: {error})"))
    else:
        return
    os.killpg(0, signal.SIGKILL)  # the other workers are within a shard, which takes minutes


class _EndError(BaseException):
    """The parent wants this process to end."""


def _end(*_: object) -> None:
    """End without waiting for the shards in work, but free semaphores and shared memory, as no signal alone would."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    children = active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join()
    raise _EndError
