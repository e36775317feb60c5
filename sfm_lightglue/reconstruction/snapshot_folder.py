"""The folder of the snapshots of a mapping: outlives a killed run, and belongs to one run at a time."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.snapshots import MIN_IMAGES
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.sole_writer import sole_writer


@contextlib.contextmanager
def snapshot_folder(root: Path, key: str, num_images: int) -> Iterator[Path | None]:
    """The folder for the snapshots of a mapping; None while another run of the same mapping uses it.

    Scenes that are too small for snapshots have none.

    The folder is removed if the block ends without an error.

    Args:
        root: folder of the snapshots of all mappings.
        key: of the mapping.
        num_images: of the scene.

    Raises:
        StoreError: if the folder cannot be made.
    """
    if num_images < MIN_IMAGES:
        yield None
        return
    folder = root / key
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sole_writer(folder, waiting=False))
        except ConfigError:
            yield None
            return
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other mappings have snapshots there
        root.rmdir()


def new_folder(path: Path) -> Path:
    """Make a folder that does not exist yet, and return its path."""
    with store_errors(path):
        path.mkdir()
    return path
