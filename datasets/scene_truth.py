"""What is known of the photos of a scene, whatever file told it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import PHOTO_SUFFIXES
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


def image_root_of(path: Path) -> Path:
    """`path/images` where there is such a folder, else the path itself."""
    return path / "images" if (path / "images").is_dir() else path


def scene_name(path: Path) -> str:
    """The name of a scene folder, or of the one that holds the folder `images`."""
    path = path.resolve()
    return path.parent.name if path.name == "images" else path.name


def photo_from_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """The photos of some folders by their names without suffix; of equal ones the first counts."""
    photos: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in PHOTO_SUFFIXES:
                    photos.setdefault(path.stem, path)
    return photos
