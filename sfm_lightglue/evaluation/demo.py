"""Render the demo scene, reconstruct it, and compare with the ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, ReconstructionError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.result import ReconstructionResult
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import read_truth, render_scene, write_scene
from sfm_lightglue.synthetic.files import TRUTH_FILE


@dataclass(frozen=True, slots=True)
class DemoErrors:
    """Errors of the reconstruction of the demo scene.

    Args:
        num_images: number of rendered images.
        num_compared: number of them with an estimated pose.
        extent_m: largest distance between two cameras.
        max_center_error_m: largest error of a camera centre after a similarity alignment.
        max_center_error_percent: the same in per cent of the extent.
        max_rotation_error_deg: largest error of an orientation.
    """

    num_images: int
    num_compared: int
    extent_m: float
    max_center_error_m: float
    max_center_error_percent: float
    max_rotation_error_deg: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return (
            f"against the truth: {self.num_compared} of {self.num_images} cameras, centres within"
            f" {1000 * self.max_center_error_m:.1f} mm ({self.max_center_error_percent:.3f} % of the extent of"
            f" {self.extent_m:.1f} m), rotations within {self.max_rotation_error_deg:.3f} degrees"
        )


def run_demo(
    folder: Path,
    output: Path | None = None,
    config: ReconstructConfig | None = None,
    progress: Progress = silent,
) -> tuple[ReconstructionResult, DemoErrors]:
    """Render the synthetic scene if it is missing, reconstruct it, and compare with the ground truth.

    Args:
        folder: of the scene; `images/` and `truth.json` are written there.
        output: of the reconstruction; None for `folder/reconstruction`.
        config: of the reconstruction.
        progress: called as each stage advances.

    Raises:
        ConfigError: if the folder has other content.
        ReconstructionError: if fewer than three cameras can be compared.
        StoreError: if the folder cannot be written.
    """
    if not (folder / TRUTH_FILE).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: neither the demo scene nor empty; give a new folder")
        write_scene(render_scene(progress=progress), folder)
    output = output or folder / "reconstruction"
    result = reconstruct(folder, output, config, progress)
    _, truth = read_truth(folder)
    estimate = poses_of_model(result.model)
    try:
        aligned = align_poses(estimate, truth)
    except ValueError as error:
        raise ReconstructionError(f"{output}: cannot be compared with the truth ({error})") from error
    extent = _extent(truth)
    worst = aligned.max_center_error
    return result, DemoErrors(
        len(truth),
        len(aligned.center_errors),
        extent,
        worst,
        100 * worst / extent,
        aligned.max_rotation_error_deg,
    )


def _extent(poses: Mapping[str, Rigid3]) -> float:
    """Largest distance between two camera centres."""
    centers = np.array([pose.center for pose in poses.values()])
    return float(np.linalg.norm(centers[:, None] - centers[None], axis=2).max())
