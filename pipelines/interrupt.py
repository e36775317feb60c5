"""Ctrl-C while a command imports its libraries: the program ends without a traceback.

`pipelines` installs this before anything else is imported. `run_command` removes it: from then on Ctrl-C is an
exception, and the command reports what it kept.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

EXIT_CODE = 130
"""128 plus the number of SIGINT, the convention of shells."""

SCRIPT = "sfm-lightglue"
"""The command that the wheel installs."""


def leave_quietly_while_importing() -> None:
    """Let Ctrl-C end the program without a traceback, if Python is about to run one of these commands.

    Nothing is changed when `pipelines` is imported by another program, in child processes of a command, and when
    Ctrl-C is ignored, as for jobs in the background.
    """
    if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _is_program() -> bool:
    # Python has "-m" there until it has found the module of `python -m`, so also while this package is imported.
    if sys.argv[:1] == ["-m"]:
        return True
    is_child = "--multiprocessing-fork" in sys.orig_argv
    return bool(sys.argv) and Path(sys.argv[0]).stem == SCRIPT and not is_child


def raise_from_now_on() -> None:
    """Make Ctrl-C raise `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    # Without an exception: the library that is being imported might print or suppress it.
    os._exit(EXIT_CODE)
