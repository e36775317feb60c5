"""The arguments of `evaluate`: complete help, and errors with the flags of this command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pipelines.evaluate import main
from pipelines.evaluate_arguments import build_parser, with_own_flags
from sfm_lightglue.registry.builtin import EXTRACTORS


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests do not download, and do not use a cache on the machine."""
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no_cache"))


@pytest.mark.parametrize("extractor", [name for name in EXTRACTORS.names if name != "sift"])
def test_errors_about_missing_weights_name_the_flags_of_this_command(
    extractor: str, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the list of what was left out, and in the error if nothing is left."""
    flags = ["pairs", "--scene", str(small_scene_dir), "--quiet", "--limit", "1", "--max-keypoints", "200"]
    assert main([*flags, "--extractor", extractor, "--matcher", "nearest"]) == 4
    error = capsys.readouterr().err
    flags += ["--extractor", "sift", "--json", str(tmp_path / "out.json")]
    assert main([*flags, "--extractor", extractor, "--matcher", "nearest"]) == 0
    (left_out,) = json.loads((tmp_path / "out.json").read_text())["left_out"]
    for text in (error, left_out["reason"], capsys.readouterr().out):
        assert f"or give --extractor {extractor}=FILE" in text
        assert "extractor-weights" not in text and "extractor.weights" not in text


def test_each_of_several_missing_weights_has_its_own_name() -> None:
    text = (
        "extractor disk: no, or give `extractor.weights`; matcher lightglue: no weights for extractor aliked;"
        " give `matcher.weights`, or choose `matcher.name` nearest; extractor xfeat: `extractor.weights`;"
        " a larger `extractor.max_keypoints`, `extractor.model`, `matcher.ratio` or `pairs.name`"
    )
    assert with_own_flags(text) == (
        "extractor disk: no, or give --extractor disk=FILE; matcher lightglue: no weights for extractor aliked;"
        " give --matcher lightglue=FILE, or choose --matcher nearest; extractor xfeat: --extractor xfeat=FILE;"
        " a larger --max-keypoints, --extractor xfeat,model=VALUE, --matcher lightglue,ratio=VALUE or `pairs.name`"
    )


def test_errors_about_features_without_lightglue_weights_name_the_flags_of_this_command(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t16.pth").write_bytes(b"only its digest is read")
    flags = ["--extractor", f"aliked={tmp_path / 't16.pth'},model=t16", "--matcher", "lightglue", "--quiet"]
    assert main(["pairs", "--scene", str(small_scene_dir), "--limit", "1", *flags]) == 2
    assert "give a file of weights with --matcher lightglue=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["extractor", "matcher"])
def test_a_flag_of_other_commands_is_an_error_that_names_the_flag_of_this_one(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["pairs", "--scene", "castle", f"--{kind}-weights", "mine.pth"])
    assert f"this command takes weights after the name: --{kind} NAME=mine.pth" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["pairs", "reconstruction", "trajectory"])
def test_a_mistyped_scene_is_an_error_that_lists_the_scenes(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    for folder in ("scenes/fountain_p11", "scenes/lund_door", "sequences/hololens"):
        (shared / folder).mkdir(parents=True)
    flags = ["--matcher", "nearest", "--quiet", "--data", str(shared)]

    def error_of(scene: str, *more: str) -> str:
        assert main([task, *(["--scene"] if task == "pairs" else []), scene, *flags, *more]) == 3
        return capsys.readouterr().err

    error = error_of("fontain_p11")
    assert error.startswith("error: scene fontain_p11: ") and "did you mean 'fountain_p11'?" in error
    assert f"{shared} has fountain_p11, lund_door, hololens" in error
    (tmp_path / "courtyard").mkdir()
    assert "did you mean 'courtyard'?" in error_of(str(tmp_path / "cortyard"))
    monkeypatch.chdir(tmp_path)
    error = error_of("cortyard", "--data", "absent")
    assert error.startswith("error: scene cortyard: no such folder (did you mean 'courtyard'?)")
    assert "absent: no such folder of shared data; set SFM_LIGHTGLUE_DATA or give --data" in error


TASKS = ("pairs", "homography", "reconstruction", "trajectory", "shared")


@pytest.mark.parametrize("task", TASKS)
def test_help_has_a_description_examples_and_every_default(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([task, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    description = text.split("\n\n")[1]
    assert description.endswith(".") and len(description) > 100
    assert f"examples:\n  python -m pipelines.evaluate {task} " in text
    assert "--extractor aliked=my_aliked.pth" in text
    without_default = {"--pairs", "--scene", "--reference", "--estimate"}  # one of them is required
    for action in options_of(task):
        name, text_of_option = action.option_strings[0], " ".join((action.help or "").split())
        takes_value = action.nargs != 0
        is_free = task in {"pairs", "trajectory"} and name in without_default and action.default is None
        assert "default: " in text_of_option or not takes_value or is_free, name
        assert ("may be repeated" in text_of_option) is isinstance(action, argparse._AppendAction), name


def options_of(task: str) -> list[argparse.Action]:
    (tasks,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return [
        action
        for action in tasks.choices[task]._actions
        if action.option_strings and action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]
