"""Files of repositories on the hub, from a local server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights import hub, lookup
from sfm_lightglue.weights.hub import find_file, find_file_or_none
from tests.helpers.file_server import CONTENT, Fault, FileServer, file_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    for name in (lookup.FOLDERS_VARIABLE, *lookup.OFFLINE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    with file_server() as running:
        monkeypatch.setattr(hub, "_HUB", running.url.removesuffix("/weights.pth"))
        yield running


def test_a_file_is_downloaded_once(server: FileServer, tmp_path: Path) -> None:
    path = find_file("someone/model", "model.safetensors")
    assert path == tmp_path / "sfm_lightglue" / "hub" / "someone--model" / "model.safetensors"
    assert path.read_bytes() == CONTENT
    assert find_file_or_none("someone/model", "model.safetensors") == path
    assert [path for path, _ in server.requests] == ["/someone/model/resolve/main/model.safetensors"]


def test_only_a_missing_file_is_none(server: FileServer) -> None:
    """Status 404 means that the repository has no such file; other failures are errors."""
    assert find_file_or_none("someone/model", "missing") is None
    with pytest.raises(WeightsError, match=r"someone/model: missing cannot be downloaded \(HTTP 404 "):
        find_file("someone/model", "missing")
    server.faults = [Fault(403)]
    with pytest.raises(WeightsError, match="HTTP 403"):
        find_file_or_none("someone/model", "model.safetensors")
