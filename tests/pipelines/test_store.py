"""The command that looks after a store."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.store import main
from sfm_lightglue.store.entry_file import write_entry_file
from sfm_lightglue.store.store import Store, make_key

KEYS = [make_key(number) for number in range(4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store(tmp_path) as store:
        for key in KEYS[:3]:
            store.save("two_view", key, {"a": np.arange(3)})
    write_entry_file(store.path("two_view", KEYS[3]), KEYS[3], {"a": np.arange(3)})
    store.save("features", KEYS[0], {"a": np.arange(3)})
    return tmp_path


def shards_of(root: Path) -> list[Path]:
    return sorted((root / "two_view").glob("*.npz"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_stats_as_a_table_and_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, table, _ = run(capsys, "stats", root)
    assert code == 0
    assert [line.split()[:4] for line in table.splitlines()[1:]] == [
        ["features", "1", "1", "0"],
        ["two_view", "4", "2", "1"],
        ["total", "5", "3", "1"],
    ]
    code, text, _ = run(capsys, "stats", root, "--json", "--kind", "two_view")
    values = json.loads(text)
    assert (code, list(values["kinds"]), values["total"]["num_entries"]) == (0, ["two_view"], 4)


def test_check_lists_damaged_entries_and_ends_with_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", root, "--quiet") == (0, "5 entries are undamaged; 0 damages\n", "")
    path = Store(root).path("features", KEYS[0])
    path.write_bytes(path.read_bytes()[:-1])
    code, text, _ = run(capsys, "check", root, "--quiet")
    assert code == 1
    assert text.startswith(f"{path}: entry {KEYS[0]}: ")
    assert text.endswith("4 entries are undamaged; 1 damages\n")
    code, text, _ = run(capsys, "check", root, "--quiet", "--json")
    values = json.loads(text)
    assert (code, values["num_undamaged"]) == (1, 4)
    assert [damage["key"] for damage in values["damages"]] == [KEYS[0]]


def test_compact_and_prune(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "compact", root, "--dry-run")
    assert code == 0 and "2 files" in text and "1 shards would be written" in text
    assert run(capsys, "compact", root, "--quiet")[0] == 0
    assert len(shards_of(root)) == 1
    shards_of(root)[0].write_bytes(b"")
    code, text, _ = run(capsys, "prune", root)
    assert code == 0 and "damaged" in text and shards_of(root) == []


def test_all_entries_of_a_kind_are_removed_only_if_it_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run(capsys, "prune", root, "--all")
    assert code == 2 and "--kind" in errors
    assert run(capsys, "prune", root, "--all", "--kind", "features")[0] == 0
    assert sorted(path.name for path in root.iterdir()) == ["two_view"]


def test_a_folder_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("check", "stats", "compact", "prune"):
        code, _, errors = run(capsys, action, tmp_path)
        assert code == 3 and "no store" in errors
        assert not list(tmp_path.iterdir())
