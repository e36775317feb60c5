"""Plain mappings (command-line options, TOML) -> frozen configuration dataclasses, with strict checks."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint

ConfigT = TypeVar("ConfigT")


def config_from_mapping(config_type: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """Make a configuration with some fields set and the others at their defaults.

    Args:
        config_type: a dataclass.
        values: values by field name.
        where: prefix of error messages, such as the name of the table.

    Raises:
        ConfigError: if a field is unknown (the message names the nearest one), or a value has the wrong type.
    """
    hints = typing.get_type_hints(config_type)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    checked = {}
    for name, value in values.items():
        if name not in fields:
            known = f"; it has {', '.join(fields)}" if fields else "; it has no options"
            raise ConfigError(f"{where}: unknown option {name!r}{nearest_hint(name, fields)}{known}")
        checked[name] = _checked(value, fields[name], f"{where}: {name}")
    return config_type(**checked)


def _checked(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, typing.Union}:
        if value is None and type(None) in typing.get_args(hint):
            return None
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
        return _checked(value, hint, where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            choices = ", ".join(str(choice) for choice in typing.get_args(hint))
            raise ConfigError(f"{where}: expected one of {choices}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_checked(part, item, where) for part in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value, where)
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{where}: expected a number, got {value!r}")  # TOML allows nan, which passes range checks
    if isinstance(value, int) and abs(value) > _MAX_INT:
        raise ConfigError(f"{where}: the number is too large")
    return value


def _as_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ConfigError(f"{where}: the number is too large") from error


_MAX_INT = 2**63 - 1
"""Arrays and files have integers of 64 bits."""
