"""Locate a reconstruction, and read models in COLMAP's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycolmap import Reconstruction, Rigid3d, Rotation3d

from sfm_lightglue.colmap.model_check import MODEL_FILES, checked_content
from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.output_folder import is_results_folder, read_record
from sfm_lightglue.store.publication import complete_publication, reading_results

__all__ = ["MapLocation", "Reconstruction", "find_map", "model_folder_at", "read_model"]

OUTPUT_FOLDER = "reconstruction"
"""Name of the output folder in a scene folder."""

TRACKING_FOLDER = "tracking"
"""Name of the output folder of visual SLAM in a folder of frames."""

MODEL_PATHS = (".", "sparse/0", "0", f"{OUTPUT_FOLDER}/sparse/0", f"{TRACKING_FOLDER}/sparse/0", "sparse")
"""Paths of a model below MAP if MAP is the model, an output folder, its `sparse`, a scene folder, or a workspace."""


@dataclass(frozen=True, slots=True)
class MapLocation:
    """The folders of a reconstruction.

    Args:
        model: with cameras, images and points3D as .bin or .txt.
        images: the folder that image names are relative to; None if it is not known.
        output: the output folder that the model belongs to, which also has the store of features and matches; None
            for a model of another program.
    """

    model: Path
    images: Path | None
    output: Path | None


def find_map(path: Path, images: Path | None = None) -> MapLocation:
    """Resolve the argument MAP of the commands.

    Args:
        path: an output folder, a scene folder that has one, or a COLMAP model.
        images: the folder of the images if the user gave one. If it is None, the images of a scene folder and of an
            output folder in it are located.

    Raises:
        DataError: if there is no such folder, no model in it, or no folder `images`.
        StoreError: if a run was killed while it published a model there, and the folder is not writable now.
    """
    path = Path(path)
    shown = shown_path(path)
    try:
        if not path.exists():
            raise DataError(f"{shown}: no such folder")
        if not path.is_dir():
            raise DataError(
                f"{shown}: this is a file; give the folder of the model (such as {shown_path(path.parent)})"
            )
        next(path.iterdir(), None)
        for folder in (path, path / OUTPUT_FOLDER, path / TRACKING_FOLDER, *path.resolve().parents[:2]):
            complete_publication(folder)
        model = model_folder_at(path, MODEL_PATHS)
    except OSError as error:
        raise DataError(f"{shown}: cannot be read ({error.strerror or error})") from error
    if model is None:
        raise DataError(
            f"{shown}: no COLMAP model here (cameras, images and points3D as .bin or .txt), nor in"
            f" {', '.join(MODEL_PATHS[1:])}; if this is a folder of images, reconstruct it first"
        )
    if images is not None and not Path(images).is_dir():
        raise DataError(f"{shown_path(images)}: no such folder of images")
    above = model.resolve().parents
    output = next((folder for folder in above[:2] if is_results_folder(folder)), None)
    found = Path(images) if images is not None else _recorded_images(output) or _images_of(path, model)
    return MapLocation(model, found, output)


def read_model(path: Path) -> Reconstruction:
    """Read the model at or below a path, as `find_map` locates it.

    Raises:
        DataError: if there is no model, or its files are damaged: all of them are checked before pycolmap reads them.
    """
    location = find_map(path)
    folder, model = location.model, Reconstruction()
    with reading_results(location.output):
        content = checked_content(folder)
        try:
            if content.suffix == ".bin":
                model.read_binary(folder)
            else:
                model.read_text(folder)
        except Exception as error:  # pycolmap: IndexError, MemoryError, ... on what the check did not find
            raise DataError(f"{shown_path(folder)}: the model is damaged ({type(error).__name__}: {error})") from error
    if not all(camera.verify_params() for camera in model.cameras.values()):
        raise DataError(f"{shown_path(folder)}: the model is damaged (a camera has invalid parameters)")
    _normalize_rotations(model)
    return model


def _normalize_rotations(model: Reconstruction) -> None:
    """Give rotations of text models with few digits the length 1; pycolmap takes them as they are."""
    for frame in model.frames.values():
        if frame.has_pose():
            frame.rig_from_world = _normalized(frame.rig_from_world)
    for rig in model.rigs.values():
        for sensor, pose in rig.non_ref_sensors.items():
            if pose is not None:
                rig.set_sensor_from_rig(sensor, _normalized(pose))


def _normalized(pose: Rigid3d) -> Rigid3d:
    quaternion = np.asarray(pose.rotation.quat)
    norm = float(np.linalg.norm(quaternion))
    return Rigid3d(Rotation3d(quaternion / norm), pose.translation) if abs(norm - 1) > 1e-12 else pose


def model_folder_at(path: Path, model_paths: Sequence[str], names: Sequence[str] = MODEL_FILES) -> Path | None:
    """The first folder that has the files of a model, binary or text; None if there is none.

    Args:
        path: folder that `model_paths` are relative to.
        model_paths: candidates, in order.
        names: of the required files, without suffix.

    Raises:
        DataError: if a folder cannot be read.
    """
    try:
        for folder in (path / each for each in model_paths):
            if any(all((folder / f"{name}{suffix}").is_file() for name in names) for suffix in (".bin", ".txt")):
                return folder
    except OSError as error:
        raise DataError(f"{shown_path(folder)}: cannot be read ({error.strerror or error})") from error
    return None


def _recorded_images(output: Path | None) -> Path | None:
    """The folder of images that the record of a run names, relative to its output folder; None if it names none."""
    record = None if output is None else read_record(output)
    recorded = record.get("images") if isinstance(record, dict) else None
    if output is None or not isinstance(recorded, str) or "\0" in recorded:
        return None
    return output / recorded if (output / recorded).is_dir() else None


def _images_of(path: Path, model: Path) -> Path | None:
    """The images of a scene folder: `images` in it, else the folder itself if it has an output folder."""
    output = model.resolve().parents[1]  # of sparse/0
    scene = output.parent if output.name == OUTPUT_FOLDER else path
    if (scene / "images").is_dir():
        return scene / "images"
    return scene if output.name == OUTPUT_FOLDER else None
