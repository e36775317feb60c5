"""Flags that choose the images of a scene, their positions and the pairs of them that are matched."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pipelines.arguments import ArgumentAdder
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.registry.builtin import PAIR_SELECTORS
from sfm_lightglue.registry.pair_registry import JOINED_BY


def add_pair_arguments(group: ArgumentAdder) -> None:
    """The flags for the pairs and for what they are chosen by."""
    add = group.add_argument
    names = [name for name in PAIR_SELECTORS.builtin_names if name != "file"]
    add(
        "--pairs",
        metavar="|".join([*names, "FILE"]),
        help="which images to match (default: auto); several joined by +; FILE: two names a line",
    )
    add("--exclude-pairs", metavar="FILE", help="pairs that are never matched, two names a line")
    add("--image-list", metavar="FILE", help="names of the photos to use, one a line (default: all of the folder)")
    add(
        "--positions",
        metavar="FILE",
        help="CSV with a header: name,latitude,longitude,altitude or name,x,y,z (default: GPS of the EXIF data)",
    )


def pair_flags(arguments: argparse.Namespace) -> dict[tuple[str, str], Any]:
    """Options of the table of the pairs, as `override` takes them.

    Raises:
        ConfigError: if a file is missing, or a name is unknown.
    """
    flags: dict[tuple[str, str], Any] = {}
    if arguments.pairs is not None:
        flags |= _selection(arguments.pairs)
    if arguments.exclude_pairs is not None:
        flags["pairs", "exclude"] = existing_file("--exclude-pairs", arguments.exclude_pairs)
    return flags


def scene_file_values(arguments: argparse.Namespace) -> dict[str, str]:
    """The paths of the list of images and of the table of positions, if they are given.

    Raises:
        ConfigError: if one of them is missing.
    """
    given = {"image_list": ("--image-list", arguments.image_list), "positions": ("--positions", arguments.positions)}
    return {name: existing_file(flag, path) for name, (flag, path) in given.items() if path is not None}


def _selection(value: str) -> dict[tuple[str, str], Any]:
    """The names and the list of a value such as "sequential+pairs.txt"."""
    selectors = [name for name in PAIR_SELECTORS.names if name != "file"]
    parts = [value] if os.path.isfile(value) else [part.strip() for part in value.split(JOINED_BY)]
    files = [part for part in parts if part not in selectors]
    for file in files:
        if not os.path.isfile(file):
            hint = nearest_hint(file, selectors)
            raise ConfigError(f"--pairs {value}: {file!r}: no such file, and not one of {', '.join(selectors)}{hint}")
    if len(files) > 1:
        raise ConfigError(f"--pairs {value}: expected one list of pairs; put both into one file")
    names = ["file" if part in files else part for part in parts]
    path = _absolute(files[0]) if files else None
    return {("pairs", "name"): JOINED_BY.join(names), ("pairs", "path"): path}


def existing_file(flag: str, path: str) -> str:
    """The absolute path of a file.

    Raises:
        ConfigError: if there is no such file.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"{flag} {path}: no such file")
    return _absolute(path)


def existing_path(flag: str, path: str) -> str:
    """The absolute path of a file or folder.

    Raises:
        ConfigError: if there is none.
    """
    if not path or not os.path.exists(path):
        raise ConfigError(f"{flag} {path}: no such file or folder")
    return _absolute(path)


def _absolute(path: str) -> str:
    """So that the record of the run can be used from any folder."""
    return str(Path(path).resolve())
