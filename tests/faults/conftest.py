"""Fixtures of the tests of faults: the compiled shim, a server of commands, and a small reconstruction."""

from __future__ import annotations

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
def servers(scratch: Path) -> Iterator[tuple[Server, Server]]:
    """Two processes that have imported everything, and fork a child for each command."""
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    shim = compile_shim(scratch)
    with Server(shim) as first, Server(shim) as second:
        yield first, second


@pytest.fixture(scope="session")
def server(servers: tuple[Server, Server]) -> Server:
    """One of them."""
    return servers[0]


@pytest.fixture(scope="session")
def bench(scratch: Path, server: Server) -> Bench:
    """A small scene, and its undisturbed runs."""
    return Bench(scratch / "bench", server)
