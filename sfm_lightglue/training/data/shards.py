"""Training scenes on the disk, several in one `.npz` file (a shard), made by worker processes."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.images.formats import PHOTO_SUFFIXES
from sfm_lightglue.store.atomic_file import atomic_write, part_beside, store_errors
from sfm_lightglue.store.store import make_key
from sfm_lightglue.training.data.labelled_pairs import VERSION, SceneConfig, make_scene
from sfm_lightglue.training.data.labelled_scenes import PairLabels, TrainingScene, TrainingView

logger = logging.getLogger(__name__)

SCENES_PER_SHARD = 20

_MAX_SCENES_PER_SHARD = 10**5
_PROBE_BYTES = 1 << 20
_WATCH_S = 2.0


def photo_paths(folder: Path) -> tuple[Path, ...]:
    """The photographs of a folder, sorted.

    Raises:
        DataError: if there is none.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    if len(paths) == 0:
        raise DataError(f"{folder}: no photographs for training scenes")
    return tuple(paths)


def require_writable(folder: Path) -> None:
    """Make the folder, and try whether a file can be written in it.

    Raises:
        StoreError: if the folder is not writable or the disk is full.
    """
    probe = part_beside(folder / "probe")
    try:
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(bytes(_PROBE_BYTES))
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def write_shard(path: Path, scenes: Sequence[TrainingScene]) -> None:
    """Write scenes into one file atomically.

    Raises:
        StoreError: if the folder is not writable or the disk is full.
    """
    views = [view for scene in scenes for view in scene.views]
    pairs = [pair for scene in scenes for pair in scene.pairs]
    arrays: dict[str, Any] = {
        "num_views": np.array([len(scene.views) for scene in scenes], np.int64),
        "num_pairs": np.array([len(scene.pairs) for scene in scenes], np.int64),
        "num_keypoints": np.array([len(view) for view in views], np.int64),
        "num_matches": np.array([len(pair.matches) for pair in pairs], np.int64),
        "image_sizes": np.array([view.image_size for view in views], np.int32).reshape(-1, 2),
        "view_idxs": np.array([(pair.view0, pair.view1) for pair in pairs], np.int32).reshape(-1, 2),
        "overlaps": np.array([pair.overlap for pair in pairs], np.float64),
        "matches": _joined([pair.matches for pair in pairs], (0, 2), np.int32),
        "states0": _joined([pair.state0 for pair in pairs], (0,), np.int8),
        "states1": _joined([pair.state1 for pair in pairs], (0,), np.int8),
        "descriptors": _joined([view.descriptors for view in views], (0, 128), np.uint8),
        "keypoints": _joined([view.keypoints for view in views], (0, 2), np.float32),
    }
    for name in ("scales", "orientations", "scores"):
        arrays[name] = _joined([getattr(view, name) for view in views], (0,), np.float32)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def read_shard(path: Path) -> list[TrainingScene]:
    """Read the scenes of a file of `write_shard`.

    Raises:
        DataError: if the file is missing, damaged or not a shard.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
        return list(_scenes(arrays))
    except Exception as error:  # damaged bytes can raise any exception
        raise DataError(f"{path}: not a readable shard of training scenes ({error})") from error


def shard_folder(cache_dir: Path, photos: Sequence[Path], seed: int, config: SceneConfig, num_scenes: int) -> Path:
    """Folder of the shards of a seed, configuration, detector and set of photographs; others have other folders."""
    contents = [(path.name, path.stat().st_size) for path in photos]
    identity = SiftExtractor(config.sift).identity
    return (
        cache_dir / f"scenes-{make_key('training scenes', VERSION, identity, config, contents, seed, num_scenes)[:16]}"
    )


def make_shards(
    photo_folder: Path,
    cache_dir: Path,
    seed: int,
    shard_idxs: Sequence[int],
    num_processes: int = 1,
    config: SceneConfig | None = None,
    scenes_per_shard: int = SCENES_PER_SHARD,
) -> Iterator[Path]:
    """Make the shards that are missing or damaged, and yield the path of each shard.

    Existing shards come first. After an interruption, only unfinished shards are made.

    Args:
        photo_folder: photographs for textures.
        cache_dir: folder below which the shards are stored, in a folder per configuration.
        seed: of all scenes; the scenes of shard k do not depend on the order in which shards are made.
        shard_idxs: indices of the shards, not negative.
        num_processes: number of worker processes with one thread each; 0 uses the process of the caller.
        config: how scenes are made.
        scenes_per_shard: number of scenes in one file.

    Yields:
        Paths, in the order in which the shards are finished.

    Raises:
        DataError: if a photograph cannot be read.
        StoreError: if the folder is not writable or the disk is full.
    """
    config = config or SceneConfig()
    photos = photo_paths(photo_folder)
    folder = shard_folder(cache_dir, photos, seed, config, scenes_per_shard)
    jobs = []
    for idx in shard_idxs:
        job = _Job(folder / f"{idx:06d}.npz", photos, seed, idx, scenes_per_shard, config)
        if _is_good(job.path):
            yield job.path
        else:
            jobs.append(job)
    if num_processes < 1 or len(jobs) == 0:
        yield from map(_make_shard, jobs)
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(min(num_processes, len(jobs)), context, _begin_worker, (os.getpid(),))
    is_done = False
    try:
        for future in as_completed([pool.submit(_make_shard, job) for job in jobs]):
            yield future.result()
        is_done = True
    finally:
        pool.shutdown(wait=is_done, cancel_futures=True)  # an error is told at once: a shard takes minutes


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    photos: tuple[Path, ...]
    seed: int
    shard_idx: int
    num_scenes: int
    config: SceneConfig


def _make_shard(job: _Job) -> Path:
    first = (job.seed * _MAX_SCENES_PER_SHARD + job.shard_idx) * _MAX_SCENES_PER_SHARD
    write_shard(job.path, [make_scene(job.photos, first + k, job.config) for k in range(job.num_scenes)])
    return job.path


def _begin_worker(parent_pid: int) -> None:
    end_with(parent_pid, lambda: os._exit(1))  # a worker waits for ever if its parent was killed
    cv2.setNumThreads(1)


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
        read_shard(path)
    except DataError as error:
        logger.warning("%s; making it again", error)
        return False
    return True


def _joined(parts: Sequence[AnyArray], empty_shape: tuple[int, ...], dtype: Any) -> AnyArray:
    return np.concatenate([np.zeros(empty_shape, dtype), *parts]).astype(dtype, copy=False)


def _array(data: bytes) -> AnyArray:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _scenes(arrays: dict[str, AnyArray]) -> Iterator[TrainingScene]:
    if len(arrays["num_views"]) == 0:
        return
    keypoint_ends = np.cumsum(arrays["num_keypoints"])[:-1]
    columns = [
        np.split(arrays[name], keypoint_ends)
        for name in ("keypoints", "scales", "orientations", "scores", "descriptors")
    ]
    sizes = [(int(width), int(height)) for width, height in arrays["image_sizes"]]
    views = [
        TrainingView(keypoints, scales, orientations, scores, descriptors, size)
        for keypoints, scales, orientations, scores, descriptors, size in zip(*columns, sizes, strict=True)
    ]
    view_ends = np.concatenate([[0], np.cumsum(arrays["num_views"])])
    pair_ends = np.concatenate([[0], np.cumsum(arrays["num_pairs"])])
    match_ends = np.concatenate([[0], np.cumsum(arrays["num_matches"])])
    state_ends = [0, 0]
    for start, end, pair_start, pair_end in zip(
        view_ends[:-1], view_ends[1:], pair_ends[:-1], pair_ends[1:], strict=True
    ):
        scene_views = tuple(views[start:end])
        pairs = []
        for pair in range(pair_start, pair_end):
            view_idxs = [int(idx) for idx in arrays["view_idxs"][pair]]
            states = []
            for side in (0, 1):
                following = state_ends[side] + len(scene_views[view_idxs[side]])
                states.append(arrays[f"states{side}"][state_ends[side] : following])
                state_ends[side] = following
            matches = arrays["matches"][match_ends[pair] : match_ends[pair + 1]]
            overlap = float(arrays["overlaps"][pair])
            pairs.append(PairLabels(view_idxs[0], view_idxs[1], matches, states[0], states[1], overlap))
        yield TrainingScene(scene_views, tuple(pairs))
