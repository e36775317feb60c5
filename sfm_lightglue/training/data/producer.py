"""Shards made in the background while the training goes on."""

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
    """A `ShardSource` whose shards are made by other processes, in order, and kept on the disk.

    Training starts as soon as the first shard is there. The processes end with their work, with `close`, or
    when this process dies, however it dies; what they had finished is kept.

    Args:
        photo_folder: photographs that become textures.
        cache_dir: below which the shards lie.
        seed: of the scenes.
        num_shards: how many there will be.
        num_processes: workers; 0 makes none and uses what is there.
        config: how scenes are made.

    Raises:
        DataError: where there are no photographs.
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
        """Indices of the shards on the disk, ascending; a warning says once that the workers have failed."""
        if self._process is not None and self._process.exitcode not in (None, 0) and not self._has_warned:
            self._has_warned = True
            logger.warning("making training scenes failed; the training goes on with those in %s", self.folder)
        found = {int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdecimal()}
        return sorted(idx for idx in found if idx < self._num_shards)

    def read(self, shard_idx: int) -> list[TrainingScene]:
        """The scenes of a shard.

        Raises:
            DataError: where it is missing or damaged.
        """
        return read_shard(self.folder / f"{shard_idx:06d}.npz")

    @property
    def is_working(self) -> bool:
        """Whether shards are being made."""
        return self._process is not None and self._process.is_alive()

    def close(self) -> None:
        """Ends the workers."""
        if self._process is not None and self._process.pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # The workers share the group that `_produce` opened; before it did, there are none.
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
    """Makes all shards, in a process group of its own that ends with the parent."""
    os.setsid()
    threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()
    for _ in make_shards(photo_folder, cache_dir, seed, range(num_shards), num_processes, config):
        pass


def _end_with(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_WATCH_S)
    os.killpg(os.getpgid(0), signal.SIGKILL)
