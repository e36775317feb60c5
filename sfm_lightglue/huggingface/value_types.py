"""Checks of the types of values of a configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from sfm_lightglue.errors import ConfigError


def as_type(annotation: str, value: Any, name: str) -> Any:
    """A value as the type of its field.

    Args:
        annotation: "int", "float", "bool", "str", one of them with " | None", "tuple[int, ...]" or "Any".
        value: numbers of numpy are converted, and an integer is also a float; a float is no integer, and a number is
            neither true nor false.
        name: of the field, for messages.

    Raises:
        ConfigError: on a value of another type, and on infinity and NaN.
    """
    kind = annotation.removesuffix(" | None")
    if annotation == "Any" or (value is None and kind != annotation):
        return value
    if kind == "tuple[int, ...]":
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{name} must be a list of integers, got {value!r}")
        return tuple(as_type("int", each, name) for each in value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind == "float" and isinstance(value, Real) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value!r}")
        return float(value)
    raise ConfigError(f"{name} must be {_WORDS[kind]}, got {value!r}")


_WORDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"}
