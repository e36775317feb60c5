"""Capabilities of this machine's processors, without torch."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def has_bfloat16_instructions() -> bool:
    """Whether the CPU has instructions for bfloat16 matrix products; False if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def may_have_cuda() -> bool:
    """Whether there may be a CUDA device; if False, the query of torch, which takes a second, is unnecessary."""
    return sys.platform != "linux" or any(Path(path).exists() for path in _SIGNS_OF_A_GPU)


_SIGNS_OF_A_GPU = (
    "/proc/driver/nvidia",
    "/dev/nvidiactl",
    "/dev/nvhost-ctrl",  # Jetson
    "/dev/nvmap",
    "/dev/dxg",  # the Linux of Windows
    "/dev/kfd",  # AMD
)
