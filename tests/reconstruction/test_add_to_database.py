"""Our features in COLMAP's databases: what its mapper makes of them, and what is kept."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from datasets.ground_truth import read_scene
from pipelines.colmap import main
from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.reconstruction.add_to_database import add_to_database
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.colmap_databases import KEPT_TABLES, NAMES, Host, config, dump, make_host, map_plainly, prepared
from tests.helpers.photos import textured, write_photo
from tests.helpers.shared_data import shared_data


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests below compute, once for all of them."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def host(store: Path) -> Host:
    return make_host(store)


SPARSE = {"density": {"level": "sparse"}, "refine": {"mode": "off"}}

OUR_LIMITS = {
    "filter_max_reproj_error": 2.0,
    "ba_global_frames_ratio": 1.2,
    "ba_global_points_ratio": 1.2,
    "ba_global_max_refinements": 2,
    "ba_global_function_tolerance": 1e-5,
    "ba_local_function_tolerance": 1e-5,
}


def assert_same_model(one: pycolmap.Reconstruction, other: pycolmap.Reconstruction) -> None:
    """To the last bit, but for colours, which we take from the photos ourselves."""
    poses = [poses_of_model(model) for model in (one, other)]
    assert poses[0].keys() == poses[1].keys()
    for name, pose in poses[0].items():
        np.testing.assert_array_equal(pose.as_matrix(), poses[1][name].as_matrix())
    assert set(one.points3D) == set(other.points3D)
    for point_id, point in one.points3D.items():
        np.testing.assert_array_equal(point.xyz, other.points3D[point_id].xyz)
    for camera_id, camera in one.cameras.items():
        np.testing.assert_array_equal(camera.params, other.cameras[camera_id].params)


def test_plain_mapping_gives_the_model_of_our_own_command(
    small_scene_dir: Path, store: Path, host: Host, tmp_path: Path
) -> None:
    """What of ours differs from COLMAP here: limits, number and end of adjustments, and the last ones."""
    reconstruct(small_scene_dir, store, config(mapping={"robust_loss_px": 0}, **SPARSE))
    summary = host(tmp_path / "database.db", small_scene_dir / "images")
    assert summary.num_images == 6
    assert summary.new_images == NAMES
    assert (summary.num_pairs, summary.num_verified) == (15, 15)
    model = map_plainly(tmp_path / "database.db", small_scene_dir / "images", **OUR_LIMITS)
    assert_same_model(model, read_model(store))
    ours = dump(store / "database.db", *KEPT_TABLES, "matches", "two_view_geometries")
    assert dump(tmp_path / "database.db", *KEPT_TABLES, "matches", "two_view_geometries") == ours


def test_fountain_round_trip(tmp_path: Path) -> None:
    """Real photos: the same model bit for bit with our threshold, and nearly so with COLMAP's own."""
    folder = shared_data("scenes", "fountain_p11")
    camera = next(iter(read_scene(folder).camera_from_name.values()))
    values = {
        "extractor": {"name": "sift", "max_keypoints": 1024},
        "cameras": {"mode": "single", "model": camera.model, "params": list(camera.params)},
    }
    reconstruct(folder, tmp_path / "out", config(mapping={"robust_loss_px": 0}, **SPARSE, **values))
    database, images = tmp_path / "database.db", folder / "images"
    summary = add_to_database(database, images, config(**values), tmp_path / "out")
    assert summary.num_images == 11
    own = read_model(tmp_path / "out")
    assert own.num_reg_images() == 11
    # A database does not say that intrinsics were given, and so are not to be refined.
    fixed = {"constant_cameras": {1}}
    assert_same_model(map_plainly(database, images, **OUR_LIMITS, **fixed), own)
    aligned = align_poses(poses_of_model(map_plainly(database, images, **fixed)), poses_of_model(own))
    centers = np.array([pose.center for pose in poses_of_model(own).values()])
    extent = np.linalg.norm(centers[:, None] - centers, axis=2).max()
    assert aligned.max_center_error < 5e-4 * extent
    assert aligned.max_rotation_error_deg < 0.3


def test_what_a_database_has_is_kept(
    small_scene: SyntheticScene, small_scene_dir: Path, host: Host, tmp_path: Path
) -> None:
    """Numbers, cameras, rigs, frames and priors; and images in any order find each other."""
    focal, cx, cy = small_scene.camera.params
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", NAMES[::-1][:3] + NAMES[:3])
    with pycolmap.Database.open(database) as opened:
        camera = opened.read_camera(7)
        camera.params = [focal, focal, cx, cy, 0, 0, 0, 0]
        opened.update_camera(camera)
    before = dump(database, *KEPT_TABLES)
    summary = host(database, small_scene_dir / "images")
    assert summary.new_images == summary.missing_images == ()
    assert dump(database, *KEPT_TABLES) == before
    model = map_plainly(database, small_scene_dir / "images", constant_cameras={7})
    aligned = align_poses(poses_of_model(model), small_scene.cam_from_world_from_name)
    assert model.num_reg_images() == 6
    assert aligned.max_center_error < 0.005 * small_scene.extent_m


@pytest.mark.parametrize("is_prior", [True, False])
def test_a_focal_length_that_is_no_prior_is_only_a_guess(
    small_scene_dir: Path, host: Host, tmp_path: Path, is_prior: bool
) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", has_prior_focal_length=is_prior)
    host(database, small_scene_dir / "images")
    with pycolmap.Database.open(database) as opened:
        assert opened.read_camera(7).has_prior_focal_length is is_prior
        _, geometries = opened.read_two_view_geometries()
    assert len(geometries) == 15
    assert {geometry.E is not None for geometry in geometries} == {is_prior}


def test_features_that_are_there_are_refused_or_replaced(
    small_scene_dir: Path, host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of photos that are not here they stay, with the matches among them; those with the others go, and it is told."""
    images = tmp_path / "images"
    shutil.copytree(small_scene_dir / "images", images)
    database = tmp_path / "database.db"
    assert host(database, images).num_lost_pairs == 0
    before = dump(database)
    with pytest.raises(
        ConfigError, match=r"database\.db: has features or matches of 6 of the images .*`overwrite=True`"
    ):
        host(database, images)
    assert dump(database) == before
    for name in NAMES[:2]:
        (images / name).unlink()
    fewer = {"extractor": {"name": "sift", "max_keypoints": 200}}
    summary = host(database, images, values=fewer, overwrite=True)
    assert (summary.missing_images, summary.num_lost_pairs) == (NAMES[:2], 2 * 4)
    told = " ".join(record.getMessage() for record in caplog.records)
    assert f"keep their features and the matches among them: {NAMES[0]}, {NAMES[1]}" in told
    assert "matches of 8 pairs are removed and cannot be computed again" in told
    content = read_database(database)
    assert [len(content.features_from_name[name]) for name in NAMES] == [600, 600, 200, 200, 200, 200]
    assert len(content.matches_from_pair) == 1 + 6, "a pair of old and new features is left"
    shutil.copy(small_scene_dir / "images" / NAMES[0], images)
    shutil.copy(small_scene_dir / "images" / NAMES[1], images)
    assert host(database, images, overwrite=True).num_lost_pairs == 0
    assert dump(database) == before


def test_matches_alone_are_refused_too(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images")
    with pycolmap.Database.open(database) as opened:
        opened.write_matches(50, 47, np.array([[0, 1]], np.uint32))
    with pytest.raises(ConfigError, match="of 2 of the images"):
        host(database, small_scene_dir / "images")


def test_new_photos_share_the_camera_of_their_kind(
    small_scene_dir: Path, host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", NAMES[:4])
    with caplog.at_level(logging.WARNING):
        summary = host(database, small_scene_dir / "images")
    assert summary.new_images == NAMES[4:]
    assert any(
        "2 images that it does not contain are added: view_04.jpg, view_05.jpg" in record.getMessage()
        for record in caplog.records
    )
    with pycolmap.Database.open(database) as opened:
        assert opened.num_cameras() == 1
        assert {image.camera_id for image in opened.read_all_images()} == {7}
        assert opened.num_frames() == 6
    assert map_plainly(database, small_scene_dir / "images").num_reg_images() == 6


def test_new_photos_get_a_camera_of_their_own_beside_a_rig(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    """A photo of one camera of a rig belongs to a frame with those of the others: which, nobody knows."""
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", NAMES[:4])
    with pycolmap.Database.open(database) as opened:
        other = pycolmap.Camera.create_from_model_name(8, "PINHOLE", 430.0, 480, 360)
        opened.write_camera(other, use_camera_id=True)
        rig = opened.read_rig(3)
        rig.add_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, 8), pycolmap.Rigid3d())
        opened.update_rig(rig)
    host(database, small_scene_dir / "images")
    with pycolmap.Database.open(database) as opened:
        camera_ids = {image.name: image.camera_id for image in opened.read_all_images()}
        assert opened.num_rigs() == 2
    assert {camera_ids[name] for name in NAMES[:4]} == {7}
    assert {camera_ids[name] for name in NAMES[4:]} == {9}


def test_new_photos_can_be_left_out(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", NAMES[:4])
    before = dump(database, *KEPT_TABLES)
    summary = host(database, small_scene_dir / "images", known_only=True)
    assert (summary.num_images, summary.new_images) == (4, ())
    assert dump(database, *KEPT_TABLES) == before


def test_all_photos_cannot_be_left_out(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    """Where no database, or one without images, would make `known_only` mean that nothing is done."""
    pycolmap.Database.open(tmp_path / "empty.db").close()
    before = dump(tmp_path / "empty.db")
    for name in ("empty.db", "new.db"):
        with pytest.raises(
            ConfigError, match=rf"{name}: contains no image.*`known_only=True` would leave out all images"
        ):
            host(tmp_path / name, small_scene_dir / "images", known_only=True)
    assert dump(tmp_path / "empty.db") == before
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


def test_missing_photos_are_named(
    small_scene_dir: Path, host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", (*NAMES, "gone.jpg"))
    with caplog.at_level(logging.WARNING):
        assert host(database, small_scene_dir / "images").missing_images == ("gone.jpg",)
    assert any("1 of its images have no readable file" in record.getMessage() for record in caplog.records)
    with pytest.raises(DataError, match=r"none of its 1 images \(gone\.jpg, \.\.\.\) is a readable image"):
        host(prepared(tmp_path / "other.db", small_scene_dir, ("gone.jpg",)), small_scene_dir / "images")


def test_photos_of_another_size_are_refused(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    database = prepared(tmp_path / "database.db", small_scene_dir / "images", width=960, height=720)
    before = database.read_bytes()
    with pytest.raises(DataError, match=r"view_00\.jpg has 480 x 360 pixels, its camera 960 x 720 \(and 5 more\)"):
        host(database, small_scene_dir / "images")
    assert database.read_bytes() == before


def test_names_are_relative_to_the_folder_itself(small_scene_dir: Path, host: Host, tmp_path: Path) -> None:
    """Also where it has a sub-folder `images`, in which our own command would begin."""
    for name in NAMES[:2]:
        (tmp_path / "photos" / "images").mkdir(parents=True, exist_ok=True)
        shutil.copy(small_scene_dir / "images" / name, tmp_path / "photos" / "images")
    shutil.copy(small_scene_dir / "images" / NAMES[2], tmp_path / "photos")
    host(tmp_path / "database.db", tmp_path / "photos")
    assert read_database(tmp_path / "database.db").names == ("images/view_00.jpg", "images/view_01.jpg", NAMES[2])


def test_one_photo_is_no_pair(host: Host, tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "one.png", textured(64, 64))
    with pytest.raises(DataError, match=r"only one usable image \(one\.png\)"):
        host(tmp_path / "database.db", tmp_path / "images")
    assert not (tmp_path / "database.db").exists()


def test_the_command(small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the list of pairs that COLMAP's own importer reads."""
    (tmp_path / "match_list.txt").write_text(f"{NAMES[1]} {NAMES[0]}\n\n{NAMES[1]} {NAMES[2]}\n")
    flags = ["--matcher", "nearest", "--max-keypoints", "300", "--pairs", str(tmp_path / "match_list.txt")]
    database, images = tmp_path / "database.db", small_scene_dir / "images"
    assert main([str(database), str(images), *flags, "--quiet", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_images"], summary["num_keypoints"], summary["num_pairs"]) == (6, 300, 2)
    assert main([str(database), str(images), *flags]) == 2
    assert "--overwrite replaces them" in capsys.readouterr().err
    assert main([str(database), str(images), *flags, "--overwrite"]) == 0
    output = capsys.readouterr().out
    assert "6 images with 300 keypoints (median), 2 pairs matched, 2 verified" in output
    assert f"next: colmap mapper --database_path {database} --image_path {images}" in output
    assert main([str(database), str(tmp_path / "nowhere"), *flags]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database.db", "database.db.store", "match_list.txt"]
