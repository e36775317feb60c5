"""Where networks run, and what depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController

from sfm_lightglue.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """A torch device by name; "auto" is CUDA where there is any, else the CPU.

    Raises:
        ConfigError: for an unknown name, or a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Torch uses at most so many threads for what this thread asks of it within the block; others are not touched.

    Args:
        number: positive.
    """
    with _openmp().limit(limits=number):
        yield


@lru_cache(maxsize=1)
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")
