"""Making shards: on a CPU by independent processes, with a GPU by one process and a pool of processes for SIFT."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TypeVar

import cv2
import torch

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.extractors.sift import SiftConfig
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.training.data.describers import Describer, InlineDescriber, build_extractor
from sfm_lightglue.training.data.labelled_pairs import PendingScenes, SceneConfig, begin_scenes, finish_scenes
from sfm_lightglue.training.data.labelled_scenes import TrainingScene
from sfm_lightglue.training.data.shards import SCENES_PER_SHARD, read_shard_arrays, shard_folder, write_shard
from sfm_lightglue.training.data.sift_pool import SiftPool

logger = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")

_MAX_SCENES_PER_SHARD = 10**5
_WATCH_S = 2.0

_DECODED_ON_CPU = 256
"""Photographs that each process on a CPU keeps decoded; a GPU keeps all."""

_SCENES_AT_ONCE, _BATCHES_AHEAD = 4, 2
"""On a GPU: scenes that are rendered together, and batches that are rendered before the first is finished."""


@dataclass(frozen=True, slots=True)
class ShardOrder:
    """Which shards are made, and how.

    Args:
        photos: folder or archive of photographs for textures.
        folder: of the shards.
        seed: of all scenes; the scenes of shard k do not depend on the order in which shards are made.
        config: how scenes are made.
        scenes_per_shard: number of scenes in one file.
        device: "cpu" or "cuda".
    """

    photos: Path
    folder: Path
    seed: int
    config: SceneConfig
    scenes_per_shard: int
    device: str

    def path(self, shard_idx: int) -> Path:
        """Path of a shard."""
        return self.folder / f"{shard_idx:06d}.npz"

    def seeds(self, shard_idx: int) -> range:
        """The seeds of the scenes of a shard."""
        first = (self.seed * _MAX_SCENES_PER_SHARD + shard_idx) * _MAX_SCENES_PER_SHARD
        return range(first, first + self.scenes_per_shard)


def make_shards(
    photos: Path,
    cache_dir: Path,
    seed: int,
    shard_idxs: Sequence[int],
    num_processes: int = 1,
    config: SceneConfig | None = None,
    scenes_per_shard: int = SCENES_PER_SHARD,
    device: str = "cpu",
) -> Iterator[Path]:
    """Make the shards that are missing or damaged, and yield the path of each shard.

    Existing shards come first. After an interruption, only unfinished shards are made. On the CPU, each process makes
    whole shards. On a GPU, this process renders, and the others compute SIFT features.

    Args:
        photos: folder or archive of photographs for textures.
        cache_dir: folder below which the shards are stored, in a folder per configuration.
        seed: of all scenes; the scenes of shard k do not depend on the order in which shards are made.
        shard_idxs: indices of the shards, not negative.
        num_processes: number of processes with one thread each; 0 uses the process of the caller.
        config: how scenes are made.
        scenes_per_shard: number of scenes in one file.
        device: "cpu" or "cuda".

    Yields:
        Paths, in the order in which the shards are finished.

    Raises:
        ConfigError: if this machine does not have the device.
        DataError: if a photograph cannot be read, or a process for SIFT has ended or failed.
        StoreError: if the folder is not writable or the disk is full.
        WeightsError: if the weights of the extractor are missing.
    """
    config = config or SceneConfig()
    folder = shard_folder(cache_dir, PhotoLibrary.open(photos), seed, config, scenes_per_shard)
    order = ShardOrder(photos, folder, seed, config, scenes_per_shard, device)
    missing = []
    for idx in shard_idxs:
        if _is_good(order.path(idx)):
            yield order.path(idx)
        else:
            missing.append(idx)
    if device != "cpu":
        yield from make_with_pool(order, missing, num_processes)
    elif num_processes < 1 or len(missing) == 0:
        yield from map(_ShardMaker(order).make, missing)
    else:
        yield from _make_in_processes(order, missing, num_processes)


def make_with_pool(order: ShardOrder, shard_idxs: Sequence[int], num_processes: int) -> Iterator[Path]:
    """Make shards on the device of this process; scenes are rendered while the images of others are described.

    Args:
        order: how shards are made.
        shard_idxs: of the shards.
        num_processes: number of processes for SIFT; 0 computes it in this process. Networks need none.

    Raises:
        ConfigError: if this machine does not have the device.
        DataError: if a photograph cannot be read, or a process for SIFT has ended or failed.
        StoreError: if the folder is not writable or the disk is full.
    """
    library = PhotoLibrary.open(order.photos, resolve_device(order.device))
    describer = _describer(order, num_processes)
    try:
        scenes: list[TrainingScene] = []
        for idx, pending in _ahead(_rendered(order, shard_idxs, library, describer), _BATCHES_AHEAD):
            scenes += finish_scenes(pending, describer)
            if len(scenes) == order.scenes_per_shard:
                write_shard(order.path(idx), scenes)
                scenes = []
                yield order.path(idx)
    finally:
        describer.close()


def _rendered(
    order: ShardOrder, shard_idxs: Sequence[int], library: PhotoLibrary, describer: Describer
) -> Iterator[tuple[int, PendingScenes]]:
    for idx in shard_idxs:
        seeds = order.seeds(idx)
        for start in range(0, len(seeds), _SCENES_AT_ONCE):
            yield idx, begin_scenes(library, seeds[start : start + _SCENES_AT_ONCE], order.config, describer)


def _ahead(items: Iterable[ItemT], number: int) -> Iterator[ItemT]:
    """The same items; each is yielded after `number` following ones were taken."""
    taken: deque[ItemT] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > number:
            yield taken.popleft()
    yield from taken


def _describer(order: ShardOrder, num_processes: int) -> Describer:
    features = order.config.features
    if num_processes < 1 or not isinstance(features, SiftConfig):
        return InlineDescriber(build_extractor(features, order.device))
    views, (width, height) = order.config.views, order.config.views.image_size
    max_images = (_BATCHES_AHEAD + 1) * _SCENES_AT_ONCE * views.num_views
    is_pinned = order.device.startswith("cuda")
    return SiftPool(features, num_processes, width * height, max(max_images, 2 * num_processes), is_pinned)


class _ShardMaker:
    """Makes shards one after the other in one process on the CPU."""

    def __init__(self, order: ShardOrder) -> None:
        self._order = order
        self._library = PhotoLibrary.open(order.photos, order.device, _DECODED_ON_CPU)
        self._describer = InlineDescriber(build_extractor(order.config.features, order.device))

    def make(self, shard_idx: int) -> Path:
        order, scenes = self._order, []
        for seed in order.seeds(shard_idx):
            pending = begin_scenes(self._library, [seed], order.config, self._describer)
            scenes += finish_scenes(pending, self._describer)
        write_shard(order.path(shard_idx), scenes)
        return order.path(shard_idx)


_makers: dict[ShardOrder, _ShardMaker] = {}
"""The maker of a worker process."""


def _make_in_processes(order: ShardOrder, shard_idxs: Sequence[int], num_processes: int) -> Iterator[Path]:
    context = get_context("spawn")
    pool = ProcessPoolExecutor(min(num_processes, len(shard_idxs)), context, _begin_worker, (os.getpid(),))
    is_done = False
    try:
        for future in as_completed([pool.submit(_make_in_worker, order, idx) for idx in shard_idxs]):
            yield future.result()
        is_done = True
    finally:
        # An error is told at once, because a shard takes minutes. After the end of the workers, the pool's thread ends
        # at once too; without waiting for it, it and the end of the interpreter may close the same pipe.
        pool.shutdown(wait=is_done or not active_children(), cancel_futures=True)


def _begin_worker(parent_pid: int) -> None:
    end_with(parent_pid, lambda: os._exit(1))  # a worker waits for ever if its parent was killed
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _make_in_worker(order: ShardOrder, shard_idx: int) -> Path:
    if order not in _makers:
        _makers[order] = _ShardMaker(order)
    return _makers[order].make(shard_idx)


def end_with(parent_pid: int, end: Callable[[], None]) -> None:
    """Watch the parent of this process in a thread.

    Args:
        parent_pid: of the parent.
        end: called within seconds after the parent has ended.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_WATCH_S)
        end()

    threading.Thread(target=watch, daemon=True).start()


def _is_good(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        read_shard_arrays(path)
    except DataError as error:
        logger.warning("%s; making it again", error)
        return False
    return True
