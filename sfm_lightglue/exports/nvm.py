"""NVM, the N-view match file of VisualSFM, version 3.

A camera is a line: file name, focal length in pixels, quaternion (w, x, y, z) of cam_from_world, camera centre, radial
distortion, 0. Camera axes: x right, y down, z forward, as ours. A measurement is the image, the feature, and (x, y)
from the centre of the image, x right and y down. Its distortion turns measured into ideal points, so it cannot express
COLMAP's, which go the other way. A space in a file name is written as a quotation mark, as VisualSFM does.

Source: Wu, VisualSFM documentation, section on the NVM format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.exports.base import ExportScene, Pictures, PosedImage, quaternion_wxyz
from sfm_lightglue.exports.lens import LensLimits
from sfm_lightglue.exports.text import numbers
from sfm_lightglue.types import Camera

_MAGIC = "NVM_V3"


@dataclass(frozen=True, slots=True)
class NvmConfig:
    """Options of the export to NVM."""


class NvmExporter:
    """An `Exporter` to VisualSFM's NVM."""

    file_name = "model.nvm"
    pictures: Pictures = "none"

    def __init__(self, config: NvmConfig | None = None) -> None:
        self.config = config or NvmConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """Only centred pinholes with one focal length can be expressed."""
        return LensLimits(("perspective",), {"perspective": 0}).problem(cameras)

    def check(self, scene: ExportScene) -> None:
        """Find names that the format cannot express.

        Raises:
            DataError: if the name of an image has a quotation mark or a line end.
        """
        for image in scene.images:
            if '"' in image.name or not image.name.isprintable():
                raise DataError(
                    f"image {image.name!r}: NVM cannot express quotation marks and line ends in names; rename it"
                )

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return head.startswith(_MAGIC.encode())

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write cameras, points and measurements.

        Raises:
            DataError: if the name of an image has characters that the format cannot express.
        """
        self.check(scene)
        lines = [_MAGIC, "", str(len(scene.images)), *map(_camera_line, scene.images), ""]
        lines += [str(len(scene.points)), *_point_lines(scene), "", "0", ""]
        target.write_text("\n".join(lines), encoding="utf-8", newline="\n")


def _camera_line(image: PosedImage) -> str:
    pose = image.cam_from_world
    name = image.name.replace(" ", '"')
    return f"{name} {numbers(image.camera.params[0], *quaternion_wxyz(pose.R), *pose.center)} 0 0"


def _point_lines(scene: ExportScene) -> Iterator[str]:
    points, images = scene.points, scene.images
    for row, (xyz, color) in enumerate(zip(points.xyz.tolist(), points.colors.tolist(), strict=True)):
        views = []
        for image_idx, at in points.observations(row):
            image = images[image_idx]
            x, y = image.keypoints[at] - (image.camera.width / 2, image.camera.height / 2)
            views.append(f"{image_idx} {image.keypoint_idxs[at]} {numbers(x, y)}")
        yield " ".join([numbers(*xyz), *map(str, color), str(len(views)), *views])
