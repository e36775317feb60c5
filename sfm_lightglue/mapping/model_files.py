"""Files of models: COLMAP's binary files and a PLY point cloud, also as arrays for the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.colmap.binary_model import read_binary_content, read_binary_images
from sfm_lightglue.colmap.model_check import check_content
from sfm_lightglue.colmap.model_content import ModelContent
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.colmap.written_model import difference_from_model, ply_difference
from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.messages import shown_path

PLY_NAME = "points.ply"

CLOUD_MODEL = "sparse/0"
"""The model whose points the point cloud has."""

MODEL_FOLDERS = ("sparse", "rejected")
"""Folders of published and of rejected models below an output folder."""

_FILE_NAMES = ("cameras", "images", "points3D", "rigs", "frames")

_NUM_TRIALS = 2


def pack_models(model_from_path: Mapping[str, pycolmap.Reconstruction], work: Path) -> dict[str, AnyArray]:
    """The files of models, and the point cloud of the largest, as arrays of bytes [size] uint8 by relative path.

    Each file is read back and compared with its model.

    Args:
        model_from_path: models by their path below the output folder; the point cloud is that of "sparse/0".
        work: an existing folder for intermediate files.

    Raises:
        StoreError: if the folder cannot be written, for example because the disk is full.
    """
    files: dict[str, AnyArray] = {}
    for name, model in model_from_path.items():
        for trial in range(_NUM_TRIALS):
            written = _write_model(model, work / name, name == CLOUD_MODEL)
            fault = _fault(written, model, work / name, name == CLOUD_MODEL)
            if fault is None:
                break
            if trial == _NUM_TRIALS - 1:
                raise StoreError(
                    f"{shown_path(work / name)}: the model was not written completely ({fault}); free space on the disk"
                    " and run the same command again: finished steps are not computed again"
                )
        for file, content in sorted(written.items()):
            files[file if file == PLY_NAME else f"{name}/{file}"] = np.frombuffer(content, np.uint8)
    return files


def _write_model(model: pycolmap.Reconstruction, folder: Path, with_cloud: bool) -> dict[str, bytes]:
    """Write the files of a model, and its point cloud if wanted; returns what is in the folder then, by name."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        with quiet_log():
            model.write_binary(folder)
            if with_cloud:
                model.export_PLY(folder / PLY_NAME)
        return {path.name: path.read_bytes() for path in folder.iterdir()}
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: pycolmap on a file that it cannot open
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StoreError(f"{shown_path(folder)}: cannot be written ({reason})") from error


def _fault(written: Mapping[str, bytes], model: pycolmap.Reconstruction, folder: Path, with_cloud: bool) -> str | None:
    """What of a model was not written as it is, None if everything was."""
    try:
        content = read_binary_content(folder, written)
    except DataError as error:
        return str(error)
    fault = difference_from_model(content, model)
    return fault or (ply_difference(written.get(PLY_NAME, b""), content.points) if with_cloud else None)


def poses_of_packed(files: Mapping[str, AnyArray], path: str) -> dict[str, Float64Array]:
    """Rotation (w, x, y, z) and translation [7] of each image of a model, `cam_from_world`, by name.

    Args:
        files: as `pack_models` returns them.
        path: of the model.

    Raises:
        DataError: if a file is missing or damaged.
    """
    name = f"{path}/images.bin"
    if name not in files:
        raise DataError(f"{name}: the file is missing among those of the model that were kept")
    images = read_binary_images(Path(path), files[name].tobytes())
    return dict(zip(images.names, images.poses, strict=True))


def keypoints_of_packed(files: Mapping[str, AnyArray]) -> Iterator[tuple[str, Float64Array]]:
    """Name and pixels [N, 2] of all keypoints of each image of each model.

    Args:
        files: as `pack_models` returns them.
    """
    for name in sorted(files):
        if name.endswith("/images.bin"):
            images = read_binary_images(Path(name).parent, files[name].tobytes())
            yield from zip(images.names, np.split(images.xy, np.cumsum(images.num_points)[:-1]), strict=True)


def _written(files: Mapping[str, AnyArray], path: str) -> dict[str, bytes]:
    return {f"{name}.bin": files[f"{path}/{name}.bin"].tobytes() for name in _FILE_NAMES}


def check_packed_models(files: Mapping[str, AnyArray], paths: Sequence[str]) -> dict[str, ModelContent]:
    """Check files of models that were kept, and that they are those of the models at some paths and no others.

    Args:
        files: as `pack_models` returns them.
        paths: of the models.

    Returns:
        The content of each model by its path.

    Raises:
        DataError: if a file is missing, damaged or of no such model.
    """
    names = [f"{path}/{name}.bin" for path in paths for name in _FILE_NAMES]
    names += [PLY_NAME] if CLOUD_MODEL in paths else []
    different = sorted(files.keys() ^ set(names))
    if different:
        raise DataError(f"{different[0]}: missing, or of no model")
    if not all(array.dtype == np.uint8 and array.ndim == 1 for array in files.values()):
        raise DataError(f"{paths[0]}: no bytes of files")
    content_from_path = {}
    for path in paths:
        content = content_from_path[path] = read_binary_content(Path(path), _written(files, path))
        if path.startswith("sparse/"):  # a rejected model may have impossible values
            check_content(content, is_complete=True)
    if CLOUD_MODEL in paths:
        fault = ply_difference(files[PLY_NAME].tobytes(), content_from_path[CLOUD_MODEL].points)
        if fault is not None:
            raise DataError(f"{PLY_NAME}: {fault}")
    return content_from_path
