"""Every command has `--json`, `--quiet` and `--verbose`, long ones `--dry-run`, and these do what they say."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipelines.__main__ import COMMANDS
from pipelines.__main__ import main as all_commands
from pipelines.command import with_progress
from pipelines.manners import LIBRARY, set_verbosity
from sfm_lightglue.huggingface import onnx_export
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.checkout import ROOT
from tests.helpers.fake_tracker import use_fake_tracker
from tests.helpers.videos import write_frames

COMMANDS_PAGE = ROOT / "docs" / "reference" / "commands.md"

FEW = ("--max-keypoints", "600", "--threads", "1")
FAST = (*FEW, "--matcher", "nearest")

PRINTS_RESULT = "result"
"""The command exists to print, so `--quiet` leaves its result."""


@dataclass(frozen=True)
class Case:
    """A command line, with places of the test in braces.

    Args:
        line: the arguments.
        dry: whether it has `--dry-run`.
        quiet: "" if `--quiet` prints nothing; else what is left.
        fakes: "tracking" if frames need not be trackable, "onnx" if the content of the file is not computed.
        is_plan: only `--dry-run` is run: all else takes minutes, or a network.
        is_heavy: the work is done once for all flags.
    """

    line: str
    dry: bool = False
    quiet: str = ""
    fakes: str = ""
    is_plan: bool = False
    is_heavy: bool = False


CASES = {
    "reconstruct": Case(
        f"{{scene}} --output {{new}} --density sparse --refine off {' '.join(FAST)}", dry=True, is_heavy=True
    ),
    "reconstruct --extend": Case(
        f"{{scene}} --output {{finished}} --extend --no-report {' '.join(FAST)}", dry=True, is_plan=True
    ),
    "match": Case("{image0} {image1} --matcher nearest --max-keypoints 600"),
    "match --batch": Case("--batch {pairs} --images {images} --matcher nearest --max-keypoints 600", dry=True),
    "track": Case("{frames} --output {new}", dry=True, fakes="tracking", is_heavy=True),
    "localize": Case("{map} {image0} --max-keypoints 600", dry=True),
    "densify": Case(
        "{map} --output {new} --refine off --threads 1 --max-keypoints 600 --set extractor.max_keypoints_dense=1200",
        dry=True,
        is_heavy=True,
    ),
    "export": Case("{map} --format ply --output {new}", dry=True),
    "export splatting": Case("{map} --format splatting --output {new}", dry=True),
    "colmap": Case(f"{{new}} {{images}} {' '.join(FAST)}", dry=True, is_heavy=True),
    "report": Case("{map} --output {new}.html"),
    "store check": Case("{map}/reconstruction", quiet=PRINTS_RESULT),
    "store stats": Case("{map}/reconstruction", quiet=PRINTS_RESULT),
    "store compact": Case("{map}/reconstruction --dry-run", quiet=PRINTS_RESULT),
    "store prune": Case("{map}/reconstruction --dry-run", quiet=PRINTS_RESULT),
    "weights list": Case("", quiet=PRINTS_RESULT),
    "weights path": Case("lightglue_sift", quiet=PRINTS_RESULT),
    "weights fetch": Case("lightglue_sift", dry=True, quiet=PRINTS_RESULT),
    "weights export": Case("{lightglue} --onnx {new}.onnx", fakes="onnx"),
    "completion": Case("bash", quiet=PRINTS_RESULT),
    "evaluate pairs": Case(
        "--pairs {pairs} --images {images} --matcher nearest --max-keypoints 300", dry=True, quiet=PRINTS_RESULT
    ),
    "evaluate reconstruction": Case(
        "{truth} --matcher nearest --max-keypoints 300 --threads 1", dry=True, quiet=PRINTS_RESULT, is_plan=True
    ),
    "evaluate trajectory": Case("--reference {trajectory} --estimate {trajectory}", dry=True, quiet=PRINTS_RESULT),
    "evaluate slam": Case("small_corridor --limit 3 --threads 1", dry=True, quiet=PRINTS_RESULT, is_plan=True),
    "train": Case("--photos {images} --output {new} --steps 10", dry=True, is_plan=True),
    "train --pack-photos": Case("--photos {images} --pack-photos {new}.zip", is_heavy=True),
}
"""A call of every command and of its actions."""

LIGHT = [name for name, case in CASES.items() if not case.is_plan and not case.is_heavy]
HEAVY = [name for name, case in CASES.items() if case.is_heavy]

PLAN_KEYS = {"dry_run", "seconds", "basis", "writes"}

OTHER_PLANS = {"reconstruct", "train", "weights fetch"}
"""Commands whose plan has other keys, as docs/reference/commands.md says."""

OWN_TESTS = {"doctor", "view"}
"""Commands that open windows, or import all libraries; their flags are tested elsewhere."""


@pytest.fixture(scope="module")
def places(
    small_scene: SyntheticScene, small_scene_dir: Path, sparse_scene: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Inputs of all commands, which do not change them."""
    root = tmp_path_factory.mktemp("manners")
    images = small_scene_dir / "images"
    focal, cx, cy = small_scene.camera.params
    K = [focal, 0, cx - 0.5, 0, focal, cy - 0.5, 0, 0, 1]
    poses = small_scene.cam_from_world_from_name
    lines = []
    for name0, name1 in list(pairwise(small_scene.names))[:2]:
        T = poses[name1] @ poses[name0].inverse()
        lines.append(" ".join(map(str, [name0, name1, 0, 0, *K, *K, *T.as_matrix().ravel()])))
    (root / "pairs.txt").write_text("\n".join(lines))
    (root / "trajectory.txt").write_text("\n".join(f"{i} {i} {i % 2} 0 0 0 0 1" for i in range(5)))
    scene = root / "scene"
    scene.mkdir()
    for image in sorted(images.iterdir())[:3]:
        shutil.copy(image, scene / image.name)
    from tests.helpers.untrained import write_lightglue

    return {
        "scene": scene,
        "images": images,
        "truth": small_scene_dir,
        "image0": sorted(images.iterdir())[0],
        "image1": sorted(images.iterdir())[2],
        "pairs": root / "pairs.txt",
        "trajectory": root / "trajectory.txt",
        "frames": write_frames(root / "frames", 6),
        "lightglue": write_lightglue(root / "lightglue.safetensors"),
    }


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    yield
    set_verbosity(False)


@pytest.fixture
def call(
    places: Mapping[str, Path],
    own_scene: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command of `CASES` with more flags, into a new output each time."""
    number = iter(range(100))
    monkeypatch.chdir(tmp_path)

    def run(name: str, *flags: str) -> tuple[int, str, str]:
        case = CASES[name]
        if case.fakes == "tracking" and "--dry-run" not in flags:
            use_fake_tracker(monkeypatch)
        if case.fakes == "onnx":  # tests/models/test_onnx_file.py runs the command with its computation
            monkeypatch.setattr(onnx_export, "_matcher", lambda source, layout: Path(source).read_bytes())
        more = {"map": own_scene, "new": tmp_path / f"new_{next(number)}", "finished": own_scene / "reconstruction"}
        words = [word for word in name.split() if not word.startswith("--") and word != "splatting"]
        line = case.line.format_map({key: str(path) for key, path in (places | more).items()})
        capfd.readouterr()
        code = all_commands([*words, *line.split(), *flags])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def files_of(*folders: Path) -> dict[str, str]:
    """Digest of each file."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def flags_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, set[str]]]:
    """The flags of a parser, or of each of its actions."""
    actions = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for action in actions:
        for name, sub in action.choices.items():
            for more, flags in flags_of(sub):
                yield f"{name} {more}".strip(), flags
    if not actions:
        yield "", {flag for action in parser._actions for flag in action.option_strings}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_the_flags_and_a_case(command: str) -> None:
    module = importlib.import_module(f"pipelines.{command}")
    cased = {" ".join(word for word in name.split()[:2] if not word.startswith("--")) for name in CASES}
    for action, flags in flags_of(module.build_parser()):
        name = f"{command} {action}".strip()
        assert flags >= {"--json", "--quiet", "--verbose"}, name
        if command not in OWN_TESTS and name not in {"evaluate homography", "evaluate shared"}:
            assert name in cased, f"{name}: add a line to CASES"


@pytest.mark.parametrize("name", LIGHT)
def test_quiet_prints_nothing_but_a_result(name: str, call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call(name, "--quiet")
    assert (code, err) == (0, "")
    assert (out != "") is (CASES[name].quiet == PRINTS_RESULT)


@pytest.mark.parametrize("name", [*LIGHT, *HEAVY])
def test_json_is_all_of_standard_output_and_verbose_tells_more_on_standard_error(
    name: str, call: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, told = call(name, "--json", "--verbose")
    assert code == 0
    documents = values_of(out)
    assert documents and all(isinstance(one, dict | list) for one in documents)
    lines = name in {"match --batch"}
    assert len(documents) == (2 if lines else 1)
    assert "debug: sfm_lightglue " in told and "peak memory" in told


def values_of(text: str) -> list[Any]:
    """One document, or one in each line."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["match", "export", "report", "evaluate trajectory", "weights list"])
def test_text_for_people_has_no_details_unless_they_are_asked_for(
    name: str, call: Callable[..., tuple[int, str, str]]
) -> None:
    """One command of each kind of output: the flags are read by the same functions for all."""
    code, out, told = call(name)
    assert (code, "debug:" in told) == (0, False)
    assert out
    code, out, told = call(name, "--verbose")
    assert code == 0
    assert out and "debug:" not in out
    assert "debug: sfm_lightglue " in told


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.dry])
def test_a_dry_run_tells_the_work_and_writes_nothing(
    name: str, call: Callable[..., tuple[int, str, str]], places: Mapping[str, Path], own_scene: Path, tmp_path: Path
) -> None:
    before = files_of(tmp_path, own_scene, places["scene"], places["frames"], places["images"])
    code, text, told = call(name, "--dry-run", "--json", "--quiet")
    assert (code, told) == (0, "")
    (plan,) = values_of(text)
    if name.startswith("weights"):
        assert plan[0]["is_here"] is True
    else:
        assert plan["dry_run"] is True
    if name not in OTHER_PLANS:
        assert plan.keys() >= PLAN_KEYS
        assert plan["seconds"] >= 0
        assert plan["basis"]
    assert files_of(tmp_path, own_scene, places["scene"], places["frames"], places["images"]) == before


def test_the_reference_names_the_plans_with_other_keys() -> None:
    (line,) = [one for one in COMMANDS_PAGE.read_text(encoding="utf-8").splitlines() if "`basis`" in one]
    _, _, exceptions = line.partition("Other keys have")
    for name in (*OTHER_PLANS, "store compact", "store prune"):
        assert f"`{name}`" in exceptions, name


def test_the_time_of_a_plan_is_that_of_the_work(call: Callable[..., tuple[int, str, str]]) -> None:
    """Within a wide factor: the machine may be busy."""
    text = call("match --batch", "--dry-run")[1]
    assert "2 pairs of 3 images; about" in text and "would write no file" in text
    (plan,) = values_of(call("match --batch", "--dry-run", "--json")[1])
    assert (plan["num_pairs"], plan["num_images"], plan["num_bad_lines"]) == (2, 3, 0)
    assert 0.02 < plan["seconds"] < 60
    (plan,) = values_of(call("localize", "--dry-run", "--json")[1])
    assert (plan["num_queries"], plan["num_map_images"], plan["num_to_extract"]) == (1, 4, 0)
    (plan,) = values_of(call("localize", "--dry-run", "--json", "--max-keypoints", "500")[1])
    assert plan["num_to_extract"] == 4, "the features of the map have other options"
    (plan,) = values_of(call("export splatting", "--dry-run", "--json")[1])
    assert plan["pictures"] == "undistorted" and plan["num_images"] == 4 and plan["images_mb"] > 0.05
    (plan,) = values_of(call("reconstruct --extend", "--dry-run", "--json")[1])
    assert plan["arrivals"] == [] and plan["num_images"] == 3


@pytest.mark.parametrize("command", ["reconstruct", "store check", "evaluate slam"])
def test_quiet_and_verbose_exclude_each_other(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        all_commands([*command.split(), "x", "--quiet", "--verbose"])
    assert error.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_verbose_tells_where_an_error_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    assert all_commands(["localize", "no_such_map", "x.jpg", "--verbose"]) == 3
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.rstrip().splitlines()[-1].startswith("error: no_such_map")
    assert all_commands(["localize", "no_such_map", "x.jpg"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_the_time_of_each_stage_is_told(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    set_verbosity(True)
    logging.getLogger(LIBRARY).addHandler(caplog.handler)
    try:
        with_progress(False, lambda progress: [progress(stage, done, 2) for stage in "ab" for done in (1, 2)])
    finally:
        logging.getLogger(LIBRARY).removeHandler(caplog.handler)
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(" in ")[0] for line in told] == ["a: 2", "b: 2"]
