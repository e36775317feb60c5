"""What `--dry-run` prints: what a command would do, how long that takes, and what it would write."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.output import say, say_json
from sfm_lightglue.messages import duration


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command would do.

    Args:
        what: one line without the time.
        work: numbers, by name.
        seconds: expected time; None if it cannot be told before.
        basis: where the time is from, or why it cannot be told.
        writes: files and folders that would be written.
    """

    what: str
    work: dict[str, Any]
    seconds: float | None
    basis: str
    writes: tuple[Path, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dry_run": True,
            **self.work,
            "seconds": None if self.seconds is None else round(self.seconds, 2),
            "basis": self.basis,
            "writes": [str(path) for path in self.writes],
        }

    def __str__(self) -> str:
        time = f"about {duration(self.seconds)}, {self.basis}" if self.seconds is not None else self.basis
        lines = [f"{self.what}; {time}"]
        for path in self.writes:
            lines.append(f"would write {path}{' (exists)' if os.path.lexists(path) else ''}")
        if not self.writes:
            lines.append("would write no file")
        return "\n".join(lines)


def say_plan(plan: Plan, arguments: argparse.Namespace) -> None:
    """Print a plan as text, or as JSON with `--json`."""
    if arguments.json:
        say_json(plan.as_dict())
    else:
        say(plan)
