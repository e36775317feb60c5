"""Find and read models that were written in COLMAP's format."""

from __future__ import annotations

from pathlib import Path

from pycolmap import Reconstruction

from sfm_lightglue.errors import DataError

__all__ = ["Reconstruction", "find_model_dir", "read_model"]

MODEL_FILES = ("cameras", "images", "points3D")

PLACES = (".", "sparse/0", "0", "reconstruction/sparse/0", "sparse")
"""Where below a folder its model may be: a model, our output, `sparse` itself, a scene, a flat `sparse`."""


def find_model_dir(path: Path) -> Path:
    """The folder of COLMAP files at or below a path.

    Args:
        path: a model, an output folder with `sparse/0`, or a scene folder with `reconstruction/sparse/0`.

    Raises:
        DataError: where there is no such folder, or no model in it.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    if not path.is_dir():
        raise DataError(f"{path}: this is a file; give the folder of the model (such as {path.parent})")
    for place in PLACES:
        if _is_model(path / place):
            return path / place
    raise DataError(
        f"{path}: no COLMAP model here (cameras, images and points3D as .bin or .txt), nor in its"
        f" {PLACES[1]} or {PLACES[3]}; for photos run `python -m pipelines.reconstruct {path}` first"
    )


def read_model(path: Path) -> Reconstruction:
    """Read the model at or below a path, as `find_model_dir` finds it.

    Raises:
        DataError: where there is none, or its files are damaged.
    """
    folder = find_model_dir(path)
    try:
        model = Reconstruction(folder)
    except Exception as error:  # pycolmap: IndexError, MemoryError, RuntimeError ... on damaged files
        raise DataError(f"{folder}: the model is damaged ({type(error).__name__}: {error})") from error
    for image_id in model.reg_image_ids():
        camera = model.cameras[model.images[image_id].camera_id]
        if not camera.verify_params() or camera.width == 0 or camera.height == 0:
            raise DataError(f"{folder}: the model is damaged (a camera of wrong parameters)")
    return model


def _is_model(folder: Path) -> bool:
    return any(all((folder / f"{name}{suffix}").is_file() for name in MODEL_FILES) for suffix in (".bin", ".txt"))
