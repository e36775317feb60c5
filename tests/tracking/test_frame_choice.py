"""Frames of a video for a reconstruction: sharp ones, far enough from each other, written once."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.tracking import frames_of_video as module
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.frame_choice import FrameChoiceConfig, choose_frames
from sfm_lightglue.tracking.frames_of_video import frames_of_video
from tests.helpers.videos import panned_images, write_video

SIZE, STEP_PX = (320, 240), 2


def chosen(images: Sequence[UInt8Array], config: FrameChoiceConfig | None = None) -> list[int]:
    frames = (Frame(i, str(i), i / 30, image) for i, image in enumerate(images))
    return [frame.idx for frame in choose_frames(frames, config)]


def blurred(image: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)


def test_frames_are_as_far_apart_as_the_options_say() -> None:
    """The steps are 2 px of 320: a frame is chosen when the points moved by 13 to 23 px, with a step of tolerance."""
    steps = np.diff(chosen(panned_images(60, SIZE, STEP_PX))) * STEP_PX
    assert len(steps) >= 5
    assert (steps[1:] >= 0.04 * 320 - STEP_PX).all() and (steps <= 0.07 * 320 + STEP_PX).all()
    wide = FrameChoiceConfig(min_flow_share=0.1, max_flow_share=0.12)
    assert (np.diff(chosen(panned_images(60, SIZE, STEP_PX), wide))[1:] * STEP_PX >= 0.1 * 320 - STEP_PX).all()


def test_the_sharpest_frame_is_chosen() -> None:
    images = panned_images(60, SIZE, STEP_PX)
    shaken = [image if i % 4 == 3 else blurred(image) for i, image in enumerate(images)]
    found = chosen(shaken)
    assert len(found) >= 5
    assert all(i % 4 == 3 for i in found)


def test_a_camera_that_stands_gives_one_frame_the_sharpest() -> None:
    image = panned_images(1, SIZE)[0]
    assert chosen([blurred(image), image, *[blurred(image)] * 8]) == [1]
    standing = [*[image] * 5, *panned_images(20, SIZE, STEP_PX), *[panned_images(20, SIZE, STEP_PX)[-1]] * 20]
    moving = chosen(panned_images(20, SIZE, STEP_PX))
    assert len(chosen(standing)) <= len(moving) + 1


def test_a_cut_gives_a_frame_of_each_side() -> None:
    first = panned_images(4, SIZE, STEP_PX)
    other = [np.ascontiguousarray(image[::-1, ::-1]) for image in first]
    found = chosen([*first, *other])
    assert any(i < 4 for i in found) and any(i >= 4 for i in found)
    assert chosen([]) == []


def test_dark_frames_are_left_out() -> None:
    dark = [np.zeros((240, 320, 3), np.uint8)] * 5
    found = chosen([*dark, *panned_images(20, SIZE, STEP_PX)])
    assert len(found) >= 2 and min(found) >= 5
    assert chosen(dark) == [0]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "walk.avi", panned_images(40, SIZE, STEP_PX), fps=20)


def test_the_frames_and_their_times_are_a_folder_of_photos(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int, int]] = []
    folder = frames_of_video(video, progress=lambda *state: done.append(state))
    assert folder == video.parent / "walk_frames"
    assert done[0][1:] == (1, 40) and done[-1] == ("frames", 40, 40)
    scene = read_scene(folder, folder / "reconstruction", ReconstructConfig(), 1, lambda *state: None)
    names = list(scene.names)
    assert len(names) >= 3 and names == sorted(names)
    times = dict(line.split() for line in (folder / "times.txt").read_text().splitlines())
    assert list(times) == names
    images = panned_images(40, SIZE, STEP_PX)
    for name, time_s in times.items():
        number = round(float(time_s) * 20)
        assert name == f"frame_{number:06d}.jpg"
        found = np.asarray(PIL.Image.open(folder / "images" / name)).astype(int)
        assert np.abs(found - images[number]).mean() < 12
    assert json.loads((folder / "frames.json").read_text())["frames"] == {k: float(v) for k, v in times.items()}
    monkeypatch.setattr(module, "choose_frames", lambda *arguments: pytest.fail("chosen again"))
    assert frames_of_video(video) == folder


def test_another_video_or_option_replaces_the_frames(video: Path) -> None:
    folder = frames_of_video(video)
    before = {path.name for path in (folder / "images").iterdir()}
    (folder / "reconstruction").mkdir()
    frames_of_video(video, FrameChoiceConfig(min_flow_share=0.09, max_flow_share=0.1))
    after = {path.name for path in (folder / "images").iterdir()}
    assert 2 <= len(after) < len(before)
    assert (folder / "reconstruction").is_dir()
    (folder / "images" / next(iter(after))).unlink()
    frames_of_video(video)
    assert {path.name for path in (folder / "images").iterdir()} == before


def test_images_of_the_user_are_not_replaced(video: Path) -> None:
    (video.parent / "walk_frames" / "images").mkdir(parents=True)
    with pytest.raises(ConfigError, match="walk_frames: has images that are not frames of"):
        frames_of_video(video)


def test_times_of_the_user_are_not_replaced(video: Path) -> None:
    (video.parent / "walk_frames").mkdir()
    (video.parent / "walk_frames" / "times.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"walk_frames: has a times.txt that is not of .*walk\.avi; rename"):
        frames_of_video(video)


def test_frames_of_another_video_and_photos_of_the_user_stay(video: Path) -> None:
    folder = frames_of_video(video)
    (folder / "images" / "of_user.jpg").write_bytes(b"photo")
    frames_of_video(video, FrameChoiceConfig(min_flow_share=0.09, max_flow_share=0.1))
    before = sorted(path.name for path in (folder / "images").iterdir())
    assert "of_user.jpg" in before
    write_video(video.with_suffix(".mp4"), panned_images(40, SIZE, STEP_PX))
    with pytest.raises(ConfigError, match=r"walk_frames: has frames of walk\.avi, not of walk\.mp4; rename"):
        frames_of_video(video.with_suffix(".mp4"))
    assert sorted(path.name for path in (folder / "images").iterdir()) == before


@pytest.mark.parametrize("is_first", [False, True])
def test_after_a_run_that_was_killed_while_it_replaced_frames_the_next_one_is_right(
    video: Path, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    if not is_first:
        frames_of_video(video, FrameChoiceConfig(min_flow_share=0.09, max_flow_share=0.1))
    moved, replace = list[str](), os.replace

    def killed(source: Path, target: Path) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.extend([target.name] if target.parent.name == "images" else [])
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            frames_of_video(video)
    folder = frames_of_video(video)
    names = {path.name for path in (folder / "images").iterdir()}
    assert names == set(json.loads((folder / "frames.json").read_text())["frames"]) and set(moved) < names


def test_a_video_of_a_camera_that_stands_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "still.avi", panned_images(1, SIZE) * 5)
    with pytest.raises(DataError, match=r"still\.avi: the camera hardly moves"):
        frames_of_video(path)
    assert [each.name for each in tmp_path.iterdir()] == ["still.avi"]
