"""`python -m pipelines.view MAP`: show a reconstruction in a window, or write an image of it."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pipelines.command import command_parser, run_command
from pipelines.output import say
from sfm_lightglue.viewer import ViewConfig, view_model

EXAMPLES = """\
examples:
  python -m pipelines.view scenes/castle
      show the model in scenes/castle/reconstruction/sparse/0
  python -m pipelines.view castle/sparse/0 --screenshot castle.png --size 1920x1080
      write an image; needs neither a display nor a graphics card

In the window: drag to rotate, ctrl-drag to shift, wheel to zoom, + and - for the size of the points, q to
close. Cameras are coloured from blue (first name) to red (last).
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)

    def body() -> None:
        config = ViewConfig(arguments.map, arguments.screenshot, arguments.size)
        scene = view_model(config)
        if not arguments.quiet:
            shown = f"{len(scene.centers)} images, {len(scene.points)} points"
            say(shown if config.screenshot is None else f"{config.screenshot}: {shown}")

    return run_command(body)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser(
        "view", "Show the points and the cameras of a reconstruction in a window, or write an image of them.", EXAMPLES
    )
    parser.add_argument(
        "map",
        metavar="MAP",
        type=Path,
        help="an output folder, a scene folder that has one, or a COLMAP model (cameras.bin ...)",
    )
    parser.add_argument("--screenshot", metavar="FILE.png", type=Path, help="write an image; opens no window")
    parser.add_argument(
        "--size",
        metavar="WIDTHxHEIGHT",
        type=parse_size,
        default=(1280, 960),
        help="of the image or the window in pixels (default: 1280x960)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only errors")
    return parser


def parse_size(text: str) -> tuple[int, int]:
    """Parse a size such as "1280x960"."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 1280x960, got {text!r}")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
