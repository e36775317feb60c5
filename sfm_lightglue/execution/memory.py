"""How much memory this process has used."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MiB; None if the system does not report it."""
    with contextlib.suppress(OSError):  # Linux: getrusage also counts the memory of the process before exec
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**10, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
