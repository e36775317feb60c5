"""Finished models in the store, under the key of everything that they depend on. A second run reads them."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        maybe_same_as: indices of published models that may show the same place, because pairs between their images
            were kept apart.
        maybe_folded: names of images that may show places that look alike and lie on top of each other; see
            `ModelVerdict`.
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
    maybe_same_as: tuple[int, ...] = ()
    maybe_folded: tuple[str, ...] = ()

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
            maybe_folded=judged.verdict.maybe_folded,
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
        apart: names of verified pairs that took no part in mapping, because they may show places that look alike.
        evidence: that pairs are true overlaps, see `pair_evidence`; None if it was not asked for.
    """

    chosen: str = ""
    num_pairs: int = 0
    num_verified: int = 0
    components: tuple[int, ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """The numbers of all models of a scene: the published ones, the largest first, then the rejected ones.

    Args:
        models: may be empty.
        images: what is known about each image that could be read, by name.
        pairs: of the scene.
        undecodable: images whose header could be read, but not their pixels.
        camera_groups: images that got another camera than in the scene.
        num_found: how many of the last keypoints of an image the refinement added, by name; without images that have
            none.
    """

    models: tuple[ModelStatistics, ...]
    images: dict[str, ImageVerdict]
    pairs: PairStatistics = PairStatistics()
    undecodable: tuple[SkippedImage, ...] = ()
    camera_groups: tuple[CameraGroup, ...] = ()
    num_found: dict[str, int] = field(default_factory=dict)

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
    models = [ModelStatistics.from_model(*one) for one in zip(judged, paths, georegistrations, strict=True)]
    pairs = with_left_out(scene.pairs, judged)
    for index, others in enumerate(look_alike_models(judged[:num_published], pairs.apart)):
        models[index] = dataclasses.replace(models[index], maybe_same_as=others)
    statistics = dataclasses.replace(scene, models=tuple(models), pairs=pairs)
    model_from_path = {path: each.model for each, path in zip(judged, paths, strict=True)}
    packed = PackedModels(statistics, pack_models(model_from_path, work))
    text = json.dumps(dataclasses.asdict(statistics), sort_keys=True)
    store.save("models", key, {"statistics": np.array(text), **packed.files})
    return packed


def with_left_out(pairs: PairStatistics, judged: Sequence[JudgedModel]) -> PairStatistics:
    """The numbers of the pairs, with those that took no part in the mapping of a published model."""
    published = [each.verdict for each in judged if each.verdict.outcome != "rejected"]
    left_out = {(name0, name1) for verdict in published for name0, name1 in verdict.left_out}
    return dataclasses.replace(pairs, apart=tuple(sorted({*pairs.apart, *left_out})))


def look_alike_models(published: Sequence[JudgedModel], apart: Sequence[tuple[str, str]]) -> list[tuple[int, ...]]:
    """For each published model, the indices of those that may show the same place.

    Args:
        published: the models.
        apart: names of pairs that took no part in mapping, because they may show places that look alike.
    """
    registered = [
        {name for name, image in each.verdict.images.items() if image.status == "registered"} for each in published
    ]
    found: list[set[int]] = [set() for _ in published]
    for name0, name1 in apart:
        models0, models1 = ([idx for idx, names in enumerate(registered) if name in names] for name in (name0, name1))
        if set(models0) & set(models1):
            continue  # both images are in one model
        for first in models0:
            for second in models1:
                found[first].add(second)
                found[second].add(first)
    return [tuple(sorted(others)) for others in found]


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
        same = tuple(model.pop("maybe_same_as", ()))
        folded = tuple(model.pop("maybe_folded", ()))
        models.append(ModelStatistics(**model, checks=checks, notes=notes, maybe_same_as=same, maybe_folded=folded))
    statistics = MapStatistics(
        tuple(models),
        {name: ImageVerdict(**image) for name, image in values["images"].items()},
        _pair_statistics(values["pairs"]),
        tuple(SkippedImage(**image) for image in values["undecodable"]),
        tuple(CameraGroup(tuple(group["names"]), Camera(**group["camera"])) for group in values["camera_groups"]),
        {name: int(number) for name, number in values.get("num_found", {}).items()},
    )
    content_from_path = check_packed_models(files, [model.path for model in models])
    for model in models:
        content = content_from_path[model.path]
        expected, found = (model.num_registered, model.num_points), (len(content.images.ids), len(content.points.ids))
        if expected != found:
            raise DataError(f"{model.path}: {expected} images and points expected, {found} found")
    return PackedModels(statistics, files)


def _pair_statistics(values: dict[str, Any]) -> PairStatistics:
    """The numbers of the pairs; entries of earlier versions have none of those that look alike."""
    apart = tuple((str(name0), str(name1)) for name0, name1 in values.get("apart", ()))
    return PairStatistics(**values | {"components": tuple(values["components"]), "apart": apart})
