"""Finished models in the store, under the key of everything that they depend on. A second run reads them."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.mapping.camera_groups import CameraGroup
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.model_files import check_packed_models, pack_models
from sfm_lightglue.mapping.verdict import Check, ImageVerdict, Outcome
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Camera, SkippedImage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """The numbers of one model.

    Args:
        path: below the output folder.
        num_registered: number of images with a pose.
        num_points: number of 3D points.
        mean_track_length: mean number of images in which a point is observed.
        mean_reprojection_error_px: of all observations.
        verdict: accepted, reduced or rejected.
        checks: of the verdict, by name.
        georegistration: how its world lies in a frame in metres, see `GeoRegistration.as_dict`; None if it does not.
        notes: what users should know about how it was built.
    """

    path: str
    num_registered: int
    num_points: int
    mean_track_length: float
    mean_reprojection_error_px: float
    verdict: Outcome
    checks: dict[str, Check]
    georegistration: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_model(cls, judged: JudgedModel, path: str, georegistration: dict[str, Any] | None) -> ModelStatistics:
        """The numbers of a model."""
        model = judged.model
        has_points = model.num_points3D() > 0
        return cls(
            path,
            model.num_reg_images(),
            model.num_points3D(),
            float(model.compute_mean_track_length()) if has_points else 0.0,
            float(model.compute_mean_reprojection_error()) if has_points else 0.0,
            judged.verdict.outcome,
            dict(judged.verdict.checks),
            georegistration,
            judged.verdict.notes,
        )

    @property
    def is_published(self) -> bool:
        """Whether the model was not rejected."""
        return self.verdict != "rejected"


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """The numbers of the pairs of a scene.

    Args:
        chosen: which pairs were matched and why, in one line.
        num_pairs: number of pairs that were matched.
        num_verified: number of them with a two-view geometry.
        components: numbers of images that verified pairs connect, largest group first; single images are left out.
    """

    chosen: str = ""
    num_pairs: int = 0
    num_verified: int = 0
    components: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """The numbers of all models of a scene: the published ones, the largest first, then the rejected ones.

    Args:
        models: may be empty.
        images: what is known about each image that could be read, by name.
        pairs: of the scene.
        undecodable: images whose header could be read, but not their pixels.
        camera_groups: images that got another camera than in the scene.
    """

    models: tuple[ModelStatistics, ...]
    images: dict[str, ImageVerdict]
    pairs: PairStatistics = PairStatistics()
    undecodable: tuple[SkippedImage, ...] = ()
    camera_groups: tuple[CameraGroup, ...] = ()

    @property
    def published(self) -> tuple[ModelStatistics, ...]:
        """The models that were not rejected."""
        return tuple(model for model in self.models if model.is_published)


@dataclass(frozen=True, eq=False, slots=True)
class PackedModels:
    """Models as the store keeps them: their numbers, and the bytes of their files by relative path."""

    statistics: MapStatistics
    files: Mapping[str, AnyArray]


def keep_models(
    store: Store,
    key: str,
    judged: Sequence[JudgedModel],
    georegistrations: Sequence[dict[str, Any] | None],
    scene: MapStatistics,
    work: Path,
) -> PackedModels:
    """Save models in the store.

    Args:
        store: of the run.
        key: of everything that they depend on.
        judged: the published models, the largest first, then the rejected ones; at least one.
        georegistrations: of each of them.
        scene: the numbers of everything else; its models are replaced.
        work: an existing folder for intermediate files.

    Raises:
        StoreError: if the store cannot be written.
    """
    num_published = sum(each.verdict.outcome != "rejected" for each in judged)
    paths = [f"sparse/{i}" for i in range(num_published)]
    paths += [f"rejected/{i}" for i in range(len(judged) - num_published)]
    models = (ModelStatistics.from_model(*one) for one in zip(judged, paths, georegistrations, strict=True))
    statistics = dataclasses.replace(scene, models=tuple(models))
    model_from_path = {path: each.model for each, path in zip(judged, paths, strict=True)}
    packed = PackedModels(statistics, pack_models(model_from_path, work))
    text = json.dumps(dataclasses.asdict(statistics), sort_keys=True)
    store.save("models", key, {"statistics": np.array(text), **packed.files})
    return packed


def load_models(store: Store, key: str) -> PackedModels | None:
    """The models of a key; None if the store has none, or if an entry is incomplete or damaged."""
    arrays = store.read("models", key)
    packed = None
    if arrays is not None:
        try:
            packed = _unpacked(arrays)
        except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:  # of JSON, or of its fields
            logger.warning("%s: not usable, will be computed again (%s)", store.path("models", key), error)
    store.count("models", hit=packed is not None)
    return packed


def _unpacked(arrays: Mapping[str, AnyArray]) -> PackedModels:
    """The models of an entry.

    Raises:
        DataError: if the files of a model are incomplete, damaged or others than its numbers tell.
        KeyError, TypeError, ValueError, AttributeError: if the numbers are incomplete or damaged.
    """
    files = dict(arrays)
    values = json.loads(str(files.pop("statistics")))
    models = []
    for model in values["models"]:
        checks = {name: Check(**check) for name, check in model.pop("checks").items()}
        notes = tuple(model.pop("notes", ()))  # entries of earlier versions have none
        models.append(ModelStatistics(**model, checks=checks, notes=notes))
    statistics = MapStatistics(
        tuple(models),
        {name: ImageVerdict(**image) for name, image in values["images"].items()},
        PairStatistics(**values["pairs"] | {"components": tuple(values["pairs"]["components"])}),
        tuple(SkippedImage(**image) for image in values["undecodable"]),
        tuple(CameraGroup(tuple(group["names"]), Camera(**group["camera"])) for group in values["camera_groups"]),
    )
    content_from_path = check_packed_models(files, [model.path for model in models])
    for model in models:
        content = content_from_path[model.path]
        expected, found = (model.num_registered, model.num_points), (len(content.images.ids), len(content.points.ids))
        if expected != found:
            raise DataError(f"{model.path}: {expected} images and points expected, {found} found")
    return PackedModels(statistics, files)
