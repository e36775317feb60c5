"""A trajectory in the format of KITTI's odometry benchmark.

A line of 12 numbers for each registered image, by their names: world_from_cam [3, 4] by rows. The world is that of the
model, not that of the first camera.

Source: Geiger, Lenz and Urtasun, Are we ready for Autonomous Driving?, 2012, development kit of odometry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.exports.base import ExportScene, Pictures
from sfm_lightglue.exports.text import numbers
from sfm_lightglue.types import Camera

_FIRST_LINE = re.compile(rb"[-+.0-9e]+( [-+.0-9e]+){11}\n")
"""Twelve numbers, as of each line: the format has no head."""


@dataclass(frozen=True, slots=True)
class KittiConfig:
    """Options of the trajectory."""


class KittiExporter:
    """An `Exporter` of the poses as a KITTI trajectory."""

    file_name = "trajectory_kitti.txt"
    pictures: Pictures = "none"

    def __init__(self, config: KittiConfig | None = None) -> None:
        self.config = config or KittiConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """None: the file has no cameras."""
        return None

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return _FIRST_LINE.match(head) is not None

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the file."""
        matrices = (image.cam_from_world.inverse().as_matrix()[:3].ravel() for image in scene.images)
        target.write_text("".join(f"{numbers(*matrix)}\n" for matrix in matrices), encoding="ascii", newline="\n")
