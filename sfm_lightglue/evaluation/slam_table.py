"""The table of visual SLAM."""

from __future__ import annotations

from collections.abc import Sequence

from sfm_lightglue.evaluation.slam import SlamScores
from sfm_lightglue.evaluation.tables import markdown_table, number

_TITLES = ("frames", "from", "tracked %", "maps", "keyframes", "ATE", "% of way", "RPE 1 s", "RPE deg", "loop error")
_RATES = ("tracker /s", "all /s", "median ms", "99 % ms", "max ms", "99 % with waits", "dropped", "MB", "events")


def slam_table(scores: Sequence[SlamScores]) -> str:
    """What was reached on sequences; ATE, RPE and the error of the loop are in the unit of the truth."""
    return markdown_table(["sequence", *_TITLES, *_RATES], [_row(one) for one in scores], 1)


def _row(one: SlamScores) -> list[str]:
    events = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in one.events)
    return [
        one.sequence,
        str(one.num_frames),
        number(one.initialized_frame, 0),
        number(100 * one.tracked, 1),
        number(one.num_maps, 0),
        number(one.num_keyframes, 0),
        number(one.ate, 4),
        number(100 * one.relative_ate, 3),
        number(one.rpe, 4),
        number(one.rpe_deg, 3),
        number(one.loop_error, 4),
        number(one.tracker_fps, 1),
        number(one.total_fps, 1),
        number(one.median_ms, 1),
        number(one.p99_ms, 1),
        number(one.max_ms, 1),
        number(one.p99_with_waits_ms, 1),
        number(one.num_dropped, 0),
        number(one.peak_memory_mb, 0),
        one.error or events,
    ]
