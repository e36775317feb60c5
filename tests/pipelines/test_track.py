"""`python -m pipelines.track` as scripts meet it: flags, streams, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import track as command
from pipelines.__main__ import COMMANDS
from pipelines.__main__ import main as main_of_all
from pipelines.output import OutputClosed
from pipelines.track import build_parser, config_values, main
from sfm_lightglue.errors import ReconstructionError, StoreError
from sfm_lightglue.reconstruction import densify_map
from sfm_lightglue.reconstruction.densify_map import DensifiedMap
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.viewer import live
from tests.helpers.fake_tracker import FakeTracker, use_fake_tracker
from tests.helpers.videos import write_frames, write_video

NUM_FRAMES = 6
FIELDS = {"name", "time_s", "state", "cam_from_world", "map", "num_inliers", "tracking_ms", "waiting_ms"}


@pytest.fixture(autouse=True)
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    return use_fake_tracker(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "walk", NUM_FRAMES)


def resolve(*flags: object) -> TrackerConfig:
    return TrackerConfig.from_mapping(config_values(build_parser().parse_args([str(flag) for flag in flags])))


def test_the_summary_is_one_object_and_the_files_are_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert captured.err == ""
    assert summary["output"] == str(folder / "tracking")
    assert (summary["num_frames"], summary["num_posed"], summary["maps"][0]["num_keyframes"]) == (6, 6, 3)
    names = {path.name for path in (folder / "tracking").iterdir() if not path.name.startswith(".")}
    texts = {"frames.jsonl", "trajectory_tum.txt", "trajectory_kitti.txt", "keyframes.txt"}
    assert names == texts | {"sparse", "points.ply", "run.json", "log.txt", "state.json"}
    assert main([str(folder)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("6 of 6 frames with a pose, 3 keyframes, ") and line.endswith(str(folder / "tracking"))
    assert main([str(folder), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_line_of_json_comes_with_each_frame(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--live-json", "--json"]) == 0
    *frames, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [set(frame) for frame in frames] == [FIELDS] * NUM_FRAMES
    assert [frame["state"] for frame in frames] == ["initializing"] * 2 + ["tracked"] * 4
    assert frames[1]["cam_from_world"] is None and frames[2]["cam_from_world"]["t"] == [-2, 0, 0]
    assert [frame["time_s"] for frame in frames] == pytest.approx([i / 30 for i in range(NUM_FRAMES)])
    assert summary["num_frames"] == NUM_FRAMES


def test_errors_are_one_line_with_their_exit_code(
    folder: Path, tmp_path: Path, tracker: type[FakeTracker], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("hello")
    tracker.has_map = False
    for arguments, code, text in (
        ([tmp_path / "nothing.mp4"], 3, "nothing.mp4: no such file or folder"),
        ([tmp_path / "empty"], 3, "no frame found"),
        ([tmp_path / "text.mp4"], 3, "text.mp4: "),
        (["0"], 2, "--output: name a folder for the results of a camera"),
        (["rtsp://127.0.0.1:1/x", "--output", tmp_path / "out"], 3, "no camera answers"),
        ([folder, "--fps", 0], 2, "--fps must be positive"),
        ([folder, "--camera-model", "PINHOLE", "--camera-params", "1,2"], 2, "expected 4 parameters"),
        ([folder, "--camera-params", "x"], 2, "expected numbers"),
        ([folder, "--max-image-size", 3], 2, "--max-image-size must be at least 64"),
        ([folder, "--threads", -1], 2, "--threads must lie in"),
        ([folder, "--set", "keyframes.nothing=1"], 2, "unknown option 'nothing'"),
        ([folder, "--set", "pairs.window=1"], 2, "table 'pairs' belongs to another job"),
        ([folder], 5, "no map could be started"),
    ):
        assert main([*map(str, arguments), "--quiet"]) == code, arguments
        captured = capsys.readouterr()
        assert text in captured.err and captured.err.count("\n") == 1, captured.err
        assert captured.out == ""
    assert main([str(folder), "--json", "--quiet"]) == 5
    assert json.loads(capsys.readouterr().out)["states"] == {"initializing": NUM_FRAMES}
    assert (folder / "tracking" / "frames.jsonl").read_text().count("\n") == NUM_FRAMES


def test_flags_override_a_file(folder: Path, tmp_path: Path) -> None:
    toml = tmp_path / "options.toml"
    toml.write_text('seed = 3\nthreads = 1\n[keyframes]\nmax_interval_s = 9.0\n[matcher]\nname = "nearest"\n')
    config = resolve(folder, "--config", toml, "--seed", 4, "--max-image-size", 640, "--no-loop-closing")
    assert (config.seed, config.threads, config.max_image_size, config.loop_closing) == (4, 1, 640, False)
    assert config.keyframes.max_interval_s == 9 and config.matcher.name == "nearest"
    config = resolve(folder, "--camera-model", "opencv", "--max-keypoints", 300, "--set", "flow.window_px=15")
    assert (config.camera_model, config.extractor.config.max_keypoints, config.flow.window_px) == ("opencv", 300, 15)
    assert main([str(folder), "--quiet", "--seed", "9", "--set", "flow.window_px=15"]) == 0
    assert resolve(folder, "--config", folder / "tracking" / "run.json") == resolve(
        folder, "--seed", 9, "--set", "flow.window_px=15"
    )
    assert resolve(folder) == TrackerConfig()


def interrupt_at(number: int, monkeypatch: pytest.MonkeyPatch, tracker: type[FakeTracker], times: int = 1) -> None:
    """Ctrl-C while a frame is tracked, or while the results are computed if `times` is 2."""
    track, finish = tracker.track, tracker.finish

    def tracking(self: FakeTracker, *arguments: Any) -> Any:
        if len(self.records) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return track(self, *arguments)

    def finishing(self: FakeTracker) -> None:
        if times == 2:
            monkeypatch.setattr("pipelines.interrupt._ECHO_S", 0.0)
            os.kill(os.getpid(), signal.SIGINT)
        finish(self)

    monkeypatch.setattr(tracker, "track", tracking)
    monkeypatch.setattr(tracker, "finish", finishing)


@pytest.mark.skipif(os.name != "posix", reason="sends signals to its own process")
def test_ctrl_c_ends_the_sequence_and_writes_it(
    folder: Path, tracker: type[FakeTracker], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupt_at(3, monkeypatch, tracker)
    assert main([str(folder), "--quiet", "--json", "--finish"]) == 130
    captured = capsys.readouterr()
    assert captured.err.startswith("ending: the map is adjusted and written") and captured.err.count("\n") == 1
    summary = json.loads(captured.out)
    assert summary["is_interrupted"] and summary["num_frames"] == 4 and "densified" not in summary
    assert (folder / "tracking" / "sparse" / "0").is_dir()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(os.name != "posix", reason="sends signals to its own process")
def test_a_second_ctrl_c_leaves_at_once(
    folder: Path, tracker: type[FakeTracker], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(3, monkeypatch, tracker, times=2)
    assert main([str(folder), "--quiet"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (folder / "tracking" / "sparse").exists() and not (folder / "tracking" / "run.json").exists()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The folders and options of `densify`, which does nothing."""
    called: list[Any] = []

    class Summary:
        def as_dict(self) -> dict[str, int]:
            return {"num_rounds": 2}

    def densify(map: Path, config: Any, progress: Any) -> DensifiedMap:
        called.append((map, config))
        return DensifiedMap(map / "densified", Summary())  # type: ignore[arg-type]

    monkeypatch.setattr(densify_map, "densify", densify)
    return called


def test_finish_densifies_the_model_of_the_keyframes(
    folder: Path, called: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--finish", "--json", "--threads", "1", "--max-keypoints", "300"]) == 0
    ((output, config),) = called
    assert output == folder / "tracking"
    assert config.num_threads == 1 and config.extractor.config.max_keypoints == 300
    summary = json.loads(capsys.readouterr().out)
    assert summary["densified"] == {"num_rounds": 2, "output": str(output / "densified")}


def test_with_finish_standard_output_has_lines_of_json_only(
    folder: Path, called: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--finish", "--live-json"]) == 0
    captured = capsys.readouterr()
    assert len([json.loads(line) for line in captured.out.splitlines()]) == NUM_FRAMES and called


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [(ReconstructionError("too few", {"num_rounds": 0}), 5, "too few"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_the_summary_is_printed_if_densify_fails(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    told: str,
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(densify_map, "densify", fail)
    assert main([str(folder), "--finish", "--json", "--quiet"]) == code
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["num_posed"] == NUM_FRAMES and summary["densified"] == {"error": told}
    assert told in captured.err


@pytest.mark.parametrize(("error", "code"), [(OutputClosed(), 0), (StoreError("standard output: full"), 6)])
def test_a_sequence_whose_lines_nobody_can_read_is_tracked_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[Any] = []

    def say_twice(values: Any, flush: bool = False) -> None:
        said.append(values)
        if len(said) == 3:
            raise error

    monkeypatch.setattr(command, "say_json", say_twice)
    monkeypatch.setattr(command, "discard_output", lambda: None)
    assert main([str(folder), "--live-json"]) == code
    assert len(said) == 3 and "the lines of JSON cannot be written; tracking goes on" in capsys.readouterr().err
    record = json.loads((folder / "tracking" / "run.json").read_text())
    assert record["summary"]["num_posed"] == NUM_FRAMES and not record["summary"]["is_interrupted"]


def test_a_video_and_an_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.helpers.videos import panned_images

    video = write_video(tmp_path / "walk.avi", panned_images(NUM_FRAMES))
    assert main([str(video), "--output", str(tmp_path / "out"), "--quiet", "--fps", "5"]) == 0
    lines = (tmp_path / "out" / "frames.jsonl").read_text().splitlines()
    assert [json.loads(line)["time_s"] for line in lines] == pytest.approx([i / 5 for i in range(NUM_FRAMES)])
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3


def test_without_a_display_a_line_says_that_there_is_no_window(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "require_open3d", lambda: None)
    monkeypatch.setattr(live, "is_display_named", lambda: False)
    assert main([str(folder), "--view", "--quiet"]) == 0
    assert capsys.readouterr().err == (
        "no window: there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set);"
        " the command `report` shows the model in any browser without it\n"
    )


def test_the_window_gets_each_frame_and_is_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Window:
        def show(self, tracker: Any, frame: Any, record: Any) -> None:
            shown.append(frame.name)

        def close(self) -> None:
            shown.append("closed")

    monkeypatch.setattr(live.LiveView, "open", lambda title: Window())
    assert main([str(folder), "--view", "--quiet"]) == 0
    assert shown == [*(f"{i}.png" for i in range(NUM_FRAMES)), "closed"]


def test_the_command_is_listed_and_its_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert "track" in COMMANDS and command.__doc__ is not None
    with pytest.raises(SystemExit):
        main_of_all(["track", "--help"])
    text = capsys.readouterr().out
    assert "rtsp://" in text and "5 nothing could be tracked" in text
    assert "0 --output desk --view" in text and Path(sys.argv[0]).name
