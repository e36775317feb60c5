"""The main job end to end, on a small scene with exact truth: what it finds, and what it says of bad input."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, StoreError
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig, read_config_file
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.reconstructions import copy_scene, one_thread

TURN_FROM_ORIENTATION = {1: 0, 3: 2, 6: 1, 8: 3}


def test_recovers_the_cameras(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    result = reconstruct(small_scene_dir, tmp_path / "out", one_thread(), lambda *report: stages.append(report))
    summary = result.summary
    assert summary.num_images == summary.num_registered == 6
    assert summary.num_points > 200
    assert summary.mean_reprojection_error_px < 1
    assert summary.mean_track_length > 2
    model = read_model(tmp_path / "out" / "sparse" / "0")
    aligned = align_poses(poses_of_model(model), small_scene.cam_from_world_from_name)
    assert aligned.max_center_error < 0.005 * small_scene.extent_m
    assert aligned.max_rotation_error_deg < 0.2
    colours = np.array([point.color for point in model.points3D.values()])
    assert colours.std(axis=0).min() > 5, "the points have no colours"
    assert (tmp_path / "out" / "points.ply").read_bytes().startswith(b"ply")
    assert (tmp_path / "out" / "database.db").is_file()
    for stage, total in (("extract", 6), ("match", 15), ("map", 6)):
        assert (stage, total, total) in stages


def test_progress_is_live(small_scene_dir: Path, tmp_path: Path) -> None:
    """Each stage tells of every photo or pair, in order, from nothing to all."""
    reports: list[tuple[str, int, int]] = []
    reconstruct(small_scene_dir, tmp_path / "out", one_thread(), lambda *report: reports.append(report))
    stages = {"scan": (6, 1), "extract": (6, 1), "write": (6, 1), "match": (15, 1), "map": (6, 2), "colour": (6, 1)}
    stages["refine"] = (13, 1)  # each photo is read twice, and the model is adjusted
    for stage, (total, first) in stages.items():
        done = [num_done for name, num_done, _ in reports if name == stage]
        assert done == [0, *range(first, total + 1)]


def test_photos_stored_turned_give_the_same_model(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    orientations = dict(zip(small_scene.names, (1, 3, 6, 8, 1, 6), strict=True))
    folder = tmp_path / "turned" / "images"
    folder.mkdir(parents=True)
    for name, orientation in orientations.items():
        with PilImage.open(small_scene_dir / "images" / name) as picture:
            exif = picture.getexif()
            exif[0x0112] = orientation
            # turned counter-clockwise as it is stored, the viewer turns it back clockwise
            stored = picture.rotate(90 * TURN_FROM_ORIENTATION[orientation], expand=True)
            stored.save(folder / name, quality=98, subsampling=0, exif=exif)
    summary = reconstruct(tmp_path / "turned", config=one_thread()).summary
    assert summary.num_registered == 6
    model = read_model(tmp_path / "turned" / "reconstruction")
    for image in model.images.values():
        size = (480, 360) if orientations[image.name] in {1, 3} else (360, 480)
        assert (image.camera.width, image.camera.height) == size
    truth = {}
    for name, cam_from_world in small_scene.cam_from_world_from_name.items():
        angle = -np.pi / 2 * TURN_FROM_ORIENTATION[orientations[name]]
        stored_from_upright = Rigid3.from_rotvec(np.array([0, 0, angle]), np.zeros(3))
        truth[name] = stored_from_upright @ cam_from_world
    aligned = align_poses(poses_of_model(model), truth)
    assert aligned.max_center_error < 0.005 * small_scene.extent_m
    assert aligned.max_rotation_error_deg < 0.2


def write_odd_files(folder: Path) -> tuple[set[str], set[str]]:
    """Re-encode good photos in odd ways and add bad ones; returns the names of both."""
    good = {path.name for path in folder.iterdir()}
    pictures = {}
    for name in sorted(good):
        with PilImage.open(folder / name) as picture:
            pictures[name] = picture.convert("RGB")
    first, second, third, fourth, fifth, sixth = sorted(good)
    with PilImage.open(folder / first) as picture:
        exif = picture.getexif()
    for name in (first, second, third, fourth, fifth):
        (folder / name).unlink()
    pictures[first].convert("CMYK").save(folder / "cmyk photo.jpg", quality=97, exif=exif)
    grey16 = np.asarray(pictures[second].convert("L")).astype(np.uint16) * 257
    PilImage.fromarray(grey16).save(folder / "sechzehn-bit-ä.png", exif=exif)
    pictures[third].convert("L").save(folder / "grey.webp", quality=98, exif=exif)
    palette = pictures[fourth].quantize(256)
    palette.info["transparency"] = 0
    palette.save(folder / "palette alpha.png", transparency=0, exif=exif)
    pictures[fifth].save(folder / "写真 五.tiff", exif=exif)
    (folder / "nested deep").mkdir()
    shutil.move(folder / sixth, folder / "nested deep" / "six.JPG")
    fine = {
        "cmyk photo.jpg",
        "sechzehn-bit-ä.png",
        "grey.webp",
        "palette alpha.png",
        "写真 五.tiff",
        "nested deep/six.JPG",
    }
    whole = (folder / "nested deep" / "six.JPG").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no picture\n")
    PilImage.new("RGB", (1, 1)).save(folder / "dot.png")
    return fine, {"truncated.jpg", "empty.jpg", "text.jpg", "dot.png"}


def test_odd_files_are_read_and_bad_ones_named(
    small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = copy_scene(small_scene_dir, tmp_path / "scene")
    good, bad = write_odd_files(scene / "images")
    with caplog.at_level(logging.WARNING):
        summary = reconstruct(scene, config=one_thread()).summary
    assert summary.num_images == summary.num_registered == 6
    assert summary.num_skipped == 4
    assert {image["name"] for image in summary.skipped} == bad
    model = read_model(scene / "reconstruction")
    assert {image.name for image in model.images.values()} == good
    for name in bad:
        assert any(name in record.getMessage() for record in caplog.records), name
    colours = np.array([point.color for point in model.points3D.values()])
    assert (colours.max(axis=1) > 0).mean() > 0.99, "some points have no colour"
    caplog.clear()
    assert reconstruct(scene, config=one_thread()).summary.cache["misses"] == 0
    for name in bad:
        assert any(name in record.getMessage() for record in caplog.records), f"{name} is not named again"


def test_given_intrinsics_are_kept_unless_refined(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    focal, cx, cy = small_scene.camera.params
    cameras = {"model": "PINHOLE", "params": [focal * 1.01, focal * 1.01, cx, cy], "mode": "single"}
    reconstruct(small_scene_dir, tmp_path / "out", one_thread(cameras=cameras))
    (camera,) = read_model(tmp_path / "out").cameras.values()
    assert list(camera.params) == pytest.approx([focal * 1.01, focal * 1.01, cx, cy], abs=1e-9)
    reconstruct(small_scene_dir, tmp_path / "out", one_thread(cameras={**cameras, "refine": True}))
    (camera,) = read_model(tmp_path / "out").cameras.values()
    assert abs(camera.params[0] / focal - 1) < 0.005


def test_without_focal_length_it_is_found(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path) -> None:
    for path in sorted((small_scene_dir / "images").iterdir()):
        (tmp_path / "images").mkdir(exist_ok=True)
        with PilImage.open(path) as picture:
            picture.save(tmp_path / "images" / path.name, quality=98, subsampling=0)
    summary = reconstruct(tmp_path, config=one_thread()).summary
    assert summary.num_registered == 6
    cameras = list(read_model(tmp_path / "reconstruction").cameras.values())
    assert len(cameras) == 1
    assert abs(cameras[0].params[0] / small_scene.camera.params[0] - 1) < 0.03


def test_the_output_is_no_source_of_photos(small_scene_dir: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    shutil.copytree(small_scene_dir / "images", scene)
    output = scene / "results"
    reconstruct(scene, output, one_thread())
    shutil.copy(scene / "view_00.jpg", output / "picture.jpg")
    assert reconstruct(scene, output, one_thread()).summary.num_images == 6
    assert reconstruct(scene, tmp_path / "elsewhere", one_thread()).summary.num_images == 6


def test_run_record_reproduces_the_run(small_scene_dir: Path, finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    config = ReconstructConfig.from_mapping(read_config_file(finished / "run.json"))
    assert config == one_thread()
    assert record["versions"]["pycolmap"] and record["versions"]["kernels"] in {"compiled", "numpy"}
    assert len(record["keys"]["model"]) == 64


def test_a_name_that_is_no_text_is_left_out(
    small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = copy_scene(small_scene_dir, tmp_path / "scene")
    bad = os.fsencode(scene / "images") + b"/\xff\xfe.jpg"
    try:
        shutil.copy(os.fsencode(scene / "images" / "view_00.jpg"), bad)
    except OSError:
        pytest.skip("this file system takes no name that is not Unicode")
    assert reconstruct(scene, config=one_thread()).summary.num_registered == 6
    assert any("not valid Unicode" in record.getMessage() for record in caplog.records)


def test_no_photos_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        reconstruct(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photo found"):
        reconstruct(tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.jpg").write_text("no picture")
    with pytest.raises(DataError, match="1 could not be read"):
        reconstruct(tmp_path / "bad")


def test_one_photo_is_a_reconstruction_error(small_scene_dir: Path, tmp_path: Path) -> None:
    shutil.copy(small_scene_dir / "images" / "view_00.jpg", tmp_path)
    with pytest.raises(ReconstructionError, match="only one readable image"):
        reconstruct(tmp_path)


def test_unrelated_photos_are_a_reconstruction_error(tmp_path: Path) -> None:
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        PilImage.fromarray(noise).resize((640, 480), PilImage.Resampling.BICUBIC).save(tmp_path / f"{i}.png")
    with pytest.raises(ReconstructionError, match=r"3 images .* 3 pairs matched, 0 of them") as caught:
        reconstruct(tmp_path)
    assert "Try" in str(caught.value)
    assert (tmp_path / "reconstruction" / "features").is_dir(), "what was computed is lost"


def test_what_found_no_place_is_named(small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = copy_scene(small_scene_dir, tmp_path / "scene")
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    PilImage.fromarray(noise).resize((480, 360)).save(scene / "images" / "stranger.png")
    for _ in range(2):
        caplog.clear()
        summary = reconstruct(scene, config=one_thread()).summary
        assert summary.unregistered == ("stranger.png",)
        assert any("stranger.png" in record.getMessage() for record in caplog.records)


def test_two_photos_make_a_model(small_scene_dir: Path, tmp_path: Path) -> None:
    for name in ("view_01.jpg", "view_03.jpg"):
        shutil.copy(small_scene_dir / "images" / name, tmp_path)
    assert reconstruct(tmp_path, config=one_thread()).summary.num_registered == 2


def test_unwritable_output_is_a_store_error(small_scene_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file"):
        reconstruct(small_scene_dir, tmp_path / "file")


def test_pairs_limit_the_work(small_scene_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("view_00.jpg view_01.jpg\nview_01.jpg view_02.jpg\nview_00.jpg view_02.jpg\n")
    config = one_thread(pairs={"name": "file", "path": str(tmp_path / "pairs.txt")})
    summary = reconstruct(small_scene_dir, tmp_path / "out", config).summary
    assert summary.cache["by_kind"]["matches"] == {"hits": 0, "misses": 3}
    assert summary.num_registered == 3


def test_given_parameters_must_fit_the_model(small_scene_dir: Path, tmp_path: Path) -> None:
    config = one_thread(cameras={"model": "PINHOLE", "params": [500.0, 240.0, 180.0]})
    with pytest.raises(ConfigError, match=r"expected 4 parameters \(fx, fy, cx, cy\)"):
        reconstruct(small_scene_dir, tmp_path / "out", config)
