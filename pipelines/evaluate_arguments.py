"""The arguments of `evaluate`: five tasks, each with a help of its own."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from pipelines.command import as_called, command_parser
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
      a scene is reconstructed, and compared with the true cameras
  python -m pipelines.evaluate trajectory --reference groundtruth.txt --estimate slam.txt
      errors of a trajectory
  SFM_LIGHTGLUE_OFFLINE=1 python -m pipelines.evaluate shared --limit 30 --json shared.json
      all combinations on the shared photographs

`python -m pipelines.evaluate TASK --help` tells the options of a task.

scenes: cameras.json, COLMAP models (text and binary), Strecha's .camera files, ETH3D, Image Matching Challenge
(2022: calibration.csv; since 2023: sfm/), sequences of TUM and KITTI. Combinations whose weights are missing are
named and left out. exit codes: 0 done, 2 bad option, 3 data missing or unreadable, 4 nothing left for lack of
weights, 6 output not writable, 130 interrupted.
"""

_COMPONENT = "NAME[=WEIGHTS][,OPTION=VALUE]"

_COMPONENTS = """\
extractors and matchers:
  --extractor sift --extractor aliked=my_aliked.pth    two of them, the second with a file of weights
  --extractor aliked,model=n32,max_keypoints=2048      with options of its own, as --set extractor.model=n32 elsewhere
  --matcher lightglue --matcher nearest,ratio=0.8      every extractor meets every matcher and every estimator
"""

_PAIRS = """\
Matches pairs of photos, estimates their relative poses, and compares them with the true ones: the share of the pairs
whose error stays below 5, 10 and 20 degrees (AUC), and the precision of the matches. Takes a list of pairs, or scenes.
"""

_PAIRS_EXAMPLES = """\
examples:
  python -m pipelines.evaluate pairs --pairs pairs.txt --images images/ --json poses.json
      SuperGlue's text format: name0 name1 rot0 rot1 K0 (9 numbers) K1 (9) T_0to1 (16) on a line
  python -m pipelines.evaluate pairs --scene courtyard/ --scene fountain/ --extractor all --matcher all
      pairs of scenes with known cameras, by every extractor with every matcher whose weights are here
  python -m pipelines.evaluate pairs --scene fountain_p11 --matcher nearest --limit 20
      20 pairs of a scene of the shared data, by its name
"""

_HOMOGRAPHY = """\
Matches pictures of planes, estimates their homographies, and compares them with the true ones: corner errors in pixels
of pictures whose shorter side is 480, as the share below 1, 3 and 5 pixels (AUC), and the precision of the matches.
"""

_HOMOGRAPHY_EXAMPLES = """\
examples:
  python -m pipelines.evaluate homography hpatches-sequences-release/ --estimator opencv-magsac --estimator poselib
      HPatches, with two estimators of the homography
  python -m pipelines.evaluate homography graf/ wall/ --extractor sift --matcher nearest
      two scenes as Oxford has them (img1 ... img6, H1to2p ...)
"""

_RECONSTRUCTION = """\
Reconstructs scenes whose cameras are known, and compares: registered photos, errors of the camera centres and
rotations, AUC of the relative poses, points, reprojection error, seconds.
"""

_RECONSTRUCTION_EXAMPLES = """\
examples:
  python -m pipelines.evaluate reconstruction fountain_p11 lund_door --extractor sift --matcher nearest
      two scenes: folders, or names of the shared data
  python -m pipelines.evaluate reconstruction courtyard/ --intrinsics exif --threads 1
      without the true intrinsics; one thread gives the same bytes every time
"""

_TRAJECTORY = """\
Compares the poses of one camera over time with the true ones: the absolute error of the positions (ATE), and the
relative error between poses (RPE). Takes files of trajectories, or sequences of pictures, which it reconstructs first.
"""

_TRAJECTORY_EXAMPLES = """\
examples:
  python -m pipelines.evaluate trajectory --reference groundtruth.txt --estimate slam.txt --estimate other.txt
      two estimates; TUM's format (time x y z qx qy qz qw) or KITTI's (12 numbers of a matrix a line)
  python -m pipelines.evaluate trajectory rgbd_dataset_freiburg2_desk/ --limit 200 --step 30
      the first 200 pictures of a sequence, reconstructed; errors per 30 frames
"""

_SHARED = """\
Evaluates on the photographs of the shared data: homographies of Graffiti, and relative poses of fountain_p11,
lund_door and hololens. Unless told otherwise, all extractors meet all matchers.
"""

_SHARED_EXAMPLES = """\
examples:
  python -m pipelines.evaluate shared --limit 30 --json shared.json
      30 pairs of each group; all numbers in a file too
  python -m pipelines.evaluate shared --extractor sift --matcher lightglue --data photographs/
      one combination, and shared data in another folder
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("evaluate", "Compare extractors, matchers and estimators with ground truth.", EXAMPLES)
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)

    def add_task(name: str, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
        return tasks.add_parser(
            name,
            help=summary,
            description=description,
            epilog=as_called("evaluate", f"{examples}\n{_COMPONENTS}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    pairs = add_task("pairs", "relative poses of image pairs: AUC at 5, 10 and 20 degrees", _PAIRS, _PAIRS_EXAMPLES)
    add = pairs.add_argument
    add("--pairs", type=Path, metavar="FILE", help="in SuperGlue's text format, with ground truth")
    add("--images", type=Path, metavar="DIR", help="that the names in FILE are relative to (default: FILE's folder)")
    scene_help = (
        "instead of --pairs: a scene with known cameras, a folder or a name of the shared data; may be repeated"
    )
    add("--scene", action="append", metavar="SCENE", help=scene_help)
    rotation_help = "between the photos of a pair of a scene, at most (default: %(default)g)"
    add("--max-rotation", type=float, default=60.0, metavar="DEG", help=rotation_help)

    homography = add_task(
        "homography", "HPatches and Oxford's folders: AUC at 1, 3 and 5 pixels", _HOMOGRAPHY, _HOMOGRAPHY_EXAMPLES
    )
    add = homography.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="a scene, or a folder of scenes; one or several")
    all_help = "take the 8 large scenes of HPatches that papers leave out, too (default: without them)"
    add("--all-scenes", action="store_true", help=all_help)

    reconstruction = add_task(
        "reconstruction",
        "reconstruct scenes, and compare with the true cameras",
        _RECONSTRUCTION,
        _RECONSTRUCTION_EXAMPLES,
    )
    scenes_help = "a folder, or a name of the shared data; one or several"
    reconstruction.add_argument("scenes", nargs="+", metavar="SCENE", help=scenes_help)

    trajectory = add_task(
        "trajectory", "ATE and RPE of a trajectory, or of a sequence of pictures", _TRAJECTORY, _TRAJECTORY_EXAMPLES
    )
    add = trajectory.add_argument
    add("scenes", nargs="*", metavar="SCENE", help="sequence with true poses: TUM, KITTI, cameras.json; any number")
    add("--reference", type=Path, metavar="FILE", help="instead of a SCENE: the true trajectory, TUM's or KITTI's")
    add("--estimate", type=Path, action="append", metavar="FILE", help="with --reference: another; may be repeated")
    align_help = "what is free before positions are compared (default: %(default)s, scale too)"
    add("--align", choices=("sim3", "se3", "none"), default="sim3", help=align_help)
    step_help = "frames between the poses of a relative error (default: %(default)s)"
    add("--step", type=_positive, default=1, metavar="N", help=step_help)
    difference_help = "seconds between two poses of the same moment, at most (default: %(default)s)"
    add("--max-difference", type=float, default=0.02, metavar="S", help=difference_help)

    shared = add_task("shared", "all combinations on the shared photographs", _SHARED, _SHARED_EXAMPLES)
    for task, selector in ((reconstruction, "exhaustive"), (trajectory, "sequential")):
        _add_scene_arguments(task, selector)
    own = {"max_image_size": "that of the extractor", "max_keypoints": "that of the extractor"}
    few = {"max_image_size": "800", "max_keypoints": "1024"}
    photos = "the first N photos of each scene (default: all)"
    _add_common_arguments(pairs, own, "N pairs of the list or of each scene, evenly spread (default: all)")
    _add_common_arguments(homography, own, "N pairs of each group, evenly spread (default: all)")
    _add_common_arguments(reconstruction, own, photos)
    _add_common_arguments(trajectory, own, photos)
    _add_common_arguments(shared, few, "N pairs of each group of poses, evenly spread (default: all)", every=True)
    shared.set_defaults(**{name: int(value) for name, value in few.items()})
    return parser


def _add_scene_arguments(parser: argparse.ArgumentParser, selector: str) -> None:
    """The flags of tasks that reconstruct."""
    add = parser.add_argument
    intrinsics_help = "the true camera, kept, or what the photos tell (default: %(default)s)"
    add("--intrinsics", choices=("given", "exif"), default="given", help=intrinsics_help)
    pairs_help = "which photos are matched (default: %(default)s)"
    add("--pairs", choices=("exhaustive", "sequential"), default=selector, help=pairs_help)
    add("--threads", type=int, default=0, metavar="N", help="photos and pairs at a time (default: all cores)")


def _add_common_arguments(
    parser: argparse.ArgumentParser, sizes: dict[str, str], limit_help: str, every: bool = False
) -> None:
    """The flags of all tasks.

    Args:
        parser: of the task.
        sizes: what holds where a size is not given, in words.
        limit_help: what --limit does here.
        every: whether all extractors and matchers are taken where none is named.
    """
    add, defaults = parser.add_argument, ReconstructConfig()
    for kind, registry, default in (
        ("extractor", EXTRACTORS, defaults.extractor.name),
        ("matcher", MATCHERS, defaults.matcher.name),
    ):
        names = f"{', '.join(registry.names)}, or all; may be repeated (default: {'all' if every else default})"
        add(f"--{kind}", action="append", metavar=_COMPONENT, help=names)
        add(f"--{kind}-weights", type=_refuse_weights(kind), default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    estimator_help = f"finds the geometry; may be repeated (default: {defaults.two_view.estimator})"
    add("--estimator", action="append", choices=ESTIMATOR_NAMES, help=estimator_help)
    size_help = f"longer side of the pictures that extractors see (default: {sizes['max_image_size']})"
    add("--max-image-size", type=_positive, metavar="PX", help=size_help)
    add("--max-keypoints", type=_positive, metavar="N", help=f"per image (default: {sizes['max_keypoints']})")
    add("--limit", type=_positive, metavar="N", help=limit_help)
    add("--seed", type=int, default=0, metavar="N", help="of the random samples (default: %(default)s)")
    add("--device", default="auto", help="of the networks: cpu, cuda, or auto (default: %(default)s)")
    data_help = "shared data, whose scenes have names (default: $SFM_LIGHTGLUE_DATA, else ../shared/data)"
    add("--data", type=Path, metavar="DIR", help=data_help)
    add("--markdown", type=Path, metavar="FILE", help="write the table there (default: print it)")
    add("--json", type=Path, metavar="FILE", help="write all numbers there (default: nowhere)")
    add("--quiet", action="store_true", help="no progress")


def in_own_words(message: str) -> str:
    """A message of the library, with the options of this command in the place of those of the others.

    They have one extractor and one matcher, and so `--extractor-weights FILE`; here a name takes its weights along.
    """

    def own(found: re.Match[str]) -> str:
        kind = found[1] or found[2]
        named = re.findall(rf"(?<!-)\b{kind} ([\w-]+)", message[: found.start()])
        return f"--{kind} {named[-1] if named else 'NAME'}=FILE"

    return re.sub(r"--(extractor|matcher)-weights FILE|`?(extractor|matcher)\.weights`?", own, message)


def _refuse_weights(kind: str) -> Any:
    def refuse(text: str) -> str:
        raise argparse.ArgumentTypeError(f"here weights stand behind the name: --{kind} NAME={text}")

    return refuse


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value
