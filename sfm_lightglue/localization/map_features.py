"""The features of the images of a map: of our store, of the images, or of a COLMAP database."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, IndexArray
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.image_points import observing_keypoints
from sfm_lightglue.colmap.model import MapLocation
from sfm_lightglue.colmap.scene_of_model import scene_of_model
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import DenseFeatures, Features
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.messages import shown_path
from sfm_lightglue.registry.matching_steps import without_quick_limits
from sfm_lightglue.retrieval.scene_vocabulary import is_root_sift
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.store.output_folder import read_record
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Scene

_MAX_DATABASE_KEYPOINTS = 2048
"""Keypoints of an image of a database that are matched: the time of a network grows with their number."""


@dataclass(frozen=True, slots=True)
class RunOfMap:
    """What the run that made a map tells.

    Args:
        tables: `extractor` and `matcher` of its configuration.
        masks: folder of its masks; None for none.
        dense_factor: factor on `extractor.max_keypoints_dense` with which its points were made: 0 if they are
            keypoints of the sparse layer only.
    """

    tables: Mapping[str, Any]
    masks: Path | None
    dense_factor: int = 1

    @classmethod
    def of(cls, location: MapLocation) -> RunOfMap:
        """Read the record of the run; a map of another tool has none."""
        record = None if location.output is None else read_record(location.output)
        values = record.get("config") if isinstance(record, dict) else None
        if not isinstance(record, dict) or not isinstance(values, dict):
            return cls({}, None)
        # The matcher of visual SLAM has other options.
        names = ("extractor",) if record.get("job") == "track" else ("extractor", "matcher")
        masks = values.get("masks")
        tables = {name: values[name] for name in names if name in values}
        if isinstance(tables.get("matcher"), dict):
            tables["matcher"] = without_quick_limits(tables["matcher"])
        return cls(
            tables,
            Path(masks) if isinstance(masks, str) and masks else None,
            0 if record.get("job") == "track" else _dense_factor(values.get("density")),
        )


def models_of_run(location: MapLocation) -> list[MapLocation]:
    """All published models of the run that made a map, the largest first; a model of another tool is alone."""
    folder = location.model.parent
    if location.output is None or folder.resolve() != (location.output / "sparse").resolve():
        return [location]
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    others = [folder / str(number) for number in numbers if str(number) != location.model.name]
    return [location, *(replace(location, model=path) for path in others)]


def searched_models(path: Path, location: MapLocation) -> list[MapLocation]:
    """The models in which images are looked for: all of the run, unless the argument MAP is one of them."""
    return [location] if path.resolve() == location.model.resolve() else models_of_run(location)


def _dense_factor(density: object) -> int:
    """Of the table `density` of a run; that of the default if the table is missing or of another version."""
    level = density.get("level") if isinstance(density, dict) else None
    try:
        return DensityConfig().keypoints_factor if level is None else DensityConfig(level=level).keypoints_factor
    except ConfigError:
        return DensityConfig().keypoints_factor


@dataclass(frozen=True, eq=False, slots=True)
class MapFeatures:
    """The features of the images of a map.

    Args:
        sparse: those that matchers see, by name of image.
        dense: those whose points a guided search looks for, of a name; safe to call from several threads.
        dense_rows: by name of image, which keypoints of the model the rows of the dense layer are; without the images
            of which that is not known.
    """

    sparse: Mapping[str, Features]
    dense: Callable[[str], DenseFeatures]
    dense_rows: Mapping[str, IndexArray] = field(default_factory=dict)


class MapStore:
    """Where the features of a map are kept: a given folder, else the output folder of the map, else temporarily.

    Args:
        location: of the map.
        folder: given by the user; None for the output folder, or a temporary one for a map of another tool.
    """

    def __init__(self, location: MapLocation, folder: Path | None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None and location.output is not None and os.access(location.output, os.W_OK):
            folder = location.output
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="localize-")
            folder = Path(self._temporary.name)
        self.store = Store(folder)

    def close(self) -> None:
        """Write what waits in memory, and remove a temporary folder."""
        self.store.flush()
        if self._temporary is not None:
            self._temporary.cleanup()


def features_of_images(
    model: pycolmap.Reconstruction,
    location: MapLocation,
    masks: Path | None,
    extractor: Extractor,
    store: Store,
    executor: Executor,
    progress: Progress,
    max_keypoints_dense: int,
) -> MapFeatures:
    """The features of the images of a map: of the store if it has them, else extracted.

    Args:
        model: the map.
        location: of the map.
        masks: folder of the masks; None looks for folders named "masks".
        extractor: of the features.
        store: that keeps them.
        executor: works on several images at a time.
        progress: called with "scan" and "extract" after each image.
        max_keypoints_dense: largest number of keypoints of the dense layer of an image; 0 for none.

    Raises:
        DataError: if the folder of the images is not known, or an image is missing.
    """
    scene = _scene(model, location, masks, executor, progress)
    found = extract_scene(scene, CachedExtractor(extractor, store), executor, progress, max_keypoints_dense)
    return MapFeatures(found, found.dense)


def images_to_extract(
    model: pycolmap.Reconstruction,
    location: MapLocation,
    masks: Path | None,
    extractor: Extractor,
    folder: Path | None,
    executor: Executor,
    max_keypoints_dense: int,
) -> set[str]:
    """Names of the images of a map that `features_of_images` would extract; nothing is extracted or saved.

    Args:
        model: the map.
        location: of the map.
        masks: folder of the masks; None looks for folders named "masks".
        extractor: of the features.
        folder: of the store; None for no store, which is as one that cannot be written.
        executor: reads several files at a time.
        max_keypoints_dense: largest number of keypoints of the dense layer of an image; 0 for none.

    Raises:
        DataError: if the folder of the images is not known, or an image is missing.
    """
    images = _scene(model, location, masks, executor, silent).images
    if folder is None or not os.access(folder, os.W_OK):  # as in `MapStore`
        return {one.name for one in images}
    cached, limit = CachedExtractor(extractor, Store(folder)), max_keypoints_dense
    return {
        one.name
        for one in images
        if not cached.has(cached.key(one.content_digest, one.quarter_turns))
        or (limit > 0 and not cached.has_dense(cached.dense_key(one.content_digest, one.quarter_turns, limit)))
    }


def _scene(
    model: pycolmap.Reconstruction,
    location: MapLocation,
    masks: Path | None,
    executor: Executor,
    progress: Progress,
) -> Scene:
    if location.images is None:
        raise DataError(
            f"{shown_path(location.model)}: the folder of the images of this model is not known; give the folder that"
            " their names are relative to by `images`"
        )
    return scene_of_model(model, location.images, masks, executor, progress)


def features_of_database(
    model: pycolmap.Reconstruction, database: Path, extractor_name: str, max_keypoints_dense: int
) -> MapFeatures:
    """The SIFT features of a COLMAP database: no image file is needed.

    If there are many, matchers see those with a 3D point first. The dense layer has those with a point, since a guided
    search looks for points.

    Args:
        model: made from the database.
        database: of COLMAP.
        extractor_name: of the extractor of the queries, which must describe keypoints alike.
        max_keypoints_dense: largest number of keypoints of the dense layer of an image, which stay in memory; with 0,
            the features that matchers see are the dense layer.

    Raises:
        ConfigError: if the extractor is not SIFT.
        DataError: if the database has no SIFT descriptors of the images of the model.
    """
    if extractor_name != "sift":
        raise ConfigError("`extractor.name`: the descriptors of a COLMAP database are compared with those of sift only")
    names = [model.images[image_id].name for image_id in sorted(model.reg_image_ids())]
    content = read_database(database, names)
    found: dict[str, Features] = {}
    dense: dict[str, DenseFeatures] = {}
    dense_rows: dict[str, IndexArray] = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        features = content.features_from_name[image.name]
        if len(features) > 0 and not is_root_sift(features.descriptors):
            raise DataError(f"{shown_path(database)}: {image.name} has no SIFT descriptors; give `images` instead")
        has_point = np.zeros(len(features), np.bool_)
        is_same = image.num_points2D() == len(features)
        if is_same:
            has_point[observing_keypoints(image)] = True
        rows = _most_useful(features, has_point, _MAX_DATABASE_KEYPOINTS)
        found[image.name] = features if len(rows) == len(features) else features.rows(rows)
        if max_keypoints_dense > 0:
            rows = _most_useful(features, has_point, max_keypoints_dense)
            rows = rows[has_point[rows]] if is_same else rows
            dense[image.name] = DenseFeatures.from_features(features.rows(rows))
        if is_same:
            dense_rows[image.name] = rows

    def dense_of(name: str) -> DenseFeatures:
        return dense[name] if name in dense else DenseFeatures.from_features(found[name])

    return MapFeatures(dict(sorted(found.items())), dense_of, dense_rows)


def _most_useful(features: Features, has_point: BoolArray, num: int) -> IndexArray:
    """Rows of at most so many features, ascending: of those with a point, then of the largest ones."""
    if len(features) <= num:
        return np.arange(len(features))
    sizes = features.scores if features.scales is None else features.scales
    order = np.lexsort((-sizes, ~has_point))[:num]
    return np.sort(order)
