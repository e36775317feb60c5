"""`python -m pipelines.localize MAP QUERY...`: the poses of photos in a finished map."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from pipelines.arguments import add_component_arguments, add_map_argument, component_values, parse_camera_params
from pipelines.command import command_parser, run_command, show_warnings, with_progress
from pipelines.manners import LIBRARY, NOTHING_SHOWN, add_dry_run_argument, add_output_arguments
from pipelines.output import say, say_json
from pipelines.plan import say_plan
from pipelines.plans import plan_of_localize
from sfm_lightglue.colmap.model import find_map
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.localization.localizer import Localizer
from sfm_lightglue.localization.map_features import RunOfMap, models_of_run, searched_models
from sfm_lightglue.localization.output import require_output, write_localizations
from sfm_lightglue.localization.query_lists import (
    QUERY_FORMAT,
    Query,
    queries_of_paths,
    read_candidates,
    read_query_list,
)
from sfm_lightglue.localization.result import Localization
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.camera_assignment import CameraConfig

logger = logging.getLogger(f"{LIBRARY}.command")

EXAMPLES = f"""\
examples:
  python -m pipelines.localize scenes/castle query.jpg more_queries/
      the pose of each photo in the map of an earlier reconstruction, with the focal length of the EXIF data
  python -m pipelines.localize scenes/castle frames/ --camera-model PINHOLE --camera-params 520,521,325,250
      known intrinsics, in COLMAP's order and pixel convention
  python -m pipelines.localize colmap/sparse/0 --images colmap/photos query.jpg --output found --json
      a map of another tool; results are printed as JSON lines, and written together with the poses
  python -m pipelines.localize colmap/sparse/0 --database colmap/database.db query.jpg
      the same without its photos: with the SIFT descriptors of its database
  python -m pipelines.localize map --queries queries_with_intrinsics.txt --pairs pairs.txt photos/ --output found
      the lists of hloc. A line of the first is {QUERY_FORMAT},
      of the second QUERY_NAME MAP_IMAGE_NAME; photos/ is the folder of the names

--output gets results.jsonl, poses.txt (name qw qx qy qz tx ty tz, for hloc's evaluation), sparse/ (the queries as a
COLMAP text model) and run.json. If a run has made several models, photos are looked for in all of them; those that
are found in another one than the first are in model_1/ and so on, in the frame of that model. A photo that is not sure
to show the place has no pose but a reason. exit codes: 0 done, 2 bad option, 3 map or photos missing, 4 weights
missing, 5 no photo was found in the map, 6 output not writable, 130 interrupted, 143 terminated.
"""

NOTHING_FOUND = 5


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_intermixed_args(argv)  # options may stand between MAP and QUERY
    show_warnings(arguments.verbose)
    return run_command(lambda: _run(arguments), show_downloads=not arguments.quiet)


def _run(arguments: argparse.Namespace) -> int:
    location = find_map(arguments.map, arguments.images)
    config = config_of(arguments, dict(RunOfMap.of(location).tables))
    camera = _camera(arguments)
    queries = _queries(arguments, location.images)
    if arguments.output is not None:
        require_output(arguments.output)
    if arguments.dry_run:
        say_plan(plan_of_localize(arguments, config, queries), arguments)
        return 0

    def load(progress: Any) -> Localizer:
        store = arguments.output if location.output is None else None
        return Localizer(arguments.map, arguments.images, arguments.database, config, store, progress)

    with with_progress(arguments.quiet, load) as localizer:
        candidates = None
        if arguments.pairs is not None:
            candidates = read_candidates(arguments.pairs, [one.name for one in queries], localizer.names)
        results = []
        for query in queries:
            chosen = None if candidates is None else candidates.get(query.name, [])
            found = localizer.localize(query.path, query.camera or camera, query.name, chosen)
            results.append(found)
            _show(found, arguments)
    if arguments.output is not None:
        write_localizations(arguments.output, results, config.as_mapping(), localizer.models[0].name)
    num_registered = sum(one.registered for one in results)
    if not arguments.quiet and not arguments.json:
        where = "" if arguments.output is None else f" -> {arguments.output}"
        say(f"{num_registered} of {len(results)} images found{where}")
    searched = {one.model.resolve() for one in searched_models(arguments.map, location)}
    others = [one.model for one in models_of_run(location) if one.model.resolve() not in searched]
    if others and num_registered < len(results):
        logger.warning(
            "the map has other models; look for the photos without a pose there, too: %s",
            ", ".join(shown_path(path) for path in others),
        )
    return 0 if num_registered > 0 else NOTHING_FOUND


def _show(found: Localization, arguments: argparse.Namespace) -> None:
    if arguments.json:
        say_json(found.as_dict(), flush=True)
    elif not arguments.quiet:
        say(found, flush=True)


def config_of(arguments: argparse.Namespace, tables: dict[str, Any]) -> LocalizeConfig:
    """The options: those of the run that made the map, overridden by the flags that were given.

    Raises:
        ConfigError: if one is unknown or has a bad value.
    """
    values = component_values(arguments, tables)
    for name, value in (("num_images", arguments.num_images), ("num_threads", arguments.threads)):
        if value is not None:
            values[name] = value
    if arguments.no_guided:
        values["guided"] = False
    if arguments.same_camera:
        values["same_camera"] = True
    return LocalizeConfig.from_mapping(values)


def _camera(arguments: argparse.Namespace) -> CameraConfig | None:
    params = parse_camera_params(arguments.camera_params)
    if arguments.camera_model is None and params is None:
        return None
    model = arguments.camera_model or CameraConfig().model
    return CameraConfig(model=model, params=tuple(params or ()))


def _queries(arguments: argparse.Namespace, images: Path | None) -> list[Query]:
    if arguments.queries is None:
        if not arguments.query:
            raise ConfigError("expected photos or folders after MAP, or --queries with a list; see --help")
        return queries_of_paths(arguments.query)
    if any(not os.path.isdir(path) for path in arguments.query):
        raise ConfigError("--queries takes the photos from the list: after MAP, give the folders of their names only")
    folders = [*arguments.query, arguments.queries.parent, *([] if images is None else [images])]
    return read_query_list(arguments.queries, folders)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("localize", "Find the poses of photos in a finished map.", EXAMPLES)
    add = parser.add_argument
    add_map_argument(parser)
    add("query", metavar="QUERY", type=Path, nargs="*", help="photos, or folders of them")
    add("--queries", metavar="FILE", type=Path, help=f"list of photos, one a line: {QUERY_FORMAT}")
    add(
        "--pairs",
        metavar="FILE",
        type=Path,
        help="which images of the map each photo is matched with (default: similar)",
    )
    add("--images", metavar="DIR", type=Path, help="folder that the names of the map's images are relative to")
    add("--database", metavar="FILE", type=Path, help="COLMAP database of the map, matched by its SIFT descriptors")
    add("--output", metavar="DIR", type=Path, help="folder of the results; also keeps features of another tool's map")
    add("--camera-model", metavar="NAME", help="COLMAP's name, of all photos (default: SIMPLE_RADIAL)")
    add("--camera-params", metavar="P,P,...", help="of all photos (default: EXIF data, else estimated)")
    add(
        "--num-images",
        type=int,
        metavar="N",
        help="images of the map that each photo is matched with, at most (default: 8)",
    )
    add("--same-camera", action="store_true", help="photos are of the camera of the map, which has its intrinsics")
    add("--no-guided", action="store_true", help="do not look for further keypoints around the pose that is found")
    add_component_arguments(parser)
    add("--seed", type=int, metavar="N", help="of the random samples (default: 0)")
    add("--threads", type=int, metavar="N", help="default: all cores")
    add("--device", help="of the networks: cpu, cuda, or auto (default: auto)")
    add_dry_run_argument(parser, "how many photos would be looked for in how large a map")
    add_output_arguments(parser, "print each result as one JSON object on standard output", NOTHING_SHOWN)
    return parser


if __name__ == "__main__":
    sys.exit(main())
