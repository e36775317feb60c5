"""How much a command tells: the flags `--json`, `--quiet`, `--verbose` and `--dry-run`, and what verbose adds."""

from __future__ import annotations

import argparse
import contextlib
import logging
import platform
import time
import traceback
from collections.abc import Iterator
from typing import Any, Protocol

from sfm_lightglue.errors import SfmError
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.execution.progress import Progress, WorkProgress
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.version import __version__

LIBRARY = "sfm_lightglue"
"""Name of the logger whose messages are shown."""

QUIET = "no progress and no summary; warnings and errors stay"
NOTHING_SHOWN = "print nothing but warnings and errors"
SUMMARY_AS_JSON = "print the summary as one JSON object on standard output"

logger = logging.getLogger(f"{LIBRARY}.command")


class TakesFlags(Protocol):
    """A parser, or an argument group of one."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Add a flag."""

    def add_mutually_exclusive_group(self, *, required: bool = False) -> argparse._MutuallyExclusiveGroup:
        """Add flags of which one at most is given."""


def add_output_arguments(parser: TakesFlags, json: str = SUMMARY_AS_JSON, quiet: str = QUIET) -> None:
    """The flags that every command has.

    Args:
        parser: of the command, or an argument group of it.
        json: what `--json` prints.
        quiet: what `--quiet` leaves out.
    """
    add_verbosity_arguments(parser, quiet)
    parser.add_argument("--json", action="store_true", help=json)


def add_verbosity_arguments(parser: TakesFlags, quiet: str = QUIET) -> None:
    """The flags `--quiet` and `--verbose`, of commands whose `--json` has a meaning of its own."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help=quiet)
    group.add_argument("--verbose", action="store_true", help=VERBOSE)


VERBOSE = "also tell details, the time of each stage, memory, and where an error was raised, on standard error"


def add_dry_run_argument(parser: TakesFlags, what: str) -> None:
    """The flag that makes a long command tell what it would do.

    Args:
        parser: of the command, or an argument group of it.
        what: the command would do.
    """
    parser.add_argument(
        "--dry-run", action="store_true", help=f"only print {what}, about how long it takes, and what is written"
    )


def set_verbosity(verbose: bool) -> None:
    """Let the library tell details, or warnings only."""
    logging.getLogger(LIBRARY).setLevel(logging.DEBUG if verbose else logging.NOTSET)


def is_verbose() -> bool:
    """Whether details are told."""
    return logger.isEnabledFor(logging.DEBUG)


@contextlib.contextmanager
def told_around() -> Iterator[None]:
    """If details are told: versions before the block, then where an error was raised, then time and memory."""
    if not is_verbose():
        yield
        return
    start = time.perf_counter()
    logger.debug(
        "%s %s, Python %s, %s, %d cores",
        LIBRARY,
        __version__,
        platform.python_version(),
        platform.platform(),
        num_usable_cores(),
    )
    try:
        yield
    except SfmError as error:
        logger.debug("%s", "".join(traceback.format_exception(error)).rstrip())
        raise
    finally:
        memory_mb = peak_memory_mb()
        shown = "" if memory_mb is None else f", peak memory {memory_mb:.0f} MB"
        logger.debug("%.2f s%s", time.perf_counter() - start, shown)


class StageTimes:
    """A `Progress` that tells how long each stage took, and passes everything on.

    Args:
        shown: the progress that is passed on to.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._stage, self._num_done, self._start_s = "", 0, 0.0

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        """Advance a stage; a new one ends the stage before it."""
        self._note(stage, num_done)
        self._shown(stage, num_done, num_total)

    def advance(self, stage: str, num_done: int, num_total: int, num_found: int) -> None:
        """Advance a stage of which some items were found."""
        self._note(stage, num_done)
        if isinstance(self._shown, WorkProgress):
            self._shown.advance(stage, num_done, num_total, num_found)
        else:
            self._shown(stage, num_done, num_total)

    def close(self) -> None:
        """Tell the time of the last stage."""
        if self._stage:
            logger.debug("%s: %d in %.2f s", self._stage, self._num_done, time.perf_counter() - self._start_s)
        self._stage = ""

    def _note(self, stage: str, num_done: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._start_s = stage, time.perf_counter()
        self._num_done = num_done
