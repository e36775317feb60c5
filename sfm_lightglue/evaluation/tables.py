"""Tables of evaluation results in Markdown, padded so that they are readable as plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sfm_lightglue.evaluation.combinations import Combination, LeftOut
from sfm_lightglue.evaluation.match_errors import MatchingScores
from sfm_lightglue.evaluation.pairs import PairScores
from sfm_lightglue.evaluation.scenes import SceneResult
from sfm_lightglue.evaluation.trajectory_errors import TrajectoryErrors, rmse
from sfm_lightglue.geometry.alignment import AlignedPoses


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], num_text: int = 3) -> str:
    """A padded table; all columns after the first `num_text` are right-aligned numbers."""
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < num_text else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{'-' if i < num_text else ':'}" for i, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def pairs_table(scores: Sequence[PairScores]) -> str:
    """Errors of relative poses and homographies, without empty columns."""
    columns: list[tuple[str, Callable[[MatchingScores], str]]] = [("pairs", lambda one: str(one.num_pairs))]
    if any(one.scores.auc is not None for one in scores):
        columns += [(f"AUC@{limit}°", _auc_cell("auc", i)) for i, limit in enumerate((5, 10, 20))]
    if any(one.scores.corner_auc is not None for one in scores):
        columns += [(f"AUC@{limit}px", _auc_cell("corner_auc", i)) for i, limit in enumerate((1, 3, 5))]
    columns += [
        ("precision", lambda one: f"{one.precision:.3f}"),
        ("correct", lambda one: f"{one.correct:.1f}"),
        ("failed", lambda one: str(one.num_failed)),
        ("match ms", lambda one: f"{one.ms:.1f}"),
    ]
    rows = [[one.group, *_names(one.combination), *(cell(one.scores) for _, cell in columns)] for one in scores]
    return markdown_table(["group", *_NAMES, *(title for title, _ in columns)], rows, 4)


def scenes_table(results: Sequence[SceneResult]) -> str:
    """Errors of reconstructions."""
    titles = ["registered", "of", "centre error mm", "‰ of extent", "rotation deg", "AUC@1°", "AUC@5°", "AUC@10°"]
    titles += ["AUC@20°", "points", "reproj px", "seconds"]
    rows = []
    for one in results:
        accuracy, summary = one.evaluation.accuracy, one.summary
        center = accuracy.mean_center_error if isinstance(accuracy, AlignedPoses) else math.nan
        rotation = accuracy.median_rotation_error_deg if isinstance(accuracy, AlignedPoses) else math.nan
        rows.append(
            [
                one.scene,
                *_names(one.combination),
                one.intrinsics,
                str(one.evaluation.num_registered),
                str(one.evaluation.num_images),
                number(1e3 * center if one.is_metric else math.nan, 2),
                number(1e3 * center / one.extent if one.extent > 0 else math.nan, 3),
                number(rotation, 3),
                *(number(auc, 3) for auc in one.evaluation.auc()),
                str(summary.num_points if summary else 0),
                number(summary.mean_reprojection_error_px if summary else math.nan, 2),
                number(summary.seconds["total"] if summary else math.nan, 1),
            ]
        )
    return markdown_table(["scene", *_NAMES, "intrinsics", *titles], rows, 5)


_TRAJECTORY_TITLES = ("poses", "ATE rmse", "ATE mean", "ATE max", "RPE rmse", "RPE rmse deg", "scale")


def trajectories_table(rows: Sequence[tuple[str, TrajectoryErrors]]) -> str:
    """Errors of trajectories, in the unit of the true one."""
    cells = [[name, *_trajectory_cells(errors)] for name, errors in rows]
    return markdown_table(["estimate", *_TRAJECTORY_TITLES], cells, 1)


def scene_trajectories_table(results: Sequence[SceneResult]) -> str:
    """Errors of reconstructed sequences, in the unit of the true trajectory."""
    rows = [
        [
            one.scene,
            *_names(one.combination),
            one.intrinsics,
            str(one.evaluation.num_images),
            *_trajectory_cells(one.trajectory),
            number(one.summary.seconds["total"] if one.summary else math.nan, 1),
        ]
        for one in results
    ]
    return markdown_table(["scene", *_NAMES, "intrinsics", "of", *_TRAJECTORY_TITLES, "seconds"], rows, 5)


def left_out_list(left_out: Sequence[LeftOut]) -> str:
    """A list of the components that were left out; "" if there are none."""
    return "\n".join(["Left out:", "", *(f"- {one.what}: {one.error}" for one in left_out)]) if left_out else ""


def number(value: float, digits: int) -> str:
    """A number with this many decimals; "" for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


_NAMES = ("extractor", "matcher", "estimator")


def _names(one: Combination) -> tuple[str, str, str]:
    return one.extractor, one.matcher, one.estimator


def _auc_cell(name: str, index: int) -> Callable[[MatchingScores], str]:
    def cell(scores: MatchingScores) -> str:
        aucs = getattr(scores, name)
        return "" if aucs is None else f"{aucs[index]:.3f}"

    return cell


def _trajectory_cells(errors: TrajectoryErrors | None) -> list[str]:
    if errors is None:
        return ["0", *[""] * (len(_TRAJECTORY_TITLES) - 1)]
    steps = len(errors.step_errors) > 0
    return [
        str(errors.num_poses),
        f"{rmse(errors.position_errors):.4f}",
        f"{errors.position_errors.mean():.4f}",
        f"{errors.position_errors.max():.4f}",
        f"{rmse(errors.step_errors):.4f}" if steps else "",
        f"{rmse(errors.step_errors_deg):.3f}" if steps else "",
        f"{errors.reference_from_estimate.scale:.4f}",
    ]
