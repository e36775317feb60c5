"""`python -m pipelines.view MAP...`: show reconstructions in a window, or write a picture or a film of them."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from pipelines.command import command_parser, run_command, show_warnings
from pipelines.manners import add_output_arguments
from pipelines.output import say, say_json
from sfm_lightglue.viewer import Look, ViewConfig, Viewed, view_models
from sfm_lightglue.viewer.look import BACKGROUNDS, COLORINGS

EXAMPLES = """\
examples:
  python -m pipelines.view scenes/castle
      show the model in scenes/castle/reconstruction/sparse/0
  python -m pipelines.view castle/sparse/0 --screenshot castle.png --size 1920x1080
      write an image; needs neither a display nor a graphics card
  python -m pipelines.view castle/ --turntable castle.mp4 --seconds 8
      a film of a turn around the scene; castle.gif works too
  python -m pipelines.view castle/ town/
      two models side by side
  python -m pipelines.view castle/ --compare other/sparse/0
      two models of the same photos, and how far apart their cameras are

In the window: click a camera for its photo with its keypoints, a point for its track over the photos. Drag to
turn, ctrl-drag to shift, wheel to zoom; h lists all keys on the screen. Cameras are coloured from blue (first
name) to red (last).
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        look = Look(
            coloring=arguments.colour or ("photo" if arguments.compare is None else "model"),
            background=arguments.background,
            point_factor=arguments.point_size,
            cameras=not arguments.no_cameras,
            axes=arguments.axes,
        )
        config = ViewConfig(
            map_dirs=tuple(arguments.maps),
            compare=arguments.compare,
            images=tuple(arguments.images),
            screenshot=arguments.screenshot,
            turntable=arguments.turntable,
            size=arguments.size,
            num_frames=arguments.frames,
            seconds=arguments.seconds,
            look=look,
        )
        viewed = view_models(config)
        if arguments.json:
            say_json(values_of(viewed))
        elif not arguments.quiet:
            _say(config, viewed)

    return run_command(body)


def _say(config: ViewConfig, viewed: Viewed) -> None:
    shown = f"{len(viewed.contents.frusta)} images, {len(viewed.contents.points)} points"
    files = [str(path) for path in (config.screenshot, config.turntable) if path is not None]
    say(f"{', '.join(files)}: {shown}" if files else shown)
    if viewed.comparison is not None:
        say(viewed.comparison.table())


def values_of(viewed: Viewed) -> dict[str, Any]:
    """Plain values for JSON."""
    models = [
        {
            "path": model.name,
            "num_images": len(model.table.names),
            "num_points": len(model.table.arrays.points),
            "up": model.up.tolist(),
            "up_from": model.up_source,
            "is_sequence": model.is_sequence,
        }
        for model in viewed.models
    ]
    return {"models": models, "compare": None if viewed.comparison is None else viewed.comparison.as_dict()}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser(
        "view", "Show the points and the cameras of reconstructions in a window, or write pictures of them.", EXAMPLES
    )
    add = parser.add_argument
    add(
        "maps",
        metavar="MAP",
        type=Path,
        nargs="+",
        help="an output folder, a scene folder that has one, or a COLMAP model (cameras.bin ...); several are shown"
        " side by side, in equal size",
    )
    add(
        "--compare",
        metavar="MAP",
        type=Path,
        help="a second model of the same images: it is aligned with the first by their camera centres, lines join the"
        " two centres of each image, and the errors are printed",
    )
    add(
        "--images",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="folder of the images of the first model; given again, of the next one (default: found by itself)",
    )
    add("--screenshot", metavar="FILE.png", type=Path, help="write an image; opens no window")
    add(
        "--turntable",
        metavar="FILE.mp4|gif",
        type=Path,
        help="write a film of a turn around the scene; opens no window",
    )
    add("--frames", metavar="N", type=int, default=72, help="pictures of the film (default: 72)")
    add("--seconds", metavar="S", type=float, default=6.0, help="length of the film (default: 6)")
    add(
        "--size",
        metavar="WIDTHxHEIGHT",
        type=parse_size,
        default=(1280, 960),
        help="of the image, the film or the window in pixels (default: 1280x960)",
    )
    add(
        "--colour",
        choices=COLORINGS,
        help="of the points: that of the photos, by reprojection error, by number of images that see them, by height,"
        " or by model (default: photo; with --compare: model)",
    )
    add("--background", choices=sorted(BACKGROUNDS), default="dark", help="default: dark")
    add("--point-size", metavar="FACTOR", type=float, default=1.0, help="multiple of the usual size (default: 1)")
    add("--axes", action="store_true", help="draw the axes of the model: x red, y green, z blue")
    add("--no-cameras", action="store_true", help="draw no cameras")
    as_json = "print the models and the errors as one JSON object on standard output"
    add_output_arguments(parser, as_json, "print only errors")
    return parser


def parse_size(text: str) -> tuple[int, int]:
    """Parse a size such as "1280x960"."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 1280x960, got {text!r}")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
