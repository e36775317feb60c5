"""Signals that end a command: Ctrl-C, `kill`, and a closed terminal. It ends with one line, not with a traceback.

`pipelines` installs the handlers before anything else is imported: while libraries are imported, the program ends at
once. From `run_command` on, a signal is an exception, and the command reports what it kept. A Python handler runs only
when the main thread is back from a library, so a thread watches: if the main thread is not back after `GRACE_S`, or
the user is impatient and signals again, the thread ends the process.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import NoReturn

GRACE_S = 5.0
"""Time that the main thread has to come back after a signal."""

SCRIPT = "sfm-lightglue"
"""The command that the wheel installs."""

_MESSAGES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    _MESSAGES[signal.SIGHUP] = "terminated"

_TAKEN_OVER = tuple(number for number in _MESSAGES if number != signal.SIGINT)
"""pycolmap replaces the handler of SIGTERM, by one that prints a stack trace."""

_SHIELDED = ("numpy", "cv2", "pycolmap")
"""Libraries that start threads or replace handlers while they are imported. The threads inherit the blocked signals."""

_ECHO_S = 0.5
"""Within this time, a second signal is the same: `timeout` and `uv run` send it to the process and to its group."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP."""


class _State:
    """Of the signal that ends this process.

    `is_lost` is set where the exception cannot propagate, as in a callback of C: then it has to be raised again.
    """

    number: int = 0
    first_s: float = 0.0
    is_lost: bool = False
    is_told: bool = False
    ending: _Ending | None = None
    wakeup: tuple[socket.socket, socket.socket] | None = None


class _Ending:
    """Tells the first Ctrl-C, which asks a job to end, and its echo from the next one."""

    def __init__(self) -> None:
        self._first_s = 0.0

    def is_first(self) -> bool:
        """Whether the Ctrl-C that just came is the first one."""
        self._first_s = self._first_s or time.monotonic()
        return time.monotonic() - self._first_s < _ECHO_S


@contextlib.contextmanager
def asked_to_end() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C in the block sets, in place of an exception. The second one interrupts.

    It is for jobs that can end early with a result. Other signals end the command as elsewhere.
    """
    asked, ending = threading.Event(), _Ending()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        if ending.is_first():
            asked.set()
        elif callable(before):
            before(number, frame)

    if callable(before):  # else Ctrl-C is ignored, as for jobs in the background
        signal.signal(signal.SIGINT, ask)
    _State.ending = _Ending()  # the watching thread may learn of a signal much earlier than the main thread
    try:
        yield asked
    finally:
        _State.ending = None
        signal.signal(signal.SIGINT, before)


def leave_quietly_while_importing() -> bool:
    """Let signals end the program without a traceback, if Python is about to run one of these commands.

    Nothing is changed when `pipelines` is imported by another program, in child processes of a command, and where a
    signal is ignored, as Ctrl-C for jobs in the background.

    Returns:
        Whether Python is about to run one of these commands.
    """
    if not _is_program():
        return False
    for number in _MESSAGES:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _leave)
    if not any(isinstance(finder, _Shield) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Shield())
    return True


def _is_program() -> bool:
    # Python has "-m" there until it has found the module of `python -m`, so also while this package is imported.
    if sys.argv[:1] == ["-m"]:
        return True
    is_child = "--multiprocessing-fork" in sys.orig_argv
    return bool(sys.argv) and Path(sys.argv[0]).stem == SCRIPT and not is_child


def raise_from_now_on() -> None:
    """Make signals raise `KeyboardInterrupt`, or `Terminated`, from now on, if this process runs one command."""
    is_ours = False
    for number in _MESSAGES:
        if signal.getsignal(number) is _leave:
            is_ours = True
            signal.signal(number, _raise)
    if is_ours and _State.wakeup is None:
        _State.wakeup = socket.socketpair()
        for end in _State.wakeup:
            end.setblocking(False)
        signal.set_wakeup_fd(_State.wakeup[1].fileno(), warn_on_full_buffer=False)
        sys.unraisablehook = _remember_lost
        threading.Thread(target=_watch, args=(_State.wakeup[0],), daemon=True, name="signals").start()


def report(interrupt: KeyboardInterrupt) -> int:
    """Tell the user what ended the command; returns its exit code: 128 plus the signal, the convention of shells."""
    number = _State.number or (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)
    if not _State.is_told:
        _State.is_told = _State.wakeup is not None
        with contextlib.suppress(OSError):  # the terminal has gone
            print(_message(number), file=sys.stderr, flush=True)
    if _State.wakeup is not None:
        for each in _MESSAGES:
            if signal.getsignal(each) is _raise:
                signal.signal(each, _leave)
    return 128 + number


def _leave(number: int, frame: FrameType | None) -> None:
    # Without an exception: the library that is being imported might print or suppress it.
    _State.is_told = _State.is_told or number == signal.SIGINT
    _leave_now(number)


def _raise(number: int, frame: FrameType | None) -> None:
    if _State.number and not _State.is_lost and time.monotonic() - _State.first_s < _ECHO_S:
        return
    _State.is_lost = False
    _State.number = _State.number or number
    _State.first_s = _State.first_s or time.monotonic()
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _message(number: int) -> str:
    return f"{_MESSAGES[signal.Signals(number)]}; what was finished is kept, the same command continues"


def _leave_now(number: int) -> NoReturn:
    """End the process without Python's own end, which could wait for the main thread or for a lock of a stream."""
    if not _State.is_told:
        _State.is_told = True
        with contextlib.suppress(OSError):
            os.write(2, f"{_message(number)}\n".encode())
    os._exit(128 + number)


def _remember_lost(failure: sys.UnraisableHookArgs) -> None:
    if issubclass(failure.exc_type, KeyboardInterrupt):
        _State.is_lost = True
    else:
        sys.__unraisablehook__(failure)


def _watch(signals: socket.socket) -> None:
    """Wait for a signal; end the process if the main thread does not, or at another signal."""
    number = _next_signal(signals, None)
    while number == signal.SIGINT and _State.ending is not None and _State.ending.is_first():
        number = _next_signal(signals, None)
    start = time.monotonic()
    while number is not None and (left := start + GRACE_S - time.monotonic()) > 0:
        again = _next_signal(signals, min(left, _ECHO_S))
        if again is not None and time.monotonic() - start > _ECHO_S:
            break
        if _State.is_lost:
            _thread.interrupt_main(signal.Signals(number))
    if number is not None:
        _end_children()
        _leave_now(number)


def _next_signal(signals: socket.socket, timeout_s: float | None) -> int | None:
    signals.settimeout(timeout_s)
    try:
        while True:
            received = signals.recv(1)
            if not received or received[0] in _MESSAGES:
                return received[0] if received else None
    except TimeoutError:
        return None


def _end_children() -> None:
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        for child in multiprocessing.active_children():
            child.terminate()


class _Shield(importlib.abc.MetaPathFinder):
    """While certain libraries are imported, signals wait; afterwards they have the handlers that they had before."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of a library, whose import is shielded."""
        if fullname not in _SHIELDED or path is not None:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        loader = None if spec is None else spec.loader
        if loader is None:
            return spec
        execute = loader.exec_module

        def shielded(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)
            with _signals_wait():
                execute(module)

        with contextlib.suppress(AttributeError):  # a loader that cannot be changed
            loader.exec_module = shielded  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _TAKEN_OVER}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN_OVER)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
