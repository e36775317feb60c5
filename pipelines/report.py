"""`python -m pipelines.report MAP`: a reconstruction as a page that opens in any browser without a network."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from pipelines.arguments import add_map_argument
from pipelines.command import command_parser, run_command, show_warnings
from pipelines.manners import NOTHING_SHOWN, add_output_arguments
from pipelines.options import with_flags
from pipelines.output import say, say_json
from sfm_lightglue.errors import SfmError
from sfm_lightglue.report import ReportConfig, WrittenReport, write_report

logger = logging.getLogger("sfm_lightglue.report")

EXAMPLES = """\
examples:
  python -m pipelines.report scenes/castle
      write scenes/castle/reconstruction/report.html; reconstruct has written it already, unless --no-report
  python -m pipelines.report colmap/sparse/0 --images colmap/images --output castle.html
      of a model of COLMAP

The page needs no network and no other file, so it can be sent or kept. Above 15 MB, its photos and numbers lie in
the folder NAME_files beside it: keep both together.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        config = ReportConfig(
            arguments.map, arguments.output, arguments.images, arguments.max_mb, arguments.threads or 0
        )
        report = write_report(config, with_flags)
        if arguments.json:
            say_json(as_dict(report))
        elif not arguments.quiet:
            say(as_text(report))

    return run_command(body)


def report_of_run(output: Path, images: Path, num_threads: int) -> Path | None:
    """Write the report of a run that has finished; a failure is a warning, because the results are there.

    Args:
        output: folder of the results.
        images: folder of the images.
        num_threads: photos that are read at a time; 0 for all cores.

    Returns:
        The page; None if it was not written.
    """
    try:
        return write_report(ReportConfig(output, images=images, num_threads=num_threads), with_flags).file
    except Exception as error:  # whatever it is, the run itself has succeeded
        cause = str(error) if isinstance(error, SfmError) else f"{type(error).__name__}: {error}"
        logger.warning("the results are complete, but the report could not be written: %s", cause)
        return None


def as_dict(report: WrittenReport) -> dict[str, object]:
    """Plain values for JSON."""
    return {
        "report": str(report.file),
        "folder": None if report.folder is None else str(report.folder),
        "num_bytes": report.num_bytes,
        "is_new": report.is_new,
    }


def as_text(report: WrittenReport) -> str:
    """One line."""
    if not report.is_new:
        return f"{report.file}: nothing has changed since it was written"
    files = "" if report.folder is None else f", with the folder {report.folder.name}"
    return f"{report.file}: {report.num_bytes / 1e6:.1f} MB{files}"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("report", "Write a page about a reconstruction that opens in any browser.", EXAMPLES)
    add = parser.add_argument
    add_map_argument(parser)
    add("--output", metavar="FILE.html", type=Path, help="the page (default: report.html in the output folder)")
    add("--images", metavar="DIR", type=Path, help="folder of the photos (default: that of the scene)")
    add("--max-mb", metavar="MB", type=float, default=15.0, help="largest size of a single file (default: 15)")
    add("--threads", type=int, metavar="N", help="photos that are read at a time (default: all cores)")
    add_output_arguments(parser, "print path and size as one JSON object on standard output", NOTHING_SHOWN)
    return parser


if __name__ == "__main__":
    sys.exit(main())
