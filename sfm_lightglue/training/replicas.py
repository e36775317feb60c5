"""Processes that train one network together, each on its share of every batch: `torchrun` starts them.

The batches are those of a run by one process, and gradients are averaged before they are used: the number of
processes may change from one sitting to the next. Two processes of one thread each are a third faster than
one of two threads on a CPU, whose threads would wait for each other at every matrix product.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.training.losses import NetworkInputs, PairBatch, Targets


@dataclass(frozen=True, slots=True)
class Replicas:
    """The processes of a run, as one of them sees them; alone by default."""

    rank: int = 0
    """Which one this is; the first makes the batches, validates and saves."""

    number: int = 1
    """How many there are."""

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def require_equal_shares(self, batch_size: int) -> None:
        """Checks that a batch can be divided.

        Raises:
            ConfigError: where the shares would be unequal.
        """
        if batch_size % self.number:
            raise ConfigError(f"train: a batch of {batch_size} pairs cannot be divided among {self.number} processes")

    def share(self, batch: PairBatch | None) -> PairBatch:
        """The pairs of a batch that this process trains on.

        Args:
            batch: of all pairs in the first process, which gives the others theirs; None in the others.
        """
        if self.number == 1:
            assert batch is not None
            return batch
        shares = None if batch is None else [_every(batch, rank, self.number) for rank in range(self.number)]
        received: list[PairBatch | None] = [None]
        dist.scatter_object_list(received, shares, src=0)
        return cast(PairBatch, received[0])

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors of one type by their means over the processes."""
        if self.number == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.number
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Returns once every process has come here."""
        if self.number > 1:
            dist.barrier()


@contextmanager
def replicas_of_launcher() -> Iterator[Replicas]:
    """The processes that `torchrun` has started; this one alone where it was started otherwise.

    On CUDA each takes the device of its number on this machine.

    Raises:
        ConfigError: where there are more processes than devices.
    """
    number = int(os.environ.get("WORLD_SIZE", "1"))
    if number == 1:
        yield Replicas()
        return
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(f"train: process {local_rank + 1} of this machine has no GPU of its own")
        torch.cuda.set_device(local_rank)
    dist.init_process_group("gloo")  # a few megabytes a step: no need of a faster one
    try:
        yield Replicas(dist.get_rank(), number)
    finally:
        dist.destroy_process_group()


def _every(batch: PairBatch, first: int, step: int) -> PairBatch:
    """The pairs first, first + step, ... of a batch, in memory of their own."""
    inputs = NetworkInputs(*(tensor[first::step].contiguous() for tensor in batch.inputs))
    return PairBatch(inputs, Targets(*(tensor[first::step].contiguous() for tensor in batch.targets)))
