"""What the commands print on standard output: nothing that was computed is lost because a stream cannot show it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

_LOSSLESS = ("backslashreplace", "xmlcharrefreplace", "namereplace", "replace", "ignore")


def make_streams_safe() -> None:
    """Let both standard streams escape what their encoding cannot represent, instead of raising an error.

    A stream that was closed (`>&-`) gets a descriptor that cannot be written to: else the next file that is opened
    would take its number, and whatever a library prints would go into that file.
    """
    if sys.stdout is None:
        sys.stdout = _closed_stream(1)
    if sys.stderr is None:
        sys.stderr = _closed_stream(2)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or stream.errors in _LOSSLESS:
            continue
        has_raw_names = stream.errors == "surrogateescape" and stream.encoding.lower().replace("-", "") == "utf8"
        if not has_raw_names:
            stream.reconfigure(errors="backslashreplace")


def _closed_stream(number: int) -> io.TextIOWrapper:
    while (descriptor := os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)) < number:
        pass  # standard input is closed too: its number stays taken
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def say(text: object, end: str = "\n", flush: bool = False) -> None:
    """Print a text on standard output.

    Raises:
        StoreError: if it is closed, or full.
        OutputClosed: if its reader has gone.
    """
    with _output_errors():
        print(text, end=end, flush=flush)


def say_json(values: Any, indent: int | None = None, flush: bool = False) -> None:
    """Print plain values as JSON, which is valid whatever the encoding of standard output is.

    Raises:
        StoreError: if it is closed, or full.
        OutputClosed: if its reader has gone.
    """
    from sfm_lightglue.store.json_bytes import json_bytes

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    say(json_bytes(values, indent, encoding).decode(encoding), flush=flush)


def flush_output() -> None:
    """Write what standard output has buffered.

    Raises:
        StoreError: if it is closed, or full.
        OutputClosed: if its reader has gone.
    """
    with _output_errors():
        sys.stdout.flush()


@contextlib.contextmanager
def errors_may_be_unread() -> Iterator[None]:
    """If the reader of standard error has gone (`2>&1 | head`), discard what is written there, and go on."""
    try:
        yield
    except BrokenPipeError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


def discard_output() -> None:
    """Discard what standard output has buffered, so that Python does not fail to write it at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class OutputClosed(Exception):
    """The reader of standard output has gone (`| head`)."""


class _output_errors(contextlib.AbstractContextManager[None]):
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BrokenPipeError):
            raise OutputClosed from error
        if isinstance(error, OSError):
            from sfm_lightglue.errors import StoreError

            raise StoreError(f"standard output: cannot be written ({error.strerror or error})") from error
