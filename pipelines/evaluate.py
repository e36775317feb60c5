"""`python -m pipelines.evaluate TASK ...`: any extractor, matcher and estimator against ground truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import require_checkout, run_command, show_warnings, with_progress
from sfm_lightglue import __version__
from sfm_lightglue.estimators.base import ESTIMATOR_NAMES
from sfm_lightglue.reconstruct_config import ReconstructConfig
from sfm_lightglue.registry import EXTRACTORS, MATCHERS
from sfm_lightglue.store import atomic_write

if TYPE_CHECKING:
    from datasets.combinations import Candidates, LeftOut
    from datasets.image_pairs import EvaluationPair

EXAMPLES = """\
examples:
  python -m pipelines.evaluate pairs --pairs pairs.txt --images images/ --json poses.json
      relative poses of pairs in SuperGlue's text format (name0 name1 rot0 rot1 K0 K1 T_0to1 on a line)
  python -m pipelines.evaluate pairs --scene courtyard/ --scene fountain/ --extractor all --matcher all
      pairs of scenes with known cameras, by every extractor with every matcher whose weights are here
  python -m pipelines.evaluate homography hpatches-sequences-release/ --estimator opencv-magsac --estimator poselib
      HPatches, or Oxford's folders: corner errors in pixels of pictures whose shorter side is 480
  python -m pipelines.evaluate reconstruction fountain_p11 lund_door --extractor sift --matcher nearest
      reconstructs scenes (folders, or names of the shared data) and compares with the true cameras
  python -m pipelines.evaluate trajectory --reference groundtruth.txt --estimate slam.txt
      ATE and RPE of a trajectory in TUM's or KITTI's format
  python -m pipelines.evaluate trajectory rgbd_dataset_freiburg2_desk/ --limit 200
      the same of the sequence reconstructed from its pictures
  SFM_LIGHTGLUE_OFFLINE=1 python -m pipelines.evaluate shared --limit 30 --json shared.json
      all combinations on the shared photographs

scenes: cameras.json, COLMAP models (text and binary), Strecha's .camera files, ETH3D, Image Matching Challenge
(2022: calibration.csv; since 2023: sfm/), sequences of TUM and KITTI. Combinations whose weights are missing are
named and left out. Extractors and matchers take weights and options: superpoint=FILE, aliked,model=n32.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.task == "pairs" and (arguments.pairs is None) == (not arguments.scene):
        parser.error("pairs: give either --pairs FILE or --scene DIR")
    if arguments.task == "trajectory":
        from_files = arguments.reference is not None and arguments.estimate
        if bool(arguments.scenes) == bool(from_files) or (
            not from_files and (arguments.reference or arguments.estimate)
        ):
            parser.error("trajectory: give either the folder of a sequence, or --reference FILE and --estimate FILE")
    show_warnings()

    def body() -> None:
        require_checkout("pipelines.evaluate")
        task: Callable[[argparse.Namespace], _Report] = {
            "pairs": _pairs,
            "homography": _homography,
            "reconstruction": _reconstruction,
            "trajectory": _trajectory,
            "shared": _shared,
        }[arguments.task]
        _write(task(arguments), arguments)

    return run_command(body, show_downloads=not arguments.quiet)


class _Report:
    """What an evaluation found: parts of Markdown, and records for JSON."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.left_out: list[LeftOut] = []

    def add(self, table: str, results: Sequence[dict[str, Any]], left_out: Sequence[LeftOut] = ()) -> None:
        """Take up a table with its records."""
        self.parts.append(table)
        self.results += results
        self.left_out += [one for one in left_out if one.as_dict() not in [old.as_dict() for old in self.left_out]]


def _pairs(arguments: argparse.Namespace) -> _Report:
    from datasets.image_pairs import evenly, folder_pairs, read_pair_list
    from sfm_lightglue.errors import DataError

    candidates = _candidates(arguments)  # a slip in an option is told before any photo is read
    if arguments.pairs is not None:
        root = arguments.images or arguments.pairs.parent
        pairs = evenly(read_pair_list(arguments.pairs, root, arguments.pairs.stem), arguments.limit)
    else:
        pairs = []
        for scene in arguments.scene:
            pairs += evenly(folder_pairs(_scene_path(scene, arguments), arguments.max_rotation), arguments.limit)
    if not pairs:
        raise DataError(f"{arguments.pairs or ', '.join(arguments.scene)}: no pairs to evaluate")
    report = _Report()
    _add_pairs(report, pairs, candidates, arguments)
    return report


def _homography(arguments: argparse.Namespace) -> _Report:
    from datasets.homographies import read_homographies

    candidates = _candidates(arguments)
    pairs = [
        pair for folder in arguments.folders for pair in read_homographies(folder, all_scenes=arguments.all_scenes)
    ]
    report = _Report()
    _add_pairs(report, _limited(pairs, arguments.limit), candidates, arguments)
    return report


def _limited(pairs: list[EvaluationPair], limit: int | None) -> list[EvaluationPair]:
    """At most so many of each group."""
    from datasets.image_pairs import evenly

    groups = dict.fromkeys(pair.group for pair in pairs)
    return [one for group in groups for one in evenly([pair for pair in pairs if pair.group == group], limit)]


def _add_pairs(
    report: _Report, pairs: Sequence[EvaluationPair], candidates: Candidates, arguments: argparse.Namespace
) -> None:
    from datasets.homography_errors import SHORT_SIDE_PX
    from datasets.pair_evaluation import JUDGED_SIZE_PX, evaluate_pairs
    from datasets.tables import pairs_table

    found = with_progress(
        arguments.quiet,
        lambda progress: evaluate_pairs(
            pairs, candidates, arguments.max_image_size or JUDGED_SIZE_PX, arguments.seed, progress
        ),
    )
    report.add(pairs_table(found.scores), [one.as_dict() for one in found.scores], found.left_out)
    if any(pair.H is not None for pair in pairs):
        report.parts.append(f"Corner errors are in pixels of pictures whose shorter side is {SHORT_SIDE_PX:g}.")


def _reconstruction(arguments: argparse.Namespace) -> _Report:
    from datasets.scene_evaluation import SceneOptions
    from datasets.tables import scenes_table

    options = SceneOptions(arguments.intrinsics, arguments.pairs, arguments.threads, arguments.seed)
    return _scenes(arguments, options, scenes_table)


def _trajectory(arguments: argparse.Namespace) -> _Report:
    from datasets.scene_evaluation import SceneOptions
    from datasets.tables import scene_trajectories_table, trajectories_table
    from datasets.trajectory import matching_poses, read_trajectory
    from datasets.trajectory_errors import trajectory_errors
    from sfm_lightglue.errors import DataError

    if arguments.scenes:
        options = SceneOptions(
            arguments.intrinsics, arguments.pairs, arguments.threads, arguments.seed, arguments.align, arguments.step
        )
        return _scenes(arguments, options, scene_trajectories_table)
    reference = read_trajectory(arguments.reference)
    rows = []
    for path in arguments.estimate:
        estimate = read_trajectory(path)
        try:
            poses = matching_poses(reference, estimate, arguments.max_difference)
            rows.append((path.name, trajectory_errors(*poses, arguments.align, arguments.step)))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    report = _Report()
    report.add(trajectories_table(rows), [{"estimate": name} | errors.as_dict() for name, errors in rows])
    return report


def _scenes(arguments: argparse.Namespace, options: Any, table: Callable[[Any], str]) -> _Report:
    from datasets.ground_truth import read_scene
    from datasets.scene_evaluation import evaluate_scenes

    candidates = _candidates(arguments)
    truths = [read_scene(_scene_path(scene, arguments)) for scene in arguments.scenes]
    truths = [truth.only(truth.names[: arguments.limit]) for truth in truths]
    results, left_out = with_progress(
        arguments.quiet, lambda progress: evaluate_scenes(truths, candidates, options, progress)
    )
    report = _Report()
    report.add(table(results), [one.as_dict() for one in results], left_out)
    errors = [f"- {one.scene}, {' + '.join(_names(one))}: {one.error}" for one in results if one.error]
    if errors:
        report.parts.append("\n".join(errors))
    return report


def _names(result: Any) -> tuple[str, str, str]:
    return result.combination.extractor, result.combination.matcher, result.combination.estimator


def _shared(arguments: argparse.Namespace) -> _Report:
    from datasets.shared import shared_data_root
    from datasets.shared_pairs import shared_homographies, shared_pose_pairs

    candidates, root = _candidates(arguments), shared_data_root(arguments.data)
    report = _Report()
    report.parts.append("## Homographies")
    _add_pairs(report, shared_homographies(root), candidates, arguments)
    report.parts.append("## Relative poses")
    _add_pairs(report, shared_pose_pairs(root, arguments.limit), candidates, arguments)
    return report


def _candidates(arguments: argparse.Namespace) -> Candidates:
    from datasets.combinations import choose_candidates

    options = {"max_image_size": arguments.max_image_size, "max_keypoints": arguments.max_keypoints}
    defaults = ReconstructConfig()
    every = arguments.task == "shared"
    return choose_candidates(
        arguments.extractor or ["all" if every else defaults.extractor.name],
        arguments.matcher or ["all" if every else defaults.matcher.name],
        arguments.estimator or [defaults.two_view.estimator],
        {name: value for name, value in options.items() if value is not None},
        arguments.device,
    )


def _scene_path(scene: str, arguments: argparse.Namespace) -> Path:
    from datasets.shared import find_scene_path

    return find_scene_path(scene, arguments.data)


def _write(report: _Report, arguments: argparse.Namespace) -> None:
    from datasets.tables import left_out_list

    text = "\n\n".join(part for part in (*report.parts, left_out_list(report.left_out)) if part) + "\n"
    if arguments.markdown is None:
        print(text, end="")
    else:
        with atomic_write(arguments.markdown) as file:
            file.write(text.encode())
    if arguments.json is not None:
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in sorted(vars(arguments).items())
            if name not in {"json", "markdown", "quiet", "task"} and not isinstance(value, list)
        }
        record = {
            "task": arguments.task,
            "version": __version__,
            "settings": settings,
            "results": report.results,
            "left_out": [one.as_dict() for one in report.left_out],
        }
        with atomic_write(arguments.json) as file:
            file.write(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.evaluate",
        description="Compare extractors, matchers and estimators with ground truth.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    pairs = tasks.add_parser("pairs", help="relative poses of image pairs: AUC at 5, 10 and 20 degrees, precision")
    pairs.add_argument("--pairs", type=Path, metavar="FILE", help="in SuperGlue's text format, with ground truth")
    pairs.add_argument("--images", type=Path, metavar="DIR", help="below which its images are (default: beside it)")
    pairs.add_argument("--scene", action="append", metavar="DIR", help="instead: a scene with known cameras; several")
    pairs.add_argument("--max-rotation", type=float, default=60.0, metavar="DEG", help="of a pair of a scene (60)")
    homography = tasks.add_parser("homography", help="HPatches and Oxford's folders: AUC at 1, 3 and 5 pixels")
    homography.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a scene, or a folder of scenes")
    homography.add_argument(
        "--all-scenes", action="store_true", help="HPatches with the 8 scenes that papers leave out"
    )
    reconstruction = tasks.add_parser("reconstruction", help="reconstruct scenes, and compare with the true cameras")
    reconstruction.add_argument("scenes", nargs="+", metavar="SCENE", help="folder, or a name of the shared data")
    trajectory = tasks.add_parser("trajectory", help="ATE and RPE of a trajectory, or of a sequence of pictures")
    add = trajectory.add_argument
    add("scenes", nargs="*", metavar="SCENE", help="sequence with true poses: TUM, KITTI, cameras.json")
    add("--reference", type=Path, metavar="FILE", help="true trajectory, TUM or KITTI")
    add("--estimate", type=Path, action="append", metavar="FILE", help="estimated trajectory; several")
    add("--align", choices=("sim3", "se3", "none"), default="sim3", help="what is free (default: sim3, scale too)")
    add("--step", type=_positive, default=1, metavar="N", help="frames between the poses of a relative error (1)")
    add("--max-difference", type=float, default=0.02, metavar="S", help="of the times of poses (0.02 s)")
    shared = tasks.add_parser("shared", help="all combinations on the shared photographs")
    for task, selector in ((reconstruction, "exhaustive"), (trajectory, "sequential")):
        add_scene_arguments(task, selector)
    for task in (pairs, homography, reconstruction, trajectory, shared):
        add_common_arguments(task)
    shared.set_defaults(max_image_size=800, max_keypoints=1024)
    return parser


def add_scene_arguments(parser: argparse.ArgumentParser, selector: str) -> None:
    """The flags of tasks that reconstruct."""
    add = parser.add_argument
    add("--intrinsics", choices=("given", "exif"), default="given", help="true camera, kept (default); or the photos'")
    add("--pairs", choices=("exhaustive", "sequential"), default=selector, help=f"which are matched ({selector})")
    add("--threads", type=int, default=0, metavar="N", help="default: all cores")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of all tasks."""
    add = parser.add_argument
    names = "|".join((*EXTRACTORS.names, "all"))
    add("--extractor", action="append", metavar="NAME[=WEIGHTS][,OPTION=VALUE]", help=f"several: {names}")
    names = "|".join((*MATCHERS.names, "all"))
    add("--matcher", action="append", metavar="NAME[=WEIGHTS][,OPTION=VALUE]", help=f"several: {names}")
    add("--estimator", action="append", choices=ESTIMATOR_NAMES, help="several (default: opencv-magsac)")
    add("--max-image-size", type=_positive, metavar="PX", help="longer side of the pictures that detectors see")
    add("--max-keypoints", type=_positive, metavar="N", help="per image")
    add("--limit", type=_positive, metavar="N", help="pairs of each group, evenly; or the first photos of a scene")
    add("--seed", type=int, default=0, metavar="N", help="of the random samples (default: 0)")
    add("--device", default="auto", help="of the networks: cpu, cuda, or auto (default: auto)")
    add("--data", type=Path, metavar="DIR", help="shared data (default: SFM_LIGHTGLUE_DATA or ../shared/data)")
    add("--markdown", type=Path, metavar="FILE", help="write the table there instead of to standard output")
    add("--json", type=Path, metavar="FILE", help="write all numbers there")
    add("--quiet", action="store_true", help="no progress")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
