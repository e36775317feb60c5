"""Rigs of cameras with known poses, from COLMAP's `rig_config.json`, in a database.

The file has a list of rigs, each with a list `cameras`. A camera has an `image_prefix`, the part of the names of its
images before the part that the images of one moment share. One camera has `"ref_sensor": true`; the others have
`cam_from_rig_rotation` (quaternion w, x, y, z) and `cam_from_rig_translation`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.types import SceneImage

_MAX_BYTES = 10_000_000

_NUM_VALUES = {"cam_from_rig_rotation": 4, "cam_from_rig_translation": 3}


@dataclass(frozen=True, slots=True)
class RigCamera:
    """A camera of a rig.

    Args:
        prefix: of the names of its images.
        rotation: `cam_from_rig` as a quaternion (w, x, y, z) of length 1; None for the reference.
        translation: of `cam_from_rig`; None for the reference.
    """

    prefix: str
    rotation: tuple[float, ...] | None
    translation: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Rigs:
    """Rigs of cameras; plain values, which can be part of a key.

    Args:
        rigs: the cameras of each rig.
    """

    rigs: tuple[tuple[RigCamera, ...], ...]

    def check(self, images: Sequence[SceneImage], path: Path) -> None:
        """Raise if the rigs do not fit a scene.

        Args:
            images: of the scene.
            path: of the file, for messages.

        Raises:
            DataError: if a prefix is that of no image, no two images belong to one moment, or the cameras of the scene
                are not those of the rigs.
        """
        shown = shown_path(path)
        idxs_from_prefix: dict[str, set[int]] = {}
        for rig in self.rigs:
            moments: Counter[str] = Counter()
            for camera in rig:
                own = [image for image in images if image.name.startswith(camera.prefix)]
                if not own:
                    raise DataError(f"{shown}: no image has the prefix {camera.prefix!r}")
                idxs_from_prefix[camera.prefix] = {image.camera_idx for image in own}
                moments.update(image.name.removeprefix(camera.prefix) for image in own)
            if max(moments.values()) < 2:
                prefixes = ", ".join(repr(camera.prefix) for camera in rig)
                raise DataError(
                    f"{shown}: no two images have the same name after {prefixes}, so none were taken together"
                )
        uses = Counter(idx for idxs in idxs_from_prefix.values() for idx in idxs)
        for prefix, idxs in idxs_from_prefix.items():
            if len(idxs) > 1 or any(uses[idx] > 1 for idx in idxs):
                raise DataError(
                    f"{shown}: the images with the prefix {prefix!r} need one camera, which no other images have: put"
                    " them into a folder and set `cameras.mode` per-folder"
                )

    def apply(self, database: Path) -> None:
        """Replace the rigs and frames of a database.

        Args:
            database: with the images; changed in place.

        Raises:
            DataError: if the database has no image of a camera: none of them could be read.
            StoreError: if it cannot be written.
        """
        configs = [_native(rig) for rig in self.rigs]
        try:
            with quiet_log(), pycolmap.Database.open(database) as opened:
                names = [image.name for image in opened.read_all_images()]
                for camera in chain.from_iterable(self.rigs):
                    if not any(name.startswith(camera.prefix) for name in names):
                        raise DataError(
                            f"`rig_file`: none of the images with the prefix {camera.prefix!r} could be read: repair"
                            " them, or leave their camera out of the rig"
                        )
                pycolmap.apply_rig_config(configs, opened)
        except (RuntimeError, ValueError) as error:
            raise StoreError(f"{shown_path(database)}: the rigs cannot be written ({error})") from error


def read_rigs(path: Path) -> Rigs:
    """Read COLMAP's `rig_config.json`.

    Raises:
        DataError: if the file cannot be read, or a rig is incomplete.
    """
    shown = shown_path(path)
    try:
        values = json.loads(read_input_file(path, _MAX_BYTES, DataError).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown}: not a JSON file ({error})") from error
    if not isinstance(values, list) or not values:
        raise DataError(f"{shown}: expected a list of rigs, each with a list `cameras`")
    rigs = tuple(_rig(value, f"{shown}: rig {number}") for number, value in enumerate(values, 1))
    prefixes = [camera.prefix for rig in rigs for camera in rig]
    for prefix in prefixes:
        if sum(other.startswith(prefix) for other in prefixes) > 1:
            raise DataError(f"{shown}: the prefix {prefix!r} is also that of images of another camera")
    return Rigs(rigs)


def _rig(value: Any, where: str) -> tuple[RigCamera, ...]:
    cameras = value.get("cameras") if isinstance(value, Mapping) else None
    if not isinstance(cameras, list) or len(cameras) < 2:
        raise DataError(f"{where}: expected a list `cameras` of two or more")
    references = [isinstance(camera, Mapping) and camera.get("ref_sensor") is True for camera in cameras]
    if sum(references) != 1:
        raise DataError(f'{where}: exactly one camera must have "ref_sensor": true, got {sum(references)}')
    return tuple(
        _camera(camera, is_reference, f"{where}, camera {number}")
        for number, (camera, is_reference) in enumerate(zip(cameras, references, strict=True), 1)
    )


def _camera(value: Any, is_reference: bool, where: str) -> RigCamera:
    prefix = value.get("image_prefix") if isinstance(value, Mapping) else None
    if not isinstance(prefix, str) or not prefix:
        raise DataError(f"{where}: expected the start of the names of its images as `image_prefix`")
    if is_reference:
        return RigCamera(prefix, None, None)
    found = {}
    for key, num in _NUM_VALUES.items():
        numbers = value.get(key)
        is_valid = isinstance(numbers, list) and len(numbers) == num
        if not is_valid or not all(isinstance(each, (int, float)) and np.isfinite(each) for each in numbers):
            raise DataError(f"{where}: expected `{key}`, {num} numbers: the pose in the rig must be known")
        found[key] = tuple(float(each) for each in numbers)
    length = float(np.linalg.norm(found["cam_from_rig_rotation"]))
    if abs(length - 1) > 0.01:
        raise DataError(f"{where}: `cam_from_rig_rotation` is not a quaternion of length 1")
    rotation = tuple(each / length for each in found["cam_from_rig_rotation"])
    return RigCamera(prefix, rotation, found["cam_from_rig_translation"])


def _native(rig: Sequence[RigCamera]) -> pycolmap.RigConfig:
    cameras = []
    for camera in rig:
        native = pycolmap.RigConfigCamera(image_prefix=camera.prefix, ref_sensor=camera.rotation is None)
        if camera.rotation is not None and camera.translation is not None:
            w, x, y, z = camera.rotation
            rotation = pycolmap.Rotation3d(np.array([x, y, z, w]))
            native.cam_from_rig = pycolmap.Rigid3d(rotation, np.array(camera.translation))
        cameras.append(native)
    return pycolmap.RigConfig(cameras=cameras)
