"""Options are used or refused: each command accepts the tables of its job, and messages name its own flags."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from pipelines import colmap, export, localize, match, reconstruct, track, view
from pipelines.options import FLAG_FROM_OPTION, OPTION_TABLES, with_flags
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.image_pair.config import MatchConfig
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig, read_config_file
from sfm_lightglue.tracking.config import TrackerConfig
from tests.helpers.checkout import ROOT


@pytest.mark.parametrize("setting", ["mapping.robust_loss_px=3", "pairs.window=3", "cameras.mode=single"])
def test_match_refuses_tables_that_it_does_not_use(pair, capsys, setting):
    table = setting.partition(".")[0]
    assert match.main([*map(str, pair.paths), "--matcher", "nearest", "--set", setting]) == 2
    assert capsys.readouterr().err == (
        f"error: table {table!r} belongs to another job, and this one does not use it;"
        " choose one of extractor, matcher, two_view, guided, seed, device\n"
    )


def test_colmap_refuses_the_table_of_the_mapping(small_scene_dir, tmp_path, capsys):
    arguments = [str(tmp_path / "database.db"), str(small_scene_dir / "images"), "--set", "mapping.robust_loss_px=3"]
    assert colmap.main(arguments) == 2
    assert "error: table 'mapping' belongs to another job" in capsys.readouterr().err
    assert not (tmp_path / "database.db").exists()


def test_an_unknown_table_is_answered_with_the_nearest_one(pair, capsys):
    assert match.main([*map(str, pair.paths), "--set", "two_veiw.min_inliers=8"]) == 2
    assert "unknown table 'two_veiw' (did you mean 'two_view'?)" in capsys.readouterr().err


def test_a_record_of_a_reconstruction_serves_the_other_job_too(tmp_path):
    """It contains the table of the mapping, which nobody typed; a TOML file that contains it is refused."""
    config = ReconstructConfig.from_mapping({"matcher": {"name": "nearest"}, "seed": 3})
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"config": config.as_mapping()}))
    found = DatabaseConfig.from_mapping(read_config_file(record, DatabaseConfig))
    assert (found.matcher.name, found.seed) == ("nearest", 3)
    assert ReconstructConfig.from_mapping(read_config_file(record)) == config
    toml = tmp_path / "config.toml"
    toml.write_text("[mapping]\nrobust_loss_px = 3.0\n")
    assert ReconstructConfig.from_mapping(read_config_file(toml)).mapping.config.robust_loss_px == 3
    with pytest.raises(ConfigError, match="table 'mapping' belongs to another job"):
        DatabaseConfig.from_mapping(read_config_file(toml, DatabaseConfig))


def test_a_record_without_the_name_of_a_mapper_still_repeats_its_run(tmp_path):
    """As earlier versions wrote it."""
    values = ReconstructConfig().as_mapping()
    del values["mapping"]["name"]
    assert ReconstructConfig.from_mapping(values) == ReconstructConfig()


def test_the_matcher_of_a_pair_gets_the_weights_that_fit_its_extractor():
    config = MatchConfig.from_mapping({"extractor": {"name": "aliked"}})
    assert config.matcher.config.weights == "aliked_lightglue"


def test_errors_of_configurations_name_the_option_and_the_command_its_flag(pair, capsys):
    images = [*map(str, pair.paths)]
    for arguments, message in (
        (["--seed", "-1"], "--seed must lie in"),
        (["--device", "foo"], "--device 'foo': expected auto"),
        (["--max-keypoints", "-3"], "--max-keypoints and --max-image-size must be positive"),
        (["--set", "two_view.min_inliers=1"], "--set two_view.min_inliers=... must be at least 5"),
    ):
        assert match.main([*images, *arguments]) == 2
        assert f"error: {message}" in capsys.readouterr().err


def test_options_become_flags():
    assert with_flags("`run.json` is no option") == "`run.json` is no option"
    assert with_flags("try a larger `extractor.max_keypoints`") == "try a larger --max-keypoints"
    assert with_flags("`mapping.min_model_size` is 1") == "--set mapping.min_model_size=... is 1"
    assert with_flags("leave out `same_camera=True`") == "leave out --same-camera"
    assert with_flags("`other` stays") == "`other` stays"


def test_the_tables_of_options_are_those_of_the_jobs():
    values = ReconstructConfig().as_mapping() | TrackerConfig().as_mapping()
    tables = {key for key, value in values.items() if isinstance(value, dict)}
    assert tables | {"guided", "limits", export.TABLE} == set(OPTION_TABLES)


def test_every_flag_belongs_to_a_command():
    known = {
        flag
        for command in (reconstruct, match, colmap, view, track, export, localize)
        for action in command.build_parser()._actions
        for flag in action.option_strings
    }
    assert {flag.split()[0] for flag in FLAG_FROM_OPTION.values()} <= known


FLAG = re.compile(r"(?:^|[\s(`'\"])--[a-z]")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "sfm_lightglue").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_message_of_the_library_names_a_flag(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value.strip()[:60]}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FLAG.search(node.value)
    ]
    assert not named
