"""What this machine's processors can do, told without torch."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def has_bfloat16_instructions() -> bool:
    """Whether the CPU multiplies matrices in bfloat16 by instructions of its own; False where nobody can tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def may_have_cuda() -> bool:
    """Whether torch may find a CUDA device; False spares asking it, which takes a second."""
    return sys.platform != "linux" or Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()
