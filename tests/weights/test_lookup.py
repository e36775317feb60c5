"""Weights are located automatically: by path, in the user's folders, the cache, the package, or by download."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.weights import lookup
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from sfm_lightglue.weights.digest import fault_of
from sfm_lightglue.weights.download import DownloadConfig
from sfm_lightglue.weights.lookup import (
    cache_folder,
    fetch_weights,
    find_weights,
    locate_weights,
    reporting_downloads,
    require_weights,
)
from tests.helpers.file_server import CONTENT, Fault, FileServer, file_server
from tests.helpers.library_log import library_log
from tests.helpers.shared_data import shared_data

SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def entry(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsEntry:
    """An entry of the catalogue whose file is only on the server; downloads are allowed."""
    entry = WeightsEntry("tested", "tested.pth", server.url, "MIT", "tests", True, len(CONTENT), SHA256)
    monkeypatch.setitem(CATALOG, entry.name, entry)  # type: ignore[arg-type]
    monkeypatch.setattr(lookup, "EMBEDDED_FOLDER", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for name in lookup.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return entry


@pytest.fixture
def ours(entry: WeightsEntry, monkeypatch: pytest.MonkeyPatch) -> WeightsEntry:
    """The entry of the weights that come with the package, without digest and size."""
    ours = replace(CATALOG["lightglue_sift"], sha256=None, size=None)
    monkeypatch.setitem(CATALOG, ours.name, ours)  # type: ignore[arg-type]
    return ours


def put(folder: Path, entry: WeightsEntry, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / entry.file
    path.write_bytes(content)
    return path


def test_the_catalogue_is_consistent() -> None:
    assert len({entry.file for entry in CATALOG.values()}) == len(CATALOG)
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert entry.url is None or entry.url.startswith("https://")
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert Path(entry.file).name == entry.file
        assert entry.licence
        assert entry.purpose
    embedded = {name for name, entry in CATALOG.items() if entry.url is None}
    assert embedded == {"lightglue_sift", "lightglue_sift_v2", "retrieval_sift"}
    assert {name for name, entry in CATALOG.items() if not entry.commercial} == {
        "superpoint_v1",
        "ETH-CVG/lightglue_superpoint",
    }


def test_the_catalogue_has_the_digests_of_shared_files() -> None:
    folder = shared_data("weights")
    paths = {path.name: path for path in folder.glob("*.pth")}
    entries = [entry for entry in CATALOG.values() if entry.file in paths]
    assert {entry.name for entry in entries} == {"aliked-n16", "aliked-n16rot", "aliked-n32"}
    for entry in entries:
        assert fault_of(paths[entry.file], entry.sha256, entry.size) is None
        assert None not in (entry.sha256, entry.size)


def test_a_path_takes_precedence_over_names(
    entry: WeightsEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache_folder(), entry)
    monkeypatch.chdir(tmp_path)
    (tmp_path / entry.name).write_bytes(b"other weights")
    assert find_weights(entry.name).read_bytes() == b"other weights"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_weights(f"~/{entry.name}") == tmp_path / entry.name


def test_folders_are_searched_in_order(
    entry: WeightsEntry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setenv(lookup.FOLDERS_VARIABLE, os.pathsep.join(map(str, folders)))
    for folder in (lookup.EMBEDDED_FOLDER, cache_folder(), *reversed(folders)):
        path = put(folder, entry)
        assert find_weights(entry.name) == path
    assert server.requests == []


def test_a_missing_file_is_downloaded_once(entry: WeightsEntry, server: FileServer) -> None:
    assert locate_weights(entry) is None
    seen: list[tuple[str, int, int]] = []
    with reporting_downloads(lambda *counts: seen.append(counts)):
        path = find_weights(entry.name)
    assert path == cache_folder() / entry.file
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (entry.name, len(CONTENT), len(CONTENT))
    num_seen = len(seen)
    assert find_weights(entry.name) == path
    assert len(server.requests) == 1
    put(cache_folder(), entry, b"torn")
    find_weights(entry.name)
    assert len(seen) == num_seen  # no progress outside of the block


@pytest.mark.parametrize(("commercial", "level"), [(True, logging.INFO), (False, logging.WARNING)])
def test_the_licence_is_logged_only_for_a_download(
    commercial: bool, level: int, entry: WeightsEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, entry.name, replace(entry, commercial=commercial))  # type: ignore[arg-type]
    with library_log() as records:
        for _ in range(2):
            find_weights(entry.name)
    (record,) = records
    assert record.levelno == level
    assert "licence: MIT" in record.getMessage()
    assert ("NON-COMMERCIAL" in record.getMessage()) is not commercial


def test_a_wrong_file_in_the_cache_is_replaced(entry: WeightsEntry) -> None:
    path = put(cache_folder(), entry, CONTENT[::-1])
    assert find_weights(entry.name) == path
    assert path.read_bytes() == CONTENT


def test_a_wrong_file_in_a_folder_of_the_user_is_an_error(
    entry: WeightsEntry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lookup.FOLDERS_VARIABLE, str(tmp_path / "mine"))
    path = put(tmp_path / "mine", entry, CONTENT[::-1])
    with pytest.raises(WeightsError, match=f"{re.escape(str(path))} has the sha256 .*, expected {SHA256}: replace it"):
        find_weights(entry.name)
    assert path.read_bytes() == CONTENT[::-1]
    assert server.requests == []


def test_a_wrong_download_is_not_kept(entry: WeightsEntry, server: FileServer) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(WeightsError, match="it was replaced, or changed on the way"):
        find_weights(entry.name)
    assert locate_weights(entry) is None


@pytest.mark.parametrize("variable", lookup.OFFLINE_VARIABLES)
def test_offline_the_message_names_the_file_and_the_folder(
    variable: str, entry: WeightsEntry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError) as caught:
        find_weights(entry.name)
    path = cache_folder() / entry.file
    message = f"{variable} forbids downloads: get {server.url} elsewhere and put it at {path}"
    assert str(caught.value) == f"tested is missing, and {message}"
    assert server.requests == []
    # Follow the advice.
    put(cache_folder(), entry)
    assert find_weights(entry.name) == path
    # The message names the user's own folder if there is one.
    path.unlink()
    monkeypatch.setenv(lookup.FOLDERS_VARIABLE, str(tmp_path / "mine"))
    with pytest.raises(WeightsError, match=f"put it at {re.escape(str(tmp_path / 'mine' / entry.file))}$"):
        find_weights(entry.name)
    monkeypatch.setenv(variable, "0")
    assert find_weights(entry.name).is_file()


def test_an_unreachable_server_gives_the_same_advice(entry: WeightsEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights.pth"
    monkeypatch.setitem(CATALOG, entry.name, replace(entry, url=url))  # type: ignore[arg-type]
    advice = re.escape(f"get {url} elsewhere and put it at {cache_folder() / entry.file}")
    with pytest.raises(WeightsError, match=rf"^tested cannot be downloaded \(no connection: .*\): {advice}$"):
        find_weights(entry.name)


def test_a_download_that_breaks_too_often_gives_the_same_advice(entry: WeightsEntry, server: FileServer) -> None:
    server.faults = [Fault(503)] * 2
    with pytest.raises(WeightsError, match=r"\(HTTP 503 .*, in 2 attempts\): get http"):
        fetch_weights(entry, config=DownloadConfig(num_attempts=2, first_wait_s=0.001))


def test_a_cache_that_cannot_be_written_is_named(
    entry: WeightsEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"tested\.pth: cannot be written .*XDG_CACHE_HOME"):
        find_weights(entry.name)


def test_weights_of_the_package_are_not_downloaded(ours: WeightsEntry, server: FileServer) -> None:
    with pytest.raises(WeightsError, match="comes with the package, but is missing in this installation: put it at"):
        find_weights(ours.name)
    path = put(lookup.EMBEDDED_FOLDER, ours)
    assert find_weights(ours.name) == path
    assert server.requests == []


@pytest.mark.parametrize(
    ("given", "meant"), [("superpoint_lightglu", "superpoint_lightglue"), ("aliked_n16", "aliked-n16")]
)
def test_an_unknown_name_gives_an_error_with_the_nearest_name(given: str, meant: str) -> None:
    with pytest.raises(WeightsError, match=rf"^{given}: no such file, .*\(did you mean '{meant}'\?\)"):
        find_weights(given)


def test_errors_name_the_component_and_the_option(entry: WeightsEntry) -> None:
    assert require_weights("", "matcher x", "matcher.weights", entry.name) == cache_folder() / entry.file
    assert require_weights(entry.name, "matcher x", "matcher.weights", "lightglue_sift").name == entry.file
    with pytest.raises(WeightsError, match=r"^matcher x: lightglue_sift .*, or give `matcher\.weights`$"):
        require_weights("", "matcher x", "matcher.weights", "lightglue_sift")
    with pytest.raises(WeightsError, match=r"^matcher x: gone\.pth: no such file, .*lists all names$"):
        require_weights("gone.pth", "matcher x", "matcher.weights", "lightglue_sift")
    with pytest.raises(WeightsError, match=r"give `matcher\.weights`, such as a checkpoint of the authors"):
        require_weights("", "matcher x", "matcher.weights", "a checkpoint of the authors")


def test_the_matcher_accepts_names_and_has_a_default(entry: WeightsEntry, ours: WeightsEntry) -> None:
    by_name = LightGlueMatcher(LightGlueMatcherConfig(entry.name), "cpu")
    assert by_name.identity.weights == SHA256
    put(lookup.EMBEDDED_FOLDER, ours, b"ours")
    assert LightGlueMatcher().identity.weights == hashlib.sha256(b"ours").hexdigest()


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/sfm_lightglue"),
        (
            "linux",
            {"XDG_CACHE_HOME": "relative"},
            "/home/me/.cache/sfm_lightglue",
        ),  # relative paths are ignored, as in the XDG standard
        ("linux", {}, "/home/me/.cache/sfm_lightglue"),
        ("darwin", {}, "/home/me/Library/Caches/sfm_lightglue"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/sfm_lightglue"),
        ("win32", {}, "/home/me/AppData/Local/sfm_lightglue"),
    ],
)
def test_the_cache_is_in_the_cache_folder_of_the_system(
    system: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup.sys, "platform", system)
    monkeypatch.setattr(lookup.Path, "home", lambda: Path("/home/me"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
