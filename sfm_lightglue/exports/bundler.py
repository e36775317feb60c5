"""Bundler's `bundle.out` with `list.txt`, version 0.3.

A camera: f, k1, k2; then R and t of cam_from_world, with camera axes x right, y up, z backwards: the camera looks down
the negative z axis. The projection is p = -P / P.z, p' = f (1 + k1 |p|² + k2 |p|⁴) p, with the origin at the centre of
the image, x right and y up. The coefficients are those of COLMAP's SIMPLE_RADIAL and RADIAL. A view of a point: image,
keypoint, x, y. `list.txt` has the name of an image on each line, in the order of the cameras.

Source: Snavely, Bundler v0.3 User's Manual, section VI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.exports.base import ExportScene, Pictures, PosedImage
from sfm_lightglue.exports.lens import LensLimits, lens_of
from sfm_lightglue.exports.text import numbers
from sfm_lightglue.types import Camera

BUNDLE_NAME, LIST_NAME = "bundle.out", "list.txt"

_HEAD = "# Bundle file v0.3"

_FLIPPED = np.diag([1.0, -1.0, -1.0])
"""From camera axes y down, z forward to y up, z backwards."""


@dataclass(frozen=True, slots=True)
class BundlerConfig:
    """Options of the export to Bundler."""


class BundlerExporter:
    """An `Exporter` to a folder with `bundle.out` and `list.txt`."""

    file_name = ""
    pictures: Pictures = "none"

    def __init__(self, config: BundlerConfig | None = None) -> None:
        self.config = config or BundlerConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """Centred cameras with one focal length and two radial coefficients can be expressed."""
        return LensLimits(("perspective",), {"perspective": 2}).problem(cameras)

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write both files."""
        lines = [_HEAD, f"{len(scene.images)} {len(scene.points)}"]
        for image in scene.images:
            lines += _camera_lines(image)
        lines += _point_lines(scene)
        (target / BUNDLE_NAME).write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
        names = "".join(f"{image.name}\n" for image in scene.images)
        (target / LIST_NAME).write_text(names, encoding="utf-8", newline="\n")


def _camera_lines(image: PosedImage) -> list[str]:
    lens = lens_of(image.camera)
    assert lens is not None  # `problem` has looked at it
    R, t = _FLIPPED @ image.cam_from_world.R, _FLIPPED @ image.cam_from_world.t
    return [numbers(lens.focal[0], *lens.k[:2]), *(numbers(*row) for row in R), numbers(*t)]


def _point_lines(scene: ExportScene) -> Iterator[str]:
    points, images = scene.points, scene.images
    for row, (xyz, color) in enumerate(zip(points.xyz.tolist(), points.colors.tolist(), strict=True)):
        yield numbers(*xyz)
        yield " ".join(map(str, color))
        views = []
        for image_idx, at in points.observations(row):
            image = images[image_idx]
            x, y = image.keypoints[at]
            from_center = numbers(x - image.camera.width / 2, image.camera.height / 2 - y)
            views.append(f"{image_idx} {image.keypoint_idxs[at]} {from_center}")
        yield " ".join([str(len(views)), *views])
