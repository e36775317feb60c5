"""Databases have row for row what pycolmap's own calls write; a disk that fills up is an error, not the end."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.errors import StoreError
from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.publication import SQLITE_SIDE_FILES
from sfm_lightglue.types import Camera, ImagePair, Matches, Rejected, SceneImage, TwoViewGeometry
from tests.helpers.checkout import ROOT

CAMERAS = (
    Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.01), "given"),
    Camera("OPENCV", 800, 600, (700.0, 710.0, 400.0, 300.0, 0.1, 0.01, 1e-3, 2e-3), "guessed"),
)
IMAGES = tuple(
    SceneImage(name, Path(name), CAMERAS[idx], idx, "", gps_position=position)
    for name, idx, position in (("c.jpg", 0, (1.0, 2.0, 3.0)), ("a.jpg", 1, None), ("b.jpg", 0, (4.0, 5.0, np.nan)))
)
POSE = Rigid3.from_rotvec(np.array([0.1, -0.2, 0.3]), np.array([0.6, 0.0, 0.8]))
MATCHES = Matches(np.array([[0, 3], [1, 2], [4, 4]], np.int32), np.ones(3, np.float32))
NONE = Matches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))
MASK = np.array([True, False, True])
E, F, H = essential_from_pose(POSE), np.arange(9.0).reshape(3, 3), np.diag([1.0, 2.0, 3.0])
PAIRS: tuple[tuple[ImagePair, Matches, TwoViewGeometry | Rejected], ...] = (
    (ImagePair("a.jpg", "b.jpg"), MATCHES, TwoViewGeometry("general", MASK, POSE, F, E)),
    (ImagePair("a.jpg", "c.jpg"), MATCHES, TwoViewGeometry("planar", MASK, POSE, F, E, H)),  # c.jpg is before a.jpg
    (ImagePair("b.jpg", "c.jpg"), NONE, Rejected("too_few_matches", 0, 0)),
)


def features(number: int) -> tuple[np.ndarray, np.ndarray | None]:
    rng = np.random.default_rng(number)
    if number == 2:
        return np.zeros((0, 2), np.float32), None
    keypoints = (rng.random((5, 2 + 2 * number)) * 400).astype(np.float32)
    return keypoints, rng.integers(0, 255, (5, 128), np.uint8) if number else None


def write_ours(path: Path) -> None:
    with DatabaseWriter(path) as writer:
        for number, image in enumerate(IMAGES):
            writer.add_image(image, *features(number))
        for pair in PAIRS:
            writer.add_pair(*pair)


def write_by_pycolmap(path: Path) -> None:
    with pycolmap.Database.open(path) as database:
        camera_ids, image_ids = {}, {}
        for number, image in enumerate(IMAGES):
            if image.camera_idx not in camera_ids:
                native = pycolmap.Camera.create_from_model_name(0, image.camera.model, 1.0, *image.camera.size)
                native.params = list(image.camera.params)
                native.has_prior_focal_length = image.camera.source == "given"
                camera_ids[image.camera_idx] = database.write_camera(native)
            camera_id = camera_ids[image.camera_idx]
            one = pycolmap.Image(name=image.name, camera_id=camera_id)
            one.image_id = image_ids[image.name] = database.write_image(one)
            sensor = pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera_id)
            rig = database.read_rig_with_sensor(sensor)
            if rig is None:
                rig = pycolmap.Rig()
                rig.add_ref_sensor(sensor)
                rig.rig_id = database.write_rig(rig)
            frame = pycolmap.Frame(rig_id=rig.rig_id)
            frame.add_data_id(one.data_id)
            database.write_frame(frame)
            if image.gps_position is not None:
                prior = pycolmap.PosePrior(
                    position=np.array(image.gps_position), coordinate_system=pycolmap.PosePriorCoordinateSystem.WGS84
                )
                prior.corr_data_id = one.data_id
                database.write_pose_prior(prior)
            keypoints, descriptors = features(number)
            database.write_keypoints(one.image_id, keypoints)
            if descriptors is not None:
                kind = pycolmap.FeatureExtractorType.SIFT
                database.write_descriptors(one.image_id, pycolmap.FeatureDescriptors(kind, descriptors))
        for pair, matches, geometry in PAIRS:
            ids, indices = (image_ids[pair.name0], image_ids[pair.name1]), matches.indices.astype(np.uint32)
            database.write_matches(*ids, indices)
            if isinstance(geometry, TwoViewGeometry):
                native = pycolmap.TwoViewGeometry()
                kinds = pycolmap.TwoViewGeometryConfiguration
                native.config = kinds.PLANAR if geometry.kind == "planar" else kinds.CALIBRATED
                native.inlier_matches = indices[geometry.inlier_mask]
                native.F, native.E = geometry.F, geometry.E
                native.cam2_from_cam1 = pycolmap.Rigid3d(pycolmap.Rotation3d(POSE.R), POSE.t)
                if geometry.H is not None:
                    native.H = geometry.H
                database.write_two_view_geometry(*ids, native)


def rows(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


def test_rows_are_those_of_pycolmap(tmp_path: Path) -> None:
    write_ours(tmp_path / "ours.db")
    write_by_pycolmap(tmp_path / "theirs.db")
    ours, theirs = rows(tmp_path / "ours.db"), rows(tmp_path / "theirs.db")
    assert ours.keys() == theirs.keys()
    for table in theirs:
        assert ours[table] == theirs[table], table
    assert len(theirs["two_view_geometries"]) == 2
    assert len(theirs["pose_priors"]) == 2


def test_the_file_is_alone_and_complete_for_pycolmap(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    write_ours(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["database.db"]
    with pycolmap.Database.open(path) as database:
        assert (database.num_images(), database.num_matched_image_pairs(), database.num_keypoints()) == (3, 3, 10)
    with DatabaseWriter(path) as writer:
        writer.remove_geometry(PAIRS[0][0])
        writer.replace_geometry(PAIRS[1][0], NONE, Rejected("too_few_matches", 0, 0))
    with pycolmap.Database.open(path) as database:
        assert (database.num_verified_image_pairs(), database.num_matches()) == (0, 3)
    assert not any(path.with_name(path.name + suffix).exists() for suffix in SQLITE_SIDE_FILES)


def test_an_error_in_the_block_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    write_ours(path)
    before = rows(path)
    with pytest.raises(KeyError), DatabaseWriter(path) as writer:
        writer.remove_geometry(PAIRS[0][0])
        raise KeyError
    assert rows(path) == before


def test_a_row_that_is_there_already_is_an_error_of_the_file(tmp_path: Path) -> None:
    """pycolmap ends the process there."""
    write_ours(tmp_path / "database.db")
    message = r"database\.db: cannot be written \(UNIQUE constraint"
    with pytest.raises(StoreError, match=message), DatabaseWriter(tmp_path / "database.db") as writer:
        writer.add_pair(*PAIRS[0])


def test_a_file_that_cannot_grow_is_an_error(tmp_path: Path) -> None:
    """The limit on the size of files acts like a full disk, while tables are made, in the block, or at its end."""
    program = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.errors import StoreError
from sfm_lightglue.types import Camera, SceneImage

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
camera = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0), "given")
for limit, num_images, num_keypoints in ((0, 1, 1), (8192, 0, 0), (200_000, 1, 30_000), (200_000, 40, 300_000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with DatabaseWriter(Path(sys.argv[1]) / f"{limit}-{num_images}.db") as writer:
            for number in range(num_images):
                image = SceneImage(f"{number}", Path("x"), camera, 0, "")
                writer.add_image(image, np.zeros((num_keypoints, 2), np.float32))
        print("no error")
    except StoreError as error:
        print(error)
"""
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all(".db: cannot be written" in line for line in lines)
