"""nerfstudio's `transforms.json`, with `images/` and `points.ply`; instant-ngp reads it too.

`transform_matrix` is world_from_cam with OpenGL's camera axes: x right, y up, z backwards. The world is that of the
model, also for the points: nerfstudio turns both upright itself. Focal lengths and principal points are in pixels with
the centre of the first pixel at (0.5, 0.5), as ours. `camera_model` is OPENCV (k1, k2, k3, p1, p2) or OPENCV_FISHEYE
(k1 to k4), one for all images.

Source: docs.nerf.studio, Data conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.exports.base import IMAGES_FOLDER, ExportScene, Pictures, PosedImage
from sfm_lightglue.exports.lens import BROWN_AND_FISHEYE, Lens, lens_of
from sfm_lightglue.exports.ply import ply_bytes
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.types import Camera

TRANSFORMS_NAME = "transforms.json"
CLOUD_NAME = "points.ply"

_FLIPPED = np.array([1.0, -1.0, -1.0, 1.0])
"""Signs of the columns of world_from_cam: from axes y down, z forward to y up, z backwards."""


@dataclass(frozen=True, slots=True)
class NerfstudioConfig:
    """Options of the export to nerfstudio."""


class NerfstudioExporter:
    """An `Exporter` to a folder that nerfstudio reads."""

    file_name = ""
    pictures: Pictures = "copied"

    def __init__(self, config: NerfstudioConfig | None = None) -> None:
        self.config = config or NerfstudioConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """All but rational distortions, models of neither family, and a mixture of both families, can be expressed."""
        found = BROWN_AND_FISHEYE.problem(cameras)
        lenses = [lens for lens in map(lens_of, cameras) if lens is not None]
        if found is None and len({lens.family for lens in lenses}) > 1:
            return "perspective and fisheye cameras together"
        return found

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write `transforms.json` and `points.ply`; the images are in `images` already."""
        lens_from_id = {camera_id: lens_of(camera) for camera_id, camera in scene.cameras.items()}
        lenses = [lens for lens in lens_from_id.values() if lens is not None]
        is_fisheye = any(lens.family == "fisheye" for lens in lenses)
        shared = _intrinsics(lenses[0]) if len(lenses) == 1 else {}
        frames = []
        for image in scene.images:
            lens = lens_from_id[image.camera_id]
            assert lens is not None  # `problem` has looked at it
            frames.append(_frame(image) | ({} if shared else _intrinsics(lens)))
        values = {
            "camera_model": "OPENCV_FISHEYE" if is_fisheye else "OPENCV",
            **shared,
            "ply_file_path": CLOUD_NAME,
            "frames": frames,
        }
        (target / TRANSFORMS_NAME).write_bytes(json_bytes(values, indent=1) + b"\n")
        (target / CLOUD_NAME).write_bytes(ply_bytes(scene))


def _intrinsics(lens: Lens) -> dict[str, Any]:
    names = ("k1", "k2", "k3", "k4") if lens.family == "fisheye" else ("k1", "k2", "k3")
    values = {
        "w": lens.size[0],
        "h": lens.size[1],
        "fl_x": lens.focal[0],
        "fl_y": lens.focal[1],
        "cx": lens.center[0],
        "cy": lens.center[1],
        **dict(zip(names, lens.k, strict=False)),
    }
    if lens.family == "fisheye":
        return values | {"is_fisheye": True}  # instant-ngp reads it beside the coefficients, and no camera_model
    return values | {"p1": lens.p[0], "p2": lens.p[1]}


def _frame(image: PosedImage) -> dict[str, Any]:
    world_from_cam = image.cam_from_world.inverse().as_matrix() * _FLIPPED
    return {"file_path": f"{IMAGES_FOLDER}/{image.name}", "transform_matrix": world_from_cam.tolist()}
