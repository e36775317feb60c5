"""Read scenes of the Image Matching Challenge of 2022: `calibration.csv` and `pair_covisibility.csv`.

Since 2023 its scenes are COLMAP models in a folder `sfm`, which `datasets.colmap` reads.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.cameras_json import camera_from_opencv
from datasets.photo_size import photo_size
from datasets.scene_truth import photo_from_stem, scene_name
from datasets.text import finite_numbers, read_text
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3

CALIBRATION_FILE, COVISIBILITY_FILE, SCALING_FILE = "calibration.csv", "pair_covisibility.csv", "scaling_factors.csv"

MIN_COVISIBILITY = 0.1
"""The organisers recommend pairs with at least this covisibility."""


def read_imc(path: Path) -> SceneTruth:
    """Read the cameras of a scene; the unit is the metre if `scaling_factors.csv` is in the scene or its parent folder.

    A row of `calibration.csv` is image_id (without suffix), camera_intrinsics (K, 9 numbers), rotation_matrix
    (9) and translation_vector (3) of cam_from_world. K comes from COLMAP models; its pixel convention is assumed to
    be COLMAP's.

    Args:
        path: the scene folder, with `calibration.csv` and `images/`.

    Raises:
        DataError: if the file is damaged or an image is missing, with file and line.

    Source: the data description of the challenge of 2022, on Kaggle.
    """
    scale = _scaling_factor(path)
    images = photo_from_stem([path / "images"])
    poses, cameras = {}, {}
    for location, row in _rows(path / CALIBRATION_FILE, ("image_id", "camera_intrinsics", *_POSE_COLUMNS)):
        image = images.get(row["image_id"])
        if image is None:
            raise DataError(f"{location}: no image {row['image_id']} in {path / 'images'}")
        K = finite_numbers(location, row["camera_intrinsics"].split(), 9, "camera_intrinsics").reshape(3, 3)
        R = finite_numbers(location, row["rotation_matrix"].split(), 9, "rotation_matrix").reshape(3, 3)
        t = finite_numbers(location, row["translation_vector"].split(), 3, "translation_vector")
        K[:2, 2] -= 0.5  # to OpenCV's convention, which `camera_from_opencv` expects
        try:
            poses[image.name] = Rigid3(R, t * (scale or 1.0))
            cameras[image.name] = camera_from_opencv(K, np.zeros(0), photo_size(image))
        except ValueError as error:
            raise DataError(f"{location}: {error}") from error
    if not poses:
        raise DataError(f"{path / CALIBRATION_FILE}: no image in it")
    return SceneTruth(scene_name(path), path / "images", poses, cameras, is_metric=scale is not None)


def read_covisible_pairs(path: Path, min_covisibility: float = MIN_COVISIBILITY) -> list[tuple[str, str]]:
    """Read the image names of the pairs of `pair_covisibility.csv` with enough covisibility, sorted.

    Args:
        path: the scene folder.
        min_covisibility: smallest fraction, as estimated by the organisers.

    Raises:
        DataError: if the file is damaged, with file and line.
    """
    names = {stem: image.name for stem, image in photo_from_stem([path / "images"]).items()}
    pairs = []
    for location, row in _rows(path / COVISIBILITY_FILE, ("pair", "covisibility")):
        stems = row["pair"].split("-")
        if len(stems) != 2 or not set(stems) <= names.keys():
            raise DataError(f"{location}: pair {row['pair']!r}: expected two images of {path / 'images'} and a hyphen")
        (covisibility,) = finite_numbers(location, [row["covisibility"]], 1, "covisibility")
        if covisibility >= min_covisibility:
            name0, name1 = sorted(names[stem] for stem in stems)
            pairs.append((name0, name1))
    return sorted(pairs)


_POSE_COLUMNS = ("rotation_matrix", "translation_vector")


def _scaling_factor(path: Path) -> float | None:
    """Length of the scene's unit in metres; None if there is no file with it."""
    for folder in (path, path.resolve().parent):
        if not (folder / SCALING_FILE).is_file():
            continue
        for location, row in _rows(folder / SCALING_FILE, ("scene", "scaling_factor")):
            if row["scene"] == scene_name(path):
                (factor,) = finite_numbers(location, [row["scaling_factor"]], 1, "scaling_factor")
                if factor <= 0:
                    raise DataError(f"{location}: scaling_factor must be positive, got {factor:g}")
                return float(factor)
    return None


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(read_text(path).splitlines())
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}:1: the column {missing[0]} is missing")
    for row in reader:
        location = f"{path}:{reader.line_num}"
        absent = [column for column in columns if row[column] is None]
        if absent:
            raise DataError(f"{location}: the row ends before {absent[0]}")
        yield location, row
