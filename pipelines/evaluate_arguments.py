"""The arguments of `evaluate`: six tasks, each with its own help."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from pipelines.command import as_called, command_parser
from pipelines.evaluate_output import add_result_arguments
from pipelines.evaluate_slam import SLAM, SLAM_EXAMPLES, add_slam_arguments
from pipelines.options import FLAG_FROM_OPTION
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.two_view.estimators.base import ESTIMATOR_NAMES

EXAMPLES = """\
examples:
  python -m pipelines.evaluate pairs --pairs pairs.txt --images images/ --json poses.json
      relative poses of the pairs of a list
  python -m pipelines.evaluate homography hpatches-sequences-release/ --estimator opencv-magsac --estimator poselib
      corner errors of homographies
  python -m pipelines.evaluate reconstruction fountain/ --extractor sift --matcher nearest
      reconstruct a scene and compare it with the true cameras
  python -m pipelines.evaluate trajectory --reference groundtruth.txt --estimate slam.txt
      errors of a trajectory
  SFM_LIGHTGLUE_OFFLINE=1 python -m pipelines.evaluate shared --limit 30 --json shared.json
      all combinations on the shared data
  python -m pipelines.evaluate slam seven_scenes corridor
      visual SLAM on a sequence of the shared data and on a rendered one

`python -m pipelines.evaluate TASK --help` lists the options of a task.

scenes: cameras.json, COLMAP models (text and binary), Strecha's .camera files, ETH3D, Image Matching Challenge
(2022: calibration.csv; since 2023: sfm/), sequences of TUM and KITTI. Combinations whose weights are missing are
left out and listed. exit codes: 0 success, 2 invalid option, 3 data missing or unreadable, 4 nothing evaluated because
weights are missing, 6 output not writable, 130 interrupted.
"""

_COMPONENT = "NAME[=WEIGHTS][,OPTION=VALUE]"

_COMPONENTS = """\
extractors and matchers:
  --extractor sift --extractor aliked=my_aliked.pth    two extractors, the second with a file of weights
  --extractor aliked,model=n32,max_keypoints=2048      with options, as --set extractor.model=n32 in other commands
  --matcher lightglue --matcher nearest,ratio=0.8      all extractors, matchers and estimators are combined
"""

_PAIRS = """\
Match image pairs, estimate their relative poses, and compare them with the true poses: AUC of the pose error at 5, 10
and 20 degrees, and the precision of the matches. The pairs come from a list, or from scenes.
"""

_PAIRS_EXAMPLES = """\
examples:
  python -m pipelines.evaluate pairs --pairs pairs.txt --images images/ --json poses.json
      SuperGlue's text format: name0 name1 rot0 rot1 K0 (9 numbers) K1 (9) T_0to1 (16) on a line
  python -m pipelines.evaluate pairs --scene courtyard/ --scene fountain/ --extractor all --matcher all
      pairs of scenes with known cameras, with all extractors and matchers whose weights are available
  python -m pipelines.evaluate pairs --scene fountain_p11 --matcher nearest --limit 20
      20 pairs of a scene of the shared data, by its name
"""

_HOMOGRAPHY = """\
Match images of planes, estimate their homographies, and compare them with the true ones: AUC of the corner error at 1,
3 and 5 pixels of an image whose shorter side is 480, and the precision of the matches.
"""

_HOMOGRAPHY_EXAMPLES = """\
examples:
  python -m pipelines.evaluate homography hpatches-sequences-release/ --estimator opencv-magsac --estimator poselib
      HPatches, with two estimators of the homography
  python -m pipelines.evaluate homography graf/ wall/ --extractor sift --matcher nearest
      two scenes in the layout of Oxford's data (img1 ... img6, H1to2p ...)
"""

_RECONSTRUCTION = """\
Reconstruct scenes with known cameras, and compare: registered images, errors of camera centres and rotations, AUC of
the relative poses, points, reprojection error, seconds.
"""

_RECONSTRUCTION_EXAMPLES = """\
examples:
  python -m pipelines.evaluate reconstruction fountain_p11 lund_door --extractor sift --matcher nearest
      two scenes: folders, or names of the shared data
  python -m pipelines.evaluate reconstruction courtyard/ --intrinsics exif --threads 1
      without the true intrinsics; the result with one thread is the same in every run
"""

_TRAJECTORY = """\
Compare the poses of one camera over time with the true ones: absolute trajectory error (ATE) of the positions, and
relative pose error (RPE). The trajectories come from files, or from sequences of images, which are reconstructed first.
"""

_TRAJECTORY_EXAMPLES = """\
examples:
  python -m pipelines.evaluate trajectory --reference groundtruth.txt --estimate slam.txt --estimate other.txt
      two estimates; TUM's format (time x y z qx qy qz qw) or KITTI's (12 numbers of a matrix a line)
  python -m pipelines.evaluate trajectory rgbd_dataset_freiburg2_desk/ --limit 200 --step 30
      reconstruct the first 200 images of a sequence; relative errors over 30 frames
"""

_SHARED = """\
Evaluate on the shared data: homographies of Graffiti, and relative poses of fountain_p11, lund_door and hololens. By
default, all extractors are combined with all matchers.
"""

_SHARED_EXAMPLES = """\
examples:
  python -m pipelines.evaluate shared --limit 30 --json shared.json
      30 pairs of each group; all results are also written to a file
  python -m pipelines.evaluate shared --extractor sift --matcher lightglue --data photographs/
      one combination, with the shared data in another folder
"""

_OWN_SIZES = {"max_image_size": "that of the extractor", "max_keypoints": "that of the extractor"}
_SHARED_SIZES = {"max_image_size": "800", "max_keypoints": "1024"}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("evaluate", "Compare extractors, matchers and estimators with ground truth.", EXAMPLES)
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, summary, description, examples, add_arguments in (
        ("pairs", "relative poses of image pairs: AUC at 5, 10 and 20 degrees", _PAIRS, _PAIRS_EXAMPLES, _add_pairs),
        (
            "homography",
            "HPatches and Oxford's folders: AUC at 1, 3 and 5 pixels",
            _HOMOGRAPHY,
            _HOMOGRAPHY_EXAMPLES,
            _add_homography,
        ),
        (
            "reconstruction",
            "reconstruct scenes, and compare with the true cameras",
            _RECONSTRUCTION,
            _RECONSTRUCTION_EXAMPLES,
            _add_reconstruction,
        ),
        (
            "trajectory",
            "ATE and RPE of a trajectory, or of a sequence of images",
            _TRAJECTORY,
            _TRAJECTORY_EXAMPLES,
            _add_trajectory,
        ),
        ("shared", "all combinations on the shared data", _SHARED, _SHARED_EXAMPLES, _add_shared),
        ("slam", "visual SLAM on sequences: ATE, tracked frames, rates", SLAM, SLAM_EXAMPLES, add_slam_arguments),
    ):
        task = tasks.add_parser(
            name,
            help=summary,
            description=description,
            epilog=as_called("evaluate", examples if name == "slam" else f"{examples}\n{_COMPONENTS}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(task)
    return parser


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pairs", type=Path, metavar="FILE", help="in SuperGlue's text format, with ground truth")
    add("--images", type=Path, metavar="DIR", help="that the names in FILE are relative to (default: FILE's folder)")
    scene_help = (
        "instead of --pairs: a scene with known cameras, a folder or a name of the shared data; may be repeated"
    )
    add("--scene", action="append", metavar="SCENE", help=scene_help)
    rotation_help = "largest rotation between the images of a pair of a scene (default: %(default)g)"
    add("--max-rotation", type=float, default=60.0, metavar="DEG", help=rotation_help)
    limit_help = "N pairs of the list or of each scene, evenly spaced (default: all)"
    _add_common_arguments(parser, _OWN_SIZES, limit_help)


def _add_homography(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="a scene, or a folder of scenes; one or several")
    all_help = "include the 8 large scenes of HPatches that papers leave out (default: without them)"
    add("--all-scenes", action="store_true", help=all_help)
    _add_common_arguments(parser, _OWN_SIZES, "N pairs of each group, evenly spaced (default: all)")


def _add_reconstruction(parser: argparse.ArgumentParser) -> None:
    scenes_help = "a folder, or a name of the shared data; one or several"
    parser.add_argument("scenes", nargs="+", metavar="SCENE", help=scenes_help)
    _add_scene_arguments(parser, "exhaustive")
    _add_common_arguments(parser, _OWN_SIZES, "the first N images of each scene (default: all)")


def _add_trajectory(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("scenes", nargs="*", metavar="SCENE", help="sequence with true poses: TUM, KITTI, cameras.json; any number")
    add("--reference", type=Path, metavar="FILE", help="instead of SCENE: the true trajectory, TUM's or KITTI's format")
    add("--estimate", type=Path, action="append", metavar="FILE", help="with --reference: another; may be repeated")
    align_help = "transform that is fitted before positions are compared (default: %(default)s, with scale)"
    add("--align", choices=("sim3", "se3", "none"), default="sim3", help=align_help)
    step_help = "frames between the poses of a relative error (default: %(default)s)"
    add("--step", type=_positive, default=1, metavar="N", help=step_help)
    difference_help = "largest time difference of associated poses in seconds (default: %(default)s)"
    add("--max-difference", type=float, default=0.02, metavar="S", help=difference_help)
    _add_scene_arguments(parser, "sequential")
    _add_common_arguments(parser, _OWN_SIZES, "the first N images of each scene (default: all)")


def _add_shared(parser: argparse.ArgumentParser) -> None:
    limit_help = "N pairs of each group of poses, evenly spaced (default: all)"
    _add_common_arguments(parser, _SHARED_SIZES, limit_help, every=True)
    parser.set_defaults(**{name: int(value) for name, value in _SHARED_SIZES.items()})


def _add_scene_arguments(parser: argparse.ArgumentParser, selector: str) -> None:
    """Add the flags of tasks that reconstruct."""
    add = parser.add_argument
    intrinsics_help = "the true camera, not refined, or EXIF data, refined (default: %(default)s)"
    add("--intrinsics", choices=("given", "exif"), default="given", help=intrinsics_help)
    pairs_help = "pair selector (default: %(default)s)"
    add("--pairs", choices=("exhaustive", "sequential"), default=selector, help=pairs_help)
    add("--threads", type=int, default=0, metavar="N", help="images and pairs at the same time (default: all cores)")


def _add_common_arguments(
    parser: argparse.ArgumentParser, sizes: dict[str, str], limit_help: str, every: bool = False
) -> None:
    """Add the flags of all tasks.

    Args:
        parser: of the task.
        sizes: text of the defaults of `--max-image-size` and `--max-keypoints`.
        limit_help: help of --limit.
        every: whether all extractors and matchers are used by default.
    """
    add, defaults = parser.add_argument, ReconstructConfig()
    for kind, registry, default in (
        ("extractor", EXTRACTORS, defaults.extractor.name),
        ("matcher", MATCHERS, defaults.matcher.name),
    ):
        names = f"{', '.join(registry.names)}, or all; may be repeated (default: {'all' if every else default})"
        add(f"--{kind}", action="append", metavar=_COMPONENT, help=names)
        add(f"--{kind}-weights", type=_refuse_weights(kind), default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    estimator_help = f"robust estimator; may be repeated (default: {defaults.two_view.estimator})"
    add("--estimator", action="append", choices=ESTIMATOR_NAMES, help=estimator_help)
    size_help = f"longer side to which images are resized for extractors (default: {sizes['max_image_size']})"
    add("--max-image-size", type=_positive, metavar="PX", help=size_help)
    add("--max-keypoints", type=_positive, metavar="N", help=f"per image (default: {sizes['max_keypoints']})")
    add("--limit", type=_positive, metavar="N", help=limit_help)
    add("--seed", type=int, default=0, metavar="N", help="of the random numbers (default: %(default)s)")
    add("--device", default="auto", help="on which networks run: cpu, cuda, or auto (default: %(default)s)")
    data_help = "folder of the shared data (default: $SFM_LIGHTGLUE_DATA, else ../shared/data)"
    add("--data", type=Path, metavar="DIR", help=data_help)
    add_result_arguments(parser)


def with_own_flags(message: str) -> str:
    """A message of the library, with the options of extractors and matchers as this command spells them.

    Other commands have one extractor and one matcher, and so a flag for the weights of each; here the weights follow
    the name, which is the one that the message last mentions.
    """

    def own(found: re.Match[str]) -> str:
        kind, option = found[1], found[2]
        if FLAG_FROM_OPTION.get(f"{kind}.{option}") in _FLAGS:
            return FLAG_FROM_OPTION[f"{kind}.{option}"]
        named = re.findall(rf"(?<![-`])\b{kind} ([\w-]+)", message[: found.start()])
        value = "=FILE" if option == "weights" else f",{option}=VALUE"
        return f"--{kind} {named[-1] if named else 'NAME'}{value}"

    return re.sub(r"`(extractor|matcher)\.(\w+)`", own, message)


_FLAGS = ("--extractor", "--matcher", "--max-image-size", "--max-keypoints")


def _refuse_weights(kind: str) -> Any:
    def refuse(text: str) -> str:
        raise argparse.ArgumentTypeError(f"this command takes weights after the name: --{kind} NAME={text}")

    return refuse


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value
