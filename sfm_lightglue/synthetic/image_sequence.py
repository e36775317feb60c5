"""A sequence of images with true poses, whose images are made one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """Images of one camera in the order of time, with true poses.

    Args:
        name: for tables.
        camera: intrinsics of all images, in COLMAP's pixel convention.
        names: one name per image.
        times_s: [N] increasing times in seconds.
        cam_from_world: N true poses.
        image: makes the image [H, W, 3] uint8 RGB of an index; the same index gives the same pixels.
        is_metric: whether the unit of the world is known to be the metre.
        folder: of files with these names that have the images; None if the images are not in files.

    Raises:
        ValueError: if the numbers of names, times and poses differ, or times do not increase.
    """

    name: str
    camera: Camera
    names: tuple[str, ...]
    times_s: Float64Array
    cam_from_world: tuple[Rigid3, ...]
    image: Callable[[int], UInt8Array]
    is_metric: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        counts = len(self.names), len(self.times_s), len(self.cam_from_world)
        if len(set(counts)) != 1:
            raise ValueError(f"ImageSequence {self.name}: names, times and poses differ in number: {counts}")
        if not (np.diff(self.times_s) > 0).all():
            raise ValueError(f"ImageSequence {self.name}: the times must increase")

    def __len__(self) -> int:
        return len(self.names)

    def images(self) -> Iterator[UInt8Array]:
        """The images, each made when it is asked for."""
        return (self.image(idx) for idx in range(len(self)))

    @property
    def centers(self) -> Float64Array:
        """True camera centres [N, 3]."""
        return np.array([pose.center for pose in self.cam_from_world]).reshape(-1, 3)

    @property
    def path_length(self) -> float:
        """Length of the true way of the camera, in the unit of the world."""
        return float(np.linalg.norm(np.diff(self.centers, axis=0), axis=1).sum())

    def take(self, indices: Sequence[int]) -> ImageSequence:
        """The images of these indices, at the times of the first ones: a person who looks on sees no gap.

        An index may occur several times. Names get the number of the image in the new sequence.
        """
        chosen = list(indices)
        interval_s = self.interval_s
        return replace(
            self,
            names=tuple(f"{number:05d}_{self.names[idx]}" for number, idx in enumerate(chosen)),
            times_s=self.times_s[0] + interval_s * np.arange(len(chosen)) if chosen else np.zeros(0),
            cam_from_world=tuple(self.cam_from_world[idx] for idx in chosen),
            image=lambda number: self.image(chosen[number]),
            folder=None,
        )

    @property
    def interval_s(self) -> float:
        """Median time between two images; 1/30 for a single one."""
        return float(np.median(np.diff(self.times_s))) if len(self) > 1 else 1 / 30
