"""The whole diagnosis of a machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sfm_lightglue.diagnosis.child import ask_torch
from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.diagnosis.libraries import library_findings, python_finding, rendering_finding
from sfm_lightglue.diagnosis.machine import (
    cgroup_quota,
    core_findings,
    display_finding,
    gpu_findings,
    instruction_finding,
    kernel_finding,
)
from sfm_lightglue.diagnosis.storage import folder_findings
from sfm_lightglue.diagnosis.weights import weights_findings
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.weights.lookup import cache_folder

_NUM_PARTS = 4


def diagnose(folder: Path, progress: Progress = silent) -> tuple[Finding, ...]:
    """Find out what works here.

    Libraries are imported in processes of their own, so a broken one does not end this process. Small files are
    written into the folder and the cache if they exist, and removed.

    Args:
        folder: where results are to be written.
        progress: called with the stage "look" after each part.

    Returns:
        One finding for each thing that was looked at.
    """
    found: list[Finding] = []
    progress("look", 0, _NUM_PARTS)
    for done, part in enumerate(_parts(folder), start=1):
        found += part
        progress("look", done, _NUM_PARTS)
    return tuple(found)


def _parts(folder: Path) -> Iterator[Sequence[Finding]]:
    libraries = [python_finding(), *library_findings()]
    yield libraries
    torch = ask_torch()
    yield [
        *core_findings(cgroup_quota()),
        instruction_finding(torch),
        kernel_finding(),
        *gpu_findings(torch),
        display_finding(),
        *rendering_finding(libraries),
    ]
    yield weights_findings()
    yield [*folder_findings(folder, "folder"), *_cache_findings()]


def _cache_findings() -> list[Finding]:
    try:
        cache = cache_folder()
    except WeightsError as error:
        return [Finding("storage", "cache", "broken", str(error), "set XDG_CACHE_HOME")]
    return folder_findings(cache, "cache of weights", exit_code=0)


def exit_code_of(findings: Sequence[Finding]) -> int:
    """That of a reconstruction with the default options here; 0 if nothing stops it."""
    return next((one.exit_code for one in findings if one.stops), 0)
