"""Scenes and image pairs with true values."""

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
    """Photos and what is known of their cameras.

    Args:
        name: for tables.
        image_root: the folder below which the images' names are.
        cam_from_world_from_name: poses in the unit of the world; empty where nothing is known.
        camera_from_name: intrinsics of the same images, in COLMAP's pixel convention; empty where a trajectory
            is all that is known.
        is_metric: whether the unit of the world is known to be the metre.

    Raises:
        ValueError: where poses and cameras are not those of the same images.
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
        """Names of the images with truth, sorted."""
        return tuple(sorted(self.cam_from_world_from_name))

    @property
    def centers(self) -> Float64Array:
        """Camera centres [N, 3] in the unit of the world, in the order of `names`."""
        return np.array([self.cam_from_world_from_name[name].center for name in self.names]).reshape(-1, 3)

    @property
    def extent(self) -> float:
        """Largest distance of two camera centres in the unit of the world, 0 where there is none."""
        centers = self.centers
        # One row of distances at a time: a trajectory has thousands of frames.
        return max((float(np.linalg.norm(centers - center, axis=1).max()) for center in centers), default=0.0)

    def only(self, names: Collection[str]) -> SceneTruth:
        """The truth of some of the images; names without truth are passed over."""
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
    """Two photographs, and what is known of them: poses with cameras, or a homography.

    Args:
        group: for tables, such as "hololens 10-50 %".
        path0: file.
        path1: file.
        camera0: intrinsics; None with a homography.
        camera1: intrinsics.
        cam1_from_cam0: pose in the unit of the depth; None with a homography.
        H: [3, 3] from pixels of image 0 to those of image 1, COLMAP convention; None with poses.
        depth0: depth map of image 0 in millimetres, 16-bit, 0 where unknown; None where there is none.
        overlap: share of image 0 or 1, whichever is smaller, that the other sees; None where it is not known.
        quarter_turns: clockwise turns that stand each photo upright; None where its EXIF data are to say.
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
