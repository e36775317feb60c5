"""What `evaluate` prints and writes: a table for people, all results as JSON, and the plan of `--dry-run`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.manners import add_dry_run_argument, add_verbosity_arguments
from pipelines.output import say, say_json
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import atomic_write
from sfm_lightglue.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.plan import Plan
    from sfm_lightglue.evaluation.combinations import LeftOut

PRINTED = Path("-")
"""Value of `--json` without a file."""


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of all tasks for the results."""
    add = parser.add_argument
    add("--markdown", type=Path, metavar="FILE", help="write the table to FILE (default: print it)")
    json_help = "write all results to FILE; without FILE, print them in place of the table (default: neither)"
    add("--json", nargs="?", type=Path, const=PRINTED, metavar="FILE", help=json_help)
    add_dry_run_argument(parser, "how much would be evaluated")
    add_verbosity_arguments(parser, "show no progress")


class Report:
    """Results of an evaluation: parts of Markdown, and records for JSON.

    Args:
        own: replaces the options that a message names by those of this command.
    """

    def __init__(self, own: Callable[[str], str]) -> None:
        self._own = own
        self.parts: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.left_out: list[LeftOut] = []
        self.plans: list[Plan] = []

    def add(self, table: str, results: Sequence[dict[str, Any]], left_out: Sequence[LeftOut] = ()) -> None:
        """Add a table and its records."""
        self.parts.append(table)
        self.results += results
        for one in left_out:
            reported = replace(one, error=type(one.error)(self._own(str(one.error))))
            if reported.as_dict() not in [old.as_dict() for old in self.left_out]:
                self.left_out.append(reported)


def write_report(report: Report, arguments: argparse.Namespace) -> None:
    """Print or write the table and the results.

    Raises:
        StoreError: if a file cannot be written.
    """
    from sfm_lightglue.evaluation.tables import left_out_list

    text = "\n\n".join(part for part in (*report.parts, left_out_list(report.left_out)) if part) + "\n"
    is_printed = arguments.json == PRINTED
    json_file: Path | None = None if is_printed else arguments.json
    if is_printed:
        say_json(_record(report, arguments))
    elif arguments.markdown is None:
        say(text, end="")
    is_alone = sole_writer(json_file) if json_file is not None and arguments.markdown is not None else nullcontext()
    with is_alone:  # so that both files are of one run
        if arguments.markdown is not None:
            with atomic_write(arguments.markdown) as file:
                file.write(text.encode())
        if json_file is not None:
            with atomic_write(json_file) as file:
                file.write(json_bytes(_record(report, arguments), indent=2) + b"\n")


_NOT_SETTINGS = {"dry_run", "json", "markdown", "quiet", "task", "verbose"}


def _record(report: Report, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in sorted(vars(arguments).items())
        if name not in _NOT_SETTINGS and not isinstance(value, list)
    }
    return {
        "task": arguments.task,
        "version": __version__,
        "settings": settings,
        "results": report.results,
        "left_out": [one.as_dict() for one in report.left_out],
    }
