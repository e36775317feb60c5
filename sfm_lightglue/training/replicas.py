"""Processes, started by `torchrun`, that train one network together, each on its share of every batch.

The batches are the same as with one process, and gradients are averaged before each step. So the number of
processes may differ between sessions of a run. On a CPU, two processes with one thread each are a third faster
than one process with two threads, because threads wait for each other after every matrix product.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.training.losses import NetworkInputs, PairBatch, Targets


@dataclass(frozen=True, slots=True)
class Replicas:
    """This process among all processes of a run; by default it is the only one."""

    rank: int = 0
    """Index of this process; process 0 makes the batches, validates and saves."""

    world_size: int = 1
    """Number of processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process makes the batches, validates and saves."""
        return self.rank == 0

    def require_equal_shares(self, batch_size: int, num_parts: int = 1) -> None:
        """Check that a batch can be divided into equal shares, and each share into equal parts.

        Raises:
            ConfigError: if the batch size is not a multiple of the number of processes times that of parts.
        """
        if batch_size % self.world_size:
            raise ConfigError(
                f"train: a batch of {batch_size} pairs cannot be divided among {self.world_size} processes"
            )
        if batch_size // self.world_size % num_parts:
            raise ConfigError(
                f"train: {batch_size // self.world_size} pairs cannot be divided into {num_parts} equal parts"
            )

    def share(self, batch: PairBatch, rate: float) -> PairBatch:
        """Send their shares of a batch to the other processes; returns that of this process, which is the first.

        Args:
            batch: all pairs.
            rate: learning rate of the step, which is sent with the shares.
        """
        if self.world_size == 1:
            return batch
        on_cpu = batch.to(torch.device("cpu"))
        shares = [(_every(on_cpu, rank, self.world_size), rate) for rank in range(self.world_size)]
        dist.scatter_object_list([None], shares, src=0)
        return _every(batch, 0, self.world_size)

    def receive(self) -> tuple[PairBatch, float] | None:
        """The share of this process and the learning rate; None after the last step. Not for the first process."""
        received: list[tuple[PairBatch, float] | None] = [None]
        dist.scatter_object_list(received, None, src=0)
        return received[0]

    def stop(self) -> None:
        """Tell the other processes that no step follows."""
        if self.world_size > 1:
            dist.scatter_object_list([None], [None] * self.world_size, src=0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one dtype by their means over all processes, in place."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def replicas_of_launcher() -> Iterator[Replicas]:
    """The processes that `torchrun` has started; only this one if it was started in another way.

    On CUDA each process uses the device of its local rank.

    Raises:
        ConfigError: if a machine has more processes than devices.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield Replicas()
        return
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"train: process {local_rank + 1} of this machine has no GPU; start at most one process per GPU"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("gloo")  # a few megabytes a step: a faster backend is not needed
    try:
        yield Replicas(dist.get_rank(), world_size)
    finally:
        dist.destroy_process_group()


def _every(batch: PairBatch, first: int, step: int) -> PairBatch:
    """Pairs first, first + step, ... of a batch, copied."""
    inputs = NetworkInputs(*(tensor[first::step].contiguous() for tensor in batch.inputs))
    return PairBatch(inputs, Targets(*(tensor[first::step].contiguous() for tensor in batch.targets)))
