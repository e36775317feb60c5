"""Snapshots of a long mapping: a mapping that was killed goes on from the last ones.

A snapshot is a model of the images that were registered so far. Snapshots of the model that grows lie in a folder
`current`; when the mapper starts another model, the last one is moved to a folder `model-NUMBER`. Another run of the
same mapping that ends removes all of them: then this one begins new ones.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.colmap.model_check import checked_content
from sfm_lightglue.errors import DataError
from sfm_lightglue.store.atomic_file import store_errors

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)

MIN_IMAGES = 100
"""Number of images of a scene from which snapshots are written."""

_MIN_INTERVAL, _NUM_SNAPSHOTS = 25, 20
"""Fewest images between two snapshots, and the number of snapshots of a scene with many images."""

_NUM_SHOWN = 50
"""Number of snapshots of a scene that are written for a viewer."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of one run of the incremental mapper.

    Args:
        folder: of these snapshots only; it may not exist.
        interval: number of images between two snapshots.
    """

    folder: Path
    interval: int

    @classmethod
    def of_run(cls, folder: Path | None, num_images: int, is_watched: bool = False) -> Snapshots | None:
        """Snapshots for a scene; None without a folder, or if mapping is quick.

        Args:
            folder: of the snapshots of this run.
            num_images: of the scene.
            is_watched: whether a viewer shows them; then there are more.
        """
        if folder is None or num_images < MIN_IMAGES:
            return None
        interval = max(_MIN_INTERVAL, num_images // _NUM_SNAPSHOTS)
        return cls(folder, min(interval, _shown_interval(num_images)) if is_watched else interval)

    @classmethod
    def for_viewer(cls, folder: Path | None, num_images: int) -> Snapshots | None:
        """Snapshots that show how a model grows, of scenes that have no others; None without a folder.

        Args:
            folder: an existing one, in which each run of a mapper gets its own.
            num_images: of the scene.

        Raises:
            StoreError: if the folder cannot be written.
        """
        if folder is None:
            return None
        with store_errors(folder):
            return cls(Path(tempfile.mkdtemp(prefix="run-", dir=folder)), _shown_interval(num_images))

    @property
    def current(self) -> Path:
        """The folder in which COLMAP writes snapshots of the model that grows, each in a folder named by its time."""
        return self.folder / "current"

    def found(self) -> list[Path]:
        """The last complete snapshot of each model, in the order in which the models were started.

        Snapshots whose images are all in a later one are left out: a mapping that went on from them wrote it.
        """
        newest = self._newest()
        paths = sorted(self.folder.glob("model-*")) + ([newest] if newest is not None else [])
        contents = [(path, ids) for path in paths if (ids := _image_ids(path))]
        return [
            path
            for idx, (path, ids) in enumerate(contents)
            if not any(ids <= later for _, later in contents[idx + 1 :])
        ]

    def start(self) -> None:
        """Move the snapshots of an earlier run aside, and make the folder for those of this one.

        Raises:
            StoreError: if the folder cannot be written.
        """
        self._make_current()
        self.next_model()

    def next_model(self) -> None:
        """Keep the last snapshot: the next ones belong to another model."""
        newest = self._newest()
        if newest is not None:
            with store_errors(self.folder), contextlib.suppress(FileNotFoundError):  # another run has removed it
                newest.rename(self.folder / f"model-{len(list(self.folder.glob('model-*'))):04d}")
        self._remove(self._of_current())
        self._make_current()

    def prune(self) -> None:
        """Remove all but the last two snapshots of the model that grows; one of them may be incomplete."""
        self._remove(self._of_current()[:-2])
        self._make_current()

    def _make_current(self) -> None:
        """Make the folder in which COLMAP writes, which it does not make."""
        with store_errors(self.folder):
            self.current.mkdir(parents=True, exist_ok=True)

    def _of_current(self) -> list[Path]:
        """The snapshots of the model that grows, the last one at the end; none if another run has removed them."""
        try:
            return sorted(self.current.iterdir())
        except FileNotFoundError:
            return []

    def _newest(self) -> Path | None:
        return next((path for path in reversed(self._of_current()) if _image_ids(path)), None)

    @staticmethod
    def _remove(paths: list[Path]) -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)


def show_mapped(models: Sequence[pycolmap.Reconstruction], folder: Path | None) -> None:
    """Write the first model of a finished mapping for a viewer: it may have got images since the last snapshot.

    Args:
        models: the one with most images first.
        folder: an existing one that the viewer watches; None without a viewer.

    Raises:
        StoreError: if the folder cannot be written.
    """
    if folder is None or len(models) == 0:
        return
    with store_errors(folder):
        models[0].write(tempfile.mkdtemp(prefix="mapped-", dir=folder))


def tell_that_nothing_grows(folder: Path | None, name: str) -> None:
    """Tell who watches a mapping that this mapper shows its model at the end only.

    Args:
        folder: that a viewer watches; None without a viewer.
        name: of the mapper.
    """
    if folder is not None:
        logger.warning(
            "`mapping.name` %s gives no models that grow: the window shows the model when it is mapped", name
        )


def _shown_interval(num_images: int) -> int:
    return max(1, num_images // _NUM_SHOWN)


def _image_ids(path: Path) -> frozenset[int]:
    """Identifiers of the images of a snapshot; empty if it is incomplete."""
    try:
        return frozenset(checked_content(path).images.ids.tolist())
    except DataError:
        return frozenset()
