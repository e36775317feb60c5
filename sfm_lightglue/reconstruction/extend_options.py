"""Options of an extension beside those of the run that made the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.store.output_folder import read_record

_HOW_TO_RUN = {"device", "executor", "image_list", "num_threads"}
"""Options and tables that choose images and machines; they change nothing of a finished model."""


def check_options(config: ReconstructConfig, output: Path) -> None:
    """Refuse options that an extension would ignore; an executor that the last run had too is left out silently.

    Raises:
        ConfigError: for a rig, for known poses, and for an executor that the last run did not have.
    """
    if config.poses:
        raise ConfigError(
            f"`poses` {config.poses!r}: an extension finds the poses of the images that come in, and would not keep"
            " known ones; add the new images to the file of poses, and run without extending"
        )
    if config.rig:
        raise ConfigError(f"`rig` {config.rig!r}: an extension cannot use a rig yet; map anew without extending")
    name = config.executor.name
    if name != "threads" and name != _recorded(output).get("executor.name"):
        raise ConfigError(
            f"`executor.name` {name!r}: an extension runs on the threads of one machine; leave the option out"
        )


def changed_options(config: ReconstructConfig, output: Path) -> list[str]:
    """Names of the options that differ from those of the last run in a folder, sorted.

    Options that choose images and machines are left out, and those that one of both runs does not have.
    """
    values, recorded = _flat(config.as_mapping()), _recorded(output)
    both = sorted(values.keys() & recorded.keys())
    return [name for name in both if values[name] != recorded[name] and name.split(".")[0] not in _HOW_TO_RUN]


def of_list(config: ReconstructConfig) -> str:
    """Which images are meant, for messages; "" without a list."""
    if config.image_list_file is None:
        return ""
    return (
        f" of the list {shown_path(config.image_list_file)} (`image_list`; images that it does not name are left out)"
    )


def _recorded(output: Path) -> dict[str, Any]:
    """The options of the last run in a folder by name; empty if they are not known."""
    record = read_record(output)
    config = record.get("config") if isinstance(record, Mapping) else None
    return _flat(config) if isinstance(config, Mapping) else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as names joined by dots, lists as they come back from JSON."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat
