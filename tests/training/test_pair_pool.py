"""The pool of pairs: all pairs are used equally often, new shards join, shards are exchanged, runs continue."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfm_lightglue.errors import DataError
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.data.pair_pool import PairPool, PoolConfig
from sfm_lightglue.training.data.shards import shard_arrays
from sfm_lightglue.training.data.stored_pairs import pair_block
from sfm_lightglue.training.losses import PairBatch
from tests.helpers.training_scenes import CPU, Shards, make_scene

BATCHES = BatchConfig(batch_size=4, num_keypoints=48).unchanged


class NamedShards(Shards):
    """Shards whose pairs can be recognised in a batch: the scales of shard k are k + 1."""

    def __init__(self, num_shards: int, scenes_per_shard: int = 8) -> None:
        super().__init__(num_shards, scenes_per_shard)
        for idx, scenes in enumerate(self.shards):
            for scene in scenes:
                for view in scene.views:
                    view.scales[:] = idx + 1
        self.reads: list[int] = []

    def read_arrays(self, shard_idx: int):
        self.reads.append(shard_idx)
        return super().read_arrays(shard_idx)


def shards_of(batch: PairBatch) -> list[int]:
    return [int(scale) - 1 for scale in batch.inputs.keypoints0[:, 0, 2]]


def make_pool(source: Shards, **options) -> PairPool:
    values = {"config": PoolConfig(max_keypoints=60), "seed": 0} | options
    return PairPool(source, BATCHES, True, device=CPU, **values)


def test_all_pairs_are_used_equally_often():
    with make_pool(Shards(3, 10)) as pool:
        for step in range(60):
            pool.batch(step)
        uses = torch.cat(list(pool.state["num_uses"].values()))
    assert pool.num_pairs == 30 and pool.num_shards == 3
    assert uses.sum() == 240 and uses.min() >= 4 and uses.max() <= 13  # 8 each


def test_held_out_shards_are_not_used_and_new_shards_come_next(monkeypatch):
    monkeypatch.setattr("sfm_lightglue.training.data.pair_pool._POLL_S", 0.0)
    source = NamedShards(6)
    source.num_ready = 2
    with make_pool(source, excluded=frozenset({0})) as pool:
        first = Counter(idx for step in range(10) for idx in shards_of(pool.batch(step)))
        source.num_ready = 6
        deadline, step = time.monotonic() + 60, 10
        while pool.num_shards < 5 and time.monotonic() < deadline:  # a thread reads them; how fast, the machine decides
            pool.batch(step)
            step += 1
        later = [shards_of(pool.batch(step + i)) for i in range(90)]
    assert set(first) == {1}
    used = Counter(idx for idxs in later for idx in idxs)
    assert set(used) == {1, 2, 3, 4, 5}
    assert all(used[idx] > used[1] for idx in (2, 3, 4, 5))


def test_a_full_pool_exchanges_its_shards():
    source = NamedShards(5)
    with make_pool(source, config=PoolConfig(max_views=32, max_keypoints=60)) as pool:
        used = Counter(idx for step in range(120) for idx in shards_of(pool.batch(step)))
        assert pool.num_pairs == 16
    assert set(used) == set(range(5))
    assert max(used.values()) < 2 * min(used.values())


@pytest.mark.parametrize("max_views", [0, 32])
def test_a_run_continues_from_its_state(max_views):
    options = {"config": PoolConfig(max_views=max_views, max_keypoints=60)}
    with make_pool(Shards(4), **options) as pool:
        straight = [pool.batch(step) for step in range(20)]
    with make_pool(Shards(4), **options) as pool:
        before = [pool.batch(step) for step in range(9)]
        state = pool.state
    with make_pool(Shards(4), state=state, **options) as pool:
        after = [pool.batch(step) for step in range(9, 20)]
    for one, other in zip(straight, [*before, *after], strict=True):
        assert torch.equal(one.inputs.descriptors0, other.inputs.descriptors0)
        assert torch.equal(one.targets.partners, other.targets.partners)
    assert not torch.equal(straight[0].inputs.keypoints0, straight[8].inputs.keypoints0)


def test_a_batch_that_is_not_used_changes_nothing():
    with make_pool(Shards(2)) as pool, make_pool(Shards(2)) as other:
        pool.batch(0, 30, is_used=False)
        assert torch.equal(pool.batch(0).inputs.keypoints0, other.batch(0).inputs.keypoints0)


def test_no_shards_and_no_worker_is_an_error():
    with pytest.raises(DataError, match="no worker"), make_pool(Shards(1), excluded=frozenset({0})) as pool:
        pool.batch(0)


def test_shards_without_pairs_are_waited_over(monkeypatch):
    monkeypatch.setattr("sfm_lightglue.training.data.pair_pool._POLL_S", 0.0)
    source = Shards(3)
    source.shards[0] = [replace(scene, pairs=()) for scene in source.shards[0]]
    source.num_ready, source.is_working = 1, True

    def check() -> None:
        source.num_ready = 2

    with make_pool(source, check=check) as pool:
        pool.batch(0)
        assert pool.num_pairs == 8 and pool.num_shards == 2


def test_waiting_for_the_first_shard_can_be_ended():
    source = Shards(1)
    source.num_ready, source.is_working = 0, True

    def check() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError), make_pool(source, check=check) as pool:
        pool.batch(0)


def test_an_error_of_the_source_ends_the_run():
    class Failing(Shards):
        def read_arrays(self, shard_idx: int):
            if shard_idx == 1:
                raise DataError("shard 1 is damaged")
            return super().read_arrays(shard_idx)

    with pytest.raises(DataError, match="shard 1 is damaged"), make_pool(Failing(3)) as pool:
        for step in range(20):
            pool.batch(step)


def test_views_with_too_many_keypoints_are_refused():
    with pytest.raises(DataError, match="60 keypoints, more than 50"):
        pair_block(shard_arrays([make_scene(0, 60)]), 50)


def test_waiting_is_counted():
    with make_pool(Shards(1)) as pool:
        pool.batch(0)
        assert pool.take_waiting_s() > 0
        assert pool.take_waiting_s() == 0


def test_blocks_hold_the_labels_of_all_pairs():
    scenes = [make_scene(seed, 30 + 10 * seed) for seed in range(3)]
    block = pair_block(shard_arrays(scenes), 64)
    assert block.size == (6, 3) and block.views.tolist() == [[0, 1], [2, 3], [4, 5]]
    for row, scene in enumerate(scenes):
        labels = scene.pairs[0]
        for side, state in enumerate((labels.state0, labels.state1)):
            partners = np.full(64, -1)
            partners[labels.matches[:, side]] = labels.matches[:, 1 - side]
            assert np.array_equal(block.partners[row, side].numpy(), partners)
            assert np.array_equal(np.flatnonzero(block.unmatchable[row, side]), np.flatnonzero(state == 2))
