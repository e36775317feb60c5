"""The window of a command that shows its work; without a display the command works without it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.options import with_flags
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.store.output_folder import SNAPSHOTS_FOLDER

if TYPE_CHECKING:
    from sfm_lightglue.viewer.live import LiveView


def open_live_window(title: str) -> LiveView | None:
    """A window; None, with one line that says why, if none can be opened."""
    from sfm_lightglue.viewer.live import LiveView

    try:
        return LiveView.open(title)
    except ConfigError as error:
        print(f"no window: {with_flags(str(error))}", file=sys.stderr, flush=True)
        return None


@contextlib.contextmanager
def growth_window(is_wanted: bool, title: str, output: Path) -> Iterator[Path | None]:
    """A window that shows a model while it grows, as long as the block lasts.

    Args:
        is_wanted: False opens none.
        title: of the window.
        output: folder of the results; mappings of many images write their snapshots there.

    Yields:
        The folder for the models that grow; None without a window.
    """
    window = open_live_window(title) if is_wanted else None
    if window is None:
        yield None
        return
    from sfm_lightglue.viewer.growth import GrowthView

    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_growth_", ignore_cleanup_errors=True) as folder:
        view = GrowthView(window, [Path(folder), output / SNAPSHOTS_FOLDER])
        try:
            yield Path(folder)
        finally:
            view.close()
