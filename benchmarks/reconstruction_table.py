"""A Markdown table of measured reconstructions, with ratios of this library ("ours") to COLMAP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.reconstruction_job import JobResult
from sfm_lightglue.evaluation.pose_errors import Evaluation
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.geometry.alignment import AlignedPoses

AUC_THRESHOLDS_DEG = (1.0, 5.0, 10.0, 20.0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurements and errors of one reconstruction.

    Args:
        scene: its name.
        intrinsics: "given" or "exif".
        method: "ours" or "colmap".
        repeat: index of the repeated run.
        result: measurements of the process.
        evaluation: errors of its largest model.
        process_seconds: from the start to the end of the process, with imports.
        extent: largest distance between two true camera centres, in the unit of the world.
        is_metric: whether that unit is the metre.
    """

    scene: str
    intrinsics: str
    method: str
    repeat: int
    result: JobResult
    evaluation: Evaluation
    process_seconds: float
    extent: float
    is_metric: bool

    @property
    def group(self) -> tuple[str, str, str]:
        """Key of the runs that are repetitions of each other."""
        return self.scene, self.intrinsics, self.method

    @property
    def mean_center_error(self) -> float:
        """In the unit of the world; NaN without an alignment."""
        accuracy = self.evaluation.accuracy
        return accuracy.mean_center_error if isinstance(accuracy, AlignedPoses) else math.nan

    @property
    def max_center_error(self) -> float:
        """In the unit of the world; NaN without an alignment."""
        accuracy = self.evaluation.accuracy
        return accuracy.max_center_error if isinstance(accuracy, AlignedPoses) else math.nan

    @property
    def rotation_error_deg(self) -> float:
        """Median over the images; NaN without an alignment."""
        accuracy = self.evaluation.accuracy
        return accuracy.median_rotation_error_deg if isinstance(accuracy, AlignedPoses) else math.nan


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table.

    Args:
        title: with the unit.
        value: of one measurement; the table has the median over repeated runs.
        digits: after the decimal point.
        has_ratio: whether the ratio ours / COLMAP is given.
    """

    title: str
    value: Callable[[Measurement], float]
    digits: int
    has_ratio: bool = False


def _seconds(stage: str) -> Callable[[Measurement], float]:
    return lambda run: run.result.seconds.get(stage, 0.0)


COLUMNS = (
    Column("registered", lambda run: run.evaluation.num_registered, 0),
    Column("of", lambda run: run.evaluation.num_images, 0),
    Column("centre error mm", lambda run: 1e3 * run.mean_center_error if run.is_metric else math.nan, 2),
    Column("max mm", lambda run: 1e3 * run.max_center_error if run.is_metric else math.nan, 2),
    Column("centre error ‰ of extent", lambda run: 1e3 * run.mean_center_error / run.extent, 3, True),
    Column("rotation deg", lambda run: run.rotation_error_deg, 3, True),
    *(
        Column(f"AUC@{threshold:g}°", lambda run, i=i: run.evaluation.auc(AUC_THRESHOLDS_DEG)[i], 3)  # type: ignore[misc]
        for i, threshold in enumerate(AUC_THRESHOLDS_DEG)
    ),
    Column("points", lambda run: run.result.num_points, 0, True),
    Column("track", lambda run: run.result.mean_track_length, 2),
    Column("reproj px", lambda run: run.result.mean_reprojection_error_px, 2),
    Column("extract s", _seconds("extract"), 1, True),
    # COLMAP matches and verifies in one step.
    Column("match + verify s", lambda run: _seconds("match")(run) + _seconds("verify")(run), 1, True),
    Column("map s", _seconds("map"), 1, True),
    Column("total s", _seconds("total"), 1, True),
    Column("with imports s", lambda run: run.process_seconds, 1, True),
    Column("peak MB", lambda run: math.nan if (mb := run.result.peak_memory_mb) is None else mb, 0, True),
)


def format_table(measurements: Sequence[Measurement]) -> str:
    """Medians over repeated runs as a Markdown table, with a row of ratios if there are both methods.

    Args:
        measurements: in any order; rows are in the order of the first run, "ours" before COLMAP.
    """
    rows_from_group: dict[tuple[str, str, str], list[Measurement]] = {}
    for run in measurements:
        rows_from_group.setdefault(run.group, []).append(run)
    rows: list[list[str]] = []
    for scene, intrinsics in dict.fromkeys(group[:2] for group in rows_from_group):
        values_from_method = {}
        for method in ("ours", "colmap"):
            if runs := rows_from_group.get((scene, intrinsics, method)):
                values = [_median([column.value(run) for run in runs]) for column in COLUMNS]
                values_from_method[method] = values
                cells = [_cell(value, column.digits) for value, column in zip(values, COLUMNS, strict=True)]
                rows.append([scene, intrinsics, method, *cells])
        if len(values_from_method) == 2:
            cells = _ratios(values_from_method["ours"], values_from_method["colmap"])
            rows.append([scene, intrinsics, "ours / colmap", *cells])
    return markdown_table(["scene", "intrinsics", "method", *(column.title for column in COLUMNS)], rows)


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return median(known) if known else math.nan


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _ratios(ours: Sequence[float], colmap: Sequence[float]) -> list[str]:
    return [
        _cell(a / b if b > 0 else math.nan, 2) if column.has_ratio else ""
        for a, b, column in zip(ours, colmap, COLUMNS, strict=True)
    ]
