"""The content of an output folder, to compare it with that of an undisturbed run: entries of the store, and results."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.robustness_shim import STATE_FILE
from sfm_lightglue.errors import DataError
from sfm_lightglue.store.inventory import damages_of_file, take_inventory
from sfm_lightglue.store.shard_file import verified

NOT_COMPARED = {"log.txt", STATE_FILE, ".lock", "run.json", "report.html"}
"""Files that differ between two runs, or are compared by their content."""

STORE_KINDS = ("features", "dense_features", "global_descriptors", "matches", "two_view", "mapped", "models")

LEFT_OVER = "is left over"
"""After a fault, part files and work folders may be left over until the next run."""

_CHANGING_PARTS = (
    (re.compile(r"[0-9a-f]{64}"), "*"),
    (re.compile(r"\d{8}-[0-9a-f]{32}"), "*"),
    (re.compile(r"/[0-9a-f]{2}(?=/|$)"), "/*"),
    (re.compile(r"\.\d+-[0-9a-f]{8}\.part"), ".*.part"),
    (re.compile(r"\.(new-work|work|publish)[-.][^/]*"), r".\1*"),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An undisturbed run.

    Args:
        entries: of its store, see `store_entries`.
        results: its other files, by relative path.
        record: its record without times.
    """

    entries: dict[str, bytes]
    results: dict[str, bytes]
    record: dict[str, Any]

    @classmethod
    def of(cls, output: Path) -> Self:
        """The content of a folder."""
        files = {
            name: content
            for name, content in read_tree(output).items()
            if name not in NOT_COMPARED and not is_store_file(name)
        }
        return cls(store_entries(output), files, comparable_record(output))


def is_store_file(name: str) -> bool:
    """Whether a file of an output folder, by its relative path, has entries of the store."""
    parts = name.split("/")
    return parts[0] in STORE_KINDS and not any(part.startswith(".") for part in parts)


def store_entries(output: Path) -> dict[str, bytes]:
    """The bytes of all entries of a store by kind and key, "KIND/KEY"; those of damaged ones and shards are empty.

    In which files the entries are depends on the time, and on other runs.
    """
    try:
        inventories = take_inventory(output)
    except DataError:
        return {}
    entries = {}
    for inventory in inventories:
        entries |= {f"{inventory.kind}/{one.path.name}": b"" for one in inventory.unreadable}
        for key, path in inventory.files.items():
            entries[f"{inventory.kind}/{key}"] = b"" if damages_of_file(path, key) else path.read_bytes()
        for index in inventory.shards:
            data_from_row = verified(index)
            for row, key in enumerate(index.rows["key"]):
                entries[f"{inventory.kind}/{key.tobytes().hex()}"] = data_from_row.get(row, b"")
    return entries


def kind_of_path(path: str) -> str:
    """A path without the parts that differ from run to run."""
    for pattern, replacement in _CHANGING_PARTS:
        path = pattern.sub(replacement, path)
    return path


def read_tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def comparable_record(output: Path) -> dict[str, Any]:
    """The `run.json` without times, memory and counts of the cache."""
    record: dict[str, Any] = json.loads((output / "run.json").read_text(encoding="utf-8"))
    for name in ("seconds", "peak_memory_mb", "peak_memory_mb_by_stage", "cache"):
        record.get("summary", {}).pop(name, None)
    return record
