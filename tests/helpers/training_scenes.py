"""Labelled scenes without images, small networks and short runs, for tests of the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.training.data.batches import BatchConfig, BatchSampler
from sfm_lightglue.training.data.labelled_pairs import SceneConfig
from sfm_lightglue.training.data.labelled_scenes import (
    IGNORED,
    MATCHED,
    UNMATCHABLE,
    PairLabels,
    TrainingScene,
    TrainingView,
    quantised,
)
from sfm_lightglue.training.data.shards import (
    SCENES_PER_SHARD,
    ShardArrays,
    shard_arrays,
    shard_folder,
    write_shard,
)
from sfm_lightglue.training.data.stored_pairs import PairBlock, StoredPairs, pair_block
from sfm_lightglue.training.losses import PairBatch
from sfm_lightglue.training.options import RunOptions, TrainingConfig
from sfm_lightglue.training.trainer import new_network

CPU = torch.device("cpu")
SIZE = (640, 480)


def make_view(rng: np.random.Generator, keypoints: np.ndarray, descriptors: np.ndarray) -> TrainingView:
    n = len(keypoints)
    unit = np.abs(descriptors) / np.linalg.norm(descriptors, axis=1, keepdims=True)
    numbers = [rng.uniform(low, high, n).astype(np.float32) for low, high in ((2, 40), (0, 6.28), (0, 1))]
    return TrainingView(keypoints.astype(np.float32), *numbers, quantised(unit.astype(np.float32)), SIZE)


def make_scene(seed: int, num_points: int = 60, noise: float = 0.4) -> TrainingScene:
    """Two views of a shifted set of points: 60 % of them in both, 30 % unmatchable, the rest ignored.

    Descriptors are so noisy that nearest neighbours miss many matches; all points have the same shift.
    """
    rng = np.random.default_rng(seed)
    num_shared, num_alone = int(0.6 * num_points), int(0.3 * num_points)
    places = rng.uniform((40, 40), (600, 440), (num_points, 2))
    words = rng.gamma(1.0, 1.0, (num_points, 128))
    shift = rng.uniform(-30, 30, 2)
    order = rng.permutation(num_points)
    shared = np.arange(num_points) < num_shared
    elsewhere = np.where(shared[:, None], places + shift, rng.uniform((40, 40), (600, 440), (num_points, 2)))
    noisy = words * np.exp(noise * rng.standard_normal(words.shape))
    other_words = np.where(shared[:, None], noisy, rng.gamma(1.0, 1.0, words.shape))
    views = (make_view(rng, places, words), make_view(rng, elsewhere[order], other_words[order]))
    state = np.full(num_points, IGNORED, np.int8)
    state[:num_shared], state[num_shared : num_shared + num_alone] = MATCHED, UNMATCHABLE
    rows1 = np.argsort(order)[:num_shared]
    matches = np.stack([np.arange(num_shared), rows1], axis=1).astype(np.int32)
    return TrainingScene(views, (PairLabels(0, 1, matches, state, state[order], 0.6),))


class Shards:
    """A `ShardSource` in memory."""

    is_working = False

    def __init__(self, num_shards: int = 4, scenes_per_shard: int = 8, **options: float) -> None:
        self.shards = [
            [make_scene(1000 * shard + k, **options) for k in range(scenes_per_shard)] for shard in range(num_shards)
        ]
        self.num_ready = num_shards

    def available(self) -> list[int]:
        return list(range(self.num_ready))

    def read(self, shard_idx: int) -> list[TrainingScene]:
        assert shard_idx < self.num_ready
        return self.shards[shard_idx]

    def read_arrays(self, shard_idx: int) -> ShardArrays:
        return shard_arrays(self.read(shard_idx))


TINY = TrainingConfig(
    num_layers=2,
    num_heads=2,
    learning_rate=1e-3,
    num_warmup_steps=5,
    ema_decay=0.9,
    batches=BatchConfig(batch_size=4, num_keypoints=48),
)
SHORT = RunOptions(
    num_steps=30,
    num_decay_steps=10,
    log_every=5,
    validate_every=15,
    checkpoint_every=15,
    bfloat16=False,
    device="cpu",
    num_held_out_pairs=4,
)


def block_of(scenes: list[TrainingScene], num_keypoints: int = 0) -> PairBlock:
    """The scenes with as much room for keypoints as they need, at least `num_keypoints`."""
    most = max(len(view) for scene in scenes for view in scene.views)
    return pair_block(shard_arrays(scenes), max(most, num_keypoints))


def batch_of(scenes: list[TrainingScene], num_keypoints: int, seed: int = 0) -> PairBatch:
    """The first pair of each scene, padded."""
    stored = StoredPairs.of([block_of(scenes, num_keypoints)], CPU)
    config = BatchConfig(num_keypoints=num_keypoints)
    return BatchSampler(stored, config, has_scale_orientation=True).batch(torch.arange(len(scenes)), seed)


def make_batch(num_pairs: int = 3, num_keypoints: int = 70, seed: int = 0) -> PairBatch:
    return batch_of([make_scene(seed + k, 40 + 10 * k) for k in range(num_pairs)], num_keypoints, seed)


def tiny_network(seed: int = 0, **options: int) -> LightGlue:
    return new_network(replace(TINY, **options).architecture, seed)


def prepare_run(tmp_path: Path) -> list[str]:
    """Command-line arguments of a short run with existing shards, so that no scene is rendered."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "any.jpg").write_bytes(b"not decoded")
    folder = shard_folder(tmp_path / "cache", PhotoLibrary.open(photos), 0, SceneConfig(), SCENES_PER_SHARD)
    for shard_idx, scenes in enumerate(Shards(3, 12).shards):
        write_shard(folder / f"{shard_idx:06d}.npz", scenes)
    text = f"--photos {photos} --cache {tmp_path / 'cache'} --workers 0 --max-shards 3 --layers 2 --batch-size 4"
    text += " --num-keypoints 48 --warmup-steps 5 --steps 24 --decay-steps 4 --threads 1 --device cpu --float32"
    return [*text.split(), "--log-every", "2", "--checkpoint-every", "4", "--validate-every", "12"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch uses one thread, so that runs can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
