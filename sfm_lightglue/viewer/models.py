"""The models that are to be shown: their tables, their images, and the direction that is up in them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.model import TRACKING_FOLDER, find_map
from sfm_lightglue.colmap.model_table import ModelTable, read_model_table
from sfm_lightglue.drawing.up_axis import up_of_cameras, up_of_gravity
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.exif import Exif
from sfm_lightglue.images.image import Image
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.store.output_folder import read_record
from sfm_lightglue.store.publication import GEOREGISTRATION_NAME

logger = logging.getLogger(__name__)

MAX_HEADERS = 60
"""Images whose EXIF data are read to learn how they were held; evenly spaced ones of more."""

MAX_STEP_RATIO = 3.0
"""Images are a sequence if the median distance of two with successive names is at most this multiple of the median
distance of a camera from the nearest other one."""

MAX_GAP_RATIO = 10.0
"""Steps beyond this multiple of the median step are gaps of a trajectory."""

MAX_SPACING_SAMPLES = 500
"""Cameras whose nearest neighbour is computed."""


@dataclass(frozen=True, slots=True, eq=False)
class ViewedModel:
    """A model and what is known about it.

    Args:
        name: as it is shown.
        table: images, points and observations.
        images: folder of the images; None if it is not known.
        up: unit vector [3] in the model's frame.
        up_source: what `up` was taken from, for people.
        is_sequence: whether the images were taken one after the other along a path.
    """

    name: str
    table: ModelTable
    images: Path | None
    up: Float64Array
    up_source: str
    is_sequence: bool


def read_viewed_model(path: Path, images: Path | None = None) -> ViewedModel:
    """Read the model at or below a path.

    Args:
        path: an output folder, a scene folder that has one, or a COLMAP model.
        images: folder of the images; None looks for it.

    Raises:
        DataError: if there is no model, it is damaged, or it has neither points nor images.
    """
    location = find_map(path, images)
    table = read_model_table(location.model)
    if len(table.names) == 0 and not np.isfinite(table.arrays.points).all(axis=1).any():
        raise DataError("the model contains neither points nor registered images: nothing to show")
    if location.images is None:
        logger.info("%s: the folder of its images is not known, so they are not shown; state it with `images`", path)
    up, source = _up(location.model, location.images, table)
    is_sequence = location.output is not None and _is_recorded_sequence(location.output)
    is_sequence = is_sequence or looks_like_sequence(centers_by_name(table))
    return ViewedModel(str(path), table, location.images, up, source, is_sequence)


def _up(model: Path, images: Path | None, table: ModelTable) -> tuple[Float64Array, str]:
    """Up, and where it comes from: a model in metres on the Earth, else gravity, else how the images were held."""
    if is_east_north_up(model):
        return np.array([0.0, 0.0, 1.0]), "GPS"
    rotations = np.array([pose.R for pose in table.arrays.poses]).reshape(-1, 3, 3)
    headers = _headers(images, table.names)
    if not headers:
        return up_of_cameras(rotations, np.zeros(len(rotations), np.int64)), "cameras"
    measured = {row: exif.gravity for row, exif in headers.items() if exif.gravity is not None}
    up = up_of_gravity(rotations[list(measured)], np.array(list(measured.values()), np.float64).reshape(-1, 3))
    if up is not None:
        return up, "gravity"
    turns = np.array([exif.quarter_turns for exif in headers.values()], np.int64)
    source = "EXIF orientation and cameras" if turns.any() else "cameras"
    return up_of_cameras(rotations[list(headers)], turns), source


def is_east_north_up(model: Path) -> bool:
    """Whether a model was moved into a frame with the axes east, north and up."""
    try:
        found = json.loads((model / GEOREGISTRATION_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # none, or one that does not say it
    return isinstance(found, dict) and found.get("frame") == "east_north_up"


def _headers(images: Path | None, names: tuple[str, ...]) -> dict[int, Exif]:
    """The EXIF data of some images, by row."""
    found = {}
    if images is not None and len(names) > 0:
        for row in np.unique(np.linspace(0, len(names) - 1, MAX_HEADERS).astype(np.int64)).tolist():
            try:
                found[row] = Image.read(images / names[row], names[row]).exif
            except DataError:
                continue  # is told when its picture is to be shown
    return found


def _is_recorded_sequence(output: Path) -> bool:
    """Whether the record of a run says that its images are frames of a video."""
    record = read_record(output)
    pairs = record.get("config", {}).get("pairs", {}) if isinstance(record, dict) else {}
    return output.name == TRACKING_FOLDER or (isinstance(pairs, dict) and pairs.get("name") == "sequential")


def centers_by_name(table: ModelTable) -> Float64Array:
    """The camera centres [F, 3] in the natural order of the names: 2.jpg before 10.jpg."""
    rows = sorted(range(len(table.names)), key=lambda row: natural_order(table.names[row]))
    return np.array([table.arrays.poses[row].center for row in rows]).reshape(-1, 3)


def looks_like_sequence(centers: Float64Array) -> bool:
    """Whether cameras [F, 3] in the order of their names follow a path: neighbours by name are near each other."""
    if len(centers) < 5:
        return False
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    nearest = []
    for row in np.unique(np.linspace(0, len(centers) - 1, MAX_SPACING_SAMPLES).astype(int)):
        distances = np.linalg.norm(centers - centers[row], axis=1)
        distances[row] = np.inf
        nearest.append(distances.min())
    return bool(np.median(steps) <= MAX_STEP_RATIO * np.median(nearest))


def path_segments(centers: Float64Array) -> Float64Array:
    """The trajectory through centres [F, 3] as ends of segments [P, 3]; none where there is a gap."""
    if len(centers) < 2:
        return np.zeros((0, 3))
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    joined = np.flatnonzero(steps <= MAX_GAP_RATIO * np.median(steps))
    ends: Float64Array = np.stack([centers[joined], centers[joined + 1]], axis=1).reshape(-1, 3)
    return ends
