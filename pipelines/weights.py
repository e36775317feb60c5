"""`python -m pipelines.weights list|fetch|path`: which weights there are, and where."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from pipelines.command import ProgressBars, command_parser, run_command, show_warnings
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from sfm_lightglue.weights.lookup import (
    entry_of,
    fault_in,
    fetch_weights,
    licence_note,
    locate_weights,
    offline_by,
    places_of,
)

EXAMPLES = """\
examples:
  python -m pipelines.weights list
      all names, with size, licence, and where the file was found
  python -m pipelines.weights fetch aliked-n16 aliked_lightglue
      download them now, for machines that will be offline later
  python -m pipelines.weights path aliked-n16
      the path alone, for scripts; exit code 4 where the file is missing

Options that take weights (--extractor-weights, --matcher-weights) take these names too. Files are looked for in
the folders of $SFM_LIGHTGLUE_WEIGHTS, in the cache ($XDG_CACHE_HOME/sfm_lightglue or ~/.cache/sfm_lightglue; on
Windows and macOS where caches lie there) and in the package; what is nowhere is downloaded into the cache when it
is needed, unless SFM_LIGHTGLUE_OFFLINE=1 or HF_HUB_OFFLINE=1 is set.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings()

    def body() -> None:
        if arguments.action == "list":
            _list(arguments.json)
        elif arguments.action == "fetch":
            for entry in [entry_of(name) for name in arguments.names]:  # a wrong name is told before any download
                _fetch(entry, arguments.quiet)
        else:
            print(_path(entry_of(arguments.name)))

    return run_command(body)


def _list(as_json: bool) -> None:
    rows = [_row(entry) for entry in CATALOG.values()]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    cells = [("name", "size", "licence", "where")]
    for row in rows:
        where = row["path"] or "not here"
        where += f" {row['fault']}" if row["fault"] else ""
        cells.append((row["name"], _size_text(row["size"]), row["licence"], where))
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for name, size, licence, where in cells:
        print(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {licence:<{widths[2]}}  {where}")


def _row(entry: WeightsEntry) -> dict[str, Any]:
    """What `list` tells of an entry; `fault` is what is wrong with the file that is there."""
    path = next(places_of(entry), None)
    fault = None if path is None else fault_in(path, entry)
    return {
        "name": entry.name,
        "purpose": entry.purpose,
        "licence": entry.licence,
        "commercial": entry.commercial,
        "url": entry.url,
        "file": entry.file,
        "size": path.stat().st_size if path is not None and fault is None else entry.size,
        "sha256": entry.sha256,
        "path": None if path is None else str(path),
        "fault": fault,
    }


def _size_text(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f} MB"


def _fetch(entry: WeightsEntry, quiet: bool) -> None:
    path = locate_weights(entry)
    if path is None:
        if entry.url is not None and not offline_by():
            print(licence_note(entry), flush=True)
        with contextlib.closing(ProgressBars("B")) as bars:
            path = fetch_weights(entry, silent if quiet else bars)
    print(path)


def _path(entry: WeightsEntry) -> Path:
    path = locate_weights(entry)
    if path is None:
        raise WeightsError(f"{entry.name} is not here: `sfm-lightglue weights fetch {entry.name}` downloads it")
    return path


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser(
        "weights", "Weights of networks: which there are, where they are, and under which licence.", EXAMPLES
    )
    actions = parser.add_subparsers(dest="action", metavar="list|fetch|path", required=True)

    def add_action(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")

    names_help = "as `list` shows it"
    listing = add_action("list", "all names, with size, licence, and where the file was found")
    listing.add_argument("--json", action="store_true", help="print a JSON list on standard output")
    fetching = add_action("fetch", "download what is not here yet, and print where the files are")
    fetching.add_argument("names", metavar="NAME", nargs="+", help=f"{names_help}; one or several")
    fetching.add_argument("--quiet", action="store_true", help="show no progress")
    finding = add_action("path", "print where the file is; exit code 4 where it is missing")
    finding.add_argument("name", metavar="NAME", help=names_help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
