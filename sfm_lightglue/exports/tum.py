"""A trajectory in the format of the TUM RGB-D benchmark.

A line for each registered image: time in seconds, then position and quaternion (x, y, z, w) of world_from_cam. Images
go by their names. Images of a video have the times of `times.txt`; others have their index.

Source: Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM Systems, 2012, file formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.exports.base import ExportScene, Pictures, quaternion_wxyz
from sfm_lightglue.exports.text import numbers
from sfm_lightglue.types import Camera

_HEAD = "# timestamp tx ty tz qx qy qz qw"


@dataclass(frozen=True, slots=True)
class TumConfig:
    """Options of the trajectory."""


class TumExporter:
    """An `Exporter` of the poses as a TUM trajectory."""

    file_name = "trajectory_tum.txt"
    pictures: Pictures = "none"

    def __init__(self, config: TumConfig | None = None) -> None:
        self.config = config or TumConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """None: the file has no cameras."""
        return None

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return head.startswith(_HEAD.encode() + b"\n")

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the file."""
        times_s = scene.times_s or {}
        has_times = all(image.name in times_s for image in scene.images)
        lines = [_HEAD]
        for index, image in enumerate(scene.images):
            pose = image.cam_from_world.inverse()
            w, *xyz = quaternion_wxyz(pose.R)
            time_s = times_s[image.name] if has_times else index
            lines.append(numbers(time_s, *pose.t, *xyz, w))
        target.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
