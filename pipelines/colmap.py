"""`python -m pipelines.colmap DATABASE IMAGES`: adds features and verified matches to a COLMAP database."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from pipelines.arguments import add_component_arguments
from pipelines.command import (
    add_yes_argument,
    command_parser,
    confirmation,
    run_command,
    show_warnings,
    with_progress,
)
from pipelines.manners import add_dry_run_argument, add_output_arguments
from pipelines.output import say, say_json
from pipelines.pair_arguments import add_pair_arguments
from pipelines.plan import say_plan
from pipelines.plans import plan_of_colmap
from pipelines.reconstruct import add_camera_arguments, add_executor_arguments, add_mask_argument, config_values
from sfm_lightglue.reconstruction.add_to_database import HostSummary, add_to_database
from sfm_lightglue.reconstruction.config import DatabaseConfig

EXAMPLES = """\
examples:
  python -m pipelines.colmap scene/database.db scene/images
      a new database; then: colmap mapper --database_path scene/database.db --image_path scene/images \\
      --output_path scene/sparse, or the GUI, or pycolmap.incremental_mapping
  python -m pipelines.colmap calibrated.db images/
      a database that contains cameras and images: they keep their ids, intrinsics, rigs, frames and pose priors;
      photos that are not in the database are added (not with --known-only)
  python -m pipelines.colmap database.db images/ --pairs match_list.txt --overwrite
      the pairs of a list, two names a line, as for COLMAP's matches_importer; features and matches of these photos
      in the database are replaced; their matches with images whose files are missing are removed

The database is changed in one step at the end; a run that fails or is killed leaves it unchanged, and the same
command continues. exit codes: 0 done, 2 bad option, or features that already exist, 3 photos or database
missing or not fitting each other, 4 weights missing, 6 database locked or not writable, 130 interrupted,
143 terminated.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        config = DatabaseConfig.from_mapping(config_values(arguments, DatabaseConfig))
        if arguments.dry_run:
            say_plan(plan_of_colmap(arguments, config), arguments)
            return
        summary = with_progress(
            arguments.quiet,
            lambda progress: add_to_database(
                arguments.database,
                arguments.images,
                config,
                arguments.store,
                arguments.overwrite,
                arguments.known_only,
                progress,
                confirmation(arguments),
            ),
        )
        _report(arguments, summary)

    return run_command(body, show_downloads=not arguments.quiet)


def _report(arguments: argparse.Namespace, summary: HostSummary) -> None:
    if arguments.json:
        say_json(summary.as_dict())
    elif not arguments.quiet:
        paths = ["--database_path", str(arguments.database), "--image_path", str(arguments.images)]
        output = arguments.database.with_name("sparse")
        say(summary)
        say(f"next: colmap mapper {shlex.join(paths)} --output_path {shlex.quote(str(output))}")


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser(
        "colmap", "Add features, matches and verified two-view geometries to a COLMAP database.", EXAMPLES
    )
    add = parser.add_argument
    add("database", metavar="DATABASE", type=Path, help="COLMAP's database; created if it does not exist")
    add("images", metavar="IMAGES", type=Path, help="folder that the names of the images are relative to")
    add("--overwrite", action="store_true", help="replace features and matches of the photos that the database has")
    add(
        "--known-only",
        action="store_true",
        help="leave out photos that are not in the database",
    )
    add("--store", metavar="DIR", type=Path, help="folder of the store (default: DATABASE.store)")
    add("--config", metavar="FILE", type=Path, help="options in TOML, or run.json of `reconstruct`")
    group = parser.add_argument_group("what to compute")
    add_component_arguments(group)
    add_pair_arguments(group)
    add_mask_argument(group)
    add_camera_arguments(parser.add_argument_group("cameras of photos that are not in the database"))
    group = parser.add_argument_group("how to run")
    add = group.add_argument
    add_yes_argument(group)
    add("--threads", type=int, metavar="N", help="default: all cores")
    add_executor_arguments(group)
    add("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    add("--device", help="of the networks: cpu, cuda, or auto (default: auto)")
    add_dry_run_argument(group, "how many pairs would be matched")
    add_output_arguments(group)
    return parser


if __name__ == "__main__":
    sys.exit(main())
