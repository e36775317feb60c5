"""Files of models: COLMAP's binary files and a PLY point cloud, also as arrays for the store."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import StoreError
from sfm_lightglue.store.store import atomic_write

PLY_NAME = "points.ply"


MODEL_FOLDERS = ("sparse", "rejected")
"""Folders of published and of rejected models below an output folder."""


def pack_models(model_from_path: Mapping[str, pycolmap.Reconstruction], work: Path) -> dict[str, AnyArray]:
    """The files of models, and the point cloud of the largest, as arrays of bytes [size] uint8 by relative path.

    Args:
        model_from_path: models by their path below the output folder; the point cloud is that of "sparse/0".
        work: an existing folder for intermediate files.

    Raises:
        StoreError: if the folder cannot be written.
    """
    files: dict[str, AnyArray] = {}
    try:
        for name, model in model_from_path.items():
            folder = work / name
            folder.mkdir(parents=True)
            model.write_binary(folder)
            for path in sorted(folder.iterdir()):
                files[f"{name}/{path.name}"] = np.fromfile(path, dtype=np.uint8)
        if "sparse/0" in model_from_path:
            model_from_path["sparse/0"].export_PLY(work / PLY_NAME)
            files[PLY_NAME] = np.fromfile(work / PLY_NAME, dtype=np.uint8)
    except (OSError, RuntimeError) as error:
        raise StoreError(f"{work}: cannot be written ({error})") from error
    return files


def write_packed_models(files: Mapping[str, AnyArray], output: Path) -> None:
    """Write the files of `pack_models` below a folder, and remove models and the cloud of an earlier run.

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
    if PLY_NAME not in files:
        _remove_cloud(output)
    kept = {output / name for name in files}
    for folder in sorted(folder for name in MODEL_FOLDERS for folder in (output / name).glob("*")):
        if folder.is_dir() and re.fullmatch(r"\d+", folder.name):
            _remove_stale(folder, kept)
    with contextlib.suppress(OSError):  # not empty, or not there
        (output / "rejected").rmdir()


def _remove_cloud(output: Path) -> None:
    try:
        (output / PLY_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{output / PLY_NAME}: cannot be removed ({error.strerror})") from error


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
