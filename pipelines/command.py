"""What the commands share: how an error becomes an exit code, and what progress looks like."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.interrupt import EXIT_CODE, SCRIPT, raise_from_now_on
from sfm_lightglue.errors import ConfigError, SfmError
from sfm_lightglue.execution.progress import Progress, silent

ResultT = TypeVar("ResultT")

if TYPE_CHECKING:
    from tqdm import tqdm


def command_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose help calls the command as the user just did.

    Args:
        name: of the command.
        description: what it does, a line.
        examples: stand below the options, as they are, but for `python -m pipelines.NAME`.
    """
    return argparse.ArgumentParser(
        prog=program_name(name),
        description=description,
        epilog=as_called(name, examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def as_called(name: str, examples: str) -> str:
    """Examples of `python -m pipelines.NAME`, with the command called as the user just did."""
    return examples.replace(f"python -m pipelines.{name}", program_name(name))


def program_name(name: str) -> str:
    """How a command was called: by the installed script, or as a module, alone or of the package."""
    called = Path(sys.argv[0]) if sys.argv else Path()
    if called.stem == SCRIPT:
        return f"{SCRIPT} {name}"
    is_of_package = called.parts[-2:] == ("pipelines", "__main__.py")
    return f"python -m pipelines{' ' if is_of_package else '.'}{name}"


def run_command(body: Callable[[], int | None], show_downloads: bool = False) -> int:
    """Run a command: errors that a user can repair become one line and their exit code.

    Args:
        body: the command after its arguments were parsed; returns its exit code, None for 0.
        show_downloads: with a bar for every file of weights that the command downloads.

    Returns:
        The exit code: that of the `SfmError`, 130 after Ctrl-C, else what `body` returned.
    """
    raise_from_now_on()
    try:
        with _download_bars() if show_downloads else contextlib.nullcontext():
            return body() or 0
    except SfmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, the same command continues", file=sys.stderr)
        return EXIT_CODE
    except BrokenPipeError:
        # The reader of our output went away (`| head`): no error, and nothing left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@contextlib.contextmanager
def _download_bars() -> Iterator[None]:
    from sfm_lightglue.weights.lookup import reporting_downloads

    bars = ProgressBars("B")

    def show(stage: str, num_done: int, num_total: int) -> None:
        bars(stage, num_done, num_total)
        if num_done == num_total:
            bars.close()  # the bars of the work itself follow

    with contextlib.closing(bars), reporting_downloads(show):
        yield


def require_checkout(what: str) -> None:
    """Make sure that `datasets` is ours before anything imports it: a wheel has none, and others own the name.

    Args:
        what: needs it, for the message.

    Raises:
        ConfigError: where there is no `datasets`, or another package of that name; it is not imported.
    """
    ours = Path(__file__).resolve().parents[1] / "datasets" / "__init__.py"
    spec = importlib.util.find_spec("datasets")
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != ours:
        raise ConfigError(f"{what} needs the checkout of sfm_lightglue: clone it, and run the command from its root")


def show_warnings() -> None:
    """Send the library's warnings to standard error, one line each, also beside a progress bar."""
    # What Pillow has to say of odd headers helps nobody; what matters of it the library says.
    warnings.filterwarnings("ignore", module="PIL")
    logger = logging.getLogger("sfm_lightglue")
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
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


class ProgressBars:
    """A `Progress` that shows one bar per stage on standard error, with rate and time left.

    Args:
        unit: of what is counted; bytes, "B", are shown in thousands and millions.
    """

    def __init__(self, unit: str = "it") -> None:
        self._unit = unit
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        """Move the bar of the stage; a new stage closes the bar before it."""
        from tqdm import tqdm

        bar = self._bar
        if bar is None or stage != self._stage:
            self.close()
            bar = tqdm(
                desc=f"{stage:<8}",
                total=num_total or None,
                file=sys.stderr,
                dynamic_ncols=True,
                unit=self._unit,
                unit_scale=self._unit == "B",
            )
            self._bar, self._stage = bar, stage
        bar.update(num_done - bar.n)

    def close(self) -> None:
        """Finish the bar that is showing, if any."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._stage = ""


def with_progress(quiet: bool, work: Callable[[Progress], ResultT]) -> ResultT:
    """The result of some work that is shown by bars, or not at all."""
    if quiet:
        return work(silent)
    bars = ProgressBars()
    try:
        return work(bars)
    finally:
        bars.close()
