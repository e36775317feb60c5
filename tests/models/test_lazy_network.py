"""A lazily read network: read once, by one thread."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest
import torch

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.models.lazy_network import LazyNetwork


def test_several_threads_read_the_network_once(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    reads: list[Path] = []

    def load(given: Path) -> torch.nn.Linear:
        reads.append(given)
        time.sleep(0.05)  # long enough for other threads to arrive
        return torch.nn.Linear(2, 2)

    lazy = LazyNetwork(path, load, "cpu")
    assert lazy.digest == hashlib.sha256(b"weights").hexdigest()
    assert reads == []
    results = list(ordered_map(lambda _: lazy.get(), range(8), 4))
    assert reads == [path]
    assert all(network is results[0][0] and device.type == "cpu" for network, device in results)


def test_missing_files_and_unknown_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        LazyNetwork(tmp_path / "absent", lambda path: torch.nn.Linear(2, 2), "cpu")
    (tmp_path / "weights").write_bytes(b"weights")
    with pytest.raises(ConfigError, match="abacus"):
        LazyNetwork(tmp_path / "weights", lambda path: torch.nn.Linear(2, 2), "abacus").get()


def test_the_cpu_is_known_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_bytes(b"weights")

    def is_on_cpu(name: str) -> bool:
        return LazyNetwork(tmp_path / "weights", lambda path: torch.nn.Linear(2, 2), name).is_on_cpu()

    monkeypatch.setattr("sfm_lightglue.models.lazy_network.may_have_cuda", lambda: False)
    with monkeypatch.context() as patched:
        patched.setattr(LazyNetwork, "device", lambda self: pytest.fail("torch was asked"))
        assert is_on_cpu("cpu")
        assert is_on_cpu("auto")
    assert not is_on_cpu("meta")
    with pytest.raises(ConfigError, match="abacus"):
        is_on_cpu("abacus")
