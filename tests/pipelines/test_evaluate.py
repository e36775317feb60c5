"""`python -m pipelines.evaluate`: all combinations, on data with exact ground truth."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from datasets.image_pairs import read_pair_list
from pipelines.__main__ import COMMANDS
from pipelines.evaluate import main
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.evaluation.combinations import choose_candidates
from sfm_lightglue.evaluation.homography_errors import SHORT_SIDE_PX, corner_error
from sfm_lightglue.evaluation.match_errors import PairFeatures, evaluate_pair
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.scene.cameras import turned_camera
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.untrained import write_lightglue, write_superpoint

SIFT = ["--extractor", "sift", "--max-keypoints", "300", "--quiet"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only weights of the test are used: no downloads, and no cache on the machine."""
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no_cache"))


def superglue_line(scene: SyntheticScene, name0: str, name1: str) -> str:
    focal, cx, cy = scene.camera.params
    K = [focal, 0, cx - 0.5, 0, focal, cy - 0.5, 0, 0, 1]
    T = scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse()
    return " ".join(map(str, [name0, name1, 0, 0, *K, *K, *T.as_matrix().ravel()]))


@pytest.fixture
def pair_list(small_scene: SyntheticScene, tmp_path: Path) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(superglue_line(small_scene, *names) for names in pairwise(small_scene.names)))
    return path


def run_json(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    path = tmp_path / "out.json"
    assert main([*map(str, arguments), "--json", str(path)]) == 0
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def combination(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["extractor"], record["matcher"], record["estimator"]


def test_pairs_by_all_combinations(
    pair_list: Path, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_lightglue(tmp_path / "glue.safetensors")
    flags = ["pairs", "--pairs", pair_list, "--images", small_scene_dir / "images", *SIFT, "--matcher", "nearest"]
    flags += ["--matcher", f"lightglue={weights}", "--estimator", "opencv-magsac", "--estimator", "opencv-ransac"]
    record = run_json(tmp_path, *flags, "--limit", "3")
    table = capsys.readouterr().out
    assert [combination(result) for result in record["results"]] == [
        ("sift", matcher, estimator)
        for matcher in ("nearest", "lightglue")
        for estimator in ("opencv-magsac", "opencv-ransac")
    ]
    for result in record["results"]:
        assert result["num_pairs"] == 3 and result["auc10"] > 0.8
        assert result["precision"] > (
            0.9 if result["matcher"] == "nearest" else 0.6
        )  # the other matcher has random weights
        assert f" {result['auc10']:.3f} |" in table
        assert "auc1px" not in result
    one, other = record["results"][:2]
    assert one["correct"] == other["correct"] and one["auc5"] != other["auc5"]
    assert table.count("\n") == 6 and "AUC@5°" in table and "px" not in table
    assert record["left_out"] == [] and record["settings"]["max_keypoints"] == 300


def test_pairs_of_a_scene_and_the_table_in_a_file(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["pairs", "--scene", small_scene_dir, *SIFT, "--matcher", "nearest", "--limit", "2", "--max-rotation", "12"]
    record = run_json(tmp_path, *flags, "--markdown", tmp_path / "table.md")
    assert capsys.readouterr().out == ""
    assert f" {record['results'][0]['auc20']:.3f} |" in (tmp_path / "table.md").read_text()


def test_components_without_fitting_weights_are_left_out_and_listed(
    pair_list: Path, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    glue, points = write_lightglue(tmp_path / "glue.safetensors"), write_superpoint(tmp_path / "points.safetensors")
    flags = ["pairs", "--pairs", pair_list, "--images", small_scene_dir / "images", *SIFT, "--limit", "1"]
    flags += ["--extractor", f"superpoint={points}", "--extractor", "superpoint", "--max-image-size", "200"]
    record = run_json(tmp_path, *flags, "--matcher", "nearest", "--matcher", f"lightglue={glue}")
    assert {combination(result)[:2] for result in record["results"]} == {
        ("sift", "nearest"),
        ("sift", "lightglue"),
        ("superpoint points", "nearest"),
    }
    left_out = {one["what"]: one["reason"] for one in record["left_out"]}
    assert left_out.keys() == {"superpoint", "superpoint points + lightglue"}
    assert "superpoint_v1" in left_out["superpoint"]  # the missing file
    assert f"- superpoint: {left_out['superpoint']}" in capsys.readouterr().out


def test_the_error_has_the_reasons_if_nothing_is_left(
    pair_list: Path, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["pairs", "--pairs", str(pair_list), "--images", str(small_scene_dir / "images"), "--quiet"]
    assert main([*flags, "--extractor", "superpoint", "--matcher", "nearest"]) == 4
    assert "nothing is left to evaluate (superpoint: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--extractor", "swift"], 2, "did you mean 'sift'"),
        (["--matcher", "nearest,ratoi=0.7"], 2, "did you mean 'ratio'"),
        (["--matcher", "nearest,ratio"], 2, "expected OPTION=VALUE"),
        (["--images", "absent"], 3, "pairs.txt:1: absent"),
    ],
)
def test_invalid_options_are_errors(
    pair_list: Path, flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", "--pairs", str(pair_list), "--matcher", "nearest", "--quiet", *flags]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["pairs"],
        ["pairs", "--pairs", "FILE", "--scene", "DIR"],
        ["trajectory"],
        ["trajectory", "DIR", "--estimate", "FILE"],
        ["trajectory", "--estimate", "FILE"],
        ["pairs", "--scene", "DIR", "--limit", "0"],
        ["pairs", "--scene", "DIR", "--estimator", "guess"],
    ],
)
def test_flags_that_do_not_fit_together_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2 and "error:" in capsys.readouterr().err


def test_homographies_of_both_kinds_of_folders(
    small_scene: SyntheticScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second image is the first at half its size: the true homography halves COLMAP's coordinates."""
    image = PilImage.fromarray(small_scene.images["view_00.jpg"])
    half = image.resize((240, 180), PilImage.Resampling.BOX)
    for folder, first, second, truth, suffix in (
        ("v_half", "1", "2", "H_1_2", "ppm"),
        ("wall", "img1", "img2", "H1to2p", "png"),
    ):
        (tmp_path / "data" / folder).mkdir(parents=True)
        image.save(tmp_path / "data" / folder / f"{first}.{suffix}")
        half.save(tmp_path / "data" / folder / f"{second}.{suffix}")
        np.savetxt(tmp_path / "data" / folder / truth, [[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    flags = ["homography", tmp_path / "data", *SIFT, "--matcher", "nearest", "--matcher", "nearest,ratio=0.7"]
    record = run_json(tmp_path, *flags)
    assert [(result["group"], result["matcher"]) for result in record["results"]] == [
        (group, matcher) for group in ("viewpoint", "wall", "all") for matcher in ("nearest", "nearest ratio=0.7")
    ]
    for result in record["results"]:
        assert result["auc3px"] > 0.6 and result["auc1px"] < result["auc5px"] and "auc5" not in result
    table = capsys.readouterr().out
    assert "AUC@3px" in table and "°" not in table and "shorter side is 480" in table


def test_the_corner_error_of_a_shift_is_its_length() -> None:
    truth = np.array([[1.1, 0.1, 5], [-0.1, 0.9, 3], [1e-4, 0, 1]])
    shift = np.array([[1, 0, 3], [0, 1, 4], [0, 0, 1.0]])
    sizes = (320, 240), (640, 960)
    assert corner_error(truth, truth, *sizes) == pytest.approx(0, abs=1e-9)
    assert corner_error(-2 * truth, truth, *sizes) == pytest.approx(0, abs=1e-9)
    assert corner_error(shift @ truth, truth, *sizes) == pytest.approx(5 * SHORT_SIDE_PX / 640)
    assert corner_error(None, truth, *sizes) == np.inf
    beyond = np.array([[1, 0, 0], [0, 1, 0], [-1 / 200, 0, 1.0]])  # the right corners are beyond the horizon
    assert corner_error(beyond, truth, *sizes) == np.inf


def test_rotations_of_the_list_make_images_upright(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    """An image stored rotated by 90 degrees, with K and T of its stored pixels, matches as well as the upright one."""
    (tmp_path / "images").mkdir()
    name0, name1 = small_scene.names[:2]
    for name, turns in ((name0, 0), (name1, 3)):
        with PilImage.open(small_scene_dir / "images" / name) as photo:
            PilImage.fromarray(np.rot90(np.asarray(photo), -turns)).save(tmp_path / "images" / name, quality=95)
    # Three clockwise quarter turns are one counter-clockwise; one clockwise turn (rot90 with -1) makes it upright.
    stored = turned_camera(small_scene.camera, 3)
    poses = small_scene.cam_from_world_from_name
    turn = Rigid3.from_rotvec(np.array([0, 0, -np.pi / 2]), np.zeros(3))
    T = turn @ poses[name1] @ poses[name0].inverse()
    focal, cx, cy = small_scene.camera.params
    K0 = [focal, 0, cx - 0.5, 0, focal, cy - 0.5, 0, 0, 1]
    K1 = [focal, 0, stored.params[1] - 0.5, 0, focal, stored.params[2] - 0.5, 0, 0, 1]
    errors, turns_found = {}, {}
    for rotation in (0, 3):
        words = [name0, name1, 0, rotation, *K0, *K1, *T.as_matrix().ravel()]
        (tmp_path / "pairs.txt").write_text(" ".join(map(str, words)))
        (pair,) = read_pair_list(tmp_path / "pairs.txt", tmp_path / "images")
        features = PairFeatures(SiftExtractor(SiftConfig(max_keypoints=400))).for_pair(pair)
        outcome = evaluate_pair(NearestMatcher(), features, pair, 1600)
        errors[rotation], turns_found[rotation] = outcome.pose_error_deg, features[1].quarter_turns
    assert turns_found == {0: 0, 3: 1}
    assert errors[3] is not None and errors[3] < 2


def test_an_invalid_line_is_an_error_with_its_number(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    good = superglue_line(small_scene, *small_scene.names[:2]).split()
    for position, word, message in ((4, "-1", "focal length"), (22, "9", "not a rotation"), (2, "5", "rot0")):
        bad = [*good[:position], word, *good[position + 1 :]]
        (tmp_path / "pairs.txt").write_text("\n".join([" ".join(good), " ".join(bad)]))
        with pytest.raises(DataError, match=rf"pairs\.txt:2: .*{message}"):
            read_pair_list(tmp_path / "pairs.txt", small_scene_dir / "images")


def test_a_scene_is_reconstructed_and_compared(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["reconstruction", small_scene_dir, *SIFT, "--matcher", "nearest", "--threads", "1", "--limit", "4"]
    (result,) = run_json(tmp_path, *flags)["results"]
    assert (result["num_images"], result["num_registered"], result["intrinsics"]) == (4, 4, "given")
    assert result["is_metric"] and result["center_error_mean"] < 0.01 * result["extent"]
    assert result["rotation_error_median_deg"] < 0.5 and result["auc_from_threshold_deg"]["5"] > 0.8
    assert result["num_points"] > 50 and result["seconds"]["total"] > 0 and result["trajectory"] is None
    assert f"{1e3 * result['center_error_mean']:.2f}" in capsys.readouterr().out
    assert not (small_scene_dir / "reconstruction").exists()


def test_a_sequence_is_reconstructed_and_compared_over_time(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["trajectory", small_scene_dir, *SIFT, "--matcher", "nearest", "--threads", "1", "--limit", "4"]
    (result,) = run_json(tmp_path, *flags, "--align", "sim3")["results"]
    errors = result["trajectory"]
    assert (errors["num_poses"], errors["num_steps"]) == (4, 3)
    assert errors["ate_rmse"] < 0.02 * result["extent"] and errors["rpe_rmse_deg"] < 1
    assert f"{errors['ate_rmse']:.4f}" in capsys.readouterr().out


def test_images_without_overlap_are_a_row_without_a_model(
    tmp_path: Path, small_scene: SyntheticScene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "scene"
    (scene / "images").mkdir(parents=True)
    focal, cx, cy = small_scene.camera.params
    generator = np.random.default_rng(0)
    entries = {}
    for i in range(2):
        PilImage.fromarray(generator.integers(0, 255, (360, 480), dtype=np.uint8)).save(scene / "images" / f"{i}.png")
        K = [[focal, 0, cx - 0.5], [0, focal, cy - 0.5], [0, 0, 1]]
        entries[f"{i}.png"] = {"width": 480, "height": 360, "K": K, "R": np.eye(3).tolist(), "t": [i, 0, 0], "dist": []}
    (scene / "cameras.json").write_text(json.dumps(entries))
    (result,) = run_json(tmp_path, "reconstruction", scene, *SIFT, "--matcher", "nearest", "--threads", "1")["results"]
    assert result["num_registered"] == 0 and "no model" in result["error"]
    assert "- scene, sift + nearest + opencv-magsac: " in capsys.readouterr().out


def test_a_trajectory_file_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The estimate is the reference scaled by 2, with shifted time stamps and fewer poses."""
    generator = np.random.default_rng(0)
    positions = np.cumsum(generator.normal(size=(20, 3)), axis=0)
    for name, factor, shift_s, rows in (("reference", 1, 0.0, positions), ("estimate", 2, 0.004, positions[:15])):
        lines = [f"{i + shift_s} {' '.join(map(str, factor * row))} 0 0 0 1" for i, row in enumerate(rows)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    files = ["trajectory", "--reference", tmp_path / "reference.txt", "--estimate", tmp_path / "estimate.txt"]
    (free,) = run_json(tmp_path, *files)["results"]
    assert (free["estimate"], free["num_poses"], free["num_steps"]) == ("estimate.txt", 15, 14)
    assert free["ate_rmse"] < 1e-9 and free["rpe_rmse"] < 1e-9 and free["scale"] == pytest.approx(0.5)
    assert "| estimate.txt |" in capsys.readouterr().out
    (rigid,) = run_json(tmp_path, *files, "--align", "se3")["results"]
    assert rigid["ate_rmse"] > 0.5 and rigid["scale"] == 1
    assert main([*map(str, files), "--max-difference", "0.001"]) == 3
    assert "estimate.txt: no poses of the two trajectories are within 0.001 s" in capsys.readouterr().err


def test_names_of_combinations_are_unique() -> None:
    candidates = choose_candidates(["all", "sift,contrast_threshold=0.01"], ["nearest"], ["opencv-magsac"], {})
    assert {"superpoint", "sift", "sift contrast_threshold=0.01"} <= candidates.extractors.keys()
    assert candidates.extractors["sift contrast_threshold=0.01"].config.contrast_threshold == 0.01
    with pytest.raises(ConfigError, match="another one is already called"):
        choose_candidates(["superpoint=a/x.pth", "superpoint=b/x.pth"], ["nearest"], ["opencv-magsac"], {})


@pytest.fixture
def shared_folder(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path) -> Path:
    """A folder with the layout of the shared data, filled with the small scene."""
    root = tmp_path / "shared"
    for folder in ("scenes/fountain_p11", "scenes/lund_door", "sequences/hololens"):
        (root / folder).mkdir(parents=True)
        (root / folder / "images").symlink_to(small_scene_dir / "images")
        (root / folder / "cameras.json").write_text((small_scene_dir / "truth.json").read_text())
    (root / "sequences/hololens/depth").mkdir()
    for name, depth in small_scene.depths.items():
        millimetres = np.clip(depth * 1000, 0, 65535).round().astype(np.uint16)
        PilImage.fromarray(millimetres).save(root / "sequences/hololens/depth" / f"{Path(name).stem}.png")
    graf = root / "homographies/graf"
    graf.mkdir(parents=True)
    for number in (1, 2, 3):
        PilImage.fromarray(small_scene.images["view_00.jpg"]).save(graf / f"img{number}.png")
        if number > 1:
            np.savetxt(graf / f"H1to{number}p", np.eye(3))
    return root


def test_the_shared_data_by_one_command(
    shared_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["shared", "--data", shared_folder, *SIFT, "--matcher", "nearest", "--limit", "2"]
    record = run_json(tmp_path, *flags)
    counts = {result["group"]: result["num_pairs"] for result in record["results"]}
    assert counts["graf"] == 2 and counts["fountain_p11"] == counts["lund_door"] == counts["hololens > 50 %"] == 2
    # The two images are equal, so the homography is exact.
    assert record["results"][0]["auc1px"] > 0.99
    table = capsys.readouterr().out
    assert table.index("## Homographies") < table.index("| graf ") < table.index("## Relative poses")
    assert record["settings"]["max_image_size"] == 800


def test_all_extractors_are_evaluated_on_the_shared_data_by_default(shared_folder: Path, tmp_path: Path) -> None:
    """Every extractor of the registry is evaluated, or left out with the reason."""
    flags = ["shared", "--data", shared_folder, "--max-keypoints", "100", "--matcher", "nearest", "--limit", "1"]
    record = run_json(tmp_path, *flags, "--max-image-size", "160", "--quiet")
    evaluated = {result["extractor"] for result in record["results"]}
    left_out = {one["what"].partition(" + ")[0] for one in record["left_out"]}
    assert evaluated | left_out == set(EXTRACTORS.names) and "sift" in evaluated


def test_without_a_checkout_the_command_fails_with_an_explanation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.command.importlib.util.find_spec", lambda name: None)
    assert main(["pairs", "--scene", "castle", "--quiet"]) == 2
    assert "needs the checkout" in capsys.readouterr().err


def test_the_command_is_listed() -> None:
    assert "evaluate" in COMMANDS
