"""Flags that several commands share, and the configuration that they set."""

from __future__ import annotations

import argparse
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS

_OF_ALL = {"pairs": ("exclude",)}
"""The options of a table that do not depend on the name of the component."""


class ArgumentAdder(Protocol):
    """A parser, or an argument group of one."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Add a flag."""


IMAGE_SIZE_HELP = "larger images are reduced to it for detection (sift: 1600)"


def add_map_argument(add: ArgumentAdder) -> None:
    """The map that a command works on, as `arguments.map`."""
    add.add_argument(
        "map",
        metavar="MAP",
        type=Path,
        help="an output folder, a scene folder that has one, or a COLMAP model (cameras.bin ...)",
    )


def add_component_arguments(
    parser: ArgumentAdder, image_size: str = IMAGE_SIZE_HELP, max_keypoints: int = 1536
) -> None:
    """The flags that choose extractor and matcher, see `add_extractor_arguments`."""
    add_extractor_arguments(parser, image_size, max_keypoints)
    add = parser.add_argument
    add("--matcher", metavar="|".join(MATCHERS.names), help="default: lightglue")
    add("--matcher-weights", metavar="FILE|NAME", help="weights of a matcher that is a network")
    add_setting_argument(parser)


def add_extractor_arguments(
    parser: ArgumentAdder, image_size: str = IMAGE_SIZE_HELP, max_keypoints: int = 1536
) -> None:
    """The flags that choose the extractor.

    Args:
        parser: that gets the flags.
        image_size: what `--max-image-size` means in the command.
        max_keypoints: default of the command for SIFT.
    """
    add = parser.add_argument
    add("--extractor", metavar="|".join(EXTRACTORS.names), help="local features (default: sift)")
    add("--extractor-weights", metavar="FILE|NAME", help="weights of an extractor that is a network")
    add("--max-image-size", type=int, metavar="PX", help=image_size)
    add("--max-keypoints", type=int, metavar="N", help=f"per image (sift: {max_keypoints})")


def add_setting_argument(parser: ArgumentAdder) -> None:
    """The flag that sets any option."""
    parser.add_argument(
        "--set",
        metavar="TABLE.OPTION=VALUE",
        action="append",
        default=[],
        help="any other option, also of a plug-in, such as extractor.edge_threshold=8; may be repeated",
    )


def component_values(arguments: argparse.Namespace, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Nested mappings of configuration, overridden by the flags that were given.

    Raises:
        ConfigError: if a table is not a mapping, or a setting has no value.
    """
    given = vars(arguments)  # a command without a matcher has no flags for it
    flags = {
        ("extractor", "name"): arguments.extractor,
        ("extractor", "weights"): arguments.extractor_weights,
        ("extractor", "max_image_size"): arguments.max_image_size,
        ("extractor", "max_keypoints"): arguments.max_keypoints,
        ("matcher", "name"): given.get("matcher"),
        ("matcher", "weights"): given.get("matcher_weights"),
        **parse_settings(arguments.set),
    }
    simple = {"seed": given.get("seed"), "device": arguments.device}
    merged = override(values or {}, flags)
    return merged | {name: value for name, value in simple.items() if value is not None}


def parse_settings(texts: Sequence[str]) -> dict[tuple[str, str], Any]:
    """Values by table and option, of texts such as "extractor.edge_threshold=8".

    Raises:
        ConfigError: if a text has another form.
    """
    return dict(map(_setting, texts))


def _setting(text: str) -> tuple[tuple[str, str], Any]:
    """Table, option and value of `table.option=value`; the value is as in TOML, quotes are optional."""
    name, equals, value = text.partition("=")
    table, dot, option = name.strip().partition(".")
    if not (equals and dot and table and option):
        raise ConfigError(f"--set {text}: expected TABLE.OPTION=VALUE, such as extractor.max_keypoints=4096")
    try:
        return (table, option), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # no TOML, an integer of 5,000 digits, or brackets in brackets
        return (table, option), value.strip()


def override(values: Mapping[str, Any], flags: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    """Set options in tables of a configuration; None leaves an option unchanged.

    Raises:
        ConfigError: if a table is not a mapping.
    """
    merged = dict(values)
    for (table, name), value in flags.items():
        if value is None:
            continue
        section = merged.get(table, {})
        if not isinstance(section, Mapping):
            raise ConfigError(f"{table}: expected a table, got {section!r}")
        # Options of one component do not fit another one, apart from those that all components of the table have.
        is_another = name == "name" and section.get("name", value) != value
        kept = {key: section[key] for key in section if not is_another or key in _OF_ALL.get(table, ())}
        merged[table] = {**kept, name: value}
    return merged


def parse_camera_params(text: str | None) -> list[float] | None:
    """Numbers separated by commas or spaces.

    Raises:
        ConfigError: if one of them is not a finite number.
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in re.split(r"[,\s]+", text.strip()) if part]
    except ValueError as error:
        raise ConfigError(f"camera parameters {text!r}: expected numbers separated by commas") from error
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"camera parameters {text!r}: expected finite numbers")
    return numbers
