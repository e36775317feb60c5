"""COLMAP databases as its own tools write them, adding our features to them, and mapping with pycolmap."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from sfm_lightglue.reconstruction.add_to_database import HostSummary, add_to_database
from sfm_lightglue.reconstruction.config import ReconstructConfig

QUICK: dict[str, Any] = {
    "num_threads": 1,
    "extractor": {"name": "sift", "max_keypoints": 600},
    "matcher": {"name": "nearest"},
}

NAMES = tuple(f"view_0{i}.jpg" for i in range(6))


def config(**values: object) -> ReconstructConfig:
    return ReconstructConfig.from_mapping(QUICK | values)


Host = Callable[..., HostSummary]


def make_host(store: Path) -> Host:
    """`add_to_database` with fast options, changed by `values`, and one store for all calls."""

    def add(database: Path, images: Path, **options: Any) -> HostSummary:
        values = options.pop("values", {})
        return add_to_database(database, images, config(**values), store, **options)

    return add


def map_plainly(database: Path, images: Path, **options: Any) -> pycolmap.Reconstruction:
    """Run pycolmap's mapper on a database, with COLMAP's default options except for the given ones."""
    native = pycolmap.IncrementalPipelineOptions()
    native.num_threads, native.random_seed = 1, 0
    native.mapper.filter_max_reproj_error = options.pop("filter_max_reproj_error", 4.0)
    for name, value in options.items():
        setattr(native, name, value)
    output = database.parent / "plain"
    output.mkdir(exist_ok=True)
    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, 3
    try:
        models = pycolmap.incremental_mapping(database, images, output, native)
    finally:
        pycolmap.logging.minloglevel = level
    return max(models.values(), key=lambda model: model.num_reg_images())


def dump(database: Path, *tables: str) -> list[str]:
    """The rows of the named tables as text; of all tables if none is named."""
    with closing(sqlite3.connect(database)) as connection:
        names = tables or [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        return [repr((name, connection.execute(f"SELECT * FROM {name}").fetchall())) for name in names]


KEPT_TABLES = ("cameras", "images", "rigs", "rig_sensors", "frames", "frame_data", "pose_priors")


def prepared(path: Path, images: Path, names: tuple[str, ...] = NAMES, **camera: Any) -> Path:
    """A database as COLMAP's tools write it before matching: arbitrary identifiers, no order, pose priors."""
    with pycolmap.Database.open(path) as database:
        native = pycolmap.Camera.create_from_model_name(7, "OPENCV", 430.0, 480, 360)
        native.has_prior_focal_length = True
        for name, value in camera.items():
            setattr(native, name, value)
        database.write_camera(native, use_camera_id=True)
        sensor = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 7)
        rig = pycolmap.Rig(rig_id=3)
        rig.add_ref_sensor(sensor)
        database.write_rig(rig, use_rig_id=True)
        for number, name in enumerate(names):
            image = pycolmap.Image(name=name, camera_id=7, image_id=50 - 3 * number)
            database.write_image(image, use_image_id=True)
            frame = pycolmap.Frame(rig_id=3, frame_id=90 - number)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            prior = pycolmap.PosePrior(pose_prior_id=number + 1, position=np.array([number, 1.0, 2.0]))
            prior.corr_data_id = image.data_id
            database.write_pose_prior(prior, use_pose_prior_id=True)
    return path
