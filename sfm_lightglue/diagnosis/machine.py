"""Processor, threads, graphics processors and display of the machine."""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.kernels.library import load_kernels

_NAME_FROM_FLAG = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
    "asimd": "NEON",
    "bf16": "NEON bf16",
    "sve": "SVE",
}

_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


def core_findings(quota: float | None) -> list[Finding]:
    """Cores of the machine, those that this process may use, and a limit of the container.

    Args:
        quota: cores that the container may use on average; None without a limit.
    """
    num_all, num_usable = os.cpu_count() or 1, num_usable_cores()
    text = f"{num_usable} of {num_all} usable"
    found = [Finding("machine", "cores", "ok", text)]
    if quota is not None and quota < num_usable:
        threads = max(1, math.floor(quota))
        limit = f"the container may use {quota:g} of the {num_usable} cores, so more threads wait for each other"
        found.append(Finding("machine", "limit of cores", "broken", limit, f"give commands `num_threads` {threads}"))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if os.environ.get(name):
            found.append(Finding("machine", name, "ok", os.environ[name]))
    return found


def kernel_finding() -> Finding:
    """Whether the compiled kernels are used."""
    kernels = load_kernels()
    if kernels.library is not None:
        return Finding("machine", "compiled kernels", "ok", "used for SIFT, guided matching, poses and points")
    mend = "install a C compiler (on Debian: apt-get install gcc libc6-dev), then this package again"
    text = f"{kernels.reason}; NumPy does their work, and SIFT takes about twice as long"
    return Finding("machine", "compiled kernels", "missing", text, mend)


def cgroup_quota(root: Path = _CGROUP) -> float | None:
    """Cores that the container may use on average; None without a limit.

    Args:
        root: where the control groups are mounted, of version 2 or 1.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass  # version 1, or no control groups
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def instruction_finding(torch: Mapping[str, Any], cpu_info: Path = _CPU_INFO) -> Finding:
    """The instruction sets that networks are fast with.

    Args:
        torch: what torch says of the machine.
        cpu_info: list of the system, on Linux.
    """
    names = instruction_sets(cpu_info)
    used = f", torch uses {torch['capability']}" if torch.get("capability") else ""
    text = f"{', '.join(names) or platform.machine()}{used}"
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    if is_x86 and cpu_info.is_file() and "AVX2" not in names:
        return Finding("machine", "instruction sets", "missing", f"no AVX2{used}; networks are several times slower")
    return Finding("machine", "instruction sets", "ok", text)


def instruction_sets(cpu_info: Path = _CPU_INFO) -> list[str]:
    """The instruction sets for networks that a processor has; empty where the system does not list them."""
    try:
        text = cpu_info.read_text(errors="replace")
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    flags = set(line.partition(":")[2].split())
    return [name for flag, name in _NAME_FROM_FLAG.items() if flag in flags]


def gpu_findings(torch: Mapping[str, Any]) -> list[Finding]:
    """The graphics processors that torch can use.

    Args:
        torch: what torch says of the machine; empty if it could not be asked.
    """
    if torch.get("cuda"):
        return [Finding("machine", "GPU", "ok", f"{one['name']}, {one['memory_mb']} MB") for one in torch["cuda"]]
    if torch.get("mps"):
        return [Finding("machine", "GPU", "ok", "Apple's, as `device` mps")]
    if shutil.which("nvidia-smi") is None:
        return [Finding("machine", "GPU", "missing", "none found; networks run on the processor")]
    if torch and not torch.get("cuda_build"):
        mend = "pip uninstall -y torch, then install it from the index of PyTorch for your version of CUDA"
        return [Finding("machine", "GPU", "broken", "there is an NVIDIA driver, and torch is built without CUDA", mend)]
    text = "there is an NVIDIA driver, and torch finds no device"
    return [Finding("machine", "GPU", "broken", text, "look at the output of nvidia-smi")]


def display_finding() -> Finding:
    """Whether this process can open a window."""
    if sys.platform in {"darwin", "win32"}:
        return Finding("viewer", "display", "ok", "that of the system")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        if os.environ.get(name):
            return Finding("viewer", "display", "ok", f"{name}={os.environ[name]}")
    mend = "view with `screenshot`, or report, which need none"
    return Finding("viewer", "display", "missing", "neither DISPLAY nor WAYLAND_DISPLAY is set", mend)
