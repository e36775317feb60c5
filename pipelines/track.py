"""`python -m pipelines.track SOURCE`: the path of a camera and a map from a video, by visual SLAM."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.arguments import add_component_arguments, component_values, parse_camera_params
from pipelines.command import command_parser, run_command, show_warnings, with_progress
from pipelines.interrupt import asked_to_end
from pipelines.live_window import open_live_window
from pipelines.manners import add_dry_run_argument, add_output_arguments
from pipelines.options import with_flags
from pipelines.output import OutputClosed, discard_output, errors_may_be_unread, say, say_json
from pipelines.plan import say_plan
from pipelines.plans import plan_of_track
from sfm_lightglue.errors import ReconstructionError, SfmError, StoreError
from sfm_lightglue.reconstruction.config import read_config_file
from sfm_lightglue.tracking.config import MAX_KEYPOINTS, TrackerConfig
from sfm_lightglue.tracking.frame import Frame, FrameRecord
from sfm_lightglue.tracking.run import FrameCallback, TrackedSource, track
from sfm_lightglue.tracking.tracker import Tracker
from sfm_lightglue.tracking.trajectory_files import frame_values

INTERRUPTED = 130

EXAMPLES = """\
examples:
  python -m pipelines.track walk.mp4
      a video; results in walk_tracking
  python -m pipelines.track sequence/ --fps 10 --camera-model PINHOLE --camera-params 718.9,718.9,607.7,185.7
      a folder of frames, 10 a second, with known intrinsics; results in sequence/tracking
  python -m pipelines.track 0 --output desk --view
      the first camera of this machine, until Ctrl-C; the window shows the map
  python -m pipelines.track walk.mp4 --live-json | python robot.py
      a line of JSON for each frame as soon as it is tracked
  python -m pipelines.track walk.mp4 --finish
      then many more points, as densify adds them: walk_tracking/densified

Frames go in natural order, and their time is index / fps, or that of times.txt in or beside the folder (a time a line,
or a name and a time). Scale is unknown with one camera. DIR gets frames.jsonl, trajectory_tum.txt and
trajectory_kitti.txt (poses of the largest map; those of further maps in trajectory_tum_1.txt ...), keyframes.txt,
sparse/0 (the largest map as a COLMAP model; further ones in sparse/1 ...), points.ply and run.json. Ctrl-C ends the
sequence and writes what was tracked; a second one leaves at once. exit codes: 0 done, 2 bad option, 3 no frame that
can be read, 4 weights missing, 5 nothing could be tracked, 6 output not writable, 130 interrupted (0 for a camera),
143 terminated.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> int:
        config = TrackerConfig.from_mapping(config_values(arguments))
        if arguments.dry_run:
            params = tuple(parse_camera_params(arguments.camera_params) or ())
            say_plan(plan_of_track(arguments, config, params), arguments)
            return 0
        return _run(arguments, config)

    return run_command(body, show_downloads=not arguments.quiet)


def _run(arguments: argparse.Namespace, config: TrackerConfig) -> int:
    try:
        tracked = _tracked(arguments, config)
    except ReconstructionError as error:
        if arguments.json and error.summary is not None:
            say_json(error.summary)
        raise
    summary, more = tracked.summary, dict[str, Any]()
    failure: BaseException | None = None
    if arguments.finish and not summary.is_interrupted:
        try:
            more = {"densified": _finish(arguments, tracked, config)}
        except (SfmError, KeyboardInterrupt) as error:
            more, failure = {"densified": {"error": with_flags(str(error)) or "interrupted"}}, error
    if arguments.json:
        say_json(summary.as_dict() | {"output": str(tracked.output)} | more)
    elif not arguments.quiet and not arguments.live_json:
        say(f"{summary} -> {tracked.output}")
    if failure is not None:
        raise failure
    return INTERRUPTED if summary.is_interrupted else 0


def _tracked(arguments: argparse.Namespace, config: TrackerConfig) -> TrackedSource:
    params = tuple(parse_camera_params(arguments.camera_params) or ())
    with asked_to_end() as asked, _callbacks(arguments) as on_frame:
        return with_progress(
            arguments.quiet or arguments.live_json,
            lambda progress: track(
                arguments.source,
                arguments.output,
                config,
                fps=arguments.fps,
                camera_params=params,
                progress=progress,
                on_frame=on_frame,
                is_to_end=_announced(asked),
            ),
        )


def _announced(asked: threading.Event) -> Callable[[], bool]:
    """Whether the user asked to end the sequence; the first time, a line says what happens."""
    told = threading.Event()

    def is_to_end() -> bool:
        if asked.is_set() and not told.is_set():
            told.set()
            print("ending: the map is adjusted and written; Ctrl-C again leaves at once", file=sys.stderr, flush=True)
        return asked.is_set()

    return is_to_end


class _callbacks:
    """What is called after each frame: the window, and the lines of JSON.

    If the lines cannot be written any more, tracking goes on without them. An error other than that the reader has
    gone is raised at the end.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._with_json = arguments.live_json
        self._error: StoreError | None = None
        self._view = open_live_window(str(arguments.source)) if arguments.view else None

    def __enter__(self) -> FrameCallback:
        return self._after_frame

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._view is not None:
            self._view.close()
        if error is None and self._error is not None:
            raise self._error

    def _after_frame(self, tracker: Tracker, frame: Frame, record: FrameRecord) -> None:
        if self._with_json:
            try:
                say_json(frame_values(record), flush=True)
            except (OutputClosed, StoreError) as error:
                self._with_json = False
                self._error = error if isinstance(error, StoreError) else None
                discard_output()
                with errors_may_be_unread():
                    print("the lines of JSON cannot be written; tracking goes on", file=sys.stderr, flush=True)
        if self._view is not None:
            self._view.show(tracker, frame, record)


def _finish(arguments: argparse.Namespace, tracked: TrackedSource, config: TrackerConfig) -> dict[str, Any]:
    """Densify and refine the model of the keyframes, as the command densify does."""
    from sfm_lightglue.colmap.model import find_map
    from sfm_lightglue.reconstruction.densify_config import DensifyConfig
    from sfm_lightglue.reconstruction.densify_map import densify, values_of_run

    values = values_of_run(find_map(tracked.output)) | {"num_threads": config.threads, "device": config.device}
    options = DensifyConfig.from_mapping(values)
    is_quiet = arguments.quiet or arguments.live_json
    dense = with_progress(is_quiet, lambda progress: densify(tracked.output, config=options, progress=progress))
    if not is_quiet and not arguments.json:
        say(f"{dense.summary} -> {dense.output}")
    return dense.summary.as_dict() | {"output": str(dense.output)}


def config_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration file, overridden by the flags that were given, as nested mappings.

    Raises:
        ConfigError: if the file is missing or cannot be read, or a setting has no value.
    """
    values = read_config_file(arguments.config, TrackerConfig) if arguments.config else {}
    given = {
        "camera_model": arguments.camera_model,
        "max_image_size": arguments.max_image_size,
        "threads": arguments.threads,
        "loop_closing": False if arguments.no_loop_closing else None,
    }
    of_components = argparse.Namespace(**vars(arguments) | {"max_image_size": None})  # here it is that of the frames
    return component_values(of_components, values) | {name: value for name, value in given.items() if value is not None}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    defaults = TrackerConfig()
    parser = command_parser(
        "track", "Track a camera through a video and map what it sees: visual SLAM with one camera.", EXAMPLES
    )
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="a video file, a folder of frames, or a camera: its number, or an address such as rtsp://...",
    )
    add(
        "--output",
        metavar="DIR",
        type=Path,
        help="folder of the results (default: SOURCE/tracking, or NAME_tracking beside a video; required for a camera)",
    )
    add("--config", metavar="FILE", type=Path, help="options in TOML, or run.json of an earlier run of this command")
    add("--finish", action="store_true", help="densify and refine the model of the keyframes afterwards")
    group = parser.add_argument_group("frames and camera")
    add = group.add_argument
    add("--fps", type=float, metavar="F", help="frames a second (default: times of the source, else 30)")
    add("--camera-model", metavar="NAME", help="COLMAP's name (default: SIMPLE_RADIAL)")
    add(
        "--camera-params",
        metavar="P,P,...",
        help="known intrinsics in COLMAP's order (default: EXIF data of the frames, else estimated)",
    )
    group = parser.add_argument_group("what to compute")
    add_component_arguments(
        group, f"larger frames are reduced to it (default: {defaults.max_image_size})", max_keypoints=MAX_KEYPOINTS
    )
    group.add_argument("--no-loop-closing", action="store_true", help="do not correct the drift at known places")
    group = parser.add_argument_group("how to run")
    add = group.add_argument
    add("--threads", type=int, metavar="N", help="1: mapping runs between the frames, and runs repeat (default: 2)")
    add("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    add("--device", help="of the networks: cpu, cuda, or auto (default: cpu)")
    add("--view", action="store_true", help="show camera, map and frame in a window while it runs")
    add("--live-json", action="store_true", help="print a line of JSON for each frame as soon as it is tracked")
    add_dry_run_argument(group, "how many frames would be tracked")
    add_output_arguments(group)
    return parser


if __name__ == "__main__":
    sys.exit(main())
