"""Folders: writable or not, full, without locks; nothing is left behind."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfm_lightglue.diagnosis import storage, weights
from sfm_lightglue.diagnosis.storage import folder_findings
from sfm_lightglue.diagnosis.weights import shipped_digests, weights_findings
from sfm_lightglue.weights.catalog import CATALOG, SHIPPED_SHA256
from sfm_lightglue.weights.digest import file_sha256
from sfm_lightglue.weights.lookup import EMBEDDED_FOLDER
from tests.helpers.full_disk import fail_writes


def test_a_good_folder_is_as_it_was(tmp_path: Path) -> None:
    found = folder_findings(tmp_path, "folder")
    assert [one.name for one in found] == [
        "folder",
        "locks in the folder",
        "leases in the folder",
        "space of the folder",
    ]
    assert {one.state for one in found[:3]} == {"ok"}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    (first, _) = folder_findings(tmp_path / "a" / "b", "cache", exit_code=0)
    assert first.state == "ok" and first.text.endswith("can be made")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["ENOSPC", "EROFS"])
def test_a_full_or_read_only_disk_stops_the_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_writes(monkeypatch, tmp_path, name)
    first = folder_findings(tmp_path, "folder")[0]
    assert (first.state, first.exit_code, first.stops) == ("broken", 6, True)
    assert os.strerror(getattr(errno, name)) in first.text


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.os, "access", lambda path, mode: False)
    (one,) = folder_findings(tmp_path, "folder")
    assert one.stops and "not writable" in one.text


def test_a_folder_below_one_that_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who is not the administrator: nothing below the folder can be asked for."""
    (tmp_path / "closed").mkdir()
    refusing = {name: refused_below(tmp_path / "closed", getattr(os, name)) for name in ("stat", "lstat")}
    for name, function in refusing.items():
        monkeypatch.setattr(os, name, function)
    monkeypatch.setattr(storage.os, "access", lambda path, mode: Path(path) != tmp_path / "closed")
    (one,) = folder_findings(tmp_path / "closed" / "a" / "b", "folder")
    assert (one.state, one.stops) == ("broken", True) and one.text.endswith("b: is not writable")


def refused_below(folder: Path, function: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    def ask(path: Any, **options: Any) -> os.stat_result:
        if isinstance(path, str | Path) and folder in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return function(path, **options)

    return ask


def test_little_space_and_no_locks_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 5 * 10**7))
    monkeypatch.setattr(storage, "lock", lambda descriptor, waiting: True)
    found = {one.name: one for one in folder_findings(tmp_path, "folder")}
    assert found["space of the folder"].state == "missing" and not found["space of the folder"].stops
    assert found["locks in the folder"].state == "missing"


def test_the_weights_of_the_package_have_their_digests() -> None:
    shipped = {name: EMBEDDED_FOLDER / entry.file for name, entry in CATALOG.items() if entry.url is None}
    assert {name: file_sha256(path) for name, path in shipped.items()} == SHIPPED_SHA256 == shipped_digests()
    found = {one.name: one for one in weights_findings()}
    assert all(found[name].state == "ok" and "as published" in found[name].text for name in shipped)
    assert found["other networks"].state == "missing" and not found["other networks"].stops


@pytest.mark.parametrize(("content", "state"), [(b"damaged", "broken"), (None, "missing")])
def test_damaged_and_missing_weights_stop_the_work(
    content: bytes | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "EMBEDDED_FOLDER", tmp_path)
    path = tmp_path / "lightglue_sift.safetensors"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(
        weights,
        "candidate_paths",
        lambda entry: iter([path] if content is not None and entry.file == path.name else []),
    )
    found = {one.name: one for one in weights_findings()}
    assert (found["lightglue_sift"].state, found["lightglue_sift"].exit_code) == (state, 4)
    assert found["lightglue_sift"].stops
    assert not found["lightglue_sift_v2"].stops
    expected = "missing" if content is None else file_sha256(path)
    assert shipped_digests()["lightglue_sift"] == expected
