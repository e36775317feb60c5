"""The files of a localization: JSON lines, poses for hloc's evaluation, a COLMAP text model, and the record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.localization.result import Localization
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.store.atomic_file import atomic_write, store_errors
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import read_record
from sfm_lightglue.types import Camera
from sfm_lightglue.version import __version__

POSES_NAME, RESULTS_NAME, RECORD_NAME = "poses.txt", "results.jsonl", "run.json"
MODEL_FOLDER = "sparse"
_OTHER_MODEL = "model_"
_NAME_OF_OTHER_MODEL = re.compile(f"{_OTHER_MODEL}[0-9]+")
JOB = "localize"


def require_output(folder: Path) -> None:
    """Check that a folder may get results: it has neither a map nor other files of these names.

    Raises:
        ConfigError: if it has.
    """
    if _has_results(folder):
        return
    taken = [name for name in (RECORD_NAME, POSES_NAME, RESULTS_NAME, MODEL_FOLDER) if (folder / name).exists()]
    taken += [path.name for path in _folders_of_models(folder)]
    if taken:
        raise ConfigError(f"`output` {shown_path(folder)}: has another {taken[0]} already; choose another folder")


def write_localizations(
    folder: Path, results: Sequence[Localization], config: Mapping[str, Any], model: str = "sparse/0"
) -> None:
    """Write all results into a folder, which is made if it is missing; earlier results are replaced.

    `poses.txt` has "name qw qx qy qz tx ty tz" of `cam_from_world` on each line, for hloc's evaluation. `sparse/` is a
    COLMAP model in text files with the registered images, without points. Both are in the frame of one model of the
    map. Images that were found in another model N are in `model_N/poses.txt` and `model_N/sparse/`.

    Args:
        folder: of the results.
        results: in their order.
        config: the resolved configuration.
        model: of the map whose images are in the folder itself, named as in the results.

    Raises:
        StoreError: if a file cannot be written.
    """
    registered = [one for one in results if one.cam_from_world is not None]
    earlier = []
    if _has_results(folder):
        earlier = [path for path in _folders_of_models(folder) if (path / POSES_NAME).is_file()]
    by_folder: dict[Path, list[Localization]] = {folder: [], **{path: [] for path in earlier}}
    for one in registered:
        is_other = one.model not in {"", model}
        by_folder.setdefault(folder / f"{_OTHER_MODEL}{Path(one.model).name}" if is_other else folder, []).append(one)
    for path, some in sorted(by_folder.items()):
        _write_poses(path, some)
    _write(folder / RESULTS_NAME, b"".join(json_bytes(one.as_dict()) + b"\n" for one in results))
    models = [one.model for one in registered]
    reasons = [one.reason for one in results if one.reason is not None]
    summary = {
        "num_queries": len(results),
        "num_registered": len(registered),
        "num_of_model": {model: models.count(model) for model in sorted({*models})},
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "seconds": round(sum(one.seconds for one in results), 3),
    }
    record = {"job": JOB, "versions": {"sfm_lightglue": __version__}, "config": dict(config), "summary": summary}
    _write(folder / RECORD_NAME, json_bytes(record, indent=2) + b"\n")


def _has_results(folder: Path) -> bool:
    """Whether a folder has the record of an earlier run, which may have written all files of its names."""
    record = read_record(folder)
    return isinstance(record, dict) and record.get("job") == JOB


def _folders_of_models(folder: Path) -> list[Path]:
    """The folders named as those of other models; the poses of an earlier run in them no longer hold."""
    return sorted(path for path in folder.glob(f"{_OTHER_MODEL}*") if _NAME_OF_OTHER_MODEL.fullmatch(path.name))


def _write_poses(folder: Path, registered: Sequence[Localization]) -> None:
    with store_errors(folder):
        (folder / MODEL_FOLDER).mkdir(parents=True, exist_ok=True)
    lines = [_pose_line(one.name, one.cam_from_world) for one in registered if one.cam_from_world is not None]
    _write(folder / POSES_NAME, "".join(lines).encode("utf-8", "surrogateescape"))
    with store_errors(folder / MODEL_FOLDER):
        _model(registered).write_text(folder / MODEL_FOLDER)


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)


def _pose_line(name: str, pose: Rigid3) -> str:
    x, y, z, w = pycolmap.Rotation3d(pose.R).quat
    return " ".join([name, *(repr(float(value)) for value in (w, x, y, z, *pose.t))]) + "\n"


def _model(registered: Sequence[Localization]) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    id_from_camera: dict[Camera, int] = {}
    for image_id, one in enumerate(registered, start=1):
        assert one.camera is not None and one.cam_from_world is not None
        if one.camera not in id_from_camera:
            id_from_camera[one.camera] = len(id_from_camera) + 1
            model.add_camera_with_trivial_rig(as_pycolmap(one.camera, id_from_camera[one.camera]))
        image = pycolmap.Image(name=one.name, keypoints=np.zeros((0, 2)), image_id=image_id)
        image.camera_id = id_from_camera[one.camera]
        pose = np.column_stack([one.cam_from_world.R, one.cam_from_world.t])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    return model
