"""The state of a training run on the disk: whole or not at all, and only for the run that it belongs to."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.store.store import atomic_write

LAST, BEST, STABLE = "last.pt", "best.pt", "stable.pt"
"""The newest state; the best by validation; the newest with the full learning rate, from which to prolong."""

FORMAT_VERSION = 2

_BEFORE_IT_EXISTED = {"batches.mirrored_share": 0.0}
"""Options that came later: what runs from before them are."""

Checkpoint = dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Writes a checkpoint; a reader sees the old one or the new one, never a part.

    Args:
        path: of the file.
        checkpoint: tensors and plain values.

    Raises:
        StoreError: where the file cannot be written.
    """
    with atomic_write(path) as file:
        torch.save({**checkpoint, "format_version": FORMAT_VERSION}, file)


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Reads a checkpoint to the CPU, without running code; None where there is none.

    Raises:
        DataError: where the file is damaged, or of another version of the trainer.
    """
    if not path.exists():
        return None
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged checkpoint; remove it to start from an older one or anew") from error
    if not isinstance(loaded, dict) or loaded.get("format_version") != FORMAT_VERSION:
        raise DataError(f"{path}: no checkpoint of this version of the trainer")
    return loaded


def checkpoint_to_resume(folder: Path, num_steps: int, num_decay_steps: int) -> Checkpoint | None:
    """The state from which a run of so many steps goes on.

    That is the last one, unless its learning rate has begun to fall in a plan that is now another: then the
    state before the fall.

    Args:
        folder: of the run.
        num_steps: of the whole run.
        num_decay_steps: the last ones, in which the learning rate falls.

    Raises:
        DataError: where a checkpoint is damaged.
    """
    last = load_checkpoint(folder / LAST)
    if last is None:
        return load_checkpoint(folder / STABLE)
    plan = (last["num_steps"], last["num_decay_steps"])
    if plan == (num_steps, num_decay_steps) or last["step"] <= plan[0] - plan[1]:
        return last
    return load_checkpoint(folder / STABLE) or last


def require_same_config(stored: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Refuses to go on with what was trained otherwise.

    Raises:
        ConfigError: naming what differs.
    """
    before, now = _BEFORE_IT_EXISTED | _flat(stored), _flat(config)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if names:
        what = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in names)
        raise ConfigError(f"{folder}: a run with other options is here ({what}); choose another folder, or restart")


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to a log of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
