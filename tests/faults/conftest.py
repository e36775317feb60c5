"""Fixtures of the tests of faults: the compiled shim, a server of commands, and a small reconstruction."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.robustness import scratch_folder
from benchmarks.robustness_shim import Server, compile_shim, why_unavailable
from benchmarks.robustness_trials import Bench


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for all files of these tests."""
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(scratch: Path) -> Iterator[list[Server]]:
    """Processes that have imported everything, and fork a child for each command: one if pytest uses all cores, or two.

    Their memory is shared with their children only, so more of them cost more than they save.
    """
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    shim = compile_shim(scratch)
    with contextlib.ExitStack() as stack:
        num = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
        yield [stack.enter_context(Server(shim)) for _ in range(num)]


@pytest.fixture(scope="session")
def server(servers: list[Server]) -> Server:
    """One of them."""
    return servers[0]


@pytest.fixture(scope="session")
def bench(scratch: Path, server: Server) -> Bench:
    """A small scene, and its undisturbed runs."""
    return Bench(scratch / "bench", server)
