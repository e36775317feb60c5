"""Kapture, the text format of NAVER LABS: sensors, poses, image records, keypoints, points and observations.

A folder with `sensors/` (cameras with COLMAP's models and parameters, trajectories, records) and `reconstruction/`.
A pose is cam_from_world: quaternion (w, x, y, z) and translation. Pixels and camera axes are COLMAP's. The images are
in `sensors/records_data`, with their names.

Source: github.com/naver/kapture, kapture format specifications 1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.exports.base import IMAGES_FOLDER, ExportScene, Pictures, quaternion_wxyz
from sfm_lightglue.exports.text import numbers
from sfm_lightglue.types import Camera

_HEAD = "# kapture format: 1.1\n"

_KEYPOINTS = "keypoints"
"""Name of the type of the keypoints."""

_MODELS = frozenset(
    {
        "SIMPLE_PINHOLE",
        "PINHOLE",
        "SIMPLE_RADIAL",
        "RADIAL",
        "OPENCV",
        "OPENCV_FISHEYE",
        "FULL_OPENCV",
        "FOV",
        "SIMPLE_RADIAL_FISHEYE",
        "RADIAL_FISHEYE",
        "THIN_PRISM_FISHEYE",
    }
)
"""The camera models of COLMAP that Kapture has."""


@dataclass(frozen=True, slots=True)
class KaptureConfig:
    """Options of the export to Kapture."""


class KaptureExporter:
    """An `Exporter` to a folder in the Kapture format, with the images."""

    file_name = ""
    pictures: Pictures = "copied"

    def __init__(self, config: KaptureConfig | None = None) -> None:
        self.config = config or KaptureConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """The camera models of COLMAP up to version 3.8 can be expressed."""
        unknown = sorted({camera.model for camera in cameras} - _MODELS)
        return f"the camera model {unknown[0]}" if unknown else None

    def check(self, scene: ExportScene) -> None:
        """Find names that the format cannot express.

        Raises:
            DataError: if the name of an image has a comma or a line end, which separate values.
        """
        for image in scene.images:
            if "," in image.name or not image.name.isprintable() or image.name != image.name.strip():
                raise DataError(
                    f"image {image.name!r}: Kapture cannot express commas, line ends and outer spaces in names;"
                    " rename it"
                )

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the files, and move the images to `sensors/records_data`.

        Raises:
            DataError: if the name of an image has a comma or a line end, which separate values.
        """
        self.check(scene)
        sensors, reconstruction = target / "sensors", target / "reconstruction"
        sensors.mkdir()
        (target / IMAGES_FOLDER).rename(sensors / "records_data")
        _write_lines(sensors / "sensors.txt", "sensor_id, name, sensor_type, [sensor_params]+", _sensors(scene))
        _write_lines(
            sensors / "trajectories.txt", "timestamp, device_id, qw, qx, qy, qz, tx, ty, tz", _trajectories(scene)
        )
        records = [f"{idx}, {_device(image.camera_id)}, {image.name}" for idx, image in enumerate(scene.images)]
        _write_lines(sensors / "records_camera.txt", "timestamp, device_id, image_path", records)
        keypoints = reconstruction / "keypoints" / _KEYPOINTS
        _write_lines(keypoints / "keypoints.txt", "name, dtype, dsize", [f"{_KEYPOINTS}, float64, 2"])
        for image in scene.images:
            path = keypoints / f"{image.name}.kpt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.keypoints.astype("<f8").tobytes())
        points = scene.points
        rows = [
            ", ".join([*map(repr, xyz), *map(str, color)])
            for xyz, color in zip(points.xyz.tolist(), points.colors.tolist(), strict=True)
        ]
        _write_lines(reconstruction / "points3d.txt", "X, Y, Z, R, G, B", rows)
        head = "point3d_id, keypoints_type, [image_path, feature_id]*"
        _write_lines(reconstruction / "observations.txt", head, _observations(scene))


def _write_lines(path: Path, head: str, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join([_HEAD, f"# {head}\n", *(f"{line}\n" for line in lines)])
    path.write_text(text, encoding="utf-8", newline="\n")


def _device(camera_id: int) -> str:
    return f"camera_{camera_id}"


def _sensors(scene: ExportScene) -> list[str]:
    return [
        ", ".join([_device(camera_id), "", "camera", camera.model, *map(str, camera.size), *map(repr, camera.params)])
        for camera_id, camera in scene.cameras.items()
    ]


def _trajectories(scene: ExportScene) -> list[str]:
    return [
        f"{idx}, {_device(image.camera_id)}, "
        + numbers(*quaternion_wxyz(image.cam_from_world.R), *image.cam_from_world.t).replace(" ", ", ")
        for idx, image in enumerate(scene.images)
    ]


def _observations(scene: ExportScene) -> list[str]:
    lines = []
    for row in range(len(scene.points)):
        seen = (f"{scene.images[idx].name}, {at}" for idx, at in scene.points.observations(row))
        lines.append(", ".join([str(row), _KEYPOINTS, *seen]))
    return lines
