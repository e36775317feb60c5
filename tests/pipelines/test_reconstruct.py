"""`python -m pipelines.reconstruct` as scripts meet it: flags, streams, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.__main__ import main as all_commands
from pipelines.reconstruct import build_parser, config_values, main
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.synthetic import SyntheticScene


def resolve(*flags: str) -> ReconstructConfig:
    return ReconstructConfig.from_mapping(
        config_values(build_parser().parse_args(["scene", *flags]), ReconstructConfig)
    )


def run_module(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.reconstruct", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def output(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a first run by the command."""
    folder = tmp_path_factory.mktemp("command") / "out"
    assert main([str(small_scene_dir), "--output", str(folder), "--quiet"]) == 0
    return folder


def test_json_alone_is_on_standard_output(small_scene_dir: Path, tmp_path: Path) -> None:
    done = run_module(small_scene_dir, "--output", tmp_path / "out", "--json", "--threads", 1, "--matcher", "nearest")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["num_images"] == summary["num_registered"] == 6
    assert summary["num_points"] > 0
    assert 2 <= summary["mean_track_length"] <= 6
    assert 0 < summary["mean_reprojection_error_px"] < 2
    assert summary["seconds"].keys() >= {"extract", "match", "verify", "map", "total"}
    assert summary["peak_memory_mb"] > 10
    assert summary["cache"]["hits"] == 0
    num_layers, num_pairs, num_models = 2 * 6, 15, 2  # models before and after densifying
    assert summary["cache"]["misses"] == num_layers + 2 * num_pairs + num_models
    assert [model["path"] for model in summary["models"]] == ["sparse/0"]
    assert "extract" in done.stderr, "the progress belongs on standard error"
    assert read_model(tmp_path / "out" / "sparse" / "0").num_reg_images() == 6


def test_quiet_prints_nothing(small_scene_dir: Path, output: Path) -> None:
    done = run_module(small_scene_dir, "--output", output, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_keeps_warnings(small_scene_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(small_scene_dir / "images", tmp_path / "scene")
    (tmp_path / "scene" / "broken.jpg").write_text("no picture")
    done = run_module(tmp_path / "scene", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "warning: left out broken.jpg: not an image that can be read\n"


def test_summary_is_one_line(small_scene_dir: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(small_scene_dir), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "6 of 6 images registered" in printed
    assert "track length" in printed
    assert "reprojection error" in printed


def test_default_output_is_below_the_scene(small_scene_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(small_scene_dir / "images", tmp_path / "images")
    assert main([str(tmp_path), "--quiet"]) == 0
    assert read_model(tmp_path / "reconstruction" / "sparse" / "0").num_reg_images() == 6


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["missing"], 3, "no such folder"),
        (["empty"], 3, "no photo found"),
        (["one"], 5, "only one readable image"),
        (["one", "--extractor", "shift"], 2, "did you mean 'sift'?"),
        (["one", "--max-keypoints", "0"], 2, "--max-keypoints and --max-image-size must be positive"),
        (["one", "--pairs", "nothing.txt"], 2, "no such file"),
        (["one", "--camera-params", "1,two"], 2, "expected numbers"),
        (["one", "--camera-model", "PINHOL", "--camera-params", "1,2,3,4"], 2, "COLMAP has"),
        (["one", "--threads", "-1"], 2, "--threads must lie in"),
        (["one", "--seed", "-1"], 2, "--seed must lie in"),
        (["one", "--config", "missing.toml"], 2, "missing.toml"),
        (["two", "--matcher", "lightglue", "--matcher-weights", "disk_lightglue"], 4, "disk_lightglue.pth"),
        (["two", "--matcher", "lightglue", "--matcher-weights", "gone.pth"], 4, "gone.pth"),
        (["two", "--extractor", "superpoint"], 4, "--extractor-weights"),
        (["two", "--output", "file/below"], 6, "file"),
        (["two", "--camera-params", "500,501,240,180"], 2, "SIMPLE_RADIAL has f, cx, cy, k"),
        (["two", "--camera-params", "500,2400,180,0"], 2, "principal point"),
        (["two", "--demo"], 2, "neither the demo scene nor empty"),
        (["two", "--device", "cuda:x"], 2, "device"),
        (["two", "--device", "abacus", "--extractor", "superpoint", "--extractor-weights", "file"], 2, "abacus"),
    ],
)
def test_errors_have_their_exit_code(
    flags: list[str],
    code: int,
    message: str,
    small_scene_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "one", "two"):
        Path(folder).mkdir()
    for name in ("view_00.jpg", "view_01.jpg"):
        shutil.copy(small_scene_dir / "images" / name, "two")
    shutil.copy(small_scene_dir / "images" / "view_00.jpg", "one")
    Path("file").write_text("in the way")
    assert main(flags) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (error,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert message in error


def test_without_a_scene_it_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "--demo" in capsys.readouterr().err


def test_flags_become_configuration(tmp_path: Path) -> None:
    config = resolve(
        *("--max-keypoints", "500", "--max-image-size", "800", "--pairs", "sequential", "--camera-mode", "single"),
        *("--camera-model", "pinhole", "--camera-params", "500, 501,320 240", "--refine-intrinsics"),
        *("--threads", "3", "--seed", "7", "--device", "cpu"),
    )
    assert (config.extractor.config.max_keypoints, config.extractor.config.max_image_size) == (500, 800)
    assert config.pairs.name == "sequential"
    assert (config.cameras.mode, config.cameras.model, config.cameras.refine) == ("single", "pinhole", True)
    assert config.cameras.params == (500, 501, 320, 240)
    assert (config.num_threads, config.seed, config.device) == (3, 7, "cpu")
    pairs = tmp_path / "my pairs.txt"
    pairs.write_text("a b")
    assert resolve("--pairs", str(pairs)).pairs.config.path == str(pairs)


def test_flags_override_the_configuration_file(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text('seed = 5\n[extractor]\nmax_keypoints = 700\n[matcher]\nname = "nearest"\nratio = 0.7\n')
    config = resolve("--config", str(path))
    assert (config.seed, config.extractor.config.max_keypoints, config.matcher.config.ratio) == (5, 700, 0.7)
    config = resolve("--config", str(path), "--seed", "6", "--max-keypoints", "800")
    assert (config.seed, config.extractor.config.max_keypoints, config.matcher.config.ratio) == (6, 800, 0.7)
    # the options of one matcher mean nothing to another
    assert resolve("--config", str(path), "--matcher", "lightglue").matcher.config.given_thresholds() == {}


def test_known_intrinsics_reach_the_model(small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path) -> None:
    focal, cx, cy = small_scene.camera.params
    flags = ["--camera-model", "SIMPLE_PINHOLE", "--camera-params", f"{focal},{cx},{cy}", "--quiet"]
    assert main([str(small_scene_dir), "--output", str(tmp_path / "out"), *flags]) == 0
    (camera,) = read_model(tmp_path / "out").cameras.values()
    assert camera.model_name == "SIMPLE_PINHOLE"
    assert list(camera.params) == pytest.approx([focal, cx, cy], abs=1e-9)


def test_the_demo_compares_with_the_truth(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The scene is there already, so nothing is rendered: the full demo is the README's first command.
    shutil.copytree(small_scene_dir, tmp_path / "scene")
    assert main(["--demo", str(tmp_path / "scene"), "--json", "--quiet"]) == 0
    demo = json.loads(capsys.readouterr().out)["demo"]
    assert demo["num_images"] == demo["num_compared"] == 6
    assert 0 < demo["max_center_error_percent"] < 0.5
    assert 0 < demo["max_rotation_error_deg"] < 0.2


def test_full_demo_holds_its_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--demo", str(tmp_path / "demo"), "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_registered"] == summary["demo"]["num_images"] >= 12
    assert summary["demo"]["max_center_error_percent"] < 0.5
    assert summary["demo"]["max_rotation_error_deg"] < 0.2


def test_all_commands_under_one_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert all_commands(["reconstruct", str(tmp_path / "missing")]) == 3
    assert all_commands(["reconstrukt"]) == 2
    assert "unknown command" in capsys.readouterr().err
    assert all_commands(["--help"]) == 0
    assert {"reconstruct", "match", "view"} <= set(capsys.readouterr().out.split())
    assert all_commands([]) == 2


def test_the_folder_of_masks_is_absolute_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my masks").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("--masks", "my masks").masks == str(tmp_path / "my masks")
    assert resolve().masks == ""
    for wrong in ("nowhere", ""):
        with pytest.raises(ConfigError, match=r"--masks .*: no such folder"):
            resolve("--masks", wrong)
