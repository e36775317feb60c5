"""Images of keyframes of sequences that cannot be read again: which frames are kept until they become keyframes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfm_lightglue.tracking import keyframe_images as module
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.keyframe_images import KeyframeImages, jpeg_bytes
from sfm_lightglue.tracking.sources import IteratorSource
from tests.helpers.videos import panned_images


def slam_map_of(*names: str) -> Any:
    keyframes = {i: SimpleNamespace(name=name) for i, name in enumerate(names)}
    return SimpleNamespace(lock=threading.RLock(), keyframes=keyframes)


def short_sequence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, num_frames: int, num_recent: int
) -> tuple[list[Frame], KeyframeImages]:
    """Frames 0.jpg, 1.jpg, ... and the images of their keyframes, of which `num_recent` recent ones are kept."""
    frames = [Frame(i, f"{i}.jpg", float(i), image) for i, image in enumerate(panned_images(num_frames, (64, 48)))]
    largest = max(len(jpeg_bytes(frame.image)) for frame in frames)
    monkeypatch.setattr(module, "MAX_RECENT_BYTES", num_recent * largest)
    return frames, KeyframeImages(folder / "images", IteratorSource([]))


def test_the_last_frames_and_the_one_of_the_start_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, images = short_sequence(tmp_path, monkeypatch, 9, num_recent=3)
    for frame in frames[:-1]:
        images.add(frame, None, "1.jpg")
    images.add(frames[-1], slam_map_of("0.jpg", "1.jpg", "2.jpg", "7.jpg", "8.jpg"), "")
    assert images.finish(["1.jpg", "2.jpg", "7.jpg", "8.jpg"]) == ["1.jpg", "7.jpg", "8.jpg"]
    assert (tmp_path / "images" / "1.jpg").read_bytes() == jpeg_bytes(frames[1].image)


def test_keyframes_that_are_mapped_after_the_last_frame_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, images = short_sequence(tmp_path, monkeypatch, 6, num_recent=2)
    for frame in frames:
        images.add(frame, slam_map_of(), "1.jpg" if frame.idx < 3 else "")
    assert not images.folder.exists()
    assert images.finish(["1.jpg", "2.jpg", "5.jpg"]) == ["1.jpg", "5.jpg"]
    assert (tmp_path / "images" / "5.jpg").read_bytes() == jpeg_bytes(frames[5].image)


def test_a_start_whose_map_comes_with_the_next_start_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, images = short_sequence(tmp_path, monkeypatch, 6, num_recent=2)
    for frame in frames[:-1]:
        images.add(frame, slam_map_of(), "0.jpg")
    images.add(frames[-1], slam_map_of("0.jpg", "4.jpg"), "5.jpg")
    assert images.finish(["0.jpg", "4.jpg", "5.jpg"]) == ["0.jpg", "4.jpg", "5.jpg"]
