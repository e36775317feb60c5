"""Goals of a benchmark: lines with numbers, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal and what was measured.

    Args:
        text: what was measured, where, and the limit.
        is_reached: whether it keeps the limit.
    """

    text: str
    is_reached: bool


def at_most(what: str, value: float, limit: float) -> Goal:
    """A number that must not be larger than a limit; NaN is."""
    return Goal(f"{what}: {value:.4g}, at most {limit:.4g}", value <= limit)


def at_least(what: str, value: float, limit: float) -> Goal:
    """A number that must not be smaller than a limit; NaN is."""
    return Goal(f"{what}: {value:.4g}, at least {limit:.4g}", value >= limit)


def print_goals(goals: Sequence[Goal]) -> int:
    """Print a line for each goal, and return the exit code: 1 if one is missed, else 0."""
    for goal in goals:
        print(f"{'reached' if goal.is_reached else 'MISSED'}: {goal.text}")
    return int(not all(goal.is_reached for goal in goals))
