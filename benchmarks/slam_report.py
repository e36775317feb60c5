"""Tables and goals of the benchmark of visual SLAM, and the published figures of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.goals import Goal, at_least, at_most
from benchmarks.slam_offline import OfflineResult
from sfm_lightglue.evaluation.slam import SlamScores
from sfm_lightglue.evaluation.tables import markdown_table, number

_ATE_SHARES = {"kitti00": 0.01, "tsukuba": 0.01, "icl_office": 0.01, "corridor": 0.01, "hololens": 0.02}
"""Largest ATE relative to the way."""

_SEVEN_SCENES_ATE = 0.03
"""The truth of seven_scenes is inexact by 2 to 7 pixels, so that its limit is in metres."""

_TRACKED = {"kitti00": 1.0, "seven_scenes": 1.0, "icl_office": 1.0, "tsukuba": 1.0, "corridor": 1.0, "hololens": 0.8}

_TIMED = ("seven_scenes", "icl_office", "tsukuba", "corridor")
"""Sequences of 640 x 480 pixels, with goals of time."""

_TRACKER_FPS, _TOTAL_FPS, _P99_MS, _MAX_MS = 15.0, 10.0, 200.0, 1000.0
_INITIALIZED = 30
_MAX_RATIO = 1.3
_FOUND_AFTER_CUT, _FOUND_AFTER_BLACKOUT = 10, 30
_MEMORY_MB = 1500.0

PUBLISHED = (
    ("ORB-SLAM3, mono or stereo with IMU", "EuRoC", "0.016 to 0.041 m"),
    ("DPVO", "EuRoC", "0.104 m"),
    ("DPV-SLAM", "EuRoC", "0.024 m"),
    ("DPV-SLAM", "TUM fr1 (nine)", "0.076 m"),
    ("DROID-SLAM", "TUM fr1 (nine)", "0.038 m"),
    ("MASt3R-SLAM", "TUM fr1 (nine)", "0.030 m"),
    ("DPV-SLAM++", "KITTI odometry", "25.8 m"),
    ("LDSO", "KITTI odometry", "22.4 m"),
)
"""Method, data and mean ATE as their authors published them."""


@dataclass(frozen=True, slots=True)
class HardResult:
    """A changed sequence.

    Args:
        sequence: its name.
        change: "cut" or "blackout".
        found_after: frames that show known ground until the camera was found; None if it was not.
        scores: of the run.
    """

    sequence: str
    change: str
    found_after: int | None
    scores: SlamScores


def offline_table(results: Sequence[OfflineResult]) -> str:
    """The errors of other methods on the same keyframes, and of the tracker relative to them."""
    header = ["sequence", "method", "keyframes", "registered", "ATE", "ATE of the tracker", "ratio", "seconds"]
    rows = [
        [
            one.sequence,
            one.method,
            str(one.num_keyframes),
            str(one.num_registered),
            number(one.ate, 4),
            number(one.slam_ate, 4),
            number(one.ratio, 2),
            number(one.seconds, 1),
        ]
        for one in results
    ]
    return markdown_table(header, rows, 2)


def hard_table(results: Sequence[HardResult]) -> str:
    """After how many frames the camera was found again."""
    header = ["sequence", "change", "frames until found", "maps", "ATE", "% of way"]
    rows = [
        [
            one.sequence,
            one.change,
            "not found" if one.found_after is None else str(one.found_after),
            number(one.scores.num_maps, 0),
            number(one.scores.ate, 4),
            number(100 * one.scores.relative_ate, 3),
        ]
        for one in results
    ]
    return markdown_table(header, rows, 2)


def published_text() -> str:
    """Published errors of others. Their data are not here: the numbers give the scale, not a comparison."""
    table = markdown_table(["method", "data", "mean ATE"], [list(row) for row in PUBLISHED], 3)
    commands = (
        "    python -m benchmarks.slam --seeds 3 --offline --hard --long 2000\n"
        "    python -m pipelines.evaluate slam rgbd_dataset_freiburg1_desk/"
    )
    return (
        f"Published by others, on other data and mostly on GPUs:\n\n{table}\n\nThese commands repeat ours, the second"
        f" one on a folder of TUM's data:\n\n{commands}"
    )


def goals_of_sequence(name: str, scores: SlamScores) -> list[Goal]:
    """Goals of the medians of a sequence."""
    goals = []
    if name in _TRACKED:
        goals.append(at_least(f"{name}: tracked in one map", scores.tracked, _TRACKED[name]))
        limit = math.inf if math.isnan(scores.parallax_frame) else max(_INITIALIZED, scores.parallax_frame)
        goals.append(at_most(f"{name}: first frame of the map", scores.initialized_frame, limit))
    if name in _ATE_SHARES:
        goals.append(at_most(f"{name}: ATE relative to the way", scores.relative_ate, _ATE_SHARES[name]))
    if name == "seven_scenes":
        goals.append(at_most(f"{name}: ATE in metres", scores.ate, _SEVEN_SCENES_ATE))
    if name in _TIMED:
        goals += [
            at_least(f"{name}: frames a second of the tracker", 1000 / scores.median_ms, _TRACKER_FPS),
            at_least(f"{name}: frames a second of everything", scores.total_fps, _TOTAL_FPS),
            at_most(f"{name}: ms of 99 % of the frames", scores.p99_ms, _P99_MS),
            at_most(f"{name}: ms of the slowest frame after the start", scores.max_ms, _MAX_MS),
        ]
    return goals


def goals_of_loop(closed: SlamScores, not_closed: SlamScores) -> list[Goal]:
    """Closing the loop lowers the error where the camera comes back."""
    what = f"{closed.sequence}: error of the loop, relative to that without closing it"
    return [at_most(what, closed.loop_error / not_closed.loop_error if not_closed.loop_error else math.nan, 0.5)]


def goals_of_offline(results: Sequence[OfflineResult]) -> list[Goal]:
    """Goals of the ratios of errors; a method that finds no model, or less than half of the keyframes, sets none."""
    return [
        at_most(f"{one.sequence}: ATE relative to that of {one.method}", one.ratio, _MAX_RATIO)
        for one in results
        if not math.isnan(one.ate) and 2 * one.num_registered >= one.num_keyframes
    ]


def goals_of_hard(results: Sequence[HardResult]) -> list[Goal]:
    """Goals of finding the camera again."""
    limits = {"cut": _FOUND_AFTER_CUT, "blackout": _FOUND_AFTER_BLACKOUT}
    return [
        at_most(
            f"{one.sequence}: frames until found after a {one.change}",
            math.nan if one.found_after is None else float(one.found_after),
            limits[one.change],
        )
        for one in results
    ]


def goals_of_memory(scores: SlamScores) -> list[Goal]:
    """Goal of a long run."""
    return [at_most(f"{scores.num_frames} frames: peak memory in MB", scores.peak_memory_mb, _MEMORY_MB)]
