"""Shards of training scenes made in the background during training."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from multiprocessing import get_context
from pathlib import Path

from sfm_lightglue.training.data.labelled_pairs import SceneConfig
from sfm_lightglue.training.data.labelled_scenes import TrainingScene
from sfm_lightglue.training.data.shards import SCENES_PER_SHARD, make_shards, photo_paths, read_shard, shard_folder

logger = logging.getLogger(__name__)

_WATCH_S = 2.0


class ShardProducer:
    """A `ShardSource` whose shards are made by worker processes, in order, and kept on the disk.

    Training can start when the first shard exists. The workers end when all shards exist, with `close`, or when this
    process ends in any way; finished shards are kept.

    Args:
        photo_folder: photographs for textures.
        cache_dir: folder below which the shards are stored.
        seed: of the scenes.
        num_shards: number of shards to make.
        num_processes: number of workers; 0 uses existing shards only.
        config: how scenes are made.

    Raises:
        DataError: if there are no photographs.
    """

    def __init__(
        self,
        photo_folder: Path,
        cache_dir: Path,
        seed: int,
        num_shards: int,
        num_processes: int,
        config: SceneConfig | None = None,
    ) -> None:
        config = config or SceneConfig()
        self.folder = shard_folder(cache_dir, photo_paths(photo_folder), seed, config, SCENES_PER_SHARD)
        self._num_shards = num_shards
        self._process = None
        self._has_warned = False
        if num_processes > 0:
            arguments = (os.getpid(), photo_folder, cache_dir, seed, num_shards, num_processes, config)
            self._process = get_context("spawn").Process(target=_produce, args=arguments, name="shards")
            self._process.start()

    def available(self) -> list[int]:
        """Indices of the shards on the disk, ascending. Logs a warning, once, if the workers have failed."""
        if self._process is not None and self._process.exitcode not in (None, 0) and not self._has_warned:
            self._has_warned = True
            logger.warning("making training scenes failed; training continues with the scenes in %s", self.folder)
        idxs = {int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdecimal()}
        return sorted(idx for idx in idxs if idx < self._num_shards)

    def read(self, shard_idx: int) -> list[TrainingScene]:
        """The scenes of a shard.

        Raises:
            DataError: if the file is missing or damaged.
        """
        return read_shard(self.folder / f"{shard_idx:06d}.npz")

    @property
    def is_working(self) -> bool:
        """Whether shards are being made."""
        return self._process is not None and self._process.is_alive()

    def close(self) -> None:
        """End the workers."""
        if self._process is not None and self._process.pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # The workers are in the process group that `_produce` created; before that there are no workers.
                if os.getpgid(self._process.pid) == self._process.pid:
                    os.killpg(self._process.pid, signal.SIGTERM)
            self._process.terminate()
            self._process.join()

    def __enter__(self) -> ShardProducer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _produce(
    parent_pid: int,
    photo_folder: Path,
    cache_dir: Path,
    seed: int,
    num_shards: int,
    num_processes: int,
    config: SceneConfig,
) -> None:
    """Make all shards, in a new process group that ends with the parent process."""
    os.setsid()
    threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()
    for _ in make_shards(photo_folder, cache_dir, seed, range(num_shards), num_processes, config):
        pass


def _end_with(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_WATCH_S)
    os.killpg(os.getpgid(0), signal.SIGKILL)
