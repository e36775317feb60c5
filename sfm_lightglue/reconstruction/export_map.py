"""Export a finished model, of this library or another one, to the format of another program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.exports.base import ExportScene, read_scene_of
from sfm_lightglue.exports.plan import ExportPlan, plan_export
from sfm_lightglue.exports.run import ExportSummary, write_export
from sfm_lightglue.exports.times import read_times
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.registry.builtin import EXPORTERS
from sfm_lightglue.store.publication import GEOREGISTRATION_NAME

_MAX_BYTES = 10**8


def export_map(
    path: Path | str,
    format: str,
    output: Path | str,
    *,
    images: Path | str | None = None,
    undistort: bool = False,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> ExportSummary:
    """Write a model in the format of another program.

    Args:
        path: an output folder, a scene folder that has one, or a COLMAP model.
        format: name of the format, such as "nerfstudio", "splatting", "bundler" or "ply".
        output: file, or folder if the format is a folder or images are undistorted.
        images: folder that the names of the images are relative to; None looks beside the model.
        undistort: write undistorted images too, and the cameras of these; the output is a folder then.
        overwrite: replace an earlier export.
        options: of the format, by name.
        progress: called with the stage "images" after each image that is written.

    Returns:
        What was written.

    Raises:
        ConfigError: if the format or an option is unknown, the output exists, or a camera cannot be expressed.
        DataError: if there is no model, images are missing, or the model lacks what the format needs.
        StoreError: if the output cannot be written.

    Example:
        >>> sfm_lightglue.export_map("photos", "ply", "cloud.ply").num_images
        4
    """
    exporter = EXPORTERS.build(EXPORTERS.choose(format, options))
    scene = _scene_of(path, images)
    return write_export(
        scene, exporter, format, Path(output), undistort=undistort, overwrite=overwrite, progress=progress
    )


def plan_export_of_map(
    path: Path | str,
    format: str,
    output: Path | str,
    *,
    images: Path | str | None = None,
    undistort: bool = False,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
) -> ExportPlan:
    """What `export_map` would write; nothing is written. The arguments and errors are those of `export_map`."""
    exporter = EXPORTERS.build(EXPORTERS.choose(format, options))
    scene = _scene_of(path, images)
    return plan_export(scene, exporter, format, Path(output), undistort=undistort, overwrite=overwrite)


def _scene_of(path: Path | str, images: Path | str | None) -> ExportScene:
    location = find_map(Path(path), Path(images) if images is not None else None)
    return replace(
        read_scene_of(read_model(location.model)),
        image_folder=location.images,
        georegistration=_georegistration(location.model / GEOREGISTRATION_NAME),
        times_s=read_times(location.images),
    )


def _georegistration(path: Path) -> Mapping[str, Any] | None:
    """The transform of a model into metres; None if there is none."""
    if not path.is_file():
        return None
    try:
        found = json.loads(read_input_file(path, _MAX_BYTES))
        origin = found["origin"]
        if origin is not None:
            _ = [float(origin[key]) for key in ("latitude_deg", "longitude_deg", "altitude_m")]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{shown_path(path)}: not the georegistration of a model ({error})") from error
    return found if isinstance(found, dict) else None
