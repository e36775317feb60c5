"""`python -m pipelines.doctor`: what works on this machine, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.command import command_parser, run_command, show_warnings, with_progress
from pipelines.manners import add_output_arguments
from pipelines.options import with_flags
from pipelines.output import say, say_json
from pipelines.versions import versions
from sfm_lightglue.diagnosis.finding import Finding
from sfm_lightglue.diagnosis.run import diagnose, exit_code_of

EXAMPLES = """\
examples:
  python -m pipelines.doctor
      a line for each library, the processor, the graphics processor, the display, weights and folders
  python -m pipelines.doctor /data/results
      whether results can be written there
  python -m pipelines.doctor --json
      the same as one JSON object

Each line is ok, missing (not there) or broken (there, and it does not work), with the command that mends it. exit
codes: 0 `reconstruct` can work with its default options, else the code that it would end with: 2 a library is missing
or broken, 4 weights are, 6 the folder cannot be written.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> int:
        is_quiet = arguments.quiet or arguments.json
        found = with_progress(is_quiet, lambda progress: diagnose(arguments.folder, progress))
        code = exit_code_of(found)
        if arguments.json:
            say_json(versions() | {"exit_code": code, "findings": [_as_dict(one) for one in found]}, indent=2)
        else:
            say(as_text([one for one in found if one.stops] if arguments.quiet else found), end="")
        return code

    return run_command(body)


def _as_dict(finding: Finding) -> dict[str, Any]:
    return finding.as_dict() | {"mend": with_flags(finding.mend), "text": with_flags(finding.text)}


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, below the name of its group; an indented line has what mends it."""
    lines = []
    width = max((len(one.name) for one in findings), default=0)
    for group, members in groupby(findings, lambda one: one.group):
        lines.append(f"{group}:")
        for one in members:
            lines.append(f"  {one.state:<8}{one.name:<{width}}  {with_flags(one.text)}")
            if one.mend and one.state != "ok":
                lines.append(f"          {'':<{width}}  -> {with_flags(one.mend)}")
    stopping = [one for one in findings if one.stops]
    if stopping:
        lines.append(f"`reconstruct` cannot work here: {', '.join(one.name for one in stopping)}")
    return "".join(f"{line}\n" for line in lines)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("doctor", "Tell what works on this machine, what is missing, and what mends it.", EXAMPLES)
    parser.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        default=Path(),
        help="folder of results that is tried (default: the current one)",
    )
    as_json = "print everything as one JSON object on standard output"
    add_output_arguments(parser, as_json, "print only what stops the work")
    return parser


if __name__ == "__main__":
    sys.exit(main())
