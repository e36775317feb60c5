"""Finished models in the store, under the key of everything that they depend on. A second run reads them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.mapping.model_files import pack_models
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import SkippedImage


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """The numbers of one model.

    Args:
        path: below the output folder.
        num_registered: number of images with a pose.
        num_points: number of 3D points.
        mean_track_length: mean number of images in which a point is observed.
        mean_reprojection_error_px: of all observations.
    """

    path: str
    num_registered: int
    num_points: int
    mean_track_length: float
    mean_reprojection_error_px: float

    @classmethod
    def from_model(cls, model: pycolmap.Reconstruction, index: int) -> ModelStatistics:
        """The numbers of a model."""
        has_points = model.num_points3D() > 0
        return cls(
            f"sparse/{index}",
            model.num_reg_images(),
            model.num_points3D(),
            float(model.compute_mean_track_length()) if has_points else 0.0,
            float(model.compute_mean_reprojection_error()) if has_points else 0.0,
        )


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """The numbers of all models of a scene, the largest first.

    Args:
        num_images: number of images that could be read.
        models: at least one.
        undecodable: images whose header could be read, but not their pixels.
        unregistered: names of the readable images that are not in the largest model.
    """

    num_images: int
    models: tuple[ModelStatistics, ...]
    undecodable: tuple[SkippedImage, ...]
    unregistered: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class PackedModels:
    """Models as the store keeps them: their numbers, and the bytes of their files by relative path."""

    statistics: MapStatistics
    files: Mapping[str, AnyArray]


def keep_models(
    store: Store,
    key: str,
    models: Sequence[pycolmap.Reconstruction],
    names: Sequence[str],
    undecodable: Sequence[SkippedImage],
    work: Path,
) -> PackedModels:
    """Save models in the store.

    Args:
        store: of the run.
        key: of everything that they depend on.
        models: the largest first, at least one.
        names: of the images that could be read.
        undecodable: images that could not be decoded.
        work: an existing folder for intermediate files.

    Raises:
        StoreError: if the store cannot be written.
    """
    registered = poses_of_model(models[0])
    statistics = MapStatistics(
        len(names),
        tuple(ModelStatistics.from_model(model, i) for i, model in enumerate(models)),
        tuple(undecodable),
        tuple(name for name in names if name not in registered),
    )
    packed = PackedModels(statistics, pack_models(models, work))
    text = json.dumps(dataclasses.asdict(statistics), sort_keys=True)
    store.save("models", key, {"statistics": np.array(text), **packed.files})
    return packed


def load_models(store: Store, key: str) -> PackedModels | None:
    """The models of a key; None if the store has none."""
    arrays = store.load("models", key)
    if arrays is None:
        return None
    values = json.loads(str(arrays.pop("statistics")))
    statistics = MapStatistics(
        values["num_images"],
        tuple(ModelStatistics(**model) for model in values["models"]),
        tuple(SkippedImage(**image) for image in values["undecodable"]),
        tuple(values["unregistered"]),
    )
    return PackedModels(statistics, arrays)
