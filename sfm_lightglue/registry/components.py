"""Configurations of jobs: dataclasses whose fields are components, tables of options, and single values.

A field of the type `Choice` is a component: its table has a `name`, looked up in the registry of that field, and the
options of the component. A field whose type is a dataclass is a table of options. Every other field is a value.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from sfm_lightglue.config import config_from_mapping
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.registry.builtin import EXTRACTORS, MAPPERS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.registry.registry import Choice, Registry

ConfigT = TypeVar("ConfigT")

MAX_THREADS = 1024

DEFAULT_MATCHER = "lightglue"

REGISTRY_FROM_TABLE: dict[str, Registry[Any]] = {
    "extractor": EXTRACTORS,
    "matcher": MATCHERS,
    "pairs": PAIR_SELECTORS,
    "mapping": MAPPERS,
}
"""The registry in which the `name` of a table is looked up."""

DEFAULT_NAMES = {"extractor": "sift", "matcher": DEFAULT_MATCHER, "pairs": "auto", "mapping": "auto"}
"""The component of each table that has no `name`."""


def default_choice(table: str) -> Choice:
    """The default component of a table, with default options."""
    return REGISTRY_FROM_TABLE[table].choose(DEFAULT_NAMES[table])


def config_from_tables(config_type: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """A configuration of a job from nested mappings, as a TOML file holds them.

    Args:
        config_type: a dataclass; see the top of this file.
        values: tables and values by name of field. Missing ones are at their defaults.

    Raises:
        ConfigError: for a table or option that the job does not use (the nearest one is named), or a bad value.
    """
    hints = typing.get_type_hints(config_type)
    known = [field.name for field in dataclasses.fields(config_type)]  # type: ignore[arg-type]
    parts: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(_unknown(key, value, known))
        if hints[key] is Choice:
            parts[key] = _component(key, _table(key, value))
        elif dataclasses.is_dataclass(hints[key]):
            parts[key] = config_from_mapping(hints[key], _table(key, value), key)
    checked = config_from_mapping(
        config_type, {key: value for key, value in values.items() if key not in parts}, "configuration"
    )
    for key in known:
        if key not in parts:
            # Not the default's own component: a default matcher already has the weights of the default extractor.
            parts[key] = default_choice(key) if hints[key] is Choice else getattr(checked, key)
    return config_type(**parts)


def tables_from_config(config: Any) -> dict[str, Any]:
    """Nested mappings of plain values: what `config_from_tables` reads."""
    tables: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Choice):
            tables[field.name] = {"name": value.name, **REGISTRY_FROM_TABLE[field.name].options(value)}
        else:
            tables[field.name] = asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    return tables


def _unknown(key: str, value: Any, known: list[str]) -> str:
    kind = "table" if isinstance(value, Mapping) else "option"
    choices = f"choose one of {', '.join(known)}"
    if key in REGISTRY_FROM_TABLE or key == "cameras":
        return f"{kind} {key!r} belongs to another job, and this one does not use it; {choices}"
    return f"unknown {kind} {key!r}{nearest_hint(key, known)}; {choices}"


def _table(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: expected a table, got {value!r}")
    return dict(value)


def _component(table: str, options: dict[str, Any]) -> Choice:
    name = options.pop("name", DEFAULT_NAMES[table])
    if not isinstance(name, str):
        raise ConfigError(f"{table}: name: expected str, got {name!r}")
    return REGISTRY_FROM_TABLE[table].choose(name, options)


def check_seed(seed: int) -> None:
    """Raise if a seed cannot be used by OpenCV and COLMAP.

    Raises:
        ConfigError: if it does not lie in [0, 2^31).
    """
    if not 0 <= seed < 2**31:
        raise ConfigError(f"`seed` must lie in [0, 2^31), got {seed}")


def check_device(device: str) -> None:
    """Raise if a string does not name a device of torch; whether the machine has the device is checked later.

    Raises:
        ConfigError: if it is not "auto", "cpu", "cuda", "cuda:1" or the like.
    """
    if not re.fullmatch(r"auto|cpu|(cuda|xpu|mps)(:\d+)?", device):
        raise ConfigError(f"`device` {device!r}: expected auto, cpu, cuda, or cuda:1 and the like")


def check_num_threads(num_threads: int) -> None:
    """Raise if a number of threads is negative or very large.

    Raises:
        ConfigError: if it does not lie in [0, 1024].
    """
    if not 0 <= num_threads <= MAX_THREADS:
        raise ConfigError(f"`num_threads` must lie in [0, {MAX_THREADS}], got {num_threads}")
