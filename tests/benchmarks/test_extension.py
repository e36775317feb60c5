"""The benchmark of extensions: its goals, and their reference where there is no truth."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.extension import ExtensionRun, format_table

KEPT_BACK = ("b.jpg", "d.jpg", "f.jpg")
GOOD = ExtensionRun("door", True, KEPT_BACK, 3, (12, 12), (0.01, 0.0119, 0.01), (0.0119, 0.01), (3.3, 6.0, 10.0), 0.0)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"num_came_in": 2}, ["door, photos that came in: 2, at least 3"]),
        ({"centre_errors": (0.01, 0.013, 0.01)}, ["door, error in that of all photos at once: 1.3, at most 1.2"]),
        (
            {"added_errors": (0.02, 0.01)},
            ["door, error of the photos that came in in that of all photos at once: 2, at most 1.2"],
        ),
        ({"seconds": (3.4, 6.0, 10.0)}, ["door, time in that of all photos at once: 0.34, at most 0.3333"]),
        (
            {"num_came_in": 0, "added_errors": (math.nan, 0.01)},
            [
                "door, photos that came in: 0, at least 3",
                "door, error of the photos that came in in that of all photos at once: nan, at most 1.2",
            ],
        ),
        (
            {"has_truth": False, "centre_errors": (0.01, 0.013, 1e-16), "added_errors": (0.01, 1e-16)},
            ["door, error in that of the model before: 1.3, at most 1.2"],
        ),
    ],
)
def test_each_goal_can_be_missed(change: dict[str, object], missed: list[str]) -> None:
    run = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    assert [goal.text for goal in run.goals if not goal.is_reached] == missed
    header, _, row = format_table([run]).strip().splitlines()
    assert header.count("|") == row.count("|")
