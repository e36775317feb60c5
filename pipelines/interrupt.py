"""Ctrl-C while a command still imports its libraries: the program ends, and prints nothing.

`pipelines` asks for this before anything else is imported. `run_command` ends it: from then on an interruption is an
exception, and the command says what it kept.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

EXIT_CODE = 130
"""128 and the number of SIGINT, as shells have it."""

SCRIPT = "sfm-lightglue"
"""The command that the wheel installs."""


def leave_quietly_while_importing() -> None:
    """Where Python is about to run a command of ours, let Ctrl-C end it without a traceback.

    Not where others import us, not in the processes that a command starts, and not where Ctrl-C is ignored, as it is
    for jobs in the background.
    """
    if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _is_program() -> bool:
    # Until it has found the module of `python -m`, Python has "-m" there: so it is while our package is imported.
    if sys.argv[:1] == ["-m"]:
        return True
    is_child = "--multiprocessing-fork" in sys.orig_argv
    return bool(sys.argv) and Path(sys.argv[0]).stem == SCRIPT and not is_child


def raise_from_now_on() -> None:
    """Make Ctrl-C an exception again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    # At once: an exception would come out of whatever library is being imported, which may print or swallow it.
    os._exit(EXIT_CODE)
