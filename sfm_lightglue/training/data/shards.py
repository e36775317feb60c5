"""Training scenes on the disk, several in one `.npz` file (a shard)."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.store.atomic_file import atomic_write, part_beside, store_errors
from sfm_lightglue.store.store import make_key
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.training.data.describers import build_extractor
from sfm_lightglue.training.data.labelled_pairs import VERSION, SceneConfig
from sfm_lightglue.training.data.labelled_scenes import (
    MATCHED,
    STORED_DTYPES,
    PairLabels,
    TrainingScene,
    TrainingView,
)

SCENES_PER_SHARD = 20

_VIEW_NUMBERS = ("scales", "orientations", "scores")
"""Attributes of a view with one number for each keypoint."""

_PROBE_BYTES = 1 << 20


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


@dataclass(frozen=True, slots=True, eq=False)
class ShardArrays:
    """The content of a shard, as it is stored: the values of all views and pairs, joined.

    Args:
        num_views: [S] int64 of each scene.
        num_pairs: [S] int64 of each scene.
        num_keypoints: [V] int64 of each view.
        num_matches: [P] int64 of each pair.
        image_sizes: [V, 2] int32 (width, height) in pixels.
        view_idxs: [P, 2] int32 views of each pair, as indices within the scene.
        overlaps: [P] float64.
        matches: [M, 2] int32 indices of keypoints within the views.
        states0: [N0] int8 of the keypoints of the first view of each pair.
        states1: [N1] int8 likewise of the second view.
        keypoints: [N, 2] float32 pixels.
        scales: [N] float32 pixels.
        orientations: [N] float32 radians.
        scores: [N] float32.
        descriptors: [N, D] uint8 or float16.

    Raises:
        ValueError: if the arrays contradict each other.
    """

    num_views: AnyArray
    num_pairs: AnyArray
    num_keypoints: AnyArray
    num_matches: AnyArray
    image_sizes: AnyArray
    view_idxs: AnyArray
    overlaps: AnyArray
    matches: AnyArray
    states0: AnyArray
    states1: AnyArray
    keypoints: AnyArray
    scales: AnyArray
    orientations: AnyArray
    scores: AnyArray
    descriptors: AnyArray

    def __post_init__(self) -> None:
        views, pairs, points = int(self.num_views.sum()), int(self.num_pairs.sum()), int(self.num_keypoints.sum())
        shapes = {
            "num_pairs": self.num_views.shape,
            "num_keypoints": (views,),
            "image_sizes": (views, 2),
            "view_idxs": (pairs, 2),
            "num_matches": (pairs,),
            "overlaps": (pairs,),
            "matches": (int(self.num_matches.sum()), 2),
            "keypoints": (points, 2),
            "scales": (points,),
            "orientations": (points,),
            "scores": (points,),
        }
        wrong = [name for name, shape in shapes.items() if getattr(self, name).shape != shape]
        if wrong or self.descriptors.shape[:1] != (points,) or self.descriptors.ndim != 2:
            raise ValueError(f"the sizes of the arrays contradict each other: {', '.join(wrong) or 'descriptors'}")
        if self.descriptors.dtype not in STORED_DTYPES:
            raise ValueError(f"descriptors of type {self.descriptors.dtype}")
        scene_of_pair = np.repeat(np.arange(len(self.num_views)), self.num_pairs)
        if (self.view_idxs < 0).any() or (self.view_idxs >= self.num_views[scene_of_pair, None]).any():
            raise ValueError("pairs of views that do not exist")
        for side, states in enumerate((self.states0, self.states1)):
            self._check_states(side, states)

    @property
    def view_rows(self) -> AnyArray:
        """[P, 2] int64 views of each pair, as indices in all views."""
        first = np.cumsum(self.num_views) - self.num_views
        rows: AnyArray = self.view_idxs.astype(np.int64) + np.repeat(first, self.num_pairs)[:, None]
        return rows

    def _check_states(self, side: int, states: AnyArray) -> None:
        """The matched keypoints are those with the state of matched ones, each once."""
        counts = self.num_keypoints[self.view_rows[:, side]]
        matches = self.matches[:, side]
        if len(states) != counts.sum() or (matches < 0).any() or (matches >= np.repeat(counts, self.num_matches)).any():
            raise ValueError("states or matches of keypoints that do not exist")
        rows = matches + np.repeat(np.cumsum(counts) - counts, self.num_matches)
        is_matched = np.zeros(len(states), np.bool_)
        is_matched[rows] = True
        if is_matched.sum() != len(rows) or not np.array_equal(is_matched, states == MATCHED):
            raise ValueError("matches and states contradict each other")


def shard_arrays(scenes: Sequence[TrainingScene]) -> ShardArrays:
    """Scenes as the arrays of a shard; all have the same kind of descriptors."""
    views = [view for scene in scenes for view in scene.views]
    pairs = [pair for scene in scenes for pair in scene.pairs]
    dim, dtype = (views[0].descriptors.shape[1], views[0].descriptors.dtype) if views else (0, np.uint8)
    columns = {name: _joined([getattr(view, name) for view in views], (0,), np.float32) for name in _VIEW_NUMBERS}
    return ShardArrays(
        num_views=np.array([len(scene.views) for scene in scenes], np.int64),
        num_pairs=np.array([len(scene.pairs) for scene in scenes], np.int64),
        num_keypoints=np.array([len(view) for view in views], np.int64),
        num_matches=np.array([len(pair.matches) for pair in pairs], np.int64),
        image_sizes=np.array([view.image_size for view in views], np.int32).reshape(-1, 2),
        view_idxs=np.array([(pair.view0, pair.view1) for pair in pairs], np.int32).reshape(-1, 2),
        overlaps=np.array([pair.overlap for pair in pairs], np.float64),
        matches=_joined([pair.matches for pair in pairs], (0, 2), np.int32),
        states0=_joined([pair.state0 for pair in pairs], (0,), np.int8),
        states1=_joined([pair.state1 for pair in pairs], (0,), np.int8),
        keypoints=_joined([view.keypoints for view in views], (0, 2), np.float32),
        descriptors=_joined([view.descriptors for view in views], (0, dim), dtype),
        **columns,
    )


def write_shard(path: Path, scenes: Sequence[TrainingScene]) -> None:
    """Write scenes into one file atomically.

    Raises:
        StoreError: if the folder is not writable or the disk is full.
    """
    arrays = shard_arrays(scenes)
    with atomic_write(path) as file:
        np.savez(file, **{field.name: getattr(arrays, field.name) for field in fields(ShardArrays)})


def read_shard_arrays(path: Path) -> ShardArrays:
    """Read the arrays of a file of `write_shard`.

    Raises:
        DataError: if the file is missing, damaged or not a shard.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return ShardArrays(**{field.name: _array(archive, field.name) for field in fields(ShardArrays)})
    except Exception as error:  # damaged bytes can raise any exception
        raise DataError(f"{path}: not a readable shard of training scenes ({error})") from error


def read_shard(path: Path) -> list[TrainingScene]:
    """Read the scenes of a file of `write_shard`.

    Raises:
        DataError: if the file is missing, damaged or not a shard.
    """
    return list(_scenes(read_shard_arrays(path)))


def shard_folder(cache_dir: Path, library: PhotoLibrary, seed: int, config: SceneConfig, num_scenes: int) -> Path:
    """Folder of the shards of a seed, configuration, extractor and set of photographs; others have other folders.

    Raises:
        WeightsError: if the weights of the extractor are missing.
    """
    identity = build_extractor(config.features, "cpu").identity
    key = make_key("training scenes", VERSION, identity, config, library.contents, seed, num_scenes)
    return cache_dir / f"scenes-{key[:16]}"


def _joined(parts: Sequence[AnyArray], empty_shape: tuple[int, ...], dtype: Any) -> AnyArray:
    return np.concatenate([np.zeros(empty_shape, dtype), *parts]).astype(dtype, copy=False)


def _array(archive: zipfile.ZipFile, name: str) -> AnyArray:
    return np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)


def _scenes(arrays: ShardArrays) -> Iterator[TrainingScene]:
    def of_views(name: str) -> list[AnyArray]:
        return np.split(getattr(arrays, name), np.cumsum(arrays.num_keypoints)[:-1])

    def of_pairs(name: str, counts: AnyArray) -> list[AnyArray]:
        return np.split(getattr(arrays, name), np.cumsum(counts)[:-1])

    keypoints, descriptors = of_views("keypoints"), of_views("descriptors")
    scales, orientations, scores = map(of_views, _VIEW_NUMBERS)
    views = [
        TrainingView(keypoints[k], scales[k], orientations[k], scores[k], descriptors[k], (int(width), int(height)))
        for k, (width, height) in enumerate(arrays.image_sizes)
    ]
    counts = arrays.num_keypoints[arrays.view_rows]  # [P, 2]
    matches = of_pairs("matches", arrays.num_matches)
    states0, states1 = of_pairs("states0", counts[:, 0]), of_pairs("states1", counts[:, 1])
    pairs = [
        PairLabels(int(view0), int(view1), matches[k], states0[k], states1[k], float(arrays.overlaps[k]))
        for k, (view0, view1) in enumerate(arrays.view_idxs)
    ]
    view_end, pair_end = 0, 0
    for num_views, num_pairs in zip(arrays.num_views, arrays.num_pairs, strict=True):
        view_end, pair_end = view_end + num_views, pair_end + num_pairs
        own_views, own_pairs = views[view_end - num_views : view_end], pairs[pair_end - num_pairs : pair_end]
        yield TrainingScene(tuple(own_views), tuple(own_pairs))
