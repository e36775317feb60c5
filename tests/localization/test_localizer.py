"""Images that were left out of a small map are found in it; images of another place are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from pipelines.localize import main
from sfm_lightglue.colmap.database_reader import bytes_from_root_sift
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.geometry.transforms import Sim3, rotation_angle_deg, umeyama
from sfm_lightglue.localization.loaded_model import LoadedModel
from sfm_lightglue.localization.localizer import Localizer, localize
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.scene.camera_assignment import CameraConfig
from tests.helpers.foreign_models import with_other_keypoints, write_model
from tests.helpers.reconstructions import one_thread

QUERY = "view_02.jpg"


@pytest.fixture(scope="module")
def folder(small_scene_dir, tmp_path_factory):
    """A map of five images in scene/, and the sixth one beside it."""
    root = tmp_path_factory.mktemp("map")
    shutil.copytree(small_scene_dir / "images", root / "scene" / "images")
    (root / "queries").mkdir()
    shutil.move(root / "scene" / "images" / QUERY, root / "queries" / QUERY)
    reconstruct(root / "scene", config=one_thread(density={"level": "sparse"}, refine={"mode": "off"}))
    return root


@pytest.fixture(scope="module")
def localizer(folder):
    with Localizer(folder / "scene") as one:
        yield one


@pytest.fixture(scope="module")
def errors(folder, small_scene):
    """(distance relative to the extent, degrees) of a pose in the frame of the map."""
    model = read_model(folder / "scene")
    images = sorted(model.images.values(), key=lambda image: image.name)
    truth = small_scene.cam_from_world_from_name
    centers = np.array([image.projection_center() for image in images])
    map_from_truth = umeyama(np.array([truth[image.name].center for image in images]), centers)
    extent = np.linalg.norm(np.ptp(centers, axis=0))

    def measured(pose, name=QUERY):
        distance = np.linalg.norm(pose.center - map_from_truth @ truth[name].center) / extent
        return distance, rotation_angle_deg(pose.R @ (truth[name].R @ map_from_truth.R.T).T)

    return measured


def assert_near(found, errors):
    distance, angle_deg = errors(found.cam_from_world)
    assert found.reason is None
    assert distance < 0.01
    assert angle_deg < 0.5


def test_an_image_is_found(folder, localizer, errors):
    found = localizer.localize(folder / "queries" / QUERY)
    assert_near(found, errors)
    assert found.camera.source == "exif"
    assert found.num_inliers > 100
    assert found.num_inliers > 0.8 * found.num_matches
    assert found.images[0].name in {"view_01.jpg", "view_03.jpg"}
    assert 0 < found.position_deviation < 0.1
    again = localizer.localize(folder / "queries" / QUERY)
    assert np.array_equal(found.cam_from_world.as_matrix(), again.cam_from_world.as_matrix())
    assert np.array_equal(found.covariance, again.covariance)


def test_further_images_are_matched_only_if_the_first_give_no_sure_pose(folder, localizer, errors, monkeypatch):
    few = localizer.localize(folder / "queries" / QUERY)
    assert len(few.images) == localizer.config.first_images < len(localizer.names)
    assert few.num_inliers >= localizer.config.enough_inliers
    monkeypatch.setattr(localizer, "config", replace(localizer.config, enough_inliers=10**6))
    every = localizer.localize(folder / "queries" / QUERY)
    assert len(every.images) == len(localizer.names)
    assert {one.name for one in few.images} < {one.name for one in every.images}
    assert_near(every, errors)
    monkeypatch.setattr(localizer, "config", replace(localizer.config, num_images=2))
    assert len(localizer.localize(folder / "queries" / QUERY).images) == 2


def test_pixels_without_a_focal_length_are_found(localizer, small_scene, errors):
    found = localizer.localize(small_scene.images[QUERY], name="pixels")
    assert_near(found, errors)
    assert found.name == "pixels"
    assert found.camera.source == "estimated"


def test_a_query_of_the_camera_of_the_map_gets_its_intrinsics(localizer, small_scene, errors, monkeypatch):
    monkeypatch.setattr(localizer, "config", replace(localizer.config, same_camera=True))
    found = localizer.localize(small_scene.images[QUERY], name="pixels")
    assert_near(found, errors)
    (camera,) = localizer.models[0].points.model.cameras.values()
    assert (found.camera.source, found.camera.params) == ("given", tuple(camera.params))
    other = localizer.localize(np.ascontiguousarray(small_scene.images[QUERY][8:-8]))
    assert other.camera.source == "estimated"  # an image of another size is not of this camera


def test_a_query_is_matched_with_the_images_that_are_named(folder, localizer, errors):
    found = localizer.localize(folder / "queries" / QUERY, candidates=["view_00.jpg", "view_01.jpg"])
    assert_near(found, errors)
    assert {one.name for one in found.images} == {"view_00.jpg", "view_01.jpg"}
    with pytest.raises(DataError, match="view_0"):
        localizer.localize(folder / "queries" / QUERY, candidates=["view_9.jpg"])
    assert localizer.localize(folder / "queries" / QUERY, candidates=[]).reason == "no_similar_image"


def test_other_places_are_refused(localizer):
    noise = np.random.default_rng(0).integers(0, 255, (90, 120), dtype=np.uint8)
    assert localizer.localize(np.kron(noise, np.ones((4, 4), np.uint8))).reason == "too_few_matches"
    assert localizer.localize(np.full((360, 480), 90, np.uint8)).reason == "no_similar_image"


def test_files_that_are_no_images_have_a_reason(folder, localizer):
    (folder / "broken.jpg").write_bytes(b"no image")
    for path in (folder / "broken.jpg", folder / "missing.jpg"):
        found = localizer.localize(path)
        assert found.reason == "unreadable"
        assert path.name in found.message


def test_intrinsics_must_fit(folder, localizer):
    with pytest.raises(ConfigError, match="principal point"):
        localizer.localize(folder / "queries" / QUERY, CameraConfig(model="PINHOLE", params=(400, 400, 900, 180)))


def test_a_map_of_another_tool(folder, errors, tmp_path):
    """Its keypoints are others than ours, and its features are not in our store."""
    model = with_other_keypoints(read_model(folder / "scene"))
    path = write_model(model, tmp_path / "sparse" / "0", as_text=True)
    with pytest.raises(DataError, match="folder of the images"):
        localize(path, folder / "queries" / QUERY)
    found = localize(path, folder / "queries" / QUERY, images=folder / "scene" / "images")
    assert_near(found[0], errors)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["sparse"]


def test_a_database_with_sift_descriptors_in_place_of_photos(folder, localizer, errors, tmp_path):
    model, path = read_model(folder / "scene"), tmp_path / "database.db"
    with pycolmap.Database.open(path) as database:
        for image in sorted(model.images.values(), key=lambda one: one.name):
            camera_id = database.write_camera(image.camera)
            image_id = database.write_image(pycolmap.Image(name=image.name, camera_id=camera_id))
            features = localizer.models[0].features.sparse[image.name]
            shape = np.column_stack([features.keypoints, features.scales / 2, features.orientations])
            database.write_keypoints(image_id, shape.astype(np.float32))
            data = bytes_from_root_sift(features.descriptors)
            database.write_descriptors(
                image_id, pycolmap.FeatureDescriptors(data=data, type=pycolmap.FeatureExtractorType.SIFT)
            )
    plain = write_model(model, tmp_path / "model")
    found = localize(plain, folder / "queries" / QUERY, database=path)
    assert_near(found[0], errors)


def test_the_command(folder, tmp_path, capsys):
    (folder / "queries" / "other.png").write_bytes((folder / "queries" / QUERY).read_bytes()[:3000])
    arguments = [str(folder / "scene"), str(folder / "queries"), "--output", str(tmp_path / "out"), "--json", "--quiet"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {line["name"]: line for line in lines}
    assert found[QUERY]["registered"]
    assert found["other.png"]["reason"] is not None
    assert (tmp_path / "out" / "results.jsonl").read_text().count("\n") == 2
    assert main([str(folder / "scene"), "--output", str(folder / "scene" / "reconstruction"), str(folder)]) == 2
    assert main([str(folder / "scene")]) == 2
    (folder / "list.txt").write_text(f"{QUERY} SIMPLE_PINHOLE 480 360 416 240 180\n")
    (folder / "pairs.txt").write_text(f"{QUERY} view_01.jpg\n{QUERY} view_03.jpg\n")
    lists = ["--queries", str(folder / "list.txt"), "--pairs", str(folder / "pairs.txt")]
    assert main([str(folder / "scene"), str(folder / "queries"), *lists]) == 0
    assert "1 of 1 images found" in capsys.readouterr().out


@pytest.fixture(scope="module")
def two_models(folder, tmp_path_factory):
    """The map as two models, each in its own frame, that have one image in common."""
    scene = shutil.copytree(folder / "scene", tmp_path_factory.mktemp("two") / "scene")
    sparse = scene / "reconstruction" / "sparse"
    for number, left_out in ((1, ("view_04.jpg", "view_05.jpg")), (0, ("view_00.jpg", "view_01.jpg"))):
        model = read_model(folder / "scene")
        for image in sorted(model.images.values(), key=lambda one: one.name):
            if image.name in left_out:
                model.deregister_frame(image.frame_id)
        if number == 1:
            model.transform(pycolmap.Sim3d(2.0, pycolmap.Rotation3d([0.0, 0.0, 0.6, 0.8]), [3.0, 4.0, 5.0]))
        (sparse / str(number)).mkdir(exist_ok=True)
        model.write_binary(sparse / str(number))
    return scene


def test_a_photo_is_found_in_the_model_that_shows_it_best(folder, two_models, errors):
    query = folder / "scene" / "images" / "view_00.jpg"
    with Localizer(two_models) as localizer:
        assert [model.name for model in localizer.models] == ["sparse/0", "sparse/1"]
        found = localizer.localize(query)
        given = localizer.localize(query, candidates=["view_03.jpg", "view_01.jpg"])
        last = localizer.localize(query, candidates=["view_04.jpg", "view_05.jpg"])
    assert found.model == given.model == "sparse/1" and last.model == "sparse/0"
    assert np.linalg.norm(found.cam_from_world.center) > 1
    in_first = Sim3(2.0, pycolmap.Rotation3d([0.0, 0.0, 0.6, 0.8]).matrix(), np.array([3.0, 4.0, 5.0])).inverse()
    center = in_first @ found.cam_from_world.center
    model = read_model(folder / "scene")
    known = model.find_image_with_name("view_00.jpg").projection_center()
    extent = np.linalg.norm(np.ptp([image.projection_center() for image in model.images.values()], axis=0))
    assert np.linalg.norm(center - known) < 0.05 * extent
    with Localizer(two_models / "reconstruction" / "sparse" / "1") as localizer:
        assert [model.name for model in localizer.models] == ["sparse/1"]


def test_the_command_with_several_models(folder, two_models, tmp_path, capsys):
    query = str(folder / "scene" / "images" / "view_00.jpg")
    assert main([str(two_models), query, "--output", str(tmp_path / "found"), "--quiet"]) == 0
    assert (tmp_path / "found" / "model_1" / "poses.txt").read_text().startswith(query)
    assert (tmp_path / "found" / "poses.txt").read_text() == ""
    (tmp_path / "bad.png").write_bytes(b"no image")
    one = two_models / "reconstruction" / "sparse" / "1"
    assert main([str(one), str(tmp_path / "bad.png")]) == 5
    told = capsys.readouterr().err
    assert "other models" in told and str(Path("sparse") / "0") in told
    assert main([str(two_models), str(tmp_path / "bad.png"), "--quiet"]) == 5
    assert "other models" not in capsys.readouterr().err


def test_a_model_that_cannot_be_read_is_left_out(folder, two_models, tmp_path, caplog):
    scene = shutil.copytree(two_models, tmp_path / "scene")
    sparse = scene / "reconstruction" / "sparse"
    (sparse / "1" / "points3D.bin").write_bytes(b"damaged")
    with Localizer(scene) as localizer:
        assert [model.name for model in localizer.models] == ["sparse/0"]
        assert localizer.localize(folder / "queries" / QUERY).model == "sparse/0"
    (warning,) = [record.getMessage() for record in caplog.records if record.name.endswith("localizer")]
    assert str(sparse / "1") in warning and "damaged" in warning
    arguments = [str(scene), str(folder / "queries" / QUERY), "--dry-run", "--quiet"]
    assert main(arguments) == 0
    shutil.copy(sparse / "1" / "points3D.bin", sparse / "0" / "points3D.bin")
    with pytest.raises(DataError, match="points3D"):
        Localizer(scene)
    assert main(arguments) == 3


def test_negative_similarities_of_all_models(folder, two_models, monkeypatch):
    """As of an image that resembles none of the map."""
    values = iter([-0.01, -0.1])
    monkeypatch.setattr(LoadedModel, "similarity", lambda model, features: next(values))
    with Localizer(two_models) as localizer:
        assert localizer.localize(folder / "queries" / QUERY).model == "sparse/0"


def test_a_plan_counts_each_image_once(folder, two_models, capsys):
    assert main([str(two_models), str(folder / "queries" / QUERY), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["num_map_images"], plan["num_to_extract"]) == (5, 0)
