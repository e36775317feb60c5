"""Checkpoints of a training run on the disk: written completely or not at all, and resumed only by the same run."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.store.atomic_file import atomic_write, store_errors
from sfm_lightglue.training.options import RunOptions
from sfm_lightglue.training.time_plan import TimePlan

LAST, BEST, STABLE = "last.pt", "best.pt", "stable.pt"
"""The newest state; the best state by validation; the last state with the full learning rate, to prolong a run."""

FORMAT_VERSION = 3

Checkpoint = dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one.

    Args:
        path: of the file.
        checkpoint: tensors and plain values.

    Raises:
        StoreError: if the file cannot be written.
    """
    content = io.BytesIO()  # torch turns the error of a full disk into a RuntimeError
    torch.save({**checkpoint, "format_version": FORMAT_VERSION}, content)
    with atomic_write(path) as file:
        file.write(content.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint to the CPU, without running code from the file.

    Returns:
        The checkpoint, or None if the file does not exist.

    Raises:
        DataError: if the file is damaged, or was written by another version of the trainer.
    """
    if not os.path.exists(path):
        return None
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: damaged checkpoint; remove it to continue from an older one or start again"
        ) from error
    if not isinstance(loaded, dict) or loaded.get("format_version") != FORMAT_VERSION:
        raise DataError(f"{path}: not a checkpoint of this version of the trainer")
    return loaded


def checkpoint_to_resume(folder: Path, options: RunOptions) -> Checkpoint | None:
    """The checkpoint from which a run continues.

    This is the last checkpoint. If its learning rate has begun to fall and the planned steps or minutes have changed
    since, it is the checkpoint before the fall.

    Args:
        folder: of the run.
        options: numbers of steps, or plan of time, of the whole run.

    Returns:
        The checkpoint, or None if the folder has none. Its `seconds_of_run` are those of the last checkpoint.

    Raises:
        DataError: if a checkpoint is damaged.
    """
    last = load_checkpoint(folder / LAST) or load_checkpoint(folder / STABLE)
    if last is None:
        return None
    found = (load_checkpoint(folder / STABLE) or last) if _is_prolonged(last, options) else last
    # The time after the older checkpoint was used too.
    return found | {"seconds_of_run": max(found["seconds"], last["seconds"])}


def _is_prolonged(last: Checkpoint, options: RunOptions) -> bool:
    """Whether the learning rate of a checkpoint has begun to fall by another schedule than that of this session."""
    if options.plan is not None:
        return last["plan"] is not None and options.plan.is_prolonged_from(TimePlan(**last["plan"]), last["seconds"])
    steps = (last["num_steps"], last["num_decay_steps"])
    has_changed = steps != (options.num_steps, options.num_decay_steps)
    return last["plan"] is None and has_changed and last["step"] > steps[0] - steps[1]


def require_same_config(stored: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Check that a run is resumed with the configuration that it was started with.

    Args:
        stored: configuration in the checkpoint.
        config: fields of the `TrainingConfig` of this run.
        folder: of the run, for the message.

    Raises:
        ConfigError: if options differ; the message names them.
    """
    before, now = _flat(stored), _flat(config)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if names:
        what = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in names)
        raise ConfigError(
            f"{folder}: holds a run with other options ({what}); choose another folder or restart the run"
        )


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a log of JSON lines.

    Raises:
        StoreError: if the file cannot be written.
    """
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
