"""Fewer files in a store: small shards and old entries are merged, and what nothing needs is removed.

New shards are complete before the files that they replace are removed. A process that is killed meanwhile leaves
entries twice, never none. Runs that use the store at the same time find the entries in the new shards.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sfm_lightglue.arrays import BoolArray
from sfm_lightglue.store.atomic_file import (
    ABANDONED_AFTER_S,
    PART_PATTERN,
    flush_folder,
    remove_abandoned_parts,
)
from sfm_lightglue.store.entry_bytes import encode_entry
from sfm_lightglue.store.entry_file import read_entry_file
from sfm_lightglue.store.inventory import (
    Damage,
    KindInventory,
    damages_of_file,
    damages_of_shard,
    file_size,
    take_inventory,
)
from sfm_lightglue.store.output_folder import SNAPSHOTS_FOLDER
from sfm_lightglue.store.shard_file import ShardIndex, verified, write_shard
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import SHARDED_KINDS

logger = logging.getLogger(__name__)

FULL_SHARD_ENTRIES = 4096
"""Entries of a shard that `compact_store` writes, unless their bytes are too many."""

FULL_SHARD_BYTES = 1 << 26


@dataclass(slots=True)
class Tidied:
    """What was done, or would be done.

    Args:
        removed: files and folders, and why.
        num_written: shards that were written.
        num_bytes_removed: of these files.
        num_bytes_written: of these shards.
    """

    removed: dict[Path, str] = field(default_factory=dict)
    num_written: int = 0
    num_bytes_removed: int = 0
    num_bytes_written: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class _Source:
    """A file whose entries are moved into another shard.

    Args:
        path: the file.
        num_entries: that are moved.
        why: it is removed.
        read: key and bytes of the entries that are moved.
    """

    path: Path
    num_entries: int
    why: str
    read: Callable[[], Iterator[tuple[bytes, bytes]]]


def compact_store(root: Path, kinds: Sequence[str] = (), dry_run: bool = False) -> Tidied:
    """Merge small shards, and entries of small kinds that are files of their own, into full shards.

    Args:
        root: folder of the store.
        kinds: only these; empty for all.
        dry_run: write and remove nothing.

    Raises:
        ConfigError: if another process compacts or prunes this store.
        DataError: as in `take_inventory`.
        StoreError: if the folder is not writable, or the disk is full.
    """
    return _tidy(root, kinds, dry_run, _to_compact)


def prune_store(root: Path, kinds: Sequence[str] = (), dry_run: bool = False, all_entries: bool = False) -> Tidied:
    """Remove what nothing needs: damaged entries, entries that later ones replace, and files of killed runs.

    Snapshots of a mapping are of a killed run if they have not changed for a day.

    Args:
        root: folder of the store.
        kinds: only these, and no snapshots; empty for all.
        dry_run: write and remove nothing.
        all_entries: remove all entries of these kinds; they are computed again when they are needed.

    Raises:
        ConfigError: if another process compacts or prunes this store.
        DataError: as in `take_inventory`.
        StoreError: if the folder is not writable, or the disk is full.
    """
    if not dry_run:
        remove_abandoned_parts(path for depth in ("", "*/", "*/*/") for path in root.glob(depth + PART_PATTERN))
    tidied = _tidy(root, kinds, dry_run, _everything if all_entries else _to_prune)
    if not kinds:
        _remove_abandoned_snapshots(root / SNAPSHOTS_FOLDER, dry_run, tidied)
    return tidied


def _tidy(root: Path, kinds: Sequence[str], dry_run: bool, choose: Callable[[KindInventory], list[_Source]]) -> Tidied:
    tidied = Tidied()
    with contextlib.nullcontext() if dry_run else sole_writer(root / "store", waiting=False):
        for inventory in take_inventory(root, kinds):
            number = max((index.number for index in inventory.shards), default=0)
            for group in _groups(choose(inventory)):
                number += 1
                if dry_run:
                    tidied.num_written += any(source.num_entries for source in group)
                else:
                    group = _replaced(root / inventory.kind, number, group, tidied)
                _remove(group, dry_run, tidied)
            if not dry_run:
                with contextlib.suppress(OSError):  # it has entries
                    (root / inventory.kind).rmdir()
    return tidied


def _remove_abandoned_snapshots(folder: Path, dry_run: bool, tidied: Tidied) -> None:
    for path in sorted(folder.glob("*/")):
        try:
            statuses = [each.lstat() for each in (path, *path.rglob("*"))]
        except OSError:  # it goes just now, or belongs to another user
            continue
        if time.time() - max(status.st_mtime for status in statuses) < ABANDONED_AFTER_S:
            continue
        tidied.removed[path] = "snapshots of a mapping that was killed"
        tidied.num_bytes_removed += sum(status.st_size for status in statuses if stat.S_ISREG(status.st_mode))
        if not dry_run:
            shutil.rmtree(path, ignore_errors=True)
    if not dry_run:
        with contextlib.suppress(OSError):  # it has snapshots, or there is none
            folder.rmdir()


def _to_compact(inventory: KindInventory) -> list[_Source]:
    shards = [
        (index, current)
        for index, current in zip(inventory.shards, inventory.current, strict=True)
        if len(index.rows) < FULL_SHARD_ENTRIES // 2 or not current.all()
    ]
    in_shards = inventory.keys_in_shards if inventory.files else set()
    files = inventory.files.items() if inventory.kind in SHARDED_KINDS else ()
    chosen = [_moved(index, current, "merged into a larger shard") for index, current in shards]
    chosen += [_moved_file(path, key, key in in_shards) for key, path in files if not damages_of_file(path, key)]
    is_tidy = len(chosen) == 1 and len(shards) == 1 and shards[0][1].all()
    return [] if is_tidy else chosen


def _to_prune(inventory: KindInventory) -> list[_Source]:
    in_shards = inventory.keys_in_shards if inventory.files else set()
    chosen = _damaged(inventory.unreadable)
    for index, current in zip(inventory.shards, inventory.current, strict=True):
        damages = damages_of_shard(index)
        if any(damage.is_unread for damage in damages):
            chosen += _damaged(damages)
        elif damages or not current.all():
            why = f"{len(damages)} damages, {len(current) - int(current.sum())} entries replaced by later ones"
            chosen.append(_moved(index, current, why))
    for key, path in inventory.files.items():
        if key in in_shards:
            chosen.append(_dropped(path, "replaced by a later entry"))
        else:
            chosen += _damaged(damages_of_file(path, key))
    return chosen


def _damaged(damages: Iterable[Damage]) -> list[_Source]:
    """Damaged files, which are removed; those that cannot be read stay, and are told."""
    chosen = []
    for damage in damages:
        if damage.is_unread:
            logger.warning("%s: %s, is left as it is", damage.path, damage.reason)
        else:
            chosen.append(_dropped(damage.path, f"damaged: {damage.reason}"))
    return chosen


def _everything(inventory: KindInventory) -> list[_Source]:
    return [_dropped(path, f"of the kind {inventory.kind}") for path in inventory.paths]


def _dropped(path: Path, why: str) -> _Source:
    return _Source(path, 0, why, lambda: iter(()))


def _moved(index: ShardIndex, current: BoolArray, why: str) -> _Source:
    def read() -> Iterator[tuple[bytes, bytes]]:
        data_from_row = verified(index)
        if len(data_from_row) < len(index.rows):
            num_damaged = len(index.rows) - len(data_from_row)
            logger.warning("%s: %d damaged entries will be computed again", index.path, num_damaged)
        for row, data in data_from_row.items():
            if current[row]:
                yield index.rows["key"][row].tobytes(), data

    return _Source(index.path, int(current.sum()), why, read)


def _moved_file(path: Path, key: str, is_replaced: bool) -> _Source:
    if is_replaced:
        return _dropped(path, "replaced by a later entry")

    def read() -> Iterator[tuple[bytes, bytes]]:
        yield bytes.fromhex(key), encode_entry(read_entry_file(path, key))

    return _Source(path, 1, "moved into a shard", read)


def _groups(sources: Iterable[_Source]) -> Iterator[list[_Source]]:
    """Sources whose entries fill one shard each."""
    group: list[_Source] = []
    num_entries, num_bytes = 0, 0
    for source in sources:
        size = file_size(source.path) if source.num_entries else 0
        if group and (num_entries + source.num_entries > FULL_SHARD_ENTRIES or num_bytes + size > FULL_SHARD_BYTES):
            yield group
            group, num_entries, num_bytes = [], 0, 0
        group.append(source)
        num_entries, num_bytes = num_entries + source.num_entries, num_bytes + size
    if group:
        yield group


def _replaced(folder: Path, number: int, group: Sequence[_Source], tidied: Tidied) -> list[_Source]:
    """Write the entries of a group into one shard; returns the sources without those that cannot be read."""
    entries: dict[bytes, bytes] = {}
    read = []
    for source in group:
        try:
            entries |= source.read()
        except FileNotFoundError:  # the run that wrote it has merged it into a later one
            continue
        except OSError as error:
            logger.warning("%s: cannot be read (%s), is left as it is", source.path, error)
            continue
        read.append(source)
    if entries:
        written = write_shard(folder, number, entries)
        flush_folder(folder)
        tidied.num_written += 1
        tidied.num_bytes_written += written.path.stat().st_size
    return read


def _remove(group: Sequence[_Source], dry_run: bool, tidied: Tidied) -> None:
    for source in group:
        tidied.removed[source.path] = source.why
        with contextlib.suppress(FileNotFoundError):
            tidied.num_bytes_removed += source.path.stat().st_size
            if not dry_run:
                source.path.unlink()
        if not dry_run:
            with contextlib.suppress(OSError):  # it has other files, or other entries
                source.path.parent.rmdir()
