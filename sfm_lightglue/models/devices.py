"""Where networks run."""

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


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 have instructions of their own on a device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.6, which cannot tell
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


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
