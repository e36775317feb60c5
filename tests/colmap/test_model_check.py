"""Damaged model files are refused by name before pycolmap reads them; what other programs write is read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.model_check import checked_content
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import DataError

FILES = ("cameras", "images", "points3D", "rigs", "frames")


def write_model(folder: Path, suffix: str = ".bin", num_cameras_per_rig: int = 2) -> Path:
    """A model of eight images and five points."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 2, 2, 5
    options.num_cameras_per_rig, options.num_points2D_without_point3D = num_cameras_per_rig, 1
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_binary if suffix == ".bin" else model.write_text)(folder)
    return folder


def write_old_model(folder: Path, suffix: str = ".bin") -> Path:
    """A model without rigs and frames, as all versions before COLMAP 3.12 wrote it."""
    write_model(folder, suffix, num_cameras_per_rig=1)
    for name in ("rigs", "frames"):
        (folder / f"{name}{suffix}").unlink()
    return folder


def edit_lines(path: Path, edit: Callable[[list[list[str]]], None]) -> None:
    """Change the items of the lines that are no comments."""
    lines = [line.split(" ") for line in path.read_text().split("\n") if not line.startswith("#")]
    edit(lines)
    path.write_text("\n".join(" ".join(line) for line in lines))


@pytest.mark.parametrize("write", [write_model, write_old_model])
def test_both_formats_have_the_content_that_pycolmap_reads(tmp_path: Path, write: Callable[..., Path]) -> None:
    for suffix in (".bin", ".txt"):
        folder = write(tmp_path / suffix, suffix)
        content, model = checked_content(folder, is_complete=True), pycolmap.Reconstruction(folder)
        assert content.images.ids.tolist() == sorted(model.images)
        for row, image_id in enumerate(content.images.ids.tolist()):
            image = model.images[image_id]
            assert content.images.names[row] == image.name
            assert content.images.num_points[row] == image.num_points2D()
            translation = image.cam_from_world().translation
            np.testing.assert_allclose(content.images.poses[row, 4:], translation, atol=1e-12)
        assert content.points.ids.tolist() == sorted(model.points3D)
        np.testing.assert_array_equal(content.points.xyz, [model.points3D[i].xyz for i in sorted(model.points3D)])
        assert content.points.track_lengths.sum() == model.compute_num_observations()
        assert all(camera.params == tuple(model.cameras[camera.camera_id].params) for camera in content.cameras)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str) -> None:
    """pycolmap reads cut cameras as zeros, and never returns from a cut track."""
    path = write_model(tmp_path) / f"{name}.bin"
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 13), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"{name}\.bin: the model is damaged"):
            read_model(tmp_path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match=rf"{name}\.bin: .*1 bytes too many"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_count_beyond_the_file_needs_no_memory(tmp_path: Path, name: str) -> None:
    path = write_model(tmp_path) / f"{name}.bin"
    path.write_bytes(struct.pack("<Q", 2**61) + path.read_bytes()[8:])
    with pytest.raises(DataError, match=rf"{name}\.bin: .*records of .* left"):
        read_model(tmp_path)


def set_double(position: int, value: float) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + struct.pack("<d", value) + data[position + 8 :]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cameras", lambda data: data[:12] + struct.pack("<i", 99) + data[16:], "unknown model, 99"),
        ("cameras", lambda data: data[:16] + struct.pack("<Q", 0) + data[24:], "size of 0 x"),
        ("cameras", set_double(32, float("nan")), "not finite"),
        ("cameras", set_double(32, -500.0), "focal length that is not positive"),
        ("images", set_double(12, 3.0), "no rotation"),
        ("images", set_double(44, float("inf")), "a pose is not finite"),
        ("images", lambda data: data.replace(b"camera000001_frame000001", b"camera000001_frame000000"), "the name"),
        ("images", lambda data: data.replace(b"camera000001_frame000001", b"camera000001_frame00000\xff"), "not UTF-8"),
        ("points3D", set_double(16, float("nan")), "a point is not finite"),
        ("points3D", lambda data: data[:51] + struct.pack("<Q", 2**62) + data[59:], "observations, more than the file"),
        ("points3D", lambda data: data[:59] + struct.pack("<I", 4000) + data[63:], "a track has image 4000"),
        (
            "points3D",
            lambda data: data[:63] + struct.pack("<I", 4000) + data[67:],
            "a keypoint that its image does not",
        ),
        ("frames", lambda data: data[:12] + struct.pack("<I", 77) + data[16:], "rig 77, which does not exist"),
        ("rigs", lambda data: data[:20] + struct.pack("<I", 88) + data[24:], "a camera that the model does not have"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, change: Callable[[bytes], bytes], message: str) -> None:
    path = write_model(tmp_path) / f"{name}.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{name}\.bin: the model is damaged \(.*{message}"):
        read_model(tmp_path)


def test_files_of_two_models_are_not_one(tmp_path: Path) -> None:
    one, other = write_model(tmp_path / "one"), tmp_path / "other"
    model = pycolmap.Reconstruction(one)
    model.delete_point3D(min(model.points3D))
    other.mkdir()
    model.write_binary(other)
    (other / "points3D.bin").write_bytes((one / "points3D.bin").read_bytes())
    with pytest.raises(DataError, match="contradict each other"):
        read_model(other)


def test_text_names_the_line(tmp_path: Path) -> None:
    path = write_old_model(tmp_path, ".txt") / "points3D.txt"
    whole = path.read_text()
    for item, message in (("nan", "not finite"), ("1_0", "no number"), ("x", "line 4 .*no number")):
        path.write_text(whole)
        number = 4

        def change(lines: list[list[str]], item: str = item) -> None:
            lines[0][1] = item

        edit_lines(path, change)
        path.write_text("#\n" * (number - 1) + path.read_text())
        with pytest.raises(DataError, match=rf"points3D\.txt: .*{message}"):
            read_model(tmp_path)


def test_text_without_the_last_line_is_refused(tmp_path: Path) -> None:
    """pycolmap leaves out the last image without a word."""
    path = write_old_model(tmp_path, ".txt") / "images.txt"
    path.write_text("\n".join(path.read_text().rstrip("\n").split("\n")[:-1]) + "\n")
    with pytest.raises(DataError, match="must be followed by a line with the keypoints"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["cameras", "points3D"])
def test_text_without_its_last_lines_is_refused(tmp_path: Path, name: str) -> None:
    path = write_model(tmp_path, ".txt") / f"{name}.txt"
    path.write_text("\n".join(path.read_text().rstrip("\n").split("\n")[:-1]) + "\n")
    with pytest.raises(DataError, match=rf"{name}\.txt: .*its comment announces"):
        read_model(tmp_path)
    path.write_text(path.read_text()[:30])
    with pytest.raises(DataError, match=rf"{name}\.txt: .*ends within a comment"):
        read_model(tmp_path)


def test_a_name_with_a_space_is_not_cut_in_text(tmp_path: Path) -> None:
    """pycolmap takes the first word for the name."""
    path = write_old_model(tmp_path, ".txt") / "images.txt"
    path.write_text(path.read_text().replace("camera000001_frame", "my photo"))
    with pytest.raises(DataError, match="a name with a space, which only binary models can hold"):
        read_model(tmp_path)


def test_what_other_programs_write_is_read(tmp_path: Path) -> None:
    """Images without points, points without images, removed points, tabs and rounded rotations."""

    def without_ids(lines: list[list[str]]) -> None:
        for line in lines[1::2]:
            line[2::3] = ["-1"] * len(line[2::3])

    def without_tracks(lines: list[list[str]]) -> None:
        for line in lines:
            del line[8:]

    def tabs(lines: list[list[str]]) -> None:
        lines[:-1] = [["\t".join(line), ""] for line in lines[:-1]]

    def rounded(lines: list[list[str]]) -> None:
        for line in lines[:-1:2]:
            line[1:5] = [f"{float(item):.3f}" for item in line[1:5]]

    def removed(lines: list[list[str]]) -> None:
        del lines[0]

    changes = {
        "images": [without_ids, rounded],
        "points3D": [without_tracks, removed],
        "cameras": [tabs],
    }
    for name, edits in changes.items():
        for number, edit in enumerate(edits):
            folder = write_old_model(tmp_path / f"{name}-{number}", ".txt")
            edit_lines(folder / f"{name}.txt", edit)
            poses = poses_of_model(read_model(folder))
            assert len(poses) == 4
            assert all(np.allclose(pose.R @ pose.R.T, np.eye(3), atol=1e-12) for pose in poses.values())


def test_an_empty_model_is_read(tmp_path: Path) -> None:
    pycolmap.Reconstruction().write_binary(tmp_path)
    assert read_model(tmp_path).num_images() == 0
