"""Calls of pycolmap that take long and do not come back in between, without its log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from sfm_lightglue.colmap.quiet_log import quiet_log

ResultT = TypeVar("ResultT")

_INTERVAL_S = 0.2


def run_polled(call: Callable[[], ResultT], poll: Callable[[], None]) -> ResultT:
    """The result of a call in another thread, while this one reports its progress and can be interrupted.

    After an interrupt, or an error of `poll`, the call is not waited for: it ends with the process at the latest.

    Args:
        call: the call; it must not hold the interpreter's lock.
        poll: called several times a second until the call is done.

    Raises:
        BaseException: the error of the call, or of `poll`.
    """
    results: list[ResultT] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with quiet_log():
                results.append(call())
        except BaseException as error:  # raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="mapping", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_INTERVAL_S)
        poll()
    if errors:
        raise errors[0]
    return results[0]
