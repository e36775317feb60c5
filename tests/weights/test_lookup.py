"""Weights find themselves: by path, in the user's folders, in the cache, in the package, and by download."""

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

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.weights import lookup
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
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
    """Weights of the table that the server has, on a machine that has nothing and is online."""
    entry = WeightsEntry("tested", "tested.pth", server.url, "MIT", "tests", True, len(CONTENT), SHA256)
    monkeypatch.setitem(CATALOG, entry.name, entry)  # type: ignore[arg-type]
    monkeypatch.setattr(lookup, "EMBEDDED_FOLDER", tmp_path / "package")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for name in lookup.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return entry


@pytest.fixture
def ours(entry: WeightsEntry, monkeypatch: pytest.MonkeyPatch) -> WeightsEntry:
    """What comes with the package, whatever its bytes are."""
    ours = replace(CATALOG["lightglue_sift"], sha256=None, size=None)
    monkeypatch.setitem(CATALOG, ours.name, ours)  # type: ignore[arg-type]
    return ours


def put(folder: Path, entry: WeightsEntry, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / entry.file
    path.write_bytes(content)
    return path


def test_the_table_is_in_order() -> None:
    assert len({entry.file for entry in CATALOG.values()}) == len(CATALOG)
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert entry.url is None or entry.url.startswith("https://")
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert Path(entry.file).name == entry.file
        assert entry.licence
        assert entry.purpose
    assert {name for name, entry in CATALOG.items() if entry.url is None} == {"lightglue_sift"}
    assert {name for name, entry in CATALOG.items() if not entry.commercial} == {
        "superpoint_v1",
        "ETH-CVG/lightglue_superpoint",
    }


def test_the_table_knows_the_files_that_we_have() -> None:
    folder = shared_data("weights")
    paths = {path.name: path for path in folder.glob("*.pth")}
    entries = [entry for entry in CATALOG.values() if entry.file in paths]
    assert {entry.name for entry in entries} == {"aliked-n16", "aliked-n16rot", "aliked-n32"}
    for entry in entries:
        assert lookup.fault_in(paths[entry.file], entry) is None
        assert None not in (entry.sha256, entry.size)


def test_a_path_comes_before_all_names(entry: WeightsEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache_folder(), entry)
    monkeypatch.chdir(tmp_path)
    (tmp_path / entry.name).write_bytes(b"other weights")
    assert find_weights(entry.name).read_bytes() == b"other weights"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_weights(f"~/{entry.name}") == tmp_path / entry.name


def test_places_are_asked_in_their_order(
    entry: WeightsEntry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setenv(lookup.FOLDERS_VARIABLE, os.pathsep.join(map(str, folders)))
    for folder in (lookup.EMBEDDED_FOLDER, cache_folder(), *reversed(folders)):
        path = put(folder, entry)
        assert find_weights(entry.name) == path
    assert server.requests == []


def test_what_is_nowhere_is_downloaded_once(entry: WeightsEntry, server: FileServer) -> None:
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
    assert len(seen) == num_seen  # nobody is told outside of the block


@pytest.mark.parametrize(("commercial", "level"), [(True, logging.INFO), (False, logging.WARNING)])
def test_the_licence_is_told_when_it_is_downloaded_and_only_then(
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


def test_a_wrong_download_gets_no_name(entry: WeightsEntry, server: FileServer) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(WeightsError, match="it was replaced, or altered on the way"):
        find_weights(entry.name)
    assert locate_weights(entry) is None


@pytest.mark.parametrize("variable", lookup.OFFLINE_VARIABLES)
def test_offline_says_in_one_sentence_which_file_to_put_where(
    variable: str, entry: WeightsEntry, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError) as caught:
        find_weights(entry.name)
    place = cache_folder() / entry.file
    message = f"{variable} forbids to download it: get {server.url} elsewhere and put it at {place}"
    assert str(caught.value) == f"tested is not here, and {message}"
    assert server.requests == []
    # The advice is followed ...
    put(cache_folder(), entry)
    assert find_weights(entry.name) == place
    # ... and names the user's own folder, where there is one.
    place.unlink()
    monkeypatch.setenv(lookup.FOLDERS_VARIABLE, str(tmp_path / "mine"))
    with pytest.raises(WeightsError, match=f"put it at {re.escape(str(tmp_path / 'mine' / entry.file))}$"):
        find_weights(entry.name)
    monkeypatch.setenv(variable, "0")
    assert find_weights(entry.name).is_file()


def test_an_unreachable_server_says_the_same(entry: WeightsEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights.pth"
    monkeypatch.setitem(CATALOG, entry.name, replace(entry, url=url))  # type: ignore[arg-type]
    advice = re.escape(f"get {url} elsewhere and put it at {cache_folder() / entry.file}")
    with pytest.raises(WeightsError, match=rf"^tested cannot be downloaded \(no connection: .*\): {advice}$"):
        find_weights(entry.name)


def test_a_download_that_breaks_too_often_says_the_same(entry: WeightsEntry, server: FileServer) -> None:
    server.faults = [Fault(503)] * 2
    with pytest.raises(WeightsError, match=r"\(HTTP 503 .*, in 2 attempts\): get http"):
        fetch_weights(entry, config=DownloadConfig(num_attempts=2, first_wait_s=0.001))


def test_a_cache_that_cannot_be_written_is_named(
    entry: WeightsEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"tested\.pth: cannot be written .*XDG_CACHE_HOME"):
        find_weights(entry.name)


def test_what_comes_with_the_package_alone_is_not_downloaded(ours: WeightsEntry, server: FileServer) -> None:
    with pytest.raises(WeightsError, match="comes with the package, and this installation lacks it: put it at"):
        find_weights(ours.name)
    path = put(lookup.EMBEDDED_FOLDER, ours)
    assert find_weights(ours.name) == path
    assert server.requests == []


@pytest.mark.parametrize(
    ("given", "meant"), [("superpoint_lightglu", "superpoint_lightglue"), ("aliked_n16", "aliked-n16")]
)
def test_what_is_neither_path_nor_name_is_told_with_the_nearest_name(given: str, meant: str) -> None:
    with pytest.raises(WeightsError, match=rf"^{given}: no such file, .*\(did you mean '{meant}'\?\)"):
        find_weights(given)


def test_components_name_themselves_and_the_option(entry: WeightsEntry) -> None:
    assert require_weights("", "matcher x", "--matcher-weights", entry.name) == cache_folder() / entry.file
    assert require_weights(entry.name, "matcher x", "--matcher-weights", "lightglue_sift").name == entry.file
    with pytest.raises(WeightsError, match=r"^matcher x: lightglue_sift .*, or give --matcher-weights FILE$"):
        require_weights("", "matcher x", "--matcher-weights", "lightglue_sift")
    with pytest.raises(WeightsError, match=r"^matcher x: gone\.pth: no such file, .*names all$"):
        require_weights("gone.pth", "matcher x", "--matcher-weights", "lightglue_sift")
    with pytest.raises(WeightsError, match="give --weights FILE, such as what the paper offers"):
        require_weights("", "matcher x", "--weights", "what the paper offers")


def test_the_matcher_takes_names_and_has_ours_by_default(entry: WeightsEntry, ours: WeightsEntry) -> None:
    by_name = LightGlueMatcher(LightGlueMatcherConfig(entry.name), "cpu")
    assert by_name.identity.weights == SHA256
    put(lookup.EMBEDDED_FOLDER, ours, b"ours")
    assert LightGlueMatcher().identity.weights == hashlib.sha256(b"ours").hexdigest()


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/sfm_lightglue"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/sfm_lightglue"),  # as the XDG standard says
        ("linux", {}, "/home/me/.cache/sfm_lightglue"),
        ("darwin", {}, "/home/me/Library/Caches/sfm_lightglue"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/sfm_lightglue"),
        ("win32", {}, "/home/me/AppData/Local/sfm_lightglue"),
    ],
)
def test_the_cache_is_where_the_system_keeps_caches(
    system: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup.sys, "platform", system)
    monkeypatch.setattr(lookup.Path, "home", lambda: Path("/home/me"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
