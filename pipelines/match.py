"""`python -m pipelines.match IMAGE0 IMAGE1`: the relative pose of two photos; `--batch` for many pairs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from pipelines.arguments import add_component_arguments, component_values, override, parse_camera_params
from pipelines.command import command_parser, run_command, show_warnings
from pipelines.manners import NOTHING_SHOWN, add_dry_run_argument, add_output_arguments
from pipelines.match_batch import run_batch
from pipelines.match_output import (
    default_drawing_path,
    output_paths,
    require_replaceable,
    show_drawing,
    write_result,
)
from pipelines.options import with_flags
from pipelines.output import say, say_json
from pipelines.plan import say_plan
from pipelines.plans import plan_of_match
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.image_pair.batch import PairBatch
from sfm_lightglue.image_pair.cameras import StatedCameras
from sfm_lightglue.image_pair.config import MatchConfig
from sfm_lightglue.image_pair.matching import match_images
from sfm_lightglue.image_pair.pair_list import PAIR_FORMAT, read_listed_pairs
from sfm_lightglue.image_pair.picture import Colouring, PictureConfig, draw_pair
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.point_layers import TellsLayers
from sfm_lightglue.messages import install_hint
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.two_view.estimators.base import ESTIMATOR_NAMES
from sfm_lightglue.two_view.verification import verification_identity

EXAMPLES = f"""\
examples:
  python -m pipelines.match left.jpg right.jpg
      the pose of the second camera as seen from the first, with the focal length of the EXIF data
  python -m pipelines.match left.jpg right.jpg --out matches.png
      also a picture of the matches, and matches.json
  python -m pipelines.match left.jpg right.jpg --show --colour layers
      the keypoints by the layer of LightGlue that removed them; --colour score, --epipolar 20
  python -m pipelines.match left.png right.png --camera-model0 PINHOLE --camera-params0 520,521,325,250
      known intrinsics, in COLMAP's order and pixel convention; given for one photo, they hold for the other too
      if that is of the same size and camera
  python -m pipelines.match frame0.png frame1.png --same-camera
      photos without EXIF data taken by one camera: their common unknown focal length is estimated from the pair.
      Without the flag, one camera took both photos if both have EXIF data with the same camera, lens and focal length
  python -m pipelines.match left.jpg right.jpg --guided
      match many more keypoints along the epipolar lines of the first pose, and estimate the pose again
  python -m pipelines.match --batch pairs.txt --images photos/ --out results.jsonl
      many pairs, one JSON object a line; an interrupted run continues. A line of the list is
      {PAIR_FORMAT}
      the format of SuperGlue: K in OpenCV's pixels; with T, each result contains its error

The uncertainty is the radius that contains 95 % of the errors. The focal length is given, from EXIF data, estimated
from the pair if its matches determine it, or guessed: the output states which.

verdicts: general; planar (the photos show one plane: the pose is less certain); pure_rotation (the camera only
turned: t is zero); rejected, with the reason.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        flags = {("two_view", "estimator"): arguments.estimator}
        values = component_values(arguments, override({}, flags))
        config = MatchConfig.from_mapping(({"guided": True} if arguments.guided else {}) | values)
        verification_identity(config.two_view)  # fails early if the library of the estimator is missing
        if arguments.batch is not None:
            _match_listed(arguments, config)
        else:
            _match_two(arguments, config)

    return run_command(body, show_downloads=not arguments.quiet)


def _match_two(arguments: argparse.Namespace, config: MatchConfig) -> None:
    if arguments.image0 is None or arguments.image1 is None:
        raise ConfigError("expected two photos, or --batch with a list of pairs; see --help")
    if arguments.images is not None:
        raise ConfigError("--images belongs to --batch")
    if arguments.dry_run:
        raise ConfigError("--dry-run belongs to --batch: two photos take seconds")
    picture = PictureConfig(arguments.colour or "inliers", epipolar_lines=arguments.epipolar)
    if _states_picture(arguments) and arguments.out is None and not arguments.show:
        raise ConfigError("--colour and --epipolar change the picture: add --out or --show")
    matcher = MATCHERS.build(config.matcher, config.device)
    if picture.colour == "layers" and (config.guided or not isinstance(matcher, TellsLayers)):
        raise ConfigError("--colour layers needs a LightGlue as the --matcher, and no --guided")
    paths, out = None, arguments.out
    if out is None and arguments.show:
        out = default_drawing_path(arguments.image0, arguments.image1)
    if out is not None:
        paths = output_paths(out)
        require_replaceable(paths, (arguments.image0, arguments.image1))
    images = Image.read(arguments.image0), Image.read(arguments.image1)
    result = match_images(
        *images,
        EXTRACTORS.build(config.extractor, config.device),
        matcher,
        _stated(arguments).configs,
        config.two_view,
        config.seed,
        same_camera=arguments.same_camera,
        guided=config.guided or False,
        with_layers=picture.colour == "layers",
    )
    values = result.as_dict() | ({"matches": result.matches_as_dict()} if arguments.matches else {})
    if paths is not None:
        drawing = draw_pair(result, picture)
        write_result(drawing, values, *paths)
        if arguments.show and not show_drawing(drawing, paths[0]) and not arguments.quiet:
            print(f"no display: the picture is {paths[0]}", file=sys.stderr)
    if arguments.json:
        say_json(values)
    elif not arguments.quiet:
        say(with_flags(str(result)))
        if paths is not None:
            say(f"written: {paths[0]}, {paths[1]}")


def _states_picture(arguments: argparse.Namespace) -> bool:
    return arguments.colour is not None or arguments.epipolar != 0


def _match_listed(arguments: argparse.Namespace, config: MatchConfig) -> None:
    if arguments.image0 is not None:
        raise ConfigError("--batch takes its photos from the list: do not name others")
    if arguments.show or arguments.matches or _states_picture(arguments):
        raise ConfigError("--show, --colour, --epipolar and --matches are for two photos, not for --batch")
    out = arguments.out
    if out is not None and (out.suffix.lower() != ".jsonl" or os.path.isdir(out)):
        raise ConfigError(f"--out {out}: expected a name that ends in .jsonl, for one JSON object a line")
    image_root = arguments.images or arguments.batch.parent
    _require_inputs(arguments, image_root)
    pairs = read_listed_pairs(arguments.batch, image_root)
    if arguments.dry_run:
        say_plan(plan_of_match(config, pairs, image_root, out), arguments)
        return
    extractor = EXTRACTORS.build(config.extractor, config.device)
    matcher = MATCHERS.build(config.matcher, config.device)
    stated = _stated(arguments)
    batch = PairBatch(image_root, extractor, matcher, stated, config.two_view, config.seed, config.guided)
    run_batch(batch, pairs, out, arguments.json, arguments.quiet)


def _require_inputs(arguments: argparse.Namespace, image_root: Path) -> None:
    """Check that the list and the images of a batch exist, and that the output is not the list."""
    batch, out = arguments.batch, arguments.out
    if os.path.isdir(batch) or not os.path.exists(batch):
        what = "is a folder" if os.path.isdir(batch) else "no such file"
        raise DataError(f"--batch {batch}: {what}; give a text file with a pair a line: {PAIR_FORMAT}")
    if not os.path.isdir(image_root):
        raise DataError(f"--images {image_root}: no such folder; the names in the list are relative to it")
    if out is not None and os.path.exists(out) and out.samefile(batch):
        raise ConfigError(f"--out {out}: is the list itself; choose another name")


def _stated(arguments: argparse.Namespace) -> StatedCameras:
    params0, params1 = (parse_camera_params(text) for text in (arguments.camera_params0, arguments.camera_params1))
    return StatedCameras(
        (arguments.camera_model0, arguments.camera_model1),
        (None if params0 is None else tuple(params0), None if params1 is None else tuple(params1)),
        arguments.same_camera,
    )


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("match", "Match two photos and estimate their relative pose.", EXAMPLES)
    add = parser.add_argument
    add("image0", metavar="IMAGE0", type=Path, nargs="?", help="first photo; its camera is the reference frame")
    add("image1", metavar="IMAGE1", type=Path, nargs="?", help="second photo; the pose of its camera is estimated")
    add("--batch", metavar="FILE", type=Path, help="a list of pairs, one a line (see below)")
    add(
        "--images",
        metavar="DIR",
        type=Path,
        help="folder of the images of the list (default: folder of the list)",
    )
    out_help = (
        "write an image of the matches, and a JSON file beside it; with --batch a file of JSON lines. Only files of"
    )
    out_help += " an earlier run are replaced"
    add("--out", metavar="PATH", type=Path, help=out_help)
    add("--show", action="store_true", help="show the picture of the matches; without a display, tell where it is")
    add("--colour", choices=get_args(Colouring), help="of the picture (default: inliers)")
    add("--epipolar", metavar="N", type=int, default=0, help="draw N inliers with their epipolar lines")
    add("--matches", action="store_true", help="list every match in the JSON: keypoints, scores and inliers")
    add_component_arguments(parser)
    estimators = "|".join(ESTIMATOR_NAMES)
    estimator_help = f"robust estimator (default: opencv-magsac); poselib is an extra: {install_hint('poselib')}"
    add("--estimator", metavar=estimators, help=estimator_help)
    add("--guided", action="store_true", help="match more keypoints along the epipolar lines of the first pose")
    for side in (0, 1):
        add(f"--camera-model{side}", metavar="NAME", help="COLMAP's name (default: SIMPLE_RADIAL)")
        add(f"--camera-params{side}", metavar="P,P,...", help=f"known intrinsics of image {side}")
    same_help = "whether one camera with one focal length took both photos of a pair (default: by EXIF data)"
    add("--same-camera", action=argparse.BooleanOptionalAction, help=same_help)
    add("--seed", type=int, metavar="N", help="of the random samples (default: 0)")
    add("--device", help="of the networks: cpu, cuda, or auto (default: auto)")
    add_dry_run_argument(parser, "with --batch, how many pairs would be matched")
    add_output_arguments(parser, "print each result as one JSON object on standard output", NOTHING_SHOWN)
    return parser


if __name__ == "__main__":
    sys.exit(main())
