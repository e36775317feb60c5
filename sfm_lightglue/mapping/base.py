"""What every mapper is, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True, slots=True)
class MappingTask:
    """A scene that is ready to be mapped.

    Args:
        database: COLMAP database with images, keypoints and verified two-view geometries.
        work: an existing folder for intermediate files.
        num_images: number of images in the database.
        constant_camera_ids: cameras whose intrinsics are not refined.
        num_threads: with 1, two runs with the same seed must give the same bytes.
        seed: of the random samples.
        progress: called with the stage "map" after each registered image.
        initial_pair: images with which the first model should start; None leaves the choice to the mapper.
        snapshots: a folder, which may not exist, that outlives a killed run. It belongs to this task only: a mapper
            that finds models in it goes on from them. None for no snapshots.
        growth: an existing folder for snapshots that a viewer shows while the model grows, of scenes that have no
            others; None for none. Nothing goes on from them.
        known_poses: cam_from_world of images by name, which must not be changed; empty if all are to be found.
        notes: the mapper appends what users should know about how the models were built; kept with them in `run.json`.
    """

    database: Path
    work: Path
    num_images: int
    constant_camera_ids: frozenset[int] = frozenset()
    num_threads: int = 1
    seed: int = 0
    progress: Progress = silent
    initial_pair: ImagePair | None = None
    snapshots: Path | None = None
    growth: Path | None = None
    known_poses: Mapping[str, Rigid3] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Mapper(Protocol):
    """Turns verified pairs into camera poses and 3D points."""

    @property
    def config(self) -> Any:
        """The mapper's configuration, a frozen dataclass of plain values; part of the key of its models."""

    @property
    def version(self) -> str:
        """Part of the key of its models: names the mapper, and changes when it would build other models."""

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        """Build models of a scene.

        Returns:
            The models, the one with most images first, without colours; an empty list if no pair of images can
            start a model.
        """
