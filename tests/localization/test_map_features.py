"""The features of a COLMAP database: each keypoint of the dense layer has the point that it observes itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.database_reader import bytes_from_root_sift
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.features import DenseFeatures
from sfm_lightglue.localization.appearance import MapAppearance
from sfm_lightglue.localization.map_features import features_of_database
from sfm_lightglue.localization.map_points import MapPoints
from tests.helpers.exact_scenes import make_model, ring_scene

NUM_TWINS = 8
NAME = "01.jpg"


@pytest.fixture(scope="module")
def model():
    """Some keypoints are at one place, as COLMAP keeps one for each orientation, and have points of their own."""
    scene = ring_scene(3, 60)
    points = np.concatenate([scene.points, scene.points[:NUM_TWINS]])
    model = make_model(replace(scene, points=points, noise_px=0.0), max_points={"02.jpg": 20})
    for point_id in np.unique(point_ids_of(model.find_image_with_name(NAME))[[NUM_TWINS + 1, NUM_TWINS + 3]]).tolist():
        model.delete_point3D(point_id)  # so that the rows of the dense layer are not those of the model
    return model


@pytest.fixture(scope="module")
def database(model, tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("database") / "database.db", np.random.default_rng(0)
    with pycolmap.Database.open(path) as database:
        for image in sorted(model.images.values(), key=lambda one: one.name):
            pixels = pixels_of(image)
            camera_id = database.write_camera(image.camera)
            image_id = database.write_image(pycolmap.Image(name=image.name, camera_id=camera_id))
            shape = np.column_stack([pixels, rng.uniform(1, 5, (len(pixels), 2))])
            database.write_keypoints(image_id, shape.astype(np.float32))
            squares = rng.uniform(0, 1, (len(pixels), 128))
            data = bytes_from_root_sift(np.sqrt(squares / squares.sum(axis=1, keepdims=True)).astype(np.float32))
            kind = pycolmap.FeatureExtractorType.SIFT
            database.write_descriptors(image_id, pycolmap.FeatureDescriptors(data=data, type=kind))
    return path


def test_keypoints_at_one_place_keep_their_own_points(model, database):
    features = features_of_database(model, database, "sift", 1000)
    found = MapAppearance(MapPoints(model), features.dense, features.dense_rows).of(NAME)
    ids = point_ids_of(model.find_image_with_name(NAME))
    assert found.point_ids.tolist() == ids[ids >= 0].tolist()
    assert len(np.unique(np.round(found.features.keypoints, 2), axis=0)) < len(found.point_ids)
    every = DenseFeatures.from_features(features.sparse[NAME]).descriptors
    assert np.array_equal(found.features.descriptors, every[ids >= 0])


def test_the_dense_layer_has_no_more_keypoints_than_are_asked_for(model, database):
    features = features_of_database(model, database, "sift", 12)
    ids = point_ids_of(model.find_image_with_name("02.jpg"))
    rows = features.dense_rows["02.jpg"]
    assert len(features.dense("02.jpg")) == len(rows) == 12
    assert (ids[rows] >= 0).all() and (ids < 0).any()
    found = MapPoints(model).exactly_of("02.jpg", features.dense("02.jpg"), rows)
    assert found.point_ids.tolist() == ids[rows].tolist()


def test_without_a_dense_layer_none_is_built(model, database, monkeypatch):
    built = []
    quantise = DenseFeatures.from_features
    monkeypatch.setattr(DenseFeatures, "from_features", lambda *args: built.append(args) or quantise(*args))
    features = features_of_database(model, database, "sift", 0)
    assert built == []
    assert len(features.dense(NAME)) == len(features.sparse[NAME])
    assert len(built) == 1
