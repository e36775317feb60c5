"""`python -m pipelines.evaluate TASK ...`: compare extractors, matchers and estimators with ground truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import require_checkout, run_command, show_warnings, with_progress
from pipelines.evaluate_arguments import build_parser, with_own_flags
from pipelines.evaluate_output import Report, write_report
from pipelines.evaluate_plan import plan_of_pairs, plan_of_scenes, say_plans
from pipelines.evaluate_slam import evaluate_slam, plan_slam
from pipelines.plan import Plan
from sfm_lightglue.errors import SfmError
from sfm_lightglue.reconstruction.config import ReconstructConfig

if TYPE_CHECKING:
    from sfm_lightglue.evaluation.combinations import Candidates
    from sfm_lightglue.evaluation.truth import EvaluationPair


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
    show_warnings(arguments.verbose)

    def body() -> None:
        require_checkout("pipelines.evaluate")
        task: Callable[[argparse.Namespace], Report] = {
            "pairs": _pairs,
            "homography": _homography,
            "reconstruction": _reconstruction,
            "trajectory": _trajectory,
            "shared": _shared,
            "slam": _slam,
        }[arguments.task]
        try:
            report = task(arguments)
        except SfmError as error:
            raise type(error)(with_own_flags(str(error))) from error
        if arguments.dry_run:
            say_plans(report.plans, arguments)
        else:
            write_report(report, arguments)

    return run_command(body, show_downloads=not arguments.quiet)


def _pairs(arguments: argparse.Namespace) -> Report:
    from datasets.image_pairs import evenly, folder_pairs, read_pair_list
    from sfm_lightglue.errors import DataError

    candidates = _candidates(arguments)  # reports an invalid option before any image is read
    if arguments.pairs is not None:
        root = arguments.images or arguments.pairs.parent
        pairs = evenly(read_pair_list(arguments.pairs, root, arguments.pairs.stem), arguments.limit)
    else:
        pairs = []
        for scene in arguments.scene:
            pairs += evenly(folder_pairs(_scene_path(scene, arguments), arguments.max_rotation), arguments.limit)
    if not pairs:
        raise DataError(f"{arguments.pairs or ', '.join(arguments.scene)}: no pairs to evaluate")
    report = Report(with_own_flags)
    _add_pairs(report, pairs, candidates, arguments)
    return report


def _homography(arguments: argparse.Namespace) -> Report:
    from datasets.homographies import read_homographies

    candidates = _candidates(arguments)
    pairs = [
        pair for folder in arguments.folders for pair in read_homographies(folder, all_scenes=arguments.all_scenes)
    ]
    report = Report(with_own_flags)
    _add_pairs(report, _limited(pairs, arguments.limit), candidates, arguments)
    return report


def _limited(pairs: list[EvaluationPair], limit: int | None) -> list[EvaluationPair]:
    """At most `limit` pairs of each group, evenly spaced."""
    from datasets.image_pairs import evenly

    groups = dict.fromkeys(pair.group for pair in pairs)
    return [one for group in groups for one in evenly([pair for pair in pairs if pair.group == group], limit)]


def _add_pairs(
    report: Report, pairs: Sequence[EvaluationPair], candidates: Candidates, arguments: argparse.Namespace
) -> None:
    from sfm_lightglue.evaluation.homography_errors import SHORT_SIDE_PX
    from sfm_lightglue.evaluation.pairs import REFERENCE_SIZE_PX, evaluate_pairs
    from sfm_lightglue.evaluation.tables import pairs_table

    if arguments.dry_run:
        report.plans.append(plan_of_pairs(pairs, candidates, arguments.max_image_size or REFERENCE_SIZE_PX))
        return
    evaluation = with_progress(
        arguments.quiet,
        lambda progress: evaluate_pairs(
            pairs, candidates, arguments.max_image_size or REFERENCE_SIZE_PX, arguments.seed, progress
        ),
    )
    report.add(pairs_table(evaluation.scores), [one.as_dict() for one in evaluation.scores], evaluation.left_out)
    if any(pair.H is not None for pair in pairs):
        report.parts.append(f"Corner errors are in pixels of images whose shorter side is {SHORT_SIDE_PX:g}.")


def _reconstruction(arguments: argparse.Namespace) -> Report:
    from sfm_lightglue.evaluation.scenes import SceneOptions
    from sfm_lightglue.evaluation.tables import scenes_table

    options = SceneOptions(arguments.intrinsics, arguments.pairs, arguments.threads, arguments.seed)
    return _scenes(arguments, options, scenes_table)


def _trajectory(arguments: argparse.Namespace) -> Report:
    from datasets.trajectory import read_trajectory
    from sfm_lightglue.errors import DataError
    from sfm_lightglue.evaluation.scenes import SceneOptions
    from sfm_lightglue.evaluation.tables import scene_trajectories_table, trajectories_table
    from sfm_lightglue.evaluation.trajectory import matching_poses
    from sfm_lightglue.evaluation.trajectory_errors import trajectory_errors

    if arguments.scenes:
        options = SceneOptions(
            arguments.intrinsics, arguments.pairs, arguments.threads, arguments.seed, arguments.align, arguments.step
        )
        return _scenes(arguments, options, scene_trajectories_table)
    reference = read_trajectory(arguments.reference)
    if arguments.dry_run:
        report = Report(with_own_flags)
        work = {"num_trajectories": len(arguments.estimate)}
        report.plans.append(Plan(f"{len(arguments.estimate)} trajectories", work, 0.0, "only files are compared"))
        return report
    rows = []
    for path in arguments.estimate:
        estimate = read_trajectory(path)
        try:
            poses = matching_poses(reference, estimate, arguments.max_difference)
            rows.append((path.name, trajectory_errors(*poses, arguments.align, arguments.step)))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    report = Report(with_own_flags)
    report.add(trajectories_table(rows), [{"estimate": name} | errors.as_dict() for name, errors in rows])
    return report


def _scenes(arguments: argparse.Namespace, options: Any, table: Callable[[Any], str]) -> Report:
    from datasets.ground_truth import read_scene
    from sfm_lightglue.evaluation.scenes import evaluate_scenes

    candidates = _candidates(arguments)
    truths = [read_scene(_scene_path(scene, arguments)) for scene in arguments.scenes]
    truths = [truth.only(truth.names[: arguments.limit]) for truth in truths]
    report = Report(with_own_flags)
    if arguments.dry_run:
        report.plans.append(plan_of_scenes(truths, candidates, options))
        return report
    results, left_out = with_progress(
        arguments.quiet, lambda progress: evaluate_scenes(truths, candidates, options, progress)
    )
    report.add(table(results), [one.as_dict() for one in results], left_out)
    errors = [f"- {one.scene}, {' + '.join(_names(one))}: {one.error}" for one in results if one.error]
    if errors:
        report.parts.append("\n".join(errors))
    return report


def _names(result: Any) -> tuple[str, str, str]:
    return result.combination.extractor, result.combination.matcher, result.combination.estimator


def _shared(arguments: argparse.Namespace) -> Report:
    from datasets.shared import shared_data_root
    from datasets.shared_pairs import shared_homographies, shared_pose_pairs

    candidates, root = _candidates(arguments), shared_data_root(arguments.data)
    report = Report(with_own_flags)
    report.parts.append("## Homographies")
    _add_pairs(report, shared_homographies(root), candidates, arguments)
    report.parts.append("## Relative poses")
    _add_pairs(report, shared_pose_pairs(root, arguments.limit), candidates, arguments)
    return report


def _slam(arguments: argparse.Namespace) -> Report:
    from sfm_lightglue.evaluation.slam_table import slam_table

    report = Report(with_own_flags)
    if arguments.dry_run:
        report.plans.append(plan_slam(arguments))
        return report
    medians, runs = evaluate_slam(arguments)
    report.add(slam_table(medians), [one.as_dict() for one in runs])
    return report


def _candidates(arguments: argparse.Namespace) -> Candidates:
    from sfm_lightglue.evaluation.combinations import choose_candidates

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


if __name__ == "__main__":
    sys.exit(main())
