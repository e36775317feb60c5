"""Scenes and image pairs with ground truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class SceneTruth:
    """Images with known cameras.

    Args:
        name: for tables.
        image_root: the folder that the images' names are relative to.
        cam_from_world_from_name: poses in the unit of the world; empty if there is no ground truth.
        camera_from_name: intrinsics of the same images, in COLMAP's pixel convention; empty if they are not known.
        is_metric: whether the unit of the world is known to be the metre.

    Raises:
        ValueError: if poses and cameras are of different images.
    """

    name: str
    image_root: Path
    cam_from_world_from_name: Mapping[str, Rigid3] = field(default_factory=dict)
    camera_from_name: Mapping[str, Camera] = field(default_factory=dict)
    is_metric: bool = False

    def __post_init__(self) -> None:
        if self.camera_from_name and self.cam_from_world_from_name.keys() != self.camera_from_name.keys():
            raise ValueError(f"SceneTruth {self.name}: poses and cameras are of different images")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images with ground truth, sorted."""
        return tuple(sorted(self.cam_from_world_from_name))

    @property
    def centers(self) -> Float64Array:
        """Camera centres [N, 3] in the unit of the world, in the order of `names`."""
        return np.array([self.cam_from_world_from_name[name].center for name in self.names]).reshape(-1, 3)

    @property
    def extent(self) -> float:
        """Largest distance between two camera centres in the unit of the world; 0 if there are none."""
        centers = self.centers
        # One row at a time saves memory: a trajectory has thousands of frames.
        return max((float(np.linalg.norm(centers - center, axis=1).max()) for center in centers), default=0.0)

    def only(self, names: Collection[str]) -> SceneTruth:
        """The ground truth of some of the images; other names are ignored."""
        wanted = set(names)
        kept = [name for name in self.names if name in wanted]
        return SceneTruth(
            self.name,
            self.image_root,
            {name: self.cam_from_world_from_name[name] for name in kept},
            {name: self.camera_from_name[name] for name in kept if name in self.camera_from_name},
            self.is_metric,
        )


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """Two images with ground truth: a pose with cameras, or a homography.

    Args:
        group: for tables, such as "hololens 10-50 %".
        path0: file.
        path1: file.
        camera0: intrinsics; None with a homography.
        camera1: intrinsics.
        cam1_from_cam0: pose in the unit of the depth; None with a homography.
        H: [3, 3] from pixels of image 0 to pixels of image 1, COLMAP convention; None with a pose.
        depth0: file of the depth map of image 0 in millimetres, 16-bit, 0 if unknown; None if there is none.
        overlap: fraction of each image that the other one sees, the smaller of the two; None if it is not known.
        quarter_turns: clockwise turns that bring each image upright; None to use its EXIF data.
    """

    group: str
    path0: Path
    path1: Path
    camera0: Camera | None = None
    camera1: Camera | None = None
    cam1_from_cam0: Rigid3 | None = None
    H: Float64Array | None = None
    depth0: Path | None = None
    overlap: float | None = None
    quarter_turns: tuple[int | None, int | None] = (None, None)
