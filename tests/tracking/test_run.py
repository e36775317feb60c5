"""The output folder of a tracked sequence: its files, its images, and what stays of earlier runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pycolmap
import pytest

from datasets.trajectory import read_trajectory
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, StoreError
from sfm_lightglue.reconstruction.densify_map import values_of_run
from sfm_lightglue.tracking import output as module
from sfm_lightglue.tracking import run
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.run import TrackedSource, ahead, track
from sfm_lightglue.tracking.sources import FrameSource, open_source
from tests.helpers.fake_tracker import FakeTracker, use_fake_tracker
from tests.helpers.videos import damage_frame, panned_images, write_frames, write_video

NUM_FRAMES = 10
KEYFRAMES = [0, 2, 5, 8]


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    return use_fake_tracker(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "walk", NUM_FRAMES)


def read_frames(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "frames.jsonl").read_text().splitlines()]


def is_consistent(tracked: TrackedSource, names: list[str]) -> None:
    """The files of a run with one map say the same."""
    output, frames = tracked.output, read_frames(tracked.output)
    assert [frame["name"] for frame in frames] == names
    assert all(frame["map"] == 0 for frame in frames)
    assert [frame["cam_from_world"]["t"][0] for frame in frames] == [-float(i) for i in range(len(names))]
    tum, kitti = read_trajectory(output / "trajectory_tum.txt"), read_trajectory(output / "trajectory_kitti.txt")
    assert len(tum) == len(kitti) == len(names)
    assert tum.stamps_s.tolist() == [frame["time_s"] for frame in frames]
    keyframes = read_trajectory(output / "keyframes.txt")
    assert [pose.t[0] for pose in keyframes.world_from_cam] == KEYFRAMES
    model = read_model(output)
    assert sorted(image.name for image in model.images.values()) == sorted(names[i] for i in KEYFRAMES)


def test_a_folder_of_frames_gives_a_folder_that_other_commands_take(folder: Path, tracker: type[FakeTracker]) -> None:
    tracked = track(folder)
    assert tracked.output == folder / "tracking"
    names = [f"{i}.png" for i in range(NUM_FRAMES)]
    is_consistent(tracked, names)
    record = json.loads((tracked.output / "run.json").read_text())
    assert record["versions"]["sfm_lightglue"] and record["config"] == TrackerConfig().as_mapping()
    summary = record["summary"]
    assert summary["num_frames"] == summary["num_posed"] == NUM_FRAMES
    assert summary["states"] == {"initializing": 2, "tracked": NUM_FRAMES - 2}
    assert [(event["kind"], event["name"]) for event in summary["events"]] == [("initialized", "2.png")]
    assert summary["rates"]["tracker_fps"] == 500 and summary["rates"]["max_ms"] == 2
    assert summary["maps"][0]["num_keyframes"] == len(KEYFRAMES)
    for given in (folder, tracked.output, tracked.output / "sparse" / "0"):
        found = find_map(given)
        assert found.output is not None and found.output.samefile(tracked.output)
        assert found.images is not None and found.images.samefile(folder), "densify finds the images"
    assert values_of_run(found) == {"extractor": TrackerConfig().as_mapping()["extractor"]}
    assert not [path for path in tracked.output.iterdir() if path.name.startswith(".work")]
    assert len(list(open_source(folder))) == NUM_FRAMES, "the results are no frames"


def test_the_frames_are_found_wherever_the_results_are(
    folder: Path, tracker: type[FakeTracker], tmp_path: Path
) -> None:
    output = track(folder, tmp_path / "elsewhere" / "out").output
    found = find_map(output)
    assert found.images is not None and found.images.samefile(folder)


def test_a_video_gives_a_folder_beside_it_with_the_images_of_keyframes(
    tmp_path: Path, tracker: type[FakeTracker]
) -> None:
    images = panned_images(NUM_FRAMES)
    tracked = track(write_video(tmp_path / "walk.mp4", images))
    output = tmp_path / "walk_tracking"
    assert tracked.output == output
    is_consistent(tracked, [f"frame_{i:06d}.jpg" for i in range(NUM_FRAMES)])
    written = sorted((output / "images").iterdir())
    assert [path.name for path in written] == [f"frame_{i:06d}.jpg" for i in KEYFRAMES]
    for path, i in zip(written, KEYFRAMES, strict=True):
        assert np.abs(np.asarray(PIL.Image.open(path)).astype(int) - images[i]).mean() < 12
    found = find_map(output)
    assert found.images is not None and found.images.samefile(output / "images")
    assert track(tmp_path / "walk.mp4").output == output, "the same command again"
    (output / "images" / "of_user.txt").write_text("kept")
    tracker.second_map = 7
    track(tmp_path / "walk.mp4")
    assert len(list((output / "images").iterdir())) == len(KEYFRAMES) + 1
    write_video(tmp_path / "walk.mp4", images[:4])
    track(tmp_path / "walk.mp4")
    assert sorted(path.name for path in (output / "images").iterdir()) == [
        "frame_000000.jpg",
        "frame_000002.jpg",
        "of_user.txt",
    ]


def test_results_that_cannot_be_published_leave_the_earlier_ones(
    tmp_path: Path, tracker: type[FakeTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = track(write_video(tmp_path / "walk.avi", panned_images(NUM_FRAMES))).output
    write_video(tmp_path / "walk.avi", panned_images(4))

    def fail(*arguments: Any) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(module, "publish_together", fail)
    with pytest.raises(StoreError, match="no space"):
        track(tmp_path / "walk.avi")
    assert len(list((output / "images").iterdir())) == len(KEYFRAMES)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_run_without_a_map_keeps_the_results_of_an_earlier_one(
    folder: Path, tracker: type[FakeTracker], caplog: pytest.LogCaptureFixture, is_interrupted: bool
) -> None:
    output = track(folder).output
    before = {name: (output / name).read_bytes() for name in ("run.json", "frames.jsonl", "trajectory_tum.txt")}
    tracker.has_map = False
    told = "the earlier results in .*tracking are kept"
    if is_interrupted:
        assert track(folder, is_to_end=lambda: True).summary.is_interrupted
        assert re.search(told, caplog.text)
    else:
        with pytest.raises(ReconstructionError, match=told):
            track(folder)
    assert {name: (output / name).read_bytes() for name in before} == before
    assert read_model(output).num_reg_images() == len(KEYFRAMES)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_error_of_the_source_after_some_frames_leaves_their_results(
    tmp_path: Path, tracker: type[FakeTracker], caplog: pytest.LogCaptureFixture, num_threads: int
) -> None:
    def failing(number: int) -> Iterator[tuple[np.ndarray, float]]:
        for i, image in enumerate(panned_images(number, (64, 48))):
            yield image, float(i)
        raise OSError("unplugged")

    config = TrackerConfig(threads=num_threads)
    with pytest.raises(OSError, match="unplugged"):
        track(failing(6), tmp_path / "out", config)
    assert len(read_frames(tmp_path / "out")) == 6 and "6 of 6 frames with a pose" in caplog.text
    assert read_model(tmp_path / "out").num_reg_images() == 3
    with pytest.raises(OSError, match="unplugged"):
        track(failing(1), tmp_path / "nothing", config)
    assert not (tmp_path / "nothing" / "run.json").exists()


def test_skipped_frames_of_a_video_are_told(
    tmp_path: Path, tracker: type[FakeTracker], caplog: pytest.LogCaptureFixture
) -> None:
    video = write_video(tmp_path / "walk.avi", panned_images(NUM_FRAMES + 1))
    damage_frame(video, KEYFRAMES[-1] + 1)  # it is not read again for the images of keyframes
    summary = track(video).summary
    assert [frame["name"] for frame in summary.skipped] == ["frame_000009.jpg"]
    assert "left out frame_000009.jpg: cannot be decoded" in caplog.messages


def test_files_of_the_user_and_results_of_another_video_are_not_replaced(
    tmp_path: Path, tracker: type[FakeTracker]
) -> None:
    for suffix in (".mp4", ".avi"):
        write_video(tmp_path / f"walk{suffix}", panned_images(NUM_FRAMES))
    track(tmp_path / "walk.mp4")
    with pytest.raises(ConfigError, match=r"walk_tracking: has the results of walk\.mp4; name another folder"):
        track(tmp_path / "walk.avi")
    track(tmp_path / "walk.avi", tmp_path / "walk_tracking")
    for name in ("trajectory_tum.txt", "trajectory_kitti_1.txt"):
        (tmp_path / name[:-4]).mkdir()
        (tmp_path / name[:-4] / name).write_text("mine")
        with pytest.raises(ConfigError, match=name):
            track(tmp_path / "walk.mp4", tmp_path / name[:-4])


def test_an_iterator_gives_the_images_of_keyframes_too(tmp_path: Path, tracker: type[FakeTracker]) -> None:
    images = panned_images(NUM_FRAMES, (64, 48))
    tracked = track(((image, float(i)) for i, image in enumerate(images)), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == [
        f"frame_{i:06d}.jpg" for i in KEYFRAMES
    ]
    is_consistent(tracked, [f"frame_{i:06d}.jpg" for i in range(NUM_FRAMES)])
    with pytest.raises(ConfigError, match="`output`: name a folder"):
        track(iter([]))


def test_several_maps_are_several_models_the_largest_first(folder: Path, tracker: type[FakeTracker]) -> None:
    tracker.second_map = 7
    output = track(folder).output
    frames = read_frames(output)
    assert [frame["map"] for frame in frames] == [0] * 7 + [1] * 3
    assert len(read_trajectory(output / "trajectory_tum.txt")) == 7
    assert len(read_trajectory(output / "trajectory_kitti_1.txt")) == 3
    names = {image.name for image in pycolmap.Reconstruction(output / "sparse" / "1").images.values()}
    assert names == {"8.png"}
    maps = json.loads((output / "run.json").read_text())["summary"]["maps"]
    assert [one["last_adjustment"]["uses_patches"] for one in maps] == [True, False]
    assert maps[1]["last_adjustment"]["reason"] == "blurred" and maps[0]["last_adjustment"]["aligned_share"] == 0.3
    tracker.second_map = None
    track(folder)
    assert not (output / "sparse" / "1").exists() and not (output / "trajectory_tum_1.txt").exists()
    assert len(read_trajectory(output / "trajectory_tum.txt")) == NUM_FRAMES


def test_without_a_map_the_frames_are_written_and_an_error_says_what_to_try(
    folder: Path, tracker: type[FakeTracker]
) -> None:
    tracker.has_map = False
    with pytest.raises(ReconstructionError, match=r"no map could be started from 10 .*`cameras.params`") as error:
        track(folder)
    output = folder / "tracking"
    assert error.value.summary is not None and error.value.summary["maps"] == ()
    assert [frame["cam_from_world"] for frame in read_frames(output)] == [None] * NUM_FRAMES
    assert not (output / "sparse").exists()
    assert (output / "trajectory_kitti.txt").read_text() == ""


def test_an_error_of_the_last_keyframes_is_not_a_missing_map(
    folder: Path, tracker: type[FakeTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(tracker: FakeTracker) -> None:
        raise DataError("7.png: an error of the extractor")

    monkeypatch.setattr(tracker, "finish", finish)
    with pytest.raises(DataError, match="an error of the extractor"):
        track(folder)
    assert tracker.num_closed == 1, "the tracker keeps its thread"


def test_an_interrupted_sequence_is_written_as_far_as_it_came(folder: Path, tracker: type[FakeTracker]) -> None:
    seen: list[str] = []
    tracked = track(
        folder,
        on_frame=lambda tracker, frame, record: seen.append(record.name),
        is_to_end=lambda: len(seen) == 6,
    )
    assert tracked.summary.is_interrupted and tracked.summary.num_frames == 6
    assert len(read_frames(tracked.output)) == 6
    assert read_model(tracked.output).num_reg_images() == 3
    assert json.loads((tracked.output / "state.json").read_text())["status"] == "interrupted"


def test_results_of_another_job_are_not_replaced(folder: Path, tracker: type[FakeTracker], tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "sparse" / "0").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"`output` .*other: has files that are not of a tracked sequence \(sparse\)"):
        track(folder, other)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        track(folder, tmp_path / "file")
    assert not (folder / "tracking").exists()


def test_given_intrinsics_and_options_reach_the_tracker(
    folder: Path, tracker: type[FakeTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakeTracker] = []
    monkeypatch.setattr(run, "Tracker", lambda *values, **parts: made.append(tracker(*values, **parts)) or made[-1])
    config = TrackerConfig(camera_model="PINHOLE", seed=5)
    track(folder, config=config, fps=10, camera_params=(50.0, 50.0, 32.0, 24.0))
    assert made[0].camera is not None and made[0].camera.params == (50.0, 50.0, 32.0, 24.0)
    assert made[0].config == config
    assert [record.time_s for record in made[0].records] == pytest.approx(np.arange(NUM_FRAMES) / 10)
    record = json.loads((folder / "tracking" / "run.json").read_text())
    assert record["source"]["fps"] == 10 and record["source"]["camera_params"] == [50.0, 50.0, 32.0, 24.0]
    track(folder)
    assert made[1].camera is None
    monkeypatch.setattr(FrameSource, "is_live", True)
    track(folder)
    assert made[1].config.keyframes.max_lag_s == 10 and made[2].config.keyframes.max_lag_s == 0.15


@pytest.mark.parametrize("is_live", [True, False])
def test_networks_are_loaded_before_the_frames_of_a_camera_come(
    folder: Path, tracker: type[FakeTracker], is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def camera_frames(frames: Iterable[Frame], num_threads: int) -> Iterator[Frame]:
        done.append("frames")
        return ahead(frames, num_threads)

    monkeypatch.setattr(run, "warm_up", lambda *components: done.append("loaded"))
    monkeypatch.setattr(run, "ahead", camera_frames)
    monkeypatch.setattr(FrameSource, "is_live", is_live)
    track(folder)
    assert done == (["loaded", "frames"] if is_live else ["frames"]), "the tracker loads them for the others"


@pytest.mark.parametrize("num_threads", [1, 2])
def test_frames_that_are_decoded_ahead_are_the_same_and_errors_come_through(folder: Path, num_threads: int) -> None:
    names = [frame.name for frame in ahead(open_source(folder), num_threads)]
    assert names == [f"{i}.png" for i in range(NUM_FRAMES)]
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(Exception, match="no frame can be read"):
        list(ahead(open_source(folder), num_threads))
