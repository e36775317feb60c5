"""`python -m pipelines.densify MAP`: adds many points to a finished model, which another tool may have made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipelines.arguments import (
    add_extractor_arguments,
    add_map_argument,
    add_setting_argument,
    component_values,
    override,
)
from pipelines.command import command_parser, run_command, show_warnings, with_progress
from pipelines.manners import add_dry_run_argument, add_output_arguments
from pipelines.output import say, say_json
from pipelines.plan import say_plan
from pipelines.plans import plan_of_densify
from pipelines.reconstruct import add_density_arguments, add_mask_argument, mask_folder
from sfm_lightglue.colmap.model import find_map
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.reconstruction.config import read_config_file
from sfm_lightglue.reconstruction.densify_config import DensifyConfig
from sfm_lightglue.reconstruction.densify_map import DensifiedMap, densify, values_of_run

EXAMPLES = """\
examples:
  python -m pipelines.densify scenes/castle
      the model in scenes/castle/reconstruction/sparse/0 -> scenes/castle/reconstruction/densified
  python -m pipelines.densify colmap/sparse/0 --images colmap/photos --output colmap/dense --density dense
      the model of another tool, with more points

The model that is given is not changed. Its keypoints and cameras stay as they are, its tracks are continued, and its
poses are adjusted. The output folder gets sparse/0 (COLMAP's format), points.ply and densify.json. Features are kept:
the same command continues an interrupted run, and computes nothing again after a finished run. exit codes: 0 done,
2 bad option or an output folder with other files, 3 model or images missing or not fitting each other, 4 weights
missing, 5 too few common points, or a model that would get worse, 6 output not writable, 130 interrupted,
143 terminated.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        config = DensifyConfig.from_mapping(config_values(arguments))
        if arguments.dry_run:
            say_plan(plan_of_densify(arguments, config), arguments)
            return
        try:
            _report(
                arguments,
                with_progress(
                    arguments.quiet,
                    lambda progress: densify(arguments.map, arguments.images, arguments.output, config, progress),
                ),
            )
        except ReconstructionError as error:
            if arguments.json and error.summary is not None:
                say_json(error.summary)
            raise

    return run_command(body, show_downloads=not arguments.quiet)


def _report(arguments: argparse.Namespace, result: DensifiedMap) -> None:
    if arguments.json:
        say_json(result.summary.as_dict() | {"output": str(result.output)})
    elif not arguments.quiet:
        say(f"{result.summary} -> {result.output}")


def config_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration file, else that of the run that made the model, overridden by the flags that were given.

    Raises:
        ConfigError: if the file cannot be read.
        DataError: if there is no model.
    """
    if arguments.config is not None:
        values = read_config_file(arguments.config, DensifyConfig)
    else:
        values = values_of_run(find_map(arguments.map, arguments.images))
    flags = {("density", "level"): arguments.density, ("refine", "mode"): arguments.refine}
    values = override(component_values(arguments, values), flags)
    if arguments.masks is not None:
        values = values | {"masks": mask_folder(arguments.masks)}
    if arguments.refine_intrinsics:
        values = values | {"refine_intrinsics": True}
    return values if arguments.threads is None else values | {"num_threads": arguments.threads}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("densify", "Add many points to a finished model, also of another tool.", EXAMPLES)
    add = parser.add_argument
    add_map_argument(parser)
    add("--images", metavar="DIR", type=Path, help="folder that the names of the model's images are relative to")
    add("--output", metavar="DIR", type=Path, help="folder of the results (default: densified/ beside the model)")
    add("--config", metavar="FILE", type=Path, help="options in TOML, or run.json or densify.json of an earlier run")
    group = parser.add_argument_group("what to compute")
    add_extractor_arguments(group)
    add_setting_argument(group)
    add_density_arguments(group, ["normal", "dense"])
    add_mask_argument(group)
    group.add_argument("--refine-intrinsics", action="store_true", help="adjust the intrinsics of the model too")
    group = parser.add_argument_group("how to run")
    add = group.add_argument
    add("--threads", type=int, metavar="N", help="default: all cores; with 1, two runs give identical bytes")
    add("--device", help="of the networks: cpu, cuda, or auto (default: auto)")
    add_dry_run_argument(group, "how many pairs would be matched")
    add_output_arguments(group)
    return parser


if __name__ == "__main__":
    sys.exit(main())
