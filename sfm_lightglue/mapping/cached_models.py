"""The finished models under the key of all that they depend on: a second run maps nothing again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.mapping.export import pack_models, write_packed_models
from sfm_lightglue.mapping.poses import poses_of_model
from sfm_lightglue.store import Store
from sfm_lightglue.types import SkippedImage


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """One model in numbers.

    Args:
        path: below the output folder.
        num_registered: images with a pose.
        num_points: 3D points.
        mean_track_length: images that see a point.
        mean_reprojection_error_px: of all observations.
    """

    path: str
    num_registered: int
    num_points: int
    mean_track_length: float
    mean_reprojection_error_px: float

    @classmethod
    def of(cls, model: pycolmap.Reconstruction, index: int) -> ModelStatistics:
        """Count a model."""
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
    """All models of a scene in numbers, the largest first.

    Args:
        num_images: photos that could be read.
        models: at least one.
        skipped: photos that could not.
        unregistered: names of the readable photos that the largest model lacks.
    """

    num_images: int
    models: tuple[ModelStatistics, ...]
    skipped: tuple[SkippedImage, ...]
    unregistered: tuple[str, ...]


class ModelCache:
    """Keeps models in the store, and puts them back.

    Args:
        store: of the run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(
        self,
        key: str,
        models: Sequence[pycolmap.Reconstruction],
        names: Sequence[str],
        skipped: Sequence[SkippedImage],
        output: Path,
    ) -> MapStatistics:
        """Write models of photos of some names to the output folder, and keep them under a key."""
        registered = poses_of_model(models[0])
        statistics = MapStatistics(
            len(names),
            tuple(ModelStatistics.of(model, i) for i, model in enumerate(models)),
            tuple(skipped),
            tuple(name for name in names if name not in registered),
        )
        files = pack_models(models)
        write_packed_models(files, output)
        text = json.dumps(dataclasses.asdict(statistics), sort_keys=True)
        self._store.save("models", key, {"statistics": np.array(text), **files})
        return statistics

    def restore(self, key: str, output: Path) -> MapStatistics | None:
        """Put the models of a key into the output folder; None where there are none."""
        arrays = self._store.load("models", key)
        if arrays is None:
            return None
        values = json.loads(str(arrays.pop("statistics")))
        write_packed_models(arrays, output)
        return MapStatistics(
            values["num_images"],
            tuple(ModelStatistics(**model) for model in values["models"]),
            tuple(SkippedImage(**image) for image in values["skipped"]),
            tuple(values["unregistered"]),
        )
