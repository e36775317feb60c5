"""A scene for trainers of Gaussian splatting: undistorted `images/`, and `sparse/0` with PINHOLE cameras.

This is the layout that the original trainer reads. gsplat's examples and nerfstudio's splatfacto read it too; the
latter is given the path `sparse/0`. The original reads PINHOLE and SIMPLE_PINHOLE cameras only, and ignores the
principal point: so it is the centre of the image.

Source: Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, 2023, and the readers of its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.exports.base import ExportScene, Pictures
from sfm_lightglue.exports.colmap_model import write_model
from sfm_lightglue.exports.lens import LensLimits
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class SplattingConfig:
    """Options of the export for Gaussian splatting."""


class SplattingExporter:
    """An `Exporter` to the layout of the original trainer of Gaussian splatting."""

    file_name = ""
    pictures: Pictures = "undistorted"

    def __init__(self, config: SplattingConfig | None = None) -> None:
        self.config = config or SplattingConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """Only centred pinholes can be expressed."""
        return LensLimits(("perspective",), {"perspective": 0}, two_focal_lengths=True).problem(cameras)

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the model into `sparse/0`; the images are in `images` already."""
        folder = target / "sparse" / "0"
        folder.mkdir(parents=True)
        write_model(scene.model, folder)
