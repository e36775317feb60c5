"""OpenSfM's `reconstruction.json`: cameras, shots and points.

A shot has cam_from_world as an axis times an angle in radians, and a translation. Camera axes are ours. Cameras are in
normalised image coordinates: the origin is the centre of the image, and the longer side has the length 1; x right, y
down. Focal lengths and principal points are divided by the longer side. `perspective` has one focal length and k1, k2;
`brown` has focal_x, focal_y, c_x, c_y, k1, k2, k3, p1, p2; `fisheye_opencv` has k1 to k4 of OpenCV's fisheye.
Orientation 1 says that the pixels are used as they are stored. Observations are in OpenSfM's `tracks.csv`, which is not
written.

Source: opensfm.org/docs, sections Reconstruction file and Geometric models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm_lightglue.exports.base import ExportScene, Pictures, PosedImage, quaternion_wxyz
from sfm_lightglue.exports.lens import BROWN_AND_FISHEYE, Lens, lens_of
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class OpenSfmConfig:
    """Options of the export to OpenSfM."""


class OpenSfmExporter:
    """An `Exporter` to OpenSfM's `reconstruction.json`."""

    file_name = "reconstruction.json"
    pictures: Pictures = "none"

    def __init__(self, config: OpenSfmConfig | None = None) -> None:
        self.config = config or OpenSfmConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """All but rational distortions, and models of neither family, can be expressed."""
        return BROWN_AND_FISHEYE.problem(cameras)

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return re.match(rb'\[\s*\{\s*"cameras":\s*\{\s*"camera \d+"', head) is not None

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the file."""
        reference = {}
        if scene.origin is not None:
            reference["reference_lla"] = dict(zip(("latitude", "longitude", "altitude"), scene.origin, strict=True))
        values = [
            {
                "cameras": {_name(camera_id): _camera(camera) for camera_id, camera in scene.cameras.items()},
                "shots": {image.name: _shot(image) for image in scene.images},
                "points": {
                    str(point_id): {"coordinates": xyz, "color": [float(value) for value in color]}
                    for point_id, xyz, color in zip(
                        scene.points.ids, scene.points.xyz.tolist(), scene.points.colors.tolist(), strict=True
                    )
                },
                **reference,
            }
        ]
        target.write_bytes(json_bytes(values, indent=1) + b"\n")


def _name(camera_id: int) -> str:
    return f"camera {camera_id}"


def _camera(camera: Camera) -> dict[str, Any]:
    lens = lens_of(camera)
    assert lens is not None  # `problem` has looked at it
    longer = max(lens.size)
    head = {"width": lens.size[0], "height": lens.size[1]}
    (fx, fy), (k1, k2, k3, k4) = (value / longer for value in lens.focal), lens.k[:4]
    if lens.family == "perspective" and lens.num_radial <= 2 and _is_simple(lens):
        return {"projection_type": "perspective", **head, "focal": fx, "k1": k1, "k2": k2}
    c_x, c_y = ((value - side / 2) / longer for value, side in zip(lens.center, lens.size, strict=True))
    plane = {"focal_x": fx, "focal_y": fy, "c_x": c_x, "c_y": c_y, "k1": k1, "k2": k2, "k3": k3}
    if lens.family == "fisheye":
        return {"projection_type": "fisheye_opencv", **head, **plane, "k4": k4}
    return {"projection_type": "brown", **head, **plane, "p1": lens.p[0], "p2": lens.p[1]}


def _is_simple(lens: Lens) -> bool:
    return lens.has_one_focal_length and lens.is_centered and not lens.is_tangential


def _shot(image: PosedImage) -> dict[str, Any]:
    w, *vector = quaternion_wxyz(image.cam_from_world.R)
    sine = math.hypot(*vector)
    factor = 2 * math.atan2(sine, w) / sine if sine > 0 else 2.0
    return {
        "rotation": [factor * value for value in vector],
        "translation": image.cam_from_world.t.tolist(),
        "camera": _name(image.camera_id),
        "orientation": 1,
        "capture_time": 0.0,
        "scale": 1.0,
    }
