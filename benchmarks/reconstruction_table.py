"""Markdown tables of measured reconstructions, with ratios of this library ("ours") to COLMAP."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.reconstruction_measurement import METHODS, Measurement
from sfm_lightglue.evaluation.tables import markdown_table

STEPS = {"mapped": "ours-mapped", "densified": "ours-dense", "refined": "ours"}
"""What a run of this library does in turn, and the method that ends after it."""

_STAGE_OF_STEP = {"mapped": "total", "densified": "densify", "refined": "refine"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

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


Group = tuple[str, str, str]
"""Scene, intrinsics, method."""


def _seconds(*stages: str) -> Callable[[Measurement], float]:
    return lambda run: sum(run.result.seconds.get(stage, 0.0) for stage in stages)


_MODEL_COLUMNS = (
    Column("centre error mm", lambda run: run.center_error_mm, 2),
    Column("centre error ‰ of extent", lambda run: 1e3 * run.relative_center_error, 3, True),
    Column("points", lambda run: run.result.num_points, 0, True),
    Column("track", lambda run: run.result.mean_track_length, 2, True),
    Column("reproj px", lambda run: run.result.mean_reprojection_error_px, 3, True),
)

_TOTAL = Column("total s", _seconds("total"), 1, True)
_CPU = Column("CPU s", lambda run: run.result.cpu_seconds, 1, True)

COLUMNS = (
    Column("registered", lambda run: run.result.num_registered, 0),
    Column("of", lambda run: run.num_images, 0),
    *_MODEL_COLUMNS[:2],
    Column("rotation deg", lambda run: run.rotation_error_deg, 3, True),
    Column("AUC@1°", lambda run: run.auc(1.0), 3, True),
    Column("AUC@5°", lambda run: run.auc(5.0), 3, True),
    *_MODEL_COLUMNS[2:],
    Column("extract s", _seconds("extract"), 1, True),
    # COLMAP matches and verifies in one step.
    Column("match + verify s", _seconds("match", "verify"), 1, True),
    Column("map s", _seconds("map"), 1, True),
    Column("densify s", _seconds("densify"), 1),
    Column("refine s", _seconds("refine"), 1),
    _TOTAL,
    _CPU,
    Column("with imports s", lambda run: run.process_seconds, 1, True),
    Column("peak MB", lambda run: math.nan if (mb := run.result.peak_memory_mb) is None else mb, 0, True),
)


def format_tables(measurements: Sequence[Measurement]) -> str:
    """The table of all runs, the geometric means of the ratios of times, and the table of steps if all were run."""
    parts = [format_table(measurements)]
    parts += [
        f"{method} / colmap: {means[0]:.3f} of the total time and {means[1]:.3f} of the processor time, geometric means"
        f" over {num_scenes} scenes"
        for method, (means, num_scenes) in mean_time_ratios(measurements).items()
    ]
    if steps := format_steps(measurements):
        parts.append(steps)
    return "\n\n".join(parts)


def format_table(measurements: Sequence[Measurement]) -> str:
    """Medians over repeated runs, with rows of ratios to COLMAP.

    Args:
        measurements: in any order; scenes are in the order of the first run, "ours" before COLMAP.
    """
    medians = _medians(measurements, COLUMNS)
    rows: list[list[str]] = []
    for scene, intrinsics in dict.fromkeys(group[:2] for group in medians):
        found = [method for method in METHODS if (scene, intrinsics, method) in medians]
        for method in found:
            cells = zip(medians[scene, intrinsics, method], COLUMNS, strict=True)
            rows.append([scene, intrinsics, method, *(_cell(value, column.digits) for value, column in cells)])
        for method in found:
            if method != "colmap" and "colmap" in found:
                pair = medians[scene, intrinsics, method], medians[scene, intrinsics, "colmap"]
                rows.append([scene, intrinsics, f"{method} / colmap", *_ratios(*pair)])
    return markdown_table(["scene", "intrinsics", "method", *(column.title for column in COLUMNS)], rows)


def mean_time_ratios(measurements: Sequence[Measurement]) -> dict[str, tuple[tuple[float, float], int]]:
    """For each method of ours, the geometric means of its total and processor time over COLMAP's, and the scenes."""
    medians = _medians(measurements, (_TOTAL, _CPU))
    means = {}
    for method in METHODS:
        ratios = [
            [own / other for own, other in zip(values, colmap, strict=True)]
            for (scene, intrinsics, one), values in medians.items()
            if one == method != "colmap"
            and min(*values, *(colmap := medians.get((scene, intrinsics, "colmap"), [0]))) > 0
        ]
        if ratios:
            total, cpu = (math.exp(sum(map(math.log, column)) / len(ratios)) for column in zip(*ratios, strict=True))
            means[method] = (total, cpu), len(ratios)
    return means


def format_steps(measurements: Sequence[Measurement]) -> str:
    """What each step costs and brings, for the scenes that were run with all `STEPS`; "" if there is none."""
    rows = []
    for scene, intrinsics in dict.fromkeys(run.group[:2] for run in measurements):
        for step, method in STEPS.items():
            stage = Column("step s", _seconds(_STAGE_OF_STEP[step]), 1)
            columns = (stage, *(Column(f"{each.title}", each.value, each.digits) for each in (_TOTAL, *_MODEL_COLUMNS)))
            values = _medians(measurements, columns).get((scene, intrinsics, method))
            if values is None:
                break
            cells = [_cell(value, column.digits) for value, column in zip(values, columns, strict=True)]
            rows.append([scene, intrinsics, step, *cells])
    if not {row[2] for row in rows} >= STEPS.keys():
        return ""
    titles = ["step s", *(column.title for column in (_TOTAL, *_MODEL_COLUMNS))]
    return markdown_table(["scene", "intrinsics", "step", *titles], rows)


def _medians(measurements: Sequence[Measurement], columns: Sequence[Column]) -> Mapping[Group, list[float]]:
    """The median of each column over the runs of each group, in the order of the first run."""
    runs_from_group: dict[Group, list[Measurement]] = {}
    for run in measurements:
        runs_from_group.setdefault(run.group, []).append(run)
    return {
        group: [_median([column.value(run) for run in runs]) for column in columns]
        for group, runs in runs_from_group.items()
    }


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
