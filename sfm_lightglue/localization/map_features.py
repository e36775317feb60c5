"""The features of the images of a map: of our store, of the images, or of a COLMAP database."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import MapLocation
from sfm_lightglue.colmap.scene_of_model import scene_of_model
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import Features
from sfm_lightglue.messages import shown_path
from sfm_lightglue.retrieval.scene_vocabulary import is_root_sift
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.store.output_folder import read_record
from sfm_lightglue.store.store import Store

_MAX_DATABASE_KEYPOINTS = 2048
"""Keypoints of an image of a database that are matched: the time of a network grows with their number."""


@dataclass(frozen=True, slots=True)
class RunOfMap:
    """What the run that made a map tells.

    Args:
        tables: `extractor` and `matcher` of its configuration.
        masks: folder of its masks; None for none.
    """

    tables: Mapping[str, Any]
    masks: Path | None

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
        return cls(
            {name: values[name] for name in names if name in values},
            Path(masks) if isinstance(masks, str) and masks else None,
        )


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
) -> Mapping[str, Features]:
    """The features of the images of a map, by name: of the store if it has them, else extracted.

    Raises:
        DataError: if the folder of the images is not known, or an image is missing.
    """
    images = location.images
    if images is None:
        raise DataError(
            f"{shown_path(location.model)}: the folder of the images of this model is not known; give the folder that"
            " their names are relative to by `images`"
        )
    scene = scene_of_model(model, images, masks, executor, progress)
    found = extract_scene(scene, CachedExtractor(extractor, store), executor, progress)
    return found


def features_of_database(model: pycolmap.Reconstruction, database: Path, extractor_name: str) -> Mapping[str, Features]:
    """The SIFT features of a COLMAP database by name of image: no image file is needed.

    Those with a 3D point come first if there are many.

    Args:
        model: made from the database.
        database: of COLMAP.
        extractor_name: of the extractor of the queries, which must describe keypoints alike.

    Raises:
        ConfigError: if the extractor is not SIFT.
        DataError: if the database has no SIFT descriptors of the images of the model.
    """
    if extractor_name != "sift":
        raise ConfigError("`extractor.name`: the descriptors of a COLMAP database are compared with those of sift only")
    names = [model.images[image_id].name for image_id in sorted(model.reg_image_ids())]
    content = read_database(database, names)
    found = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        features = content.features_from_name[image.name]
        if len(features) > 0 and not is_root_sift(features.descriptors):
            raise DataError(f"{shown_path(database)}: {image.name} has no SIFT descriptors; give `images` instead")
        found[image.name] = _most_useful(features, image)
    return dict(sorted(found.items()))


def _most_useful(features: Features, image: pycolmap.Image) -> Features:
    """At most 2,048 features: those with a point, then the largest ones."""
    if len(features) <= _MAX_DATABASE_KEYPOINTS:
        return features
    has_point = np.zeros(len(features), np.bool_)
    if len(image.points2D) == len(features):
        has_point = np.array([point.has_point3D() for point in image.points2D])
    sizes = features.scores if features.scales is None else features.scales
    order = np.lexsort((-sizes, ~has_point))[:_MAX_DATABASE_KEYPOINTS]
    return features.rows(np.sort(order))
