"""Sequences from folders and iterators: order, times, intrinsics, and what is said of frames that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.tracking.sources import FolderSource, is_camera_address, open_source
from tests.helpers.videos import panned_images

NAMES = ("frame2.png", "frame10.png", "frame9.png")
IN_ORDER = ["frame2.png", "frame9.png", "frame10.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames whose natural order is not that of their letters."""
    root = tmp_path / "frames"
    root.mkdir()
    for name, image in zip(NAMES, panned_images(3, (64, 48)), strict=True):
        PIL.Image.fromarray(image).save(root / name)
    (root / "notes.txt").write_text("not a frame")
    return root


def test_frames_go_in_natural_order_at_30_a_second(folder: Path) -> None:
    source = open_source(folder)
    frames = list(source)
    assert [frame.name for frame in frames] == IN_ORDER
    assert [frame.idx for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 1 / 30, 2 / 30])
    assert frames[0].size == (64, 48)
    assert (frames[2].image == panned_images(3, (64, 48))[1]).all()
    assert source.images == folder and source.num_frames == 3 and source.skipped == []
    assert [frame.time_s for frame in open_source(str(folder), fps=10)] == pytest.approx([0, 0.1, 0.2])


def test_frames_may_be_in_a_sub_folder_images(folder: Path) -> None:
    root = folder.parent / "scene"
    root.mkdir()
    folder.rename(root / "images")
    source = open_source(root)
    assert [frame.name for frame in source] == IN_ORDER
    assert source.images == root / "images"


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    "text", ["# times\n1.5\n\n1.75\n2.5\n", "frame10.png 2.5\nframe2.png 1.5\nframe9.png 1.75\nframe3.png 7\n"]
)
def test_times_are_read_from_a_file_in_or_beside_the_folder(folder: Path, beside: bool, text: str) -> None:
    ((folder.parent if beside else folder) / "times.txt").write_text(text)
    assert [frame.time_s for frame in open_source(folder)] == [1.5, 1.75, 2.5]
    assert [frame.time_s for frame in open_source(folder, fps=1)] == [0, 1, 2]


def test_times_of_names_with_spaces_and_with_a_byte_order_mark(folder: Path) -> None:
    for name in IN_ORDER:
        (folder / name).rename(folder / f"the {name}")
    text = "the frame2.png 1.5\nthe frame9.png\t1.75\nthe frame10.png 2.5\n"
    (folder / "times.txt").write_text(text, "utf-8-sig")
    assert [(frame.name, frame.time_s) for frame in open_source(folder)] == [
        ("the frame2.png", 1.5),
        ("the frame9.png", 1.75),
        ("the frame10.png", 2.5),
    ]
    (folder / "times.txt").write_text("1\n2\n3\n", "utf-8-sig")
    assert [frame.time_s for frame in open_source(folder)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\n2\n", "2 times, but there are 3 frames; `fps`"),
        ("1\n2\nnan\n", "times.txt:3: expected a time in seconds"),
        ("1\n2 3 4\n", "times.txt:2: expected a time in seconds"),
        ("1\n3\n2\n", "the time of frame10.png, 2.0 s, is not later"),
        ("frame2.png 1\n", "no time of frame9.png, frame10.png; `fps`"),
    ],
)
def test_times_that_do_not_fit_are_an_error(folder: Path, text: str, told: str) -> None:
    (folder / "times.txt").write_text(text)
    with pytest.raises(DataError) as error:
        open_source(folder)
    assert told in str(error.value)


def test_frames_that_cannot_be_used_are_named_and_left_out(folder: Path) -> None:
    (folder / "frame4.png").write_bytes(b"no image")
    PIL.Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "frame5.png")
    source = open_source(folder)
    frames = list(source)
    assert [frame.name for frame in frames] == IN_ORDER
    assert [frame.idx for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 3 / 30, 4 / 30])  # the time is that of the file
    assert [skipped.name for skipped in source.skipped] == ["frame4.png", "frame5.png"]
    assert "9 x 9 pixels" in source.skipped[1].reason
    assert len(list(source)) == 3 and len(source.skipped) == 2, "a second pass gives the same"


def test_without_a_frame_the_error_says_where_frames_may_be(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    for make, told in (
        (lambda: open_source(tmp_path), "no frame found; JPEG, PNG and other image files are read; frames in a sub"),
        (lambda: open_source(tmp_path / "nothing"), "nothing: no such file or folder"),
    ):
        with pytest.raises(DataError, match=told):
            make()
    (tmp_path / "rgb" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"rgb: no frame can be read \(a.jpg"):
        list(open_source(tmp_path / "rgb"))


def test_intrinsics_are_given_or_from_exif_data_or_unknown(folder: Path) -> None:
    size, given = (64, 48), CameraConfig(model="PINHOLE", params=(50.0, 51.0, 32.0, 24.0))
    camera = open_source(folder).camera(size, given)
    assert camera is not None and camera.model == "PINHOLE" and camera.params == given.params
    assert open_source(folder).camera(size, CameraConfig()) is None
    with pytest.raises(ConfigError, match="expected 4 parameters"):
        open_source(folder).camera(size, CameraConfig(model="PINHOLE", params=(50.0,)))
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769).update({0xA405: 35})  # FocalLengthIn35mmFilm
    PIL.Image.fromarray(panned_images(1, size)[0]).save(folder / "frame1.jpg", exif=exif)
    camera = FolderSource(folder).camera(size, CameraConfig())
    assert camera is not None and camera.source == "exif"
    assert camera.params[0] == pytest.approx(35 / np.hypot(36, 24) * np.hypot(*size), rel=0.05)


def test_an_iterator_gives_images_and_times() -> None:
    images = panned_images(3, (64, 48))
    source = open_source(zip(images, (0.5, 0.75, 2), strict=True))
    frames = list(source)
    assert [(frame.name, frame.time_s) for frame in frames] == [
        ("frame_000000.jpg", 0.5),
        ("frame_000001.jpg", 0.75),
        ("frame_000002.jpg", 2.0),
    ]
    assert source.images is None and not source.can_repeat


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda image: (image, 0.0), "frame_000001.jpg: its time, 0.0 s, is not later"),
        (lambda image: (image.astype(float), 1.0), "RGB or [H, W] of uint8, got float64, 48 x 64 x 3"),
    ],
)
def test_an_iterator_with_wrong_frames_is_an_error(change: Callable[[np.ndarray], tuple], told: str) -> None:
    first, second = panned_images(2, (64, 48))
    with pytest.raises(DataError, match=re.escape(told)):
        list(open_source([(first, 0.0), change(second)]))
    with pytest.raises(DataError, match="no frame"):
        list(open_source([]))


def test_an_iterator_may_use_the_memory_of_an_image_again() -> None:
    images, buffer = panned_images(3, (64, 48)), np.zeros((48, 64, 3), np.uint8)

    def overwritten() -> Iterator[tuple[np.ndarray, float]]:
        for i, image in enumerate(images):
            buffer[:] = image
            yield buffer, float(i)

    for frame, image in zip(list(open_source(overwritten())), images, strict=True):
        assert (frame.image == image).all()


def test_frames_of_another_size_from_an_iterator_are_named_and_left_out() -> None:
    images = panned_images(4, (64, 48))
    images[1] = images[1][:-1]
    source = open_source((image, float(i)) for i, image in enumerate(images))
    assert [(frame.idx, frame.name) for frame in source] == [
        (0, "frame_000000.jpg"),
        (1, "frame_000002.jpg"),
        (2, "frame_000003.jpg"),
    ]
    (skipped,) = source.skipped
    assert skipped.name == "frame_000001.jpg" and "64 x 47 pixels" in skipped.reason


def test_rates_are_checked(folder: Path) -> None:
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="`fps` must be positive"):
            open_source(folder, fps)
    with pytest.raises(ConfigError, match="leave it out"):
        open_source([], 30)


def test_addresses_of_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_camera_address("0") and is_camera_address("12") and is_camera_address("rtsp://host/stream")
    assert not is_camera_address("walk.mp4") and not is_camera_address("²") and not is_camera_address("")
    (tmp_path / "0").mkdir()
    assert not is_camera_address("0"), "a folder of that name"
