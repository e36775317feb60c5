"""OpenMVG's `sfm_data.json`: views, intrinsics, poses (rotation of cam_from_world and camera centre) and landmarks.

Camera axes are ours. OpenMVG has the centre of the first pixel at (0, 0): it samples images at whole numbers. So
principal points and observations are half a pixel smaller than COLMAP's. Cameras: `pinhole`, `pinhole_radial_k1`,
`pinhole_radial_k3`, `pinhole_brown_t2` (k1, k2, k3, then t1, t2, which are p1 and p2 of OpenCV) and `fisheye` (k1 to
k4 of OpenCV's fisheye), each with one focal length.

Source: openmvg.readthedocs.io, SfM_data format, and its classes of cameras.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sfm_lightglue.exports.base import ExportScene, Pictures, PosedImage
from sfm_lightglue.exports.lens import Lens, LensLimits, lens_of
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.types import Camera

_SFM_DATA_FORMAT = "0.3"

_NEW = 1 << 31
"""Bit of cereal's archives that marks the first use of a number of a type or a pointer."""

_PLAIN_VIEW = 1 << 30
"""Number of the type of views that are no subclass."""

_FIRST_PIXEL = 0.5
"""The centre of the first pixel in COLMAP's convention, which is 0 in OpenMVG's."""


@dataclass(frozen=True, slots=True)
class OpenMvgConfig:
    """Options of the export to OpenMVG."""


class OpenMvgExporter:
    """An `Exporter` to OpenMVG's `sfm_data.json`."""

    file_name = "sfm_data.json"
    pictures: Pictures = "none"

    def __init__(self, config: OpenMvgConfig | None = None) -> None:
        self.config = config or OpenMvgConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """Cameras with one focal length and three radial coefficients, or four of a fisheye, can be expressed."""
        limits = LensLimits(
            ("perspective", "fisheye"), {"perspective": 3, "fisheye": 4}, tangential=True, principal_point=True
        )
        return limits.problem(cameras)

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return re.match(rb'\{\s*"sfm_data_version"', head) is not None

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the file."""
        cameras = scene.cameras
        index_from_id = {camera_id: index for index, camera_id in enumerate(cameras)}
        pointers = iter(range(1, len(scene.images) + len(cameras) + 1))
        views = [
            _view(idx, image, index_from_id[image.camera_id], next(pointers)) for idx, image in enumerate(scene.images)
        ]
        types: dict[str, int] = {}
        intrinsics = [
            {"key": index_from_id[camera_id], "value": _intrinsic(camera, types, next(pointers))}
            for camera_id, camera in cameras.items()
        ]
        folder = "" if scene.image_folder is None else scene.image_folder.absolute().as_posix()
        values = {
            "sfm_data_version": _SFM_DATA_FORMAT,
            "root_path": folder,
            "views": views,
            "intrinsics": intrinsics,
            "extrinsics": [
                {
                    "key": idx,
                    "value": {
                        "rotation": image.cam_from_world.R.tolist(),
                        "center": image.cam_from_world.center.tolist(),
                    },
                }
                for idx, image in enumerate(scene.images)
            ],
            "structure": [_landmark(scene, row) for row in range(len(scene.points))],
            "control_points": [],
        }
        target.write_bytes(json_bytes(values, indent=1) + b"\n")


def _view(idx: int, image: PosedImage, intrinsic: int, pointer: int) -> dict[str, Any]:
    path = PurePosixPath(image.name)
    data = {
        "local_path": "" if path.parent == PurePosixPath(".") else path.parent.as_posix(),
        "filename": path.name,
        "width": image.camera.width,
        "height": image.camera.height,
        "id_view": idx,
        "id_intrinsic": intrinsic,
        "id_pose": idx,
    }
    return {
        "key": idx,
        "value": {"polymorphic_id": _PLAIN_VIEW, "ptr_wrapper": {"id": pointer | _NEW, "data": data}},
    }


def _intrinsic(camera: Camera, types: dict[str, int], pointer: int) -> dict[str, Any]:
    lens = lens_of(camera)
    assert lens is not None  # `problem` has looked at it
    name, data = _type_and_data(lens)
    is_new = name not in types
    number = types.setdefault(name, len(types) + 1)
    typed = {"polymorphic_id": number | _NEW, "polymorphic_name": name} if is_new else {"polymorphic_id": number}
    return {**typed, "ptr_wrapper": {"id": pointer | _NEW, "data": data}}


def _type_and_data(lens: Lens) -> tuple[str, dict[str, Any]]:
    base = {
        "width": lens.size[0],
        "height": lens.size[1],
        "focal_length": lens.focal[0],
        "principal_point": [value - _FIRST_PIXEL for value in lens.center],
    }
    # The two last classes write their base class as an object of its own.
    if lens.family == "fisheye":
        return "fisheye", {"value0": base, "fisheye": list(lens.k[:4])}
    if lens.is_tangential:
        return "pinhole_brown_t2", {"value0": base, "disto_t2": [*lens.k[:3], *lens.p]}
    if lens.num_radial == 0:
        return "pinhole", base
    if lens.num_radial == 1:
        return "pinhole_radial_k1", base | {"disto_k1": [lens.k[0]]}
    return "pinhole_radial_k3", base | {"disto_k3": list(lens.k[:3])}


def _landmark(scene: ExportScene, row: int) -> dict[str, Any]:
    observations = []
    for image_idx, at in scene.points.observations(row):
        image = scene.images[image_idx]
        seen = {"id_feat": int(image.keypoint_idxs[at]), "x": (image.keypoints[at] - _FIRST_PIXEL).tolist()}
        observations.append({"key": image_idx, "value": seen})
    return {"key": row, "value": {"X": scene.points.xyz[row].tolist(), "observations": observations}}
