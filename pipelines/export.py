"""`python -m pipelines.export MAP --format NAME --output PATH`: a model in the format of another program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipelines.arguments import add_map_argument, parse_settings
from pipelines.command import command_parser, run_command, show_warnings, with_progress
from pipelines.manners import add_dry_run_argument, add_output_arguments
from pipelines.output import say, say_json
from pipelines.plan import say_plan
from pipelines.plans import plan_of_export
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.export_map import export_map
from sfm_lightglue.registry.builtin import EXPORTERS

TABLE = "export"
"""Table of the options of a format in `--set`."""

EXAMPLES = """\
examples:
  python -m pipelines.export scenes/castle --format splatting --output castle_splat
      undistorted images and PINHOLE cameras, for trainers of Gaussian splatting
  python -m pipelines.export scenes/castle --format nerfstudio --output castle_nerf
      transforms.json, images and points
  python -m pipelines.export scenes/castle --format ply --output castle.ply
      the points with colours and normals
  python -m pipelines.export colmap/sparse/0 --images colmap/photos --format bundler --undistort --output bundler
      the model of another tool; undistorted, because Bundler has no such cameras

Formats that are a folder: bundler, colmap, colmap-text, kapture, nerfstudio, splatting; all others are a file, and a
folder with --undistort. exit codes: 0 done, 2 bad option, a path that is taken, or a camera that the format cannot
express, 3 model or images missing, 6 output not writable, 130 interrupted, 143 terminated.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        options = format_options(arguments.set)
        if arguments.dry_run:
            say_plan(plan_of_export(arguments, options), arguments)
            return
        summary = with_progress(
            arguments.quiet,
            lambda progress: export_map(
                arguments.map,
                arguments.format,
                arguments.output,
                images=arguments.images,
                undistort=arguments.undistort,
                overwrite=arguments.overwrite,
                options=options,
                progress=progress,
            ),
        )
        if arguments.json:
            say_json(summary.as_dict())
        elif not arguments.quiet:
            say(f"{summary} -> {summary.output}")

    return run_command(body)


def format_options(settings: list[str]) -> dict[str, Any]:
    """The options of the format, of `--set export.OPTION=VALUE`.

    Raises:
        ConfigError: if a setting has another form, or belongs to another table.
    """
    options: dict[str, Any] = {}
    for (table, name), value in parse_settings(settings).items():
        if table != TABLE:
            raise ConfigError(f"--set {table}.{name}: the options of a format are in the table {TABLE}")
        options[name] = value
    return options


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("export", "Write a model in the format of another program.", EXAMPLES)
    add = parser.add_argument
    add_map_argument(parser)
    add("--format", required=True, metavar="NAME", help=", ".join(EXPORTERS.builtin_names))
    add("--output", required=True, metavar="PATH", type=Path, help="file or folder that is written")
    add("--images", metavar="DIR", type=Path, help="folder that the names of the model's images are relative to")
    add(
        "--undistort",
        action="store_true",
        help="write undistorted images and PINHOLE cameras; PATH is a folder then, with images/",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace an earlier export, a file only by one of the same format; other files are never replaced",
    )
    add(
        "--set",
        metavar="export.OPTION=VALUE",
        action="append",
        default=[],
        help="an option of the format, such as export.num_neighbors=24 of ply",
    )
    add_dry_run_argument(parser, "what would be exported")
    add_output_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
