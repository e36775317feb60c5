"""`python -m pipelines.match` and the function behind it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from pipelines.match import main
from sfm_lightglue.drawing.matches import INLIER_COLOUR
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.image_pair.matching import match_images
from sfm_lightglue.image_pair.picture import draw_pair
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.report.packed_model import packed_xy
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.types import TwoViewGeometry


def true_pose(scene: SyntheticScene, name0: str, name1: str) -> Rigid3:
    poses = scene.cam_from_world_from_name
    return poses[name1] @ poses[name0].inverse()


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert main([*map(str, arguments), "--json"]) == 0
    value: dict[str, object] = json.loads(capsys.readouterr().out)
    return value


def pose_of(result: dict[str, object]) -> Rigid3:
    pose = result["cam1_from_cam0"]
    assert isinstance(pose, dict)
    return Rigid3(np.array(pose["R"]), np.array(pose["t"]))


def test_pose_of_two_photos(
    small_scene: SyntheticScene, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_scene_dir / "images"
    result = run_json(capsys, images / "view_00.jpg", images / "view_02.jpg")
    assert result["verdict"] == "general"
    assert result["reason"] is None
    assert int(str(result["num_inliers"])) > 100
    assert int(str(result["num_matches"])) >= int(str(result["num_inliers"]))
    assert float(str(result["seconds"])) > 0
    assert result["pose_rests_on_guessed_focal_length"] is False
    pose = pose_of(result)
    errors = relative_pose_error_deg(pose, true_pose(small_scene, "view_00.jpg", "view_02.jpg"))
    assert max(errors) < 1.0
    assert np.linalg.norm(pose.t) == pytest.approx(1)


def test_given_intrinsics_hold_for_both(
    small_scene: SyntheticScene, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    focal, cx, cy = small_scene.camera.params
    flags = ("--camera-model0", "SIMPLE_PINHOLE", "--camera-params0", f"{focal},{cx},{cy}")
    images = small_scene_dir / "images"
    result = run_json(capsys, images / "view_00.jpg", images / "view_01.jpg", *flags)
    cameras = result["cameras"]
    assert isinstance(cameras, list)
    assert [camera["params"] for camera in cameras] == [[focal, cx, cy]] * 2
    assert [camera["source"] for camera in cameras] == ["given"] * 2


def test_two_cameras_each_with_its_own_intrinsics(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second photo is enlarged and cropped off centre: another focal length and principal point."""
    focal, cx, cy = small_scene.camera.params
    with PilImage.open(small_scene_dir / "images" / "view_02.jpg") as picture:
        large = picture.resize((720, 540), PilImage.Resampling.BICUBIC).crop((100, 40, 700, 500))
        large.save(tmp_path / "second.png")
    flags = (
        *("--camera-model0", "SIMPLE_PINHOLE", "--camera-params0", f"{focal},{cx},{cy}"),
        *("--camera-params1", f"{1.5 * focal},{1.5 * cx - 100},{1.5 * cy - 40}"),
    )
    result = run_json(capsys, small_scene_dir / "images" / "view_00.jpg", tmp_path / "second.png", *flags)
    errors = relative_pose_error_deg(pose_of(result), true_pose(small_scene, "view_00.jpg", "view_02.jpg"))
    assert max(errors) < 1.0


def test_turned_photo_gives_the_turned_pose(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path) -> None:
    path = small_scene_dir / "images" / "view_02.jpg"
    with PilImage.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=97, exif=exif)
    result = match_images(
        small_scene_dir / "images" / "view_00.jpg", tmp_path / "turned.jpg", SiftExtractor(), NearestMatcher()
    )
    assert isinstance(result.geometry, TwoViewGeometry)
    turned_from_upright = Rigid3.from_rotvec(np.array([0, 0, -np.pi / 2]), np.zeros(3))
    truth = turned_from_upright @ true_pose(small_scene, "view_00.jpg", "view_02.jpg")
    assert max(relative_pose_error_deg(result.geometry.cam1_from_cam0, truth)) < 1.0


def test_the_json_has_what_the_report_draws_of_a_pair(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, sizes, turns, counts, verdict, and each match with its inlier flag; a turned photo is drawn upright."""
    images = small_scene_dir / "images"
    with PilImage.open(images / "view_02.jpg") as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=97, exif=exif)
    arguments = [str(images / "view_00.jpg"), str(tmp_path / "turned.jpg"), "--matcher", "nearest"]
    assert main([*arguments, "--json", "--matches"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == arguments[:2]
    assert (found["image_sizes"], found["quarter_turns"]) == ([[480, 360], [360, 480]], [0, 1])
    matches = found["matches"]
    assert len(matches["keypoints0"]) == len(matches["keypoints1"]) == len(matches["scores"]) == found["num_matches"]
    assert sum(matches["inlier_mask"]) == found["num_inliers"] > 50
    assert (found["verdict"], found["reason"]) == ("general", None)
    assert len(found["num_keypoints"]) == len(found["cameras"]) == 2 and np.shape(found["F"]) == (3, 3)
    xy = np.array(matches["keypoints1"])
    drawn = np.frombuffer(base64.b64decode(packed_xy(xy, (360, 480), 1)), np.uint16).reshape(-1, 2) / 65535
    upright = np.column_stack([480 - xy[:, 1], xy[:, 0]]) / (480, 360)
    assert np.allclose(drawn, upright, atol=1e-4)


def test_same_photo_twice_is_a_pure_rotation(small_scene_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_scene_dir / "images" / "view_00.jpg"
    result = run_json(capsys, path, path)
    assert result["verdict"] == "pure_rotation"
    pose = pose_of(result)
    assert np.allclose(pose.R, np.eye(3), atol=1e-6)
    assert np.allclose(pose.t, 0)


def test_unrelated_photos_are_rejected(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    PilImage.fromarray(noise).resize((480, 360)).save(tmp_path / "noise.png")
    path = small_scene_dir / "images" / "view_00.jpg"
    result = run_json(capsys, path, tmp_path / "noise.png")
    assert (result["verdict"], result["cam1_from_cam0"]) == ("rejected", None)
    assert result["reason"] in {"too_few_matches", "too_few_inliers", "no_model"}
    assert main([str(path), str(tmp_path / "noise.png")]) == 0
    assert "rejected" in capsys.readouterr().out


def without_exif(small_scene_dir: Path, folder: Path, name: str, size: tuple[int, int] = (480, 360)) -> Path:
    with PilImage.open(small_scene_dir / "images" / name) as picture:
        picture.resize(size).save(folder / name, quality=97)
    return folder / name


def test_without_exif_the_focal_length_is_estimated_and_told(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [without_exif(small_scene_dir, tmp_path, name) for name in ("view_00.jpg", "view_02.jpg")]
    result = run_json(capsys, *paths, "--same-camera")
    assert result["pose_rests_on_guessed_focal_length"] is False
    assert result["same_camera"] is True
    assert result["verdict"] == "general"
    cameras = result["cameras"]
    assert isinstance(cameras, list)
    for camera in cameras:
        assert camera["source"] == "estimated"
        assert camera["focal_length_px"] == pytest.approx(small_scene.camera.params[0], rel=0.08)


def test_photos_without_exif_are_of_one_camera_only_where_that_is_stated(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [without_exif(small_scene_dir, tmp_path, name) for name in ("view_00.jpg", "view_02.jpg")]
    focal, cx, cy = small_scene.camera.params
    flags = ("--camera-model0", "SIMPLE_PINHOLE", "--camera-params0", f"{focal},{cx},{cy}", "--matcher", "nearest")
    sources = []
    for stated in ((), ("--same-camera",), ("--no-same-camera",)):
        cameras = run_json(capsys, *paths, *flags, *stated)["cameras"]
        assert isinstance(cameras, list)
        sources.append([camera["source"] for camera in cameras])
    assert sources == [["given", "estimated"], ["given", "given"], ["given", "estimated"]]
    assert main([*map(str, paths), "--matcher", "nearest"]) == 0
    text = capsys.readouterr().out
    assert "the focal length was guessed" in text
    assert "--same-camera" in text


def test_guessed_focal_length_is_told(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two unknown cameras: two focal lengths are more than a pair shows."""
    paths = [
        without_exif(small_scene_dir, tmp_path, "view_00.jpg"),
        without_exif(small_scene_dir, tmp_path, "view_02.jpg", (600, 450)),
    ]
    result = run_json(capsys, *paths)
    assert result["pose_rests_on_guessed_focal_length"] is True
    assert result["verdict"] == "general"
    assert main([*map(str, paths), "--matcher", "nearest"]) == 0
    text = capsys.readouterr().out
    assert "the focal length was guessed" in text
    assert "--same-camera" not in text  # of two sizes
    assert main([*map(str, paths), "--same-camera"]) == 2


def test_the_text_tells_pose_uncertainty_and_focal_length(
    small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_scene_dir / "images"
    assert main([str(images / "view_00.jpg"), str(images / "view_01.jpg"), "--matcher", "nearest"]) == 0
    text = capsys.readouterr().out
    assert "general" in text
    assert "points" in text
    assert "(95 %)" in text
    assert "px (EXIF)" in text


@pytest.mark.parametrize("estimator", ["opencv-ransac", "poselib"])
def test_another_estimator(
    estimator: str, small_scene: SyntheticScene, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if estimator == "poselib":
        pytest.importorskip("poselib")
    images = small_scene_dir / "images"
    flags = ("--matcher", "nearest", "--estimator", estimator)
    result = run_json(capsys, images / "view_00.jpg", images / "view_02.jpg", *flags)
    assert max(relative_pose_error_deg(pose_of(result), true_pose(small_scene, "view_00.jpg", "view_02.jpg"))) < 1.0


def test_flags_that_do_not_fit_are_refused(small_scene_dir: Path, tmp_path: Path) -> None:
    image = str(small_scene_dir / "images" / "view_00.jpg")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a.jpg b.jpg\n")
    assert main([image]) == 2
    assert main([image, image, "--images", str(tmp_path)]) == 2
    assert main([image, image, "--estimator", "guess"]) == 2
    assert main([image, image, "--batch", str(pairs)]) == 2
    assert main(["--batch", str(pairs), "--out", str(tmp_path / "results.txt")]) == 2


@pytest.mark.parametrize(
    ("out", "picture"), [("pair.png", "pair.png"), ("pair.json", "pair.png"), ("folder", "folder/matches.png")]
)
def test_out_writes_picture_and_json(small_scene_dir: Path, tmp_path: Path, out: str, picture: str) -> None:
    images = small_scene_dir / "images"
    flags = ["--out", str(tmp_path / out), "--quiet"]
    assert main([str(images / "view_00.jpg"), str(images / "view_01.jpg"), *flags]) == 0
    with PilImage.open(tmp_path / picture) as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert (pixels == INLIER_COLOUR).all(axis=2).sum() > 1000
    assert json.loads((tmp_path / picture).with_suffix(".json").read_text())["verdict"] == "general"


def test_drawn_lines_end_on_the_upright_picture(small_scene: SyntheticScene) -> None:
    """A turned second image is drawn upright: its lines end where those of the image itself end."""
    pixels = small_scene.images["view_00.jpg"]
    turned = Image.from_array(np.ascontiguousarray(np.rot90(pixels, 1)), "turned", quarter_turns=1)
    extractor, matcher = SiftExtractor(), NearestMatcher()
    upright = draw_pair(match_images(Image.from_array(pixels), Image.from_array(pixels), extractor, matcher))
    other = draw_pair(match_images(Image.from_array(pixels), turned, extractor, matcher))
    assert other.size == upright.size
    # Lines between equal pictures are level, so their pixels are those of the keypoints' rows in both.
    rows = [(np.asarray(drawn) == INLIER_COLOUR).all(axis=2).sum(axis=1) for drawn in (upright, other)]
    assert np.corrcoef(rows[0], rows[1])[0, 1] > 0.8


def test_missing_and_bad_images_are_data_errors(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(small_scene_dir / "images" / "view_00.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    PilImage.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    for name in ("missing.jpg", "text.jpg", "dot.png"):
        assert main([good, str(tmp_path / name)]) == 3
        assert name in capsys.readouterr().err
    assert main([good, good, "--camera-params0", "1,2"]) == 2
    assert main([good, good, "--out", str(tmp_path / "picture.foo")]) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--matcher", "nearest", "--matcher-weights", "x"), "matcher nearest has no weights"),
        (("--extractor-weights", "x"), "extractor sift has no weights"),
    ],
)
def test_weights_of_what_has_none_are_refused(
    small_scene_dir: Path, flags: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(small_scene_dir / "images" / "view_00.jpg")
    assert main([image, image, *flags]) == 2
    assert told in capsys.readouterr().err
