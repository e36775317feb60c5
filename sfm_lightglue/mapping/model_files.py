"""Files of models: COLMAP's binary files and a PLY point cloud, also as arrays for the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import StoreError

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
