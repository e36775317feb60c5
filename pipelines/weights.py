"""`python -m pipelines.weights list|fetch|path|export`: list, download, locate and convert files of weights."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from pipelines.command import ProgressBars, command_parser, run_command, show_warnings
from pipelines.manners import add_dry_run_argument, add_output_arguments
from pipelines.output import say, say_json
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.weights.catalog import CATALOG, WeightsEntry
from sfm_lightglue.weights.digest import fault_of
from sfm_lightglue.weights.lookup import (
    cache_folder,
    candidate_paths,
    entry_of,
    fetch_weights,
    licence_note,
    locate_weights,
    offline_by,
)

EXAMPLES = """\
examples:
  python -m pipelines.weights list
      list all names with size, licence and path of the file
  python -m pipelines.weights fetch aliked-n16 aliked_lightglue
      download two files now, for later use without a network
  python -m pipelines.weights path aliked-n16
      print only the path, for scripts; exit code 4 if the file is missing
  python -m pipelines.weights export lightglue_sift --onnx lightglue.onnx --layout opencv
      write an ONNX file for cv2.LightGlueMatcher (layouts: plain, colmap, opencv; images for SuperPoint models)

--extractor-weights and --matcher-weights accept these names too. Files are searched in the folders of
$SFM_LIGHTGLUE_WEIGHTS, in the cache ($XDG_CACHE_HOME/sfm_lightglue or ~/.cache/sfm_lightglue; the usual cache
folder on Windows and macOS) and in the package. Missing files are downloaded into the cache when they are needed,
unless SFM_LIGHTGLUE_OFFLINE=1 or HF_HUB_OFFLINE=1 is set.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        if arguments.action == "list":
            _list(arguments.json)
        elif arguments.action == "fetch":
            entries = [entry_of(name) for name in arguments.names]  # report a wrong name before any download
            if arguments.dry_run:
                _tell_downloads(entries, arguments.json)
            else:
                _say_paths([(entry.name, _fetch(entry, arguments)) for entry in entries], arguments.json)
        elif arguments.action == "export":
            _export(arguments)
        else:
            _say_paths([(arguments.name, _path(entry_of(arguments.name)))], arguments.json)

    return run_command(body)


def _list(as_json: bool) -> None:
    rows = [_row(entry) for entry in CATALOG.values()]
    if as_json:
        say_json(rows, indent=2)
        return
    cells = [("name", "size", "licence", "path")]
    for row in rows:
        path = row["path"] or "not downloaded"
        path += f" {row['fault']}" if row["fault"] else ""
        cells.append((row["name"], _size_text(row["size"]), row["licence"], path))
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    for name, size, licence, path in cells:
        say(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {licence:<{widths[2]}}  {path}")


def _row(entry: WeightsEntry) -> dict[str, Any]:
    """A row of `list`; `fault` describes what is wrong with an existing file."""
    path = next(candidate_paths(entry), None)
    fault = None if path is None else fault_of(path, entry.sha256, entry.size)
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


def _fetch(entry: WeightsEntry, arguments: argparse.Namespace) -> Path:
    path = locate_weights(entry)
    if path is None:
        if entry.url is not None and not offline_by():
            # Whoever reads the output as JSON, or wants none of it, still has to learn of the licence.
            if arguments.json or arguments.quiet:
                print(licence_note(entry), file=sys.stderr, flush=True)
            else:
                say(licence_note(entry), flush=True)
        with contextlib.closing(ProgressBars("B")) as bars:
            path = fetch_weights(entry, silent if arguments.quiet else bars)
    return path


def _say_paths(path_from_name: list[tuple[str, Path]], as_json: bool) -> None:
    if as_json:
        say_json([{"name": name, "path": str(path)} for name, path in path_from_name], indent=2)
        return
    for _, path in path_from_name:
        say(path)


def _tell_downloads(entries: list[WeightsEntry], as_json: bool) -> None:
    """Tell what `fetch` would download, and where to."""
    rows: list[dict[str, Any]] = []
    for entry in entries:
        path = locate_weights(entry)
        rows.append(
            {
                "name": entry.name,
                "path": str(path or cache_folder() / entry.file),
                "is_here": path is not None,
                "url": entry.url,
                "size": entry.size,
                "licence": entry.licence,
            }
        )
    if as_json:
        say_json(rows, indent=2)
        return
    for row in rows:
        todo = "is here already" if row["is_here"] else f"{_size_text(row['size'])} would be downloaded"
        say(f"{row['name']}: {todo}: {row['path']}")


def _path(entry: WeightsEntry) -> Path:
    path = locate_weights(entry)
    if path is None:
        raise WeightsError(f"{entry.name} is missing: `sfm-lightglue weights fetch {entry.name}` downloads it")
    return path


def _export(arguments: argparse.Namespace) -> None:
    from sfm_lightglue.huggingface.onnx_export import export_onnx  # imports torch

    written = export_onnx(arguments.name, arguments.onnx, arguments.layout, arguments.num_points)
    if arguments.json:
        say_json({"name": arguments.name, "path": str(arguments.onnx), "layout": arguments.layout})
    elif not arguments.quiet:
        say(written)


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command's arguments."""
    parser = command_parser("weights", "List, download, locate and convert weights of networks.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="list|fetch|path|export", required=True)

    def add_action(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")

    names_help = "a name from `list`"
    listing = add_action("list", "list all names with size, licence and path of the file")
    fetching = add_action("fetch", "download missing files, and print the paths of all")
    fetching.add_argument("names", metavar="NAME", nargs="+", help=f"{names_help}; several are allowed")
    add_dry_run_argument(fetching, "which files would be downloaded")
    finding = add_action("path", "print the path of the file; exit code 4 if it is missing")
    finding.add_argument("name", metavar="NAME", help=names_help)
    exporting = add_action("export", "write a LightGlue as an ONNX file for another program")
    exporting.add_argument("name", metavar="NAME", help=f"{names_help}, a file of weights, or the folder of a model")
    exporting.add_argument("--onnx", metavar="FILE", type=Path, required=True, help="the file that is written")
    exporting.add_argument(
        "--layout",
        choices=("plain", "colmap", "opencv", "images"),
        default="plain",
        help="inputs and outputs of the file: for any program (default), for COLMAP, for OpenCV, or from images"
        " (SuperPoint and LightGlue of a model folder)",
    )
    exporting.add_argument("--num-points", metavar="N", type=int, help="keypoints of an image, for the layout images")
    as_json = "print names and paths as JSON on standard output"
    add_output_arguments(listing, "print a JSON list on standard output", "print the list only")
    add_output_arguments(fetching, as_json, "show no progress")
    add_output_arguments(finding, as_json, "print the path only")
    add_output_arguments(exporting, as_json, "print nothing but warnings and errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
