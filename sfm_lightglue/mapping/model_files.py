"""Files of models: COLMAP's binary files and a PLY point cloud, also as arrays for the store."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.output_folder import RESULTS_MARKER
from sfm_lightglue.store.store import atomic_write

PLY_NAME = "points.ply"


def pack_models(models: Sequence[pycolmap.Reconstruction], work: Path) -> dict[str, AnyArray]:
    """The files of models, and the point cloud of the first, as arrays of bytes [size] uint8 by relative path.

    Args:
        models: the largest first.
        work: an existing folder for intermediate files.

    Raises:
        StoreError: if the folder cannot be written.
    """
    files: dict[str, AnyArray] = {}
    try:
        for index, model in enumerate(models):
            folder = work / "sparse" / str(index)
            folder.mkdir(parents=True)
            model.write_binary(folder)
            for path in sorted(folder.iterdir()):
                files[f"sparse/{index}/{path.name}"] = np.fromfile(path, dtype=np.uint8)
        if models:
            models[0].export_PLY(work / PLY_NAME)
            files[PLY_NAME] = np.fromfile(work / PLY_NAME, dtype=np.uint8)
    except (OSError, RuntimeError) as error:
        raise StoreError(f"{work}: cannot be written ({error})") from error
    return files


def write_packed_models(files: Mapping[str, AnyArray], output: Path) -> None:
    """Write the files of `pack_models` below a folder, and remove all other models of an earlier run.

    Files that already have the same bytes are not written.

    Raises:
        StoreError: if the folder cannot be written.
    """
    for name, array in files.items():
        path = output / name
        content = array.tobytes()
        with contextlib.suppress(OSError):
            if path.read_bytes() == content:
                continue
        with atomic_write(path) as file:
            file.write(content)
    kept = {output / name for name in files}
    for folder in sorted((output / "sparse").glob("*")):
        if folder.is_dir() and re.fullmatch(r"\d+", folder.name):
            _remove_stale(folder, kept)


def remove_results(output: Path) -> None:
    """Remove models and record of an earlier run, so that they are not taken for the result of a run without a model.

    They remain in the store, under the key of everything that they depend on.

    Raises:
        StoreError: if they cannot be removed.
    """
    for name in (RESULTS_MARKER, PLY_NAME):
        try:
            (output / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{output / name}: cannot be removed ({error.strerror})") from error
    write_packed_models({}, output)


def _remove_stale(folder: Path, kept: set[Path]) -> None:
    """Remove files of an earlier run, which would form a wrong model together with the new files."""
    try:
        if not any(path.parent == folder for path in kept):
            shutil.rmtree(folder)
            return
        for path in folder.iterdir():
            if path not in kept and path.stem in {"cameras", "images", "points3D", "rigs", "frames"}:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: a model of an earlier run cannot be removed ({error.strerror})") from error
