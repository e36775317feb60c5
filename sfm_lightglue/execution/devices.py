"""Devices and threads of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from sfm_lightglue.errors import ConfigError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def resolve_device(name: str) -> torch.device:
    """A torch device by name; "auto" is CUDA if available, else the CPU.

    Raises:
        ConfigError: the name is unknown, or this machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def device_text(device: torch.device) -> str:
    """The device in words, with the model of a GPU."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Limits the threads of torch for calls from this thread within the block; other threads are not affected.

    Args:
        number: largest number of threads, positive.
    """
    with _openmp().limit(limits=number):
        yield


@lru_cache(maxsize=1)
def _openmp() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController  # training needs no limit, and must run where this is missing

    return ThreadpoolController().select(user_api="openmp")
