"""After the first pose, a guided search makes it more exact with the points of a dense map."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from pipelines.localize import main
from sfm_lightglue.colmap.database_reader import bytes_from_root_sift
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg, umeyama
from sfm_lightglue.images.image import Image
from sfm_lightglue.localization import guided_search, loaded_model
from sfm_lightglue.localization.appearance import MapAppearance, Surroundings
from sfm_lightglue.localization.guided_search import guided_pose
from sfm_lightglue.localization.localizer import Localizer
from sfm_lightglue.localization.matching import PointMatches
from sfm_lightglue.localization.pose import EstimatedPose
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import Camera
from tests.helpers.foreign_models import with_other_keypoints, write_model
from tests.helpers.reconstructions import one_thread

QUERY = "view_02.jpg"
LIMIT_PX = 4.0


@pytest.fixture(scope="module")
def folder(small_scene_dir, tmp_path_factory):
    """A dense map of five images whose matcher sees few keypoints, and the sixth image beside it."""
    root = tmp_path_factory.mktemp("dense")
    shutil.copytree(small_scene_dir / "images", root / "scene" / "images")
    shutil.move(root / "scene" / "images" / QUERY, root / QUERY)
    few = {"max_keypoints": 300, "max_keypoints_dense": 3000}
    reconstruct(root / "scene", config=one_thread(extractor=few, refine={"mode": "off"}))
    return root


@pytest.fixture(scope="module")
def localizer(folder):
    with Localizer(folder / "scene") as one:
        yield one


@pytest.fixture(scope="module")
def camera(small_scene):
    return small_scene.camera


@pytest.fixture(scope="module")
def truth(folder, small_scene):
    """The true pose of the query in the frame of the map, and the extent of the cameras."""
    images = sorted(read_model(folder / "scene").images.values(), key=lambda image: image.name)
    poses = small_scene.cam_from_world_from_name
    centers = np.array([image.projection_center() for image in images])
    map_from_truth = umeyama(np.array([poses[image.name].center for image in images]), centers)
    R = poses[QUERY].R @ map_from_truth.R.T
    return Rigid3(R, -R @ (map_from_truth @ poses[QUERY].center)), np.linalg.norm(np.ptp(centers, axis=0))


def errors(pose, truth):
    """(distance relative to the extent, degrees)."""
    right, extent = truth
    return np.linalg.norm(pose.center - right.center) / extent, rotation_angle_deg(pose.R @ right.R.T)


@pytest.fixture(scope="module")
def few(localizer, folder, camera):
    """Few exact matches of the query, chosen by the pose that is found with all of them, and its dense layer."""
    model = localizer.models[0]
    query = localizer._query(Image.read(folder / QUERY), QUERY, camera, None)
    found = model._matched(query.features, model.features.sparse)
    pairs = np.concatenate([one.pairs for one in found.values()])
    _, first = np.unique(pairs[:, 1], return_index=True)
    xyz = np.concatenate([one.xyz for one in found.values()])[first]
    return PointMatches(pairs[first, 0], pairs[first, 1], xyz, {}), query.dense


def start_at(pose, camera, matches, dense, deviation):
    """A first pose with so large an uncertainty of its rotation, and those of the matches as inliers that fit it."""
    pixels = dense.keypoints[matches.rows].astype(np.float64)
    projected = np.asarray(as_pycolmap(camera).img_from_cam(pose @ matches.xyz))
    fits = np.linalg.norm(projected - pixels, axis=1) <= LIMIT_PX
    covariance = np.diag([deviation**2] * 3 + [1e-8] * 3)
    return EstimatedPose(pose, camera, fits, covariance)


def test_a_pose_becomes_more_exact(localizer, folder, camera, truth, monkeypatch):
    better = localizer.localize(folder / QUERY, camera)
    monkeypatch.setattr(localizer, "config", replace(localizer.config, guided=False))
    before = localizer.localize(folder / QUERY, camera)
    assert before.num_guided_inliers == 0 and better.num_guided_inliers > 2 * before.num_inliers > 0
    assert errors(better.cam_from_world, truth)[0] < 0.5 * errors(before.cam_from_world, truth)[0]
    assert better.position_deviation < before.position_deviation
    assert better.num_inliers <= better.num_matches == before.num_matches


@pytest.mark.parametrize("seed", range(4))
def test_a_start_beside_the_pose_is_corrected(localizer, few, camera, truth, seed):
    """By about two pixels, so that a third of the matches no longer fit."""
    matches, dense = few
    axis = np.random.default_rng(seed).normal(size=3)
    turn = Rigid3.from_rotvec(0.005 * axis / np.linalg.norm(axis), np.zeros(3))
    wrong = Rigid3(turn.R @ truth[0].R, turn.R @ truth[0].t)
    model = localizer.models[0]
    appearance = MapAppearance(model.points, model.features.dense)
    first = start_at(wrong, camera, matches, dense, 0.005)
    found = guided_pose(first, matches, dense, camera, model.points, appearance, LIMIT_PX)
    distance, angle_deg = errors(found.pose.cam_from_world, truth)
    assert angle_deg < 0.25 * errors(wrong, truth)[1]
    assert distance < 0.005
    again = guided_pose(first, matches, dense, camera, model.points, appearance, LIMIT_PX)
    assert np.array_equal(found.pose.cam_from_world.as_matrix(), again.pose.cam_from_world.as_matrix())
    assert np.array_equal(found.pose.covariance, again.pose.covariance)


def test_a_search_without_support_changes_nothing(localizer, few, camera, truth):
    matches, dense = few
    model = localizer.models[0]
    first = start_at(truth[0], camera, matches, dense, 0.001)
    appearance = MapAppearance(model.points, model.features.dense)
    blank = replace(dense, descriptors=np.roll(dense.descriptors, 7, axis=1))  # look like nothing in the map
    assert guided_pose(first, matches, blank, camera, model.points, appearance, LIMIT_PX) is None
    empty = MapAppearance(model.points, lambda name: model.features.dense(name).rows(np.zeros(0, np.int64)))
    assert guided_pose(first, matches, dense, camera, model.points, empty, LIMIT_PX) is None


def test_a_result_that_is_not_determined_is_not_kept(localizer, few, camera, truth, monkeypatch):
    matches, dense = few
    model = localizer.models[0]
    appearance = MapAppearance(model.points, model.features.dense)
    first = start_at(truth[0], camera, matches, dense, 0.001)
    assert guided_pose(first, matches, dense, camera, model.points, appearance, LIMIT_PX) is not None
    refined = guided_search.refined_pose
    monkeypatch.setattr(guided_search, "refined_pose", lambda *args: replace(refined(*args), covariance=None))
    assert guided_pose(first, matches, dense, camera, model.points, appearance, LIMIT_PX) is None


def test_an_uncertain_result_is_not_kept(localizer, folder, camera, monkeypatch):
    """The limit of the first pose holds for that of the search, too."""
    found = loaded_model.guided_pose

    def uncertain(*args):
        better = found(*args)
        return replace(better, pose=replace(better.pose, covariance=1e4 * np.eye(6)))

    monkeypatch.setattr(loaded_model, "guided_pose", uncertain)
    kept = localizer.localize(folder / QUERY, camera)
    monkeypatch.setattr(localizer, "config", replace(localizer.config, guided=False))
    first = localizer.localize(folder / QUERY, camera)
    assert kept.num_guided_inliers == 0
    assert np.array_equal(kept.cam_from_world.as_matrix(), first.cam_from_world.as_matrix())
    assert np.array_equal(kept.covariance, first.covariance)


def test_observations_are_those_of_the_model(localizer):
    model = localizer.models[0]
    appearance = MapAppearance(model.points, model.features.dense)
    names = model.points.names[:2]
    images = [appearance.of(name) for name in names]
    around = Surroundings.of(images)
    for name, one in zip(names, images, strict=True):
        assert set(one.point_ids.tolist()) == set(model.points.observed_ids(name).tolist())
        projected = model.points.camera(name).img_from_cam(model.points.pose(name) @ one.xyz)
        assert np.median(np.linalg.norm(projected - one.features.keypoints, axis=1)) < 0.5
        assert np.allclose(one.center, model.points.pose(name).center)
    chosen = np.arange(0, len(around.point), 3)
    every = np.concatenate([one.features.unit_descriptors() for one in images])
    assert np.array_equal(around.descriptors(chosen), every[chosen])
    assert np.array_equal(around.point_ids[around.point], np.concatenate([one.point_ids for one in images]))


def test_a_map_of_another_tool(localizer, folder, camera, truth, tmp_path):
    model = with_other_keypoints(read_model(folder / "scene"))
    path = write_model(model, tmp_path / "sparse" / "0")
    config = localizer.config
    with Localizer(path, folder / "scene" / "images", config=config) as foreign:
        found = foreign.localize(folder / QUERY, camera)
    assert found.num_guided_inliers > 2 * found.num_inliers
    assert errors(found.cam_from_world, truth)[0] < 0.005
    assert found.model == ""


def test_a_database_of_another_tool(localizer, folder, camera, truth, tmp_path):
    """Its dense layer has many keypoints with points, described by SIFT."""
    model, path = read_model(folder / "scene"), tmp_path / "database.db"
    with pycolmap.Database.open(path) as database:
        for image in sorted(model.images.values(), key=lambda one: one.name):
            camera_id = database.write_camera(image.camera)
            image_id = database.write_image(pycolmap.Image(name=image.name, camera_id=camera_id))
            dense = localizer.models[0].features.dense(image.name)
            zero = np.zeros(len(dense))
            shape = np.column_stack([dense.keypoints, dense.scales / 2, zero + 0.1])
            database.write_keypoints(image_id, shape.astype(np.float32))
            data = bytes_from_root_sift(dense.unit_descriptors())
            database.write_descriptors(
                image_id, pycolmap.FeatureDescriptors(data=data, type=pycolmap.FeatureExtractorType.SIFT)
            )
    plain = write_model(model, tmp_path / "model")
    config = replace(localizer.config, matcher=localizer.config.matcher)
    with Localizer(plain, database=path, config=config) as foreign:
        found = foreign.localize(folder / QUERY, camera)
    assert found.num_guided_inliers > 2 * found.num_inliers
    assert errors(found.cam_from_world, truth)[0] < 0.005


def test_a_camera_without_a_focal_length_is_refined_too(localizer, folder, small_scene, truth):
    found = localizer.localize(small_scene.images[QUERY], name="pixels")
    assert found.num_guided_inliers > found.num_inliers
    assert found.camera.source == "estimated"
    assert found.camera.params[0] == pytest.approx(small_scene.camera.params[0], rel=0.01)
    assert isinstance(found.camera, Camera)


def test_a_plan_asks_for_the_dense_layer(folder, tmp_path, capsys):
    """That of an earlier version has another key, so it is extracted once more."""
    scene = shutil.copytree(folder / "scene", tmp_path / "scene")
    arguments = [str(scene), str(folder / QUERY), "--dry-run", "--json"]
    found = []
    for more in ((), ("--no-guided",)):
        assert main([*arguments, *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["num_to_extract"])
    shutil.rmtree(scene / "reconstruction" / "dense_features")
    for more in ((), ("--no-guided",)):
        assert main([*arguments, *more]) == 0
        found.append(json.loads(capsys.readouterr().out)["num_to_extract"])
    assert found == [0, 0, 5, 0]
