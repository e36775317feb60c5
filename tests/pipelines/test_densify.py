"""`python -m pipelines.densify` as scripts meet it: flags, streams, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.__main__ import COMMANDS
from pipelines.densify import build_parser, config_values, main
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.reconstruction.densify_config import DensifyConfig
from tests.helpers.foreign_models import with_other_keypoints, write_model
from tests.helpers.sparse_maps import NUM_IMAGES

FEW = ["--max-keypoints", "600", "--set", "extractor.max_keypoints_dense=2000", "--refine", "off", "--threads", "1"]


@pytest.fixture(scope="module")
def foreign(sparse_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another tool: a model in text files in sparse/0, and images/ beside it."""
    root = tmp_path_factory.mktemp("tool")
    shutil.copytree(sparse_scene / "images", root / "images")
    write_model(with_other_keypoints(read_model(sparse_scene)), root / "sparse" / "0", as_text=True)
    return root


def resolve(*flags: object) -> DensifyConfig:
    return DensifyConfig.from_mapping(config_values(build_parser().parse_args([str(flag) for flag in flags])))


def test_a_text_model_and_its_images_beside_it(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(foreign / "sparse" / "0"), *FEW, "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    output = foreign / "densified"
    assert summary["output"] == str(output)
    before, after = summary["before"], summary["after"]
    assert after["num_images"] == before["num_images"] == NUM_IMAGES
    assert after["num_points"] > 2 * before["num_points"]
    assert 2 <= after["mean_track_length"] <= NUM_IMAGES and 0 < after["mean_reprojection_error_px"] < 1
    assert summary["seconds"].keys() == {"scan", "extract", "densify", "refine", "write", "total"}
    assert read_model(output).num_points3D() == after["num_points"]
    assert json.loads((output / "densify.json").read_text())["summary"]["after"] == after
    assert main([str(foreign), *FEW]) == 0  # the same model, the same output folder
    captured = capsys.readouterr()
    assert f"{before['num_points']} -> {after['num_points']} points" in captured.out
    assert captured.out.count("\n") == 1 and captured.out.rstrip().endswith(str(output))
    assert "densify " not in captured.err, "a finished model is not densified again"
    assert main([str(foreign), *FEW, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_errors_are_one_line_with_their_exit_code(
    own_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    model = write_model(read_model(own_scene), tmp_path / "alone" / "0")
    few = [*FEW, "--quiet"]
    for arguments, code, text in (
        ([tmp_path / "nothing"], 3, "no such folder"),
        ([tmp_path], 3, "no COLMAP model here"),
        ([model], 3, "relative to by --images"),
        ([model, "--images", tmp_path], 3, "by --images"),
        ([own_scene, "--output", tmp_path], 2, "--output"),
        ([own_scene, "--set", "density.level=sparse"], 2, "--density sparse adds no points"),
        ([own_scene, "--set", "matcher.name=nearest"], 2, "table 'matcher' belongs to another job"),
        ([own_scene, "--set", "density.min_shared_points=5000"], 5, "--set density.min_shared_points=..."),
    ):
        assert main([*map(str, arguments), *few]) == code, arguments
        captured = capsys.readouterr()
        assert text in captured.err and captured.err.count("\n") == 1
        assert captured.out == ""


def test_flags_override_the_run_and_a_file(sparse_scene: Path, foreign: Path, tmp_path: Path) -> None:
    of_run = resolve(sparse_scene)
    assert of_run.extractor.config.max_keypoints == 600
    assert (of_run.density.level, of_run.refine.mode) == ("normal", "auto")
    assert resolve(foreign).extractor == DensifyConfig().extractor
    flags = ["--density", "dense", "--refine", "off", "--max-keypoints", 300, "--refine-intrinsics", "--device", "cpu"]
    config = resolve(sparse_scene, *flags, "--threads", 2)
    assert config.max_keypoints_dense == 2 * 2000 and config.extractor.config.max_keypoints == 300
    assert (config.refine.mode, config.refine_intrinsics, config.num_threads) == ("off", True, 2)
    toml = tmp_path / "options.toml"
    toml.write_text('[density]\nmax_ratio = 0.7\n[extractor]\nname = "sift"\nmax_keypoints = 400\n')
    config = resolve(sparse_scene, "--config", toml)
    assert config.density.max_ratio == 0.7 and config.extractor.config.max_keypoints_dense == 8192
    assert resolve(
        foreign, "--config", sparse_scene / "reconstruction" / "run.json", "--density", "normal"
    ).extractor == (of_run.extractor)


def test_the_command_is_listed_and_its_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert "densify" in COMMANDS
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "colmap/sparse/0 --images colmap/photos" in capsys.readouterr().out
