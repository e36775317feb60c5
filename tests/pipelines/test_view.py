"""`python -m pipelines.view`: its arguments, its errors, one image."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image

from pipelines.view import main
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.viewer import show
from tests.helpers.checkout import ROOT
from tests.helpers.missing_drivers import names_a_missing_driver


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions())
    model.write_binary(folder)
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """Replaces Open3D; the calls that would draw, as a list."""
    calls = []
    monkeypatch.setattr(show, "require_open3d", lambda: None)
    monkeypatch.setattr(show, "save_screenshot", lambda *arguments: calls.append(("image", *arguments)))
    monkeypatch.setattr(show, "save_turntable", lambda *arguments: calls.append(("film", *arguments)))
    monkeypatch.setattr(show, "show_window", lambda *arguments: calls.append(("window", *arguments)))
    return calls


def test_screenshot_writes_an_image(tmp_path, drawn, capsys):
    folder = write_model(tmp_path / "sparse" / "0")
    assert main([str(tmp_path), "--screenshot", str(tmp_path / "a.png"), "--size", "640x400"]) == 0
    [(kind, contents, _, path, size)] = drawn
    assert (kind, path, size) == ("image", tmp_path / "a.png", (640, 400))
    assert len(contents.points) == read_model(folder).num_points3D()
    assert "10 images, 100 points" in capsys.readouterr().out


def test_quiet_prints_nothing(tmp_path, drawn, capsys):
    write_model(tmp_path / "model")
    assert main([str(tmp_path / "model"), "--screenshot", str(tmp_path / "a.png"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(drawn) == 1


def test_a_window_is_the_default(tmp_path, drawn, monkeypatch):
    write_model(tmp_path / "model")
    monkeypatch.setenv("DISPLAY", ":0")
    assert main([str(tmp_path / "model")]) == 0
    assert drawn[0][0] == "window"


def test_a_film_and_its_look_are_those_of_the_flags(tmp_path, drawn, monkeypatch):
    write_model(tmp_path / "model")
    monkeypatch.delenv("DISPLAY", raising=False)
    flags = ["--turntable", str(tmp_path / "a.gif"), "--frames", "9", "--seconds", "1.5", "--size", "64x48"]
    look = ["--colour", "length", "--background", "light", "--point-size", "2", "--axes", "--no-cameras"]
    assert main([str(tmp_path / "model"), *flags, *look]) == 0
    [(kind, _, made, path, size, frames, seconds)] = drawn
    assert (kind, path, size, frames, seconds) == ("film", tmp_path / "a.gif", (64, 48), 9, 1.5)
    assert (made.coloring, made.background, made.point_factor, made.axes, made.cameras) == (
        "length",
        "light",
        2,
        True,
        False,
    )


def test_two_models_are_compared_and_told(tmp_path, drawn, capsys):
    write_model(tmp_path / "a")
    write_model(tmp_path / "b")
    screenshot = ["--screenshot", str(tmp_path / "a.png")]
    compared = [str(tmp_path / "a"), "--compare", str(tmp_path / "b"), *screenshot]
    assert main(compared) == 0
    out = capsys.readouterr().out
    assert "10 common images" in out and "largest" in out
    assert main([*compared, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["compare"]["num_common"] == 10 and values["compare"]["center_error"]["max"] < 1e-6
    assert [model["num_images"] for model in values["models"]] == [10, 10]
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), *screenshot, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compare"] is None
    assert len(drawn[-1][1].model_names) == 2
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--compare", str(tmp_path / "b"), *screenshot]) == 2
    assert "--compare takes one model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "coloring"), [([], "model"), (["--colour", "photo"], "photo"), (["--colour", "error"], "error")]
)
def test_a_comparison_is_coloured_by_model_unless_another_colour_is_asked(tmp_path, drawn, flags, coloring):
    write_model(tmp_path / "a")
    arguments = [str(tmp_path / "a"), "--screenshot", str(tmp_path / "a.png"), "--quiet", *flags]
    assert main([*arguments, "--compare", str(tmp_path / "a")]) == 0
    assert drawn[-1][2].coloring == coloring
    assert main(arguments) == 0
    assert drawn[-1][2].coloring == (coloring if flags else "photo")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_a_display_the_screenshot_is_suggested(tmp_path, drawn, monkeypatch, capsys):
    write_model(tmp_path / "model")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main([str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert "--screenshot FILE.png" in error and "`report`" in error and error.count("\n") == 1
    assert drawn == []


@pytest.mark.parametrize("flags", [[], ["--screenshot", "a.png"], ["--turntable", "a.mp4"]])
def test_without_open3d_the_command_to_install_it_is_named(tmp_path, monkeypatch, capsys, flags):
    write_model(tmp_path / "model")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([str(tmp_path / "model"), *flags]) == 2
    error = capsys.readouterr().err
    assert "the command `report` shows" in error
    assert 'pip install "sfm-lightglue[viewer]"' in error
    assert "libusb-1.0-0" in error and "mesa-vulkan-drivers" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "reconstruct it first"),
        (lambda path: path.write_text("x"), "this is a file"),
    ],
)
def test_a_folder_without_a_model_is_reported_first(tmp_path, monkeypatch, capsys, make, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # Open3D is missing too
    path = tmp_path / "path with space"
    make(path)
    assert main([str(path), "--screenshot", str(tmp_path / "a.png")]) == 3
    error = capsys.readouterr().err
    assert str(path) in error and message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--screenshot", "a.jpg"], "a.png"),
        (["--screenshot", "a.png", "--size", "5x5"], "32 to 8192"),
        (["--turntable", "a.avi"], "a.mp4"),
        (["--turntable", "a.mp4", "--frames", "1"], "2 to 3600"),
        (["--screenshot", "a.png", "--point-size", "0"], "0.25 to 8"),
    ],
)
def test_bad_values_exit_with_2(tmp_path, drawn, capsys, arguments, message):
    assert main([str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("size", ["640", "640x", "axb", "-1x5", "640x480x3"])
def test_invalid_sizes_are_explained(size, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["model", f"--size={size}"])
    assert exit_info.value.code == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--screenshot castle.png" in capsys.readouterr().out


def test_the_command_writes_an_image_without_a_display(tmp_path):
    write_model(tmp_path / "model")
    environment_without_display = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    command = [sys.executable, "-m", "pipelines.view", str(tmp_path / "model")]
    result = subprocess.run(
        [*command, "--screenshot", str(tmp_path / "a.png"), "--size", "160x120"],
        cwd=ROOT,
        env=environment_without_display,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if result.returncode == 2 and ("needs Open3D" in result.stderr or names_a_missing_driver(result.stderr)):
        pytest.skip(result.stderr.strip())
    assert (result.returncode, result.stderr) == (0, "")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (160, 120)
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 20
