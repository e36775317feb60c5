"""Two models of one scene: the similarity between them, and how far apart the poses of the same images are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfm_lightglue.colmap.model_table import ModelTable
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.alignment import AlignedPoses, align_poses, similarity_from_poses
from sfm_lightglue.geometry.transforms import Rigid3, Sim3

MAX_ROWS = 20
"""Images in the printed table; those with the largest errors."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences of the camera poses of two models after an alignment of their centres.

    Args:
        aligned: the errors by image name.
        first_from_second: the similarity from the second model to the first. Where the centres lie on a line, the
            orientations decide the rotation around it.
        num_images: number of images of each model.
        extent: largest side of the box around the camera centres of the first model.
    """

    aligned: AlignedPoses
    first_from_second: Sim3
    num_images: tuple[int, int]
    extent: float

    @property
    def names(self) -> list[str]:
        """Names of the images that both models have, sorted."""
        return sorted(self.aligned.center_errors)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; distances are in the unit of the first model."""
        aligned, similarity = self.aligned, self.first_from_second
        return {
            "num_images": list(self.num_images),
            "num_common": len(self.names),
            "extent": self.extent,
            "center_error": {
                "mean": aligned.mean_center_error,
                "median": aligned.median_center_error,
                "max": aligned.max_center_error,
            },
            "rotation_error_deg": {
                "median": aligned.median_rotation_error_deg,
                "max": aligned.max_rotation_error_deg,
            },
            "is_collinear": aligned.is_collinear,
            "first_from_second": {
                "scale": similarity.scale,
                "rotation": similarity.R.tolist(),
                "translation": similarity.t.tolist(),
            },
            "images": {
                name: {
                    "center_error": aligned.center_errors[name],
                    "rotation_error_deg": aligned.rotation_errors_deg[name],
                }
                for name in self.names
            },
        }

    def table(self) -> str:
        """The errors as text: a summary, and the images with the largest errors."""
        aligned = self.aligned
        worst = sorted(self.names, key=lambda name: (-aligned.center_errors[name], name))[:MAX_ROWS]
        width = max(len("image"), *(len(name) for name in worst))
        rows = [
            f"{len(self.names)} common images; distances in the unit of the first model, whose cameras span"
            f" {self.extent:.4g}",
            f"{'':<{width}}  {'centre':>10}  {'% of span':>9}  {'rotation deg':>12}",
            self._row("median", width, aligned.median_center_error, aligned.median_rotation_error_deg),
            self._row("largest", width, aligned.max_center_error, aligned.max_rotation_error_deg),
            f"{'image':<{width}}",
            *(self._row(name, width, aligned.center_errors[name], aligned.rotation_errors_deg[name]) for name in worst),
        ]
        num_left = len(self.names) - len(worst)
        return "\n".join([*rows, f"and {num_left} with smaller errors"] if num_left > 0 else rows)

    def _row(self, name: str, width: int, center: float, rotation_deg: float) -> str:
        percent = 100 * center / self.extent if self.extent > 0 else float("nan")
        return f"{name:<{width}}  {center:>10.4g}  {percent:>9.3f}  {rotation_deg:>12.3f}"


def compare_models(first: ModelTable, second: ModelTable) -> Comparison:
    """Align the second model with the first by the names of their images.

    Raises:
        DataError: if fewer than three images are in both, or their centres coincide.
    """
    poses = [dict(zip(table.names, table.arrays.poses, strict=True)) for table in (first, second)]
    common = poses[0].keys() & poses[1].keys()
    if len(common) < 3:
        raise DataError(
            f"the models have {len(common)} images with the same names; a comparison needs 3 (compare two models of the"
            " same images)"
        )
    try:
        aligned = align_poses(poses[1], poses[0])
        similarity = similarity_from_poses(sorted(common), poses[1], poses[0])
    except ValueError as error:
        raise DataError(f"the models cannot be compared: {error}") from error
    return Comparison(aligned, similarity, (len(poses[0]), len(poses[1])), _extent(poses[0]))


def _extent(poses: Mapping[str, Rigid3]) -> float:
    centers = np.array([pose.center for pose in poses.values()])
    return float(np.ptp(centers, axis=0).max())
