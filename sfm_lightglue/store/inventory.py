"""All files and entries of a store: what there is, and what is damaged."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.entry_bytes import decode_entry
from sfm_lightglue.store.entry_file import read_entry_file
from sfm_lightglue.store.shard_file import (
    DamagedShardError,
    ShardIndex,
    read_shard_index,
    shard_number,
    verified,
)

_ENTRY_FOLDER = re.compile(r"[0-9a-f]{2}")
_ENTRY_FILE = re.compile(r"([0-9a-f]{64})\.npz")


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged entry, or a damaged file.

    Args:
        path: of the file.
        key: of the entry; "" for a whole file.
        reason: what is wrong.
        is_unread: whether the file could not be read, so that it may be undamaged.
    """

    path: Path
    key: str
    reason: str
    is_unread: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class KindInventory:
    """The files of one kind of entries.

    Args:
        kind: such as "matches".
        shards: the readable shards, in the order in which they replace each other's entries.
        current: for each shard, [N] whether no later shard has an entry of the same key.
        unreadable: shards without a readable index.
        files: entries that are files of their own, by key.
    """

    kind: str
    shards: tuple[ShardIndex, ...]
    current: tuple[BoolArray, ...]
    unreadable: tuple[Damage, ...]
    files: Mapping[str, Path]

    @property
    def keys_in_shards(self) -> set[str]:
        """Keys of the entries in shards."""
        return {bytes(key).hex() for index in self.shards for key in index.rows["key"]}

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [*(index.path for index in self.shards), *(one.path for one in self.unreadable), *self.files.values()]

    def stats(self) -> dict[str, int]:
        """Counts of entries and files, and sizes in bytes."""
        in_shards = self.keys_in_shards if self.files else set()
        num_current = sum(int(mask.sum()) for mask in self.current)
        num_replaced = sum(len(mask) for mask in self.current) - num_current
        return {
            "num_entries": num_current + sum(key not in in_shards for key in self.files),
            "num_files": len(self.paths),
            "num_shards": len(self.shards) + len(self.unreadable),
            "num_replaced": num_replaced + sum(key in in_shards for key in self.files),
            "num_bytes": sum(file_size(path) for path in self.paths),
        }


def take_inventory(root: Path, kinds: Sequence[str] = ()) -> list[KindInventory]:
    """The files of a store, by kind.

    Args:
        root: folder of the store.
        kinds: only these; empty for all.

    Raises:
        DataError: if the folder has no store, or not all of these kinds.
    """
    if not root.is_dir():
        raise DataError(f"{shown_path(root)}: there is no such folder")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [inventory for name in names if (inventory := _kind_inventory(root / name)) is not None]
    present = {inventory.kind for inventory in found}
    missing = sorted(set(kinds) - present)
    if missing or not found:
        what = f"no entries of {', '.join(missing)}" if missing else "no store"
        has = f"; it has {', '.join(sorted(present))}" if present else "; name the output folder of a reconstruction"
        raise DataError(f"{shown_path(root)}: the folder has {what}{has}")
    return [inventory for inventory in found if not kinds or inventory.kind in kinds]


def check_store(root: Path, kinds: Sequence[str] = (), progress: Progress = silent) -> tuple[int, list[Damage]]:
    """Read all entries of a store, and verify their checksums.

    Args:
        root: folder of the store.
        kinds: only these; empty for all.
        progress: called after each file.

    Returns:
        Number of undamaged entries, and the damages.

    Raises:
        DataError: as in `take_inventory`.
    """
    inventories = take_inventory(root, kinds)
    num_files, num_done, num_good = sum(len(one.paths) for one in inventories), 0, 0
    damages: list[Damage] = []
    for inventory in inventories:
        damages += inventory.unreadable
        num_done += len(inventory.unreadable)
        for num_entries, found in _checked_files(inventory):
            num_good += num_entries - sum(one.key != "" for one in found)
            damages += found
            num_done += 1
            progress("check", num_done, num_files)
    return num_good, damages


def read_all_entries(inventory: KindInventory) -> Iterator[tuple[str, dict[str, AnyArray]]]:
    """Key and arrays of all current, undamaged entries of a kind."""
    for index, current in zip(inventory.shards, inventory.current, strict=True):
        for row, data in verified(index).items():
            if current[row]:
                yield index.rows["key"][row].tobytes().hex(), decode_entry(data)
    in_shards = inventory.keys_in_shards
    for key, path in inventory.files.items():
        if key not in in_shards and not damages_of_file(path, key):
            yield key, read_entry_file(path, key)


def damages_of_shard(index: ShardIndex) -> list[Damage]:
    """The damaged entries of a shard, and whether the archive around them is damaged; none if the file has gone."""
    return _unless_unread(index.path, "", lambda: _damages_in_shard(index))


def damages_of_file(path: Path, key: str) -> list[Damage]:
    """Whether an entry that is a file of its own is damaged; it is not if it has gone."""

    def damages() -> list[Damage]:
        reason = _reason(lambda: read_entry_file(path, key))
        return [Damage(path, key, reason)] if reason else []

    return _unless_unread(path, key, damages)


def _damages_in_shard(index: ShardIndex) -> list[Damage]:
    data_from_row = verified(index)
    is_archive = not _reason(lambda: _test_archive(index.path))
    damages = []
    for row, key in enumerate(index.rows["key"]):
        reason = "the checksum is wrong"
        if row in data_from_row:
            reason = _reason(lambda data=data_from_row[row]: decode_entry(data))  # type: ignore[misc]
        if reason:
            damages.append(Damage(index.path, key.tobytes().hex(), reason))
    if not index.is_whole or not (is_archive or damages):
        damages.append(Damage(index.path, "", "the index or the archive is damaged"))
    return damages


def _test_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")


def _unless_unread(path: Path, key: str, damages: Callable[[], list[Damage]]) -> list[Damage]:
    """What a function finds; none if the file has gone, and one damage if it cannot be read."""
    try:
        return damages()
    except FileNotFoundError:  # another process has merged it into a later one
        return []
    except (OSError, MemoryError) as error:
        return [_unread(path, key, error)]


def _unread(path: Path, key: str, error: Exception) -> Damage:
    return Damage(path, key, f"cannot be read ({error or type(error).__name__})", is_unread=True)


def _checked_files(inventory: KindInventory) -> Iterator[tuple[int, list[Damage]]]:
    """Number of entries that could be read, and damages, of each file with a readable index; 0 if it has gone."""
    for index in inventory.shards:
        damages = damages_of_shard(index)
        is_read = not any(damage.is_unread for damage in damages) and index.path.exists()
        yield len(index.rows) if is_read else 0, damages
    for key, path in inventory.files.items():
        damages = damages_of_file(path, key)
        yield int(bool(damages) or path.exists()), damages


def _reason(read: Callable[[], object]) -> str:
    """What is wrong with bytes that can be read; "" for nothing."""
    try:
        read()
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged bytes raise many kinds of exceptions
        return str(error) or type(error).__name__
    return ""


def _kind_inventory(folder: Path) -> KindInventory | None:
    """The files of a kind; None if a folder holds none of a store."""
    shards: list[ShardIndex] = []
    unreadable: list[Damage] = []
    files: dict[str, Path] = {}
    for path in _paths_in(folder):
        if shard_number(path.name) is not None:
            try:
                shards.append(read_shard_index(path))
            except FileNotFoundError:  # another process has merged it into a later one
                continue
            except DamagedShardError as error:
                unreadable.append(Damage(path, "", str(error)))
            except (OSError, MemoryError) as error:
                unreadable.append(_unread(path, "", error))
        elif _ENTRY_FOLDER.fullmatch(path.name) and path.is_dir():
            matches = ((_ENTRY_FILE.fullmatch(entry.name), entry) for entry in _paths_in(path))
            files |= {match[1]: entry for match, entry in matches if match and match[1][:2] == path.name}
    if not (shards or unreadable or files):
        return None
    return KindInventory(folder.name, tuple(shards), _current(shards), tuple(unreadable), files)


def _paths_in(folder: Path) -> list[Path]:
    """What a folder has, sorted; nothing if it has gone."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _current(shards: Sequence[ShardIndex]) -> tuple[BoolArray, ...]:
    """For each shard, whether no later row has the same key."""
    keys = np.concatenate([np.zeros((0, 32), np.uint8), *(index.rows["key"] for index in shards)])
    _, first_from_end = np.unique(keys.view("V32")[::-1, 0], return_index=True)
    mask = np.zeros(len(keys), np.bool_)
    mask[len(keys) - 1 - first_from_end] = True
    ends = np.cumsum([len(index.rows) for index in shards])
    return tuple(np.split(mask, ends[:-1])) if shards else ()


def file_size(path: Path) -> int:
    """Size of a file in bytes; 0 if it has gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
