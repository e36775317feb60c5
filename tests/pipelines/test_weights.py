"""`sfm-lightglue weights`, and commands that download their weights automatically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.__main__ import main as sfm_lightglue
from pipelines.match import main as match_command
from pipelines.weights import main
from sfm_lightglue.weights import lookup
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from sfm_lightglue.weights.lookup import cache_folder
from tests.helpers.file_server import CONTENT, FileServer, file_server
from tests.helpers.untrained import write_lightglue


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def entry(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsEntry:
    """Non-commercial weights that are only on the server."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    entry = WeightsEntry(
        "tested", "tested.pth", server.url, "a restrictive licence", "tests", False, len(CONTENT), sha256
    )
    monkeypatch.setitem(CATALOG, entry.name, entry)  # type: ignore[arg-type]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in lookup.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return entry


def test_fetch_shows_licence_and_bar_once_and_then_the_path(
    entry: WeightsEntry, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cache_folder() / entry.file
    assert main(["fetch", "tested"]) == 0
    captured = capsys.readouterr()
    note, where = captured.out.splitlines()
    assert "licence: a restrictive licence; NON-COMMERCIAL use only" in note
    assert where == str(path)
    assert "tested" in captured.err
    assert "307k/307k" in captured.err
    assert path.read_bytes() == CONTENT
    assert main(["fetch", "tested"]) == 0
    assert capsys.readouterr() == (f"{path}\n", "")
    assert len(server.requests) == 1


def test_fetch_can_be_quiet(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "tested", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{cache_folder() / entry.file}\n"
    (note,) = captured.err.splitlines()
    assert "a restrictive licence; NON-COMMERCIAL use only" in note


def test_path_prints_the_path_alone(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["path", "tested"]) == 4
    captured = capsys.readouterr()
    assert captured == ("", "error: tested is missing: `sfm-lightglue weights fetch tested` downloads it\n")
    main(["fetch", "tested"])
    capsys.readouterr()
    assert sfm_lightglue(["weights", "path", "tested"]) == 0
    assert capsys.readouterr().out == f"{cache_folder() / entry.file}\n"


def test_list_shows_paths_and_faults(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fetch", "tested"])
    damaged = cache_folder() / CATALOG["aliked-t16"].file
    damaged.write_bytes(b"torn")
    capsys.readouterr()
    assert main(["list"]) == 0
    line_from_name = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert line_from_name.keys() == {"name", *CATALOG}
    assert line_from_name["tested"].split()[1:3] == ["0.3", "MB"]
    assert "  a restrictive licence  " in line_from_name["tested"]
    assert line_from_name["tested"].endswith(f"  {cache_folder() / entry.file}")
    assert line_from_name["disk"].endswith("not downloaded")
    assert line_from_name["aliked-t16"].endswith(f"{damaged} has 4 bytes, expected 794859")


def test_list_as_json_has_all_entries(entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fetch", "tested"])
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == CATALOG.keys()
    assert rows["tested"] == {
        "name": "tested",
        "purpose": "tests",
        "licence": "a restrictive licence",
        "commercial": False,
        "url": entry.url,
        "file": "tested.pth",
        "size": len(CONTENT),
        "sha256": entry.sha256,
        "path": str(cache_folder() / entry.file),
        "fault": None,
    }
    assert rows["disk"]["path"] is None


def test_errors_are_one_line_and_exit_code_4(
    entry: WeightsEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "tested", "dsk"]) == 4
    assert "did you mean 'disk'?" in capsys.readouterr().err
    assert server.requests == []  # a wrong name is reported before the first download
    monkeypatch.setitem(CATALOG, entry.name, replace(entry, url=server.url.replace("weights.pth", "missing")))
    assert main(["fetch", "tested"]) == 4
    assert "HTTP 404" in capsys.readouterr().err
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    assert main(["fetch", "tested"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("quiet", [False, True])
def test_the_match_command_downloads_its_weights(
    quiet: bool,
    entry: WeightsEntry,
    server: FileServer,
    small_scene_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.content = write_lightglue(tmp_path / "weights.safetensors").read_bytes()
    monkeypatch.setitem(CATALOG, entry.name, replace(entry, sha256=None, size=None))  # type: ignore[arg-type]
    images = [str(small_scene_dir / "images" / f"view_0{index}.jpg") for index in (0, 1)]
    flags = ["--matcher", "lightglue", "--matcher-weights", "tested", "--max-keypoints", "600", "--device", "cpu"]
    assert match_command([*images, "--json", *flags, *(["--quiet"] if quiet else [])]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "general"
    assert "warning: tested: downloading" in captured.err
    assert "NON-COMMERCIAL" in captured.err
    assert ("100%" in captured.err) is not quiet
    assert len(server.requests) == 1


def test_help_downloads_nothing(server: FileServer, entry: WeightsEntry, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (main, match_command):
        with pytest.raises(SystemExit) as caught:
            command(["--help"])
        assert caught.value.code == 0
    assert sfm_lightglue(["--help"]) == 0
    assert "  weights " in capsys.readouterr().out
    assert server.requests == []
