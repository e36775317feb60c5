"""What the commands share: exit codes of errors, and progress bars."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.interrupt import SCRIPT, raise_from_now_on, report
from pipelines.manners import LIBRARY, StageTimes, is_verbose, set_verbosity, told_around
from pipelines.options import with_flags
from pipelines.output import OutputClosed, discard_output, errors_may_be_unread, flush_output, make_streams_safe, say
from sfm_lightglue.errors import ConfigError, SfmError
from sfm_lightglue.execution.progress import Progress, WorkRate, silent

ResultT = TypeVar("ResultT")

if TYPE_CHECKING:
    from tqdm import tqdm

    from pipelines.arguments import ArgumentAdder

OPENCV_THREADS = "OPENCV_FOR_THREADS_NUM"
"""Environment variable that OpenCV reads at its first work of several threads."""


class _Parser(argparse.ArgumentParser):
    """A parser that refuses `--flag=--`, and whose help ends with one line where nobody can read it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments that are known."""
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(found, action.dest, None)
            values = value if isinstance(action.default, list) and isinstance(value, list) else [value]
            if action.nargs is None and [] in values:  # some versions of argparse return it for `--flag=--`
                self.error(f"argument {'/'.join(action.option_strings) or action.metavar}: expected one argument")
        return found, rest

    def print_help(self, file: Any = None) -> None:
        """Print the help; on standard output, errors of the stream end the program as those of a command do."""
        if file is not None:
            super().print_help(file)
        elif code := _exit_code(lambda: say(self.format_help(), end=""), show_downloads=False):
            sys.exit(code)


def command_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose help spells the command as the user called it.

    Args:
        name: of the command.
        description: one line.
        examples: text below the options; `python -m pipelines.NAME` is replaced by the command as the user called it.
    """
    return _Parser(
        prog=program_name(name),
        description=description,
        epilog=as_called(name, examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def as_called(name: str, examples: str) -> str:
    """Examples of `python -m pipelines.NAME`, with the command as the user called it."""
    return examples.replace(f"python -m pipelines.{name}", program_name(name))


def program_name(name: str) -> str:
    """How the user called a command: by the installed script, as a module, or as a name after the package."""
    called = Path(sys.argv[0]) if sys.argv else Path()
    if called.stem == SCRIPT:
        return f"{SCRIPT} {name}"
    is_of_package = called.parts[-2:] == ("pipelines", "__main__.py")
    return f"python -m pipelines{' ' if is_of_package else '.'}{name}"


def run_command(body: Callable[[], int | None], show_downloads: bool = False) -> int:
    """Run a command: an `SfmError` becomes one line and its exit code.

    OpenCV uses one thread, unless the user's environment says otherwise: the threads of a command work on images of
    their own, and would wait for OpenCV's helpers, which spin meanwhile. The number must not be changed later: OpenCV
    ends the whole process (a division by zero, or an access of freed memory) if another thread uses it just then.

    Args:
        body: the command after its arguments were parsed; returns its exit code, None for 0.
        show_downloads: show a progress bar for every file of weights that the command downloads.

    Returns:
        The exit code: that of the `SfmError`, 130 after Ctrl-C, 143 after `kill`, else what `body` returned.
    """
    os.environ.setdefault(OPENCV_THREADS, "1")
    make_streams_safe()
    raise_from_now_on()
    try:
        return _exit_code(body, show_downloads)
    except KeyboardInterrupt as interrupt:
        return report(interrupt)


def _exit_code(body: Callable[[], int | None], show_downloads: bool) -> int:
    try:
        with told_around(), _download_bars() if show_downloads else contextlib.nullcontext():
            code = body() or 0
        flush_output()
        return code
    except SfmError as error:
        try:
            flush_output()
        except (SfmError, OutputClosed):
            discard_output()
        print(f"error: {with_flags(str(error))}", file=sys.stderr)
        return error.exit_code
    except OutputClosed:  # not an error, and no more output
        discard_output()
        return 0


@contextlib.contextmanager
def _download_bars() -> Iterator[None]:
    from sfm_lightglue.weights.lookup import reporting_downloads

    bars = ProgressBars("B")

    def show(stage: str, num_done: int, num_total: int) -> None:
        bars(stage, num_done, num_total)
        if num_done == num_total:
            bars.close()  # the bars of the stages follow

    with contextlib.closing(bars), reporting_downloads(show):
        yield


def require_checkout(what: str) -> None:
    """Check that `datasets` is the folder of the checkout before it is imported: other packages have that name too.

    Args:
        what: what needs it, for the message.

    Raises:
        ConfigError: if there is no `datasets`, or it is another package.
    """
    ours = Path(__file__).resolve().parents[1] / "datasets" / "__init__.py"
    spec = importlib.util.find_spec("datasets")
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
        raise ConfigError(f"{what} needs the checkout of sfm_lightglue: clone it, and run the command from its root")


def show_warnings(verbose: bool = False) -> None:
    """Write the library's warnings to standard error, one line each, without breaking a progress bar.

    Args:
        verbose: write its details too.
    """
    set_verbosity(verbose)
    # Pillow warns about unusual headers; the library reports itself what matters.
    warnings.filterwarnings("ignore", module="PIL")
    logger = logging.getLogger(LIBRARY)
    if not any(isinstance(handler, _TqdmHandler) for handler in logger.handlers):
        handler = _TqdmHandler()
        handler.setFormatter(logging.Formatter("%(levelname_lower)s: %(message)s"))
        handler.addFilter(_lower_level_name)
        logger.addHandler(handler)
        logger.propagate = False


def _lower_level_name(record: logging.LogRecord) -> bool:
    record.levelname_lower = record.levelname.lower()
    return True


class _TqdmHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = with_flags(self.format(record))
        with errors_may_be_unread():
            if "tqdm" in sys.modules:  # else there is no bar, and training must run where tqdm is missing
                from tqdm import tqdm

                tqdm.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr)


class ProgressBars:
    """A `Progress` that shows one bar per stage on standard error, with rate and remaining time.

    Args:
        unit: of what is counted; bytes, "B", are shown as kilobytes and megabytes.
        clock: returns seconds, for the rate.
    """

    def __init__(self, unit: str = "it", clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self.bar: tqdm[Any] | None = None
        self._rate = WorkRate(clock)
        self._stage = ""

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        """Advance the bar of a stage; a new stage closes the bar before it."""
        self.advance(stage, num_done, num_total, 0)

    def advance(self, stage: str, num_done: int, num_total: int, num_found: int) -> None:
        """Advance the bar of a stage; rate and remaining time are those of the items that were not found."""
        with errors_may_be_unread():
            self._show(stage, num_done, num_total, num_found)

    def _show(self, stage: str, num_done: int, num_total: int, num_found: int) -> None:
        bar = self.bar
        if bar is None or stage != self._stage or num_done < bar.n:
            self.close()
            self._rate = WorkRate(self._clock)
            bar = _bar(stage, num_total, self._unit, self._rate)
            self.bar, self._stage = bar, stage
        self._rate.update(num_done, num_found)
        bar.total = num_total or None
        bar.update(num_done - bar.n)

    def close(self) -> None:
        """Close the current bar, if there is one."""
        bar, self.bar, self._stage = self.bar, None, ""
        if bar is not None:
            with errors_may_be_unread():
                bar.close()


def _bar(stage: str, num_total: int, unit: str, rate: WorkRate) -> tqdm[Any]:
    """A bar with the rate of the work, and the remaining time if all that is left is work."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]  # not at the top: it is imported where a bar is shown
        @property
        def format_dict(self) -> Any:
            """What the bar shows."""
            shown = super().format_dict
            # Without a rate, tqdm divides the items since the initial one by the time.
            return {**shown, "rate": rate.items_per_s, "initial": shown["n"]}

    return Bar(
        desc=f"{stage:<8}",
        total=num_total or None,
        file=sys.stderr,
        dynamic_ncols=True,
        unit=unit,
        unit_scale=unit == "B",
    )


def with_progress(quiet: bool, work: Callable[[Progress], ResultT]) -> ResultT:
    """Run some work with progress bars, or without if `quiet`, or where bars cannot be imported."""
    if quiet or not _has_bars():
        return work(silent)
    bars = ProgressBars()
    times = StageTimes(bars) if is_verbose() else None
    try:
        return work(times or bars)
    finally:
        bars.close()
        if times is not None:
            times.close()


def _has_bars() -> bool:
    try:
        import tqdm  # noqa: F401  # where it is missing, `doctor` must tell so
    except ImportError:
        return False
    return True


def add_yes_argument(parser: ArgumentAdder) -> None:
    """The flag that answers the question of `confirmation`."""
    parser.add_argument("--yes", action="store_true", help="match any number of pairs without a question")


def confirmation(arguments: argparse.Namespace) -> Callable[[str], bool] | None:
    """Asks the user on the terminal; None, for no question, if there is no terminal."""
    if arguments.yes:
        return lambda question: True
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return _ask


def _ask(question: str) -> bool:
    print(f"{with_flags(question)} Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
