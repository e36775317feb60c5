"""The arguments of `evaluate`: helps that tell everything, and errors in the words of this command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pipelines.evaluate import main
from pipelines.evaluate_arguments import build_parser, in_own_words
from sfm_lightglue.registry.builtin import EXTRACTORS


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is downloaded, and no cache of this machine is used."""
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no_cache"))


@pytest.mark.parametrize("extractor", [name for name in EXTRACTORS.names if name != "sift"])
def test_missing_weights_are_asked_for_by_the_options_of_this_command(
    extractor: str, small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Among what was left out, and where nothing is left."""
    flags = ["pairs", "--scene", str(small_scene_dir), "--quiet", "--limit", "1", "--max-keypoints", "200"]
    assert main([*flags, "--extractor", extractor, "--matcher", "nearest"]) == 4
    error = capsys.readouterr().err
    flags += ["--extractor", "sift", "--json", str(tmp_path / "out.json")]
    assert main([*flags, "--extractor", extractor, "--matcher", "nearest"]) == 0
    (left_out,) = json.loads((tmp_path / "out.json").read_text())["left_out"]
    for text in (error, left_out["reason"], capsys.readouterr().out):
        assert f"or give --extractor {extractor}=FILE" in text
        assert "--extractor-weights" not in text


def test_each_of_several_missing_weights_has_its_own_name() -> None:
    text = (
        "extractor disk: no, or give --extractor-weights FILE; matcher lightglue: no weights for extractor aliked;"
        " name a file (--matcher-weights FILE), or choose --matcher nearest; extractor xfeat: --extractor-weights FILE"
    )
    assert in_own_words(text) == (
        "extractor disk: no, or give --extractor disk=FILE; matcher lightglue: no weights for extractor aliked;"
        " name a file (--matcher lightglue=FILE), or choose --matcher nearest; extractor xfeat: --extractor xfeat=FILE"
    )


def test_features_that_no_lightglue_knows_are_told_with_what_this_command_takes(
    small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t16.pth").write_bytes(b"only its digest is asked for")
    flags = ["--extractor", f"aliked={tmp_path / 't16.pth'},model=t16", "--matcher", "lightglue", "--quiet"]
    assert main(["pairs", "--scene", str(small_scene_dir), "--limit", "1", *flags]) == 2
    assert "give a file of weights with --matcher lightglue=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["extractor", "matcher"])
def test_the_option_of_other_commands_is_answered_with_that_of_this_one(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["pairs", "--scene", "castle", f"--{kind}-weights", "mine.pth"])
    assert f"here weights stand behind the name: --{kind} NAME=mine.pth" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["pairs", "reconstruction", "trajectory"])
def test_a_mistyped_scene_is_told_with_what_there_is(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    for place in ("scenes/fountain_p11", "scenes/lund_door", "sequences/hololens"):
        (shared / place).mkdir(parents=True)
    flags = ["--matcher", "nearest", "--quiet", "--data", str(shared)]

    def told(scene: str, *more: str) -> str:
        assert main([task, *(["--scene"] if task == "pairs" else []), scene, *flags, *more]) == 3
        return capsys.readouterr().err

    error = told("fontain_p11")
    assert error.startswith("error: scene fontain_p11: ") and "did you mean 'fountain_p11'?" in error
    assert f"{shared} has fountain_p11, lund_door, hololens" in error
    (tmp_path / "courtyard").mkdir()
    assert "did you mean 'courtyard'?" in told(str(tmp_path / "cortyard"))
    monkeypatch.chdir(tmp_path)
    error = told("cortyard", "--data", "absent")
    assert error.startswith("error: scene cortyard: no such folder (did you mean 'courtyard'?)")
    assert "absent: no such folder of shared data; set SFM_LIGHTGLUE_DATA, or give --data" in error


TASKS = ("pairs", "homography", "reconstruction", "trajectory", "shared")


@pytest.mark.parametrize("task", TASKS)
def test_the_help_of_a_task_describes_it_with_examples_and_the_default_of_every_option(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([task, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    description = text.split("\n\n")[1]
    assert description.endswith(".") and len(description) > 100
    assert f"examples:\n  python -m pipelines.evaluate {task} " in text
    assert "--extractor aliked=my_aliked.pth" in text
    without_default = {"--pairs", "--scene", "--reference", "--estimate"}  # of which one is needed
    for action in options_of(task):
        name, told = action.option_strings[0], " ".join((action.help or "").split())
        takes_value = action.nargs != 0
        is_free = task in {"pairs", "trajectory"} and name in without_default and action.default is None
        assert "default: " in told or not takes_value or is_free, name
        assert ("may be repeated" in told) is isinstance(action, argparse._AppendAction), name


def options_of(task: str) -> list[argparse.Action]:
    (tasks,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return [
        action
        for action in tasks.choices[task]._actions
        if action.option_strings and action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]
