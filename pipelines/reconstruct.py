"""`python -m pipelines.reconstruct SCENE_DIR`: camera poses and a point cloud from a folder of photos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.arguments import add_component_arguments, component_values, override, parse_camera_params
from pipelines.command import (
    add_yes_argument,
    command_parser,
    confirmation,
    run_command,
    show_warnings,
    with_progress,
)
from pipelines.live_window import growth_window
from pipelines.manners import add_output_arguments
from pipelines.output import say, say_json
from pipelines.pair_arguments import add_pair_arguments, existing_file, existing_path, pair_flags, scene_file_values
from pipelines.report import report_of_run
from sfm_lightglue.errors import ConfigError, ReconstructionError
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig, read_config_file
from sfm_lightglue.reconstruction.extend import extend, extend_or_reconstruct
from sfm_lightglue.reconstruction.extend_base import has_finished_model
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.registry.builtin import MAPPERS
from sfm_lightglue.store.output_folder import RESULTS_MARKER

DEMO_DIR = Path("demo_scene")

EXTEND_AUTO = "auto"

EXAMPLES = """\
examples:
  python -m pipelines.reconstruct scenes/castle
      photos in scenes/castle or scenes/castle/images, results in scenes/castle/reconstruction
  python -m pipelines.reconstruct walk/ --pairs sequential --camera-mode single
      frames of a video by one camera; each frame is matched with its neighbours
  python -m pipelines.reconstruct town/ --pairs spatial+retrieval --positions gps.csv
      photos that were taken near each other, and those that look alike
  python -m pipelines.reconstruct castle/ --camera-model PINHOLE --camera-params 1380,1382,760.8,503.9
      known intrinsics, in COLMAP's order and pixel convention; they are not refined
  python -m pipelines.reconstruct walk.mp4
      a video: frames in walk_frames/images, their times in walk_frames/times.txt, results in walk_frames/reconstruction
  python -m pipelines.reconstruct archive/ --dry-run
      how many pairs, and how much time, memory and disk space; nothing is written
  python -m pipelines.reconstruct castle/ --extend
      more photos in castle/ than the finished model has: they are registered in it
  python -m pipelines.reconstruct --demo
      render a synthetic scene, reconstruct it, and compare with the truth

All results are kept in the output folder: the same command continues an interrupted run, and computes
nothing again after a finished run. exit codes: 0 done, 2 bad option, 3 no readable photo, 4 weights missing,
5 no model that passes the checks, 6 output not writable, 130 interrupted, 143 terminated.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.scene_dir is None and not arguments.demo:
        parser.error("give the folder of the photos, or --demo")
    if arguments.demo and arguments.dry_run:
        parser.error("--dry-run estimates the cost of a folder of photos; leave out --demo")
    if arguments.extend is not None and arguments.demo:
        parser.error("--extend works on a finished model; leave out --demo")
    if arguments.view and (arguments.demo or arguments.dry_run or arguments.extend is not None):
        parser.error("--view shows a model that grows from the beginning; leave out --demo, --dry-run and --extend")
    show_warnings(arguments.verbose)

    def body() -> None:
        if not arguments.demo and arguments.scene_dir.is_file():
            arguments.scene_dir = _folder_of_video(arguments)
        if arguments.extend is not None:
            _use_options_of_last_run(arguments)
        config = ReconstructConfig.from_mapping(config_values(arguments, ReconstructConfig))
        if arguments.dry_run:
            _estimate(arguments, config)
        elif arguments.demo:
            _run_demo(arguments, config)
        else:
            _report(
                arguments,
                with_progress(arguments.quiet, lambda progress: _reconstruct(arguments, config, progress)),
                {},
            )

    def with_summary() -> None:
        try:
            body()
        except ReconstructionError as error:
            if error.summary is not None:
                _write_report(arguments, _output_folder(arguments))
                if arguments.json:
                    say_json(error.summary)
            raise

    return run_command(with_summary, show_downloads=not arguments.quiet)


def _reconstruct(arguments: argparse.Namespace, config: ReconstructConfig, progress: Progress) -> ReconstructionResult:
    folder, output = arguments.scene_dir, arguments.output
    if arguments.extend is None:
        with growth_window(arguments.view, str(folder), _output_folder(arguments)) as growth:
            return reconstruct(folder, output, config, progress, confirmation(arguments), growth)
    if arguments.extend == EXTEND_AUTO:
        return extend_or_reconstruct(folder, output, config, progress, confirmation(arguments))
    return extend(folder, output, config, progress, arguments.extend or None)


def _folder_of_video(arguments: argparse.Namespace) -> Path:
    """The folder of the chosen frames of a video that is given in place of a folder of photos."""
    from sfm_lightglue.tracking.frames_of_video import frames_of_video

    if arguments.dry_run:
        raise ConfigError(f"--dry-run writes nothing, also no frames of {arguments.scene_dir}; leave it out")
    return with_progress(arguments.quiet, lambda progress: frames_of_video(arguments.scene_dir, progress=progress))


def _use_options_of_last_run(arguments: argparse.Namespace) -> None:
    """An extension takes the options of the run that made the model, unless there is a configuration file."""
    output = _output_folder(arguments)
    if arguments.config is None and arguments.extend in {"", EXTEND_AUTO} and has_finished_model(output):
        arguments.config = output / RESULTS_MARKER


def _estimate(arguments: argparse.Namespace, config: ReconstructConfig) -> None:
    from pipelines.plan import say_plan
    from pipelines.plans import plan_of_extension
    from sfm_lightglue.reconstruction.estimate import estimate_cost

    output = _output_folder(arguments)
    if arguments.extend is not None and (arguments.extend != EXTEND_AUTO or has_finished_model(output)):
        say_plan(plan_of_extension(arguments, config, output), arguments)
        return
    estimate = with_progress(
        arguments.quiet, lambda progress: estimate_cost(arguments.scene_dir, arguments.output, config, progress)
    )
    if arguments.json:
        say_json(estimate.as_dict() | {"dry_run": True, "writes": [str(output)]})
    else:
        say(f"{estimate}\nwould write {output}")


def _run_demo(arguments: argparse.Namespace, config: ReconstructConfig) -> None:
    from sfm_lightglue.evaluation.demo import run_demo

    folder = arguments.scene_dir or DEMO_DIR
    result, errors = with_progress(
        arguments.quiet, lambda progress: run_demo(folder, arguments.output, config, progress)
    )
    _report(arguments, result, {"demo": errors.as_dict()})
    if not arguments.quiet and not arguments.json:
        say(errors)


def _report(arguments: argparse.Namespace, result: ReconstructionResult, more: dict[str, Any]) -> None:
    summary = result.summary
    report = _write_report(arguments, result.output)
    if arguments.json:
        say_json(summary.as_dict() | more)
    elif not arguments.quiet:
        written = "" if report is None else f", {report}"
        say(f"{summary} -> {result.output / summary.models[0]['path']}{written}")


def _write_report(arguments: argparse.Namespace, output: Path) -> Path | None:
    """The report of the results in an output folder; None if it was not wanted, or not written."""
    if arguments.no_report:
        return None
    folder = arguments.scene_dir or DEMO_DIR
    images = folder / "images" if (folder / "images").is_dir() else folder
    return report_of_run(output, images, arguments.threads or 0)


def _output_folder(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.output or (arguments.scene_dir or DEMO_DIR) / "reconstruction"
    return folder


def config_values(arguments: argparse.Namespace, config_type: type[DatabaseConfig]) -> dict[str, Any]:
    """The configuration file, overridden by the flags that were given, as nested mappings.

    Raises:
        ConfigError: if a file is missing or cannot be read, or camera parameters are not numbers.
    """
    values = read_config_file(arguments.config, config_type) if arguments.config else {}
    flags = {
        ("cameras", "mode"): arguments.camera_mode,
        ("cameras", "model"): arguments.camera_model,
        ("cameras", "params"): parse_camera_params(arguments.camera_params),
        ("cameras", "refine"): True if arguments.refine_intrinsics else None,
        ("executor", "name"): arguments.executor,
        ("executor", "address"): arguments.executor_address,
    }
    if config_type is ReconstructConfig:
        flags |= {
            ("density", "level"): arguments.density,
            ("refine", "mode"): arguments.refine,
            ("mapping", "name"): arguments.mapper,
            ("lookalikes", "mode"): arguments.lookalikes,
        }
        if arguments.trust_pairs is not None:
            flags["lookalikes", "trust_pairs"] = existing_file("--trust-pairs", arguments.trust_pairs)
    values = override(component_values(arguments, values), flags | pair_flags(arguments))
    values |= scene_file_values(arguments)
    if config_type is ReconstructConfig and arguments.rig is not None:
        values |= {"rig": existing_file("--rig", arguments.rig)}
    if config_type is ReconstructConfig and arguments.poses is not None:
        values |= {"poses": existing_path("--poses", arguments.poses)}
    if arguments.masks is not None:
        values = values | {"masks": mask_folder(arguments.masks)}
    return values if arguments.threads is None else values | {"num_threads": arguments.threads}


def mask_folder(value: str) -> str:
    """The absolute path of the folder that a user named.

    Raises:
        ConfigError: if there is no such folder.
    """
    if not value or not Path(value).is_dir():
        raise ConfigError(f"--masks {value}: no such folder")
    return str(Path(value).resolve())  # absolute, as the lists


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser(
        "reconstruct",
        "Reconstruct a folder of photos: camera poses and a 3D point cloud, in COLMAP's format.",
        EXAMPLES,
    )
    add = parser.add_argument
    add(
        "scene_dir",
        metavar="SCENE_DIR",
        type=Path,
        nargs="?",
        help="folder of photos, folder with a sub-folder images/, or a video: its sharp frames with enough parallax are"
        " written into NAME_frames/images beside it",
    )
    add("--output", metavar="DIR", type=Path, help="folder of the results (default: SCENE_DIR/reconstruction)")
    add(
        "--demo",
        action="store_true",
        help="render a synthetic scene into SCENE_DIR (default: demo_scene) first",
    )
    add(
        "--config",
        metavar="FILE",
        type=Path,
        help="options in TOML, or run.json of an earlier run",
    )
    add(
        "--extend",
        metavar="auto|MODEL_DIR",
        nargs="?",
        const="",
        help="register the photos that the finished model does not have in it, with the options of its run; ids,"
        " cameras and frame stay. auto: if there is a finished model, else a normal run. MODEL_DIR: a COLMAP model"
        " from elsewhere, whose photos are in SCENE_DIR",
    )
    group = parser.add_argument_group("what to compute")
    add_component_arguments(group)
    add_pair_arguments(group)
    add(
        "--mapper",
        metavar="|".join(MAPPERS.builtin_names),
        help="what builds the model: image by image, all at once, or in parts (default: auto, by the number of photos)",
    )
    add(
        "--rig",
        metavar="FILE",
        help="rig_config.json of COLMAP: cameras that are mounted together, and their poses in the rig",
    )
    add(
        "--lookalikes",
        choices=["auto", "off", "strict"],
        help="places that look alike: doubtful pairs of photos take part only if others support them (auto, the"
        " default; all do if fewer than three are clearly wrong), always (off), or never (strict)",
    )
    add("--trust-pairs", metavar="FILE", help="verified pairs that always take part, two names a line")
    add(
        "--poses",
        metavar="FILE",
        help="known cameras and poses, which stay as they are: transforms.json of nerfstudio, bundle.out of Bundler,"
        " reconstruction.json of OpenSfM, or the folder of a COLMAP model; matches are triangulated only",
    )
    add_density_arguments(group, ["sparse", "normal", "dense"])
    add_mask_argument(group)
    add_camera_arguments(group)
    group = parser.add_argument_group("how to run")
    add = group.add_argument
    add_yes_argument(group)
    add(
        "--dry-run",
        action="store_true",
        help="print the number of pairs, and the time, memory and disk space that they will take, and write nothing",
    )
    add("--view", action="store_true", help="show the model in a window while it grows, until the end of the run")
    add("--no-report", action="store_true", help="do not write report.html, the page about the results")
    add("--threads", type=int, metavar="N", help="default: all cores; with 1, two runs give identical bytes")
    add_executor_arguments(group)
    add("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    add("--device", help="of the networks: cpu, cuda, or auto (default: auto)")
    add_output_arguments(group)
    return parser


def add_density_arguments(group: Any, levels: Sequence[str]) -> None:
    """The flags for the dense points and the refinement.

    Args:
        group: that gets the flags.
        levels: of the density.
    """
    sparse = "those of the matcher, " if "sparse" in levels else ""
    text = f"points of the cloud: {sparse}as many as COLMAP finds, or more (default: normal)"
    group.add_argument("--density", choices=levels, help=text)
    group.add_argument(
        "--refine",
        choices=["auto", "on", "off"],
        help="move the keypoints of the points to sub-pixel precision (default: auto)",
    )


def add_executor_arguments(group: Any) -> None:
    """The flags for several processes."""
    add = group.add_argument
    add(
        "--executor",
        choices=["threads", "folder", "ray"],
        help="folder: all processes that run this command on the same output folder share the work, on any machines;"
        " ray: the workers of a Ray cluster (default: threads of this process)",
    )
    add("--executor-address", metavar="ADDRESS", help="of the Ray cluster (default: workers on this machine)")


def add_mask_argument(group: Any) -> None:
    """The flag for masks."""
    group.add_argument(
        "--masks",
        metavar="DIR",
        help="masks: a/b.jpg.png for the photo a/b.jpg; black gets no features (default: masks/ in the scene)",
    )


def add_camera_arguments(group: Any) -> None:
    """The flags for known cameras."""
    add = group.add_argument
    add(
        "--camera-mode",
        choices=["auto", "single", "per-folder", "per-image"],
        help="which photos share a camera (default: auto)",
    )
    add("--camera-model", metavar="NAME", help="COLMAP's name (default: SIMPLE_RADIAL)")
    add("--camera-params", metavar="P,P,...", help="known intrinsics in COLMAP's order; kept fixed")
    add("--refine-intrinsics", action="store_true", help="refine known intrinsics too")


if __name__ == "__main__":
    sys.exit(main())
