"""Locating a reconstruction (the argument MAP), and reading models."""

from __future__ import annotations

import os
from pathlib import Path

import pycolmap
import pytest

from sfm_lightglue.colmap.model import find_map, model_folder_at, read_model
from sfm_lightglue.errors import DataError

RUN_RECORD = '{"versions": {"sfm_lightglue": "0.1.0"}}'


def write_model(folder: Path, text: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions())
    (model.write_text if text else model.write_binary)(folder)
    return folder


@pytest.mark.parametrize("model_path", [".", "sparse/0", "0", "sparse", "reconstruction/sparse/0", "tracking/sparse/0"])
@pytest.mark.parametrize("text", [False, True])
def test_models_are_located_below_the_folder(tmp_path: Path, model_path: str, text: bool) -> None:
    folder = write_model(tmp_path / "scene" / model_path, text)
    assert find_map(tmp_path / "scene").model.samefile(folder)
    assert read_model(tmp_path / "scene").num_reg_images() == 10


@pytest.mark.parametrize("given", [".", "reconstruction", "reconstruction/sparse/0", "reconstruction/sparse"])
@pytest.mark.parametrize("has_images_folder", [True, False])
def test_scene_and_output_folder_give_images_and_output(tmp_path: Path, given: str, has_images_folder: bool) -> None:
    output = tmp_path / "scene" / "reconstruction"
    write_model(output / "sparse" / "0")
    (output / "run.json").write_text(RUN_RECORD)
    if has_images_folder:
        (tmp_path / "scene" / "images").mkdir()
    found = find_map(tmp_path / "scene" / given)
    assert found.model.samefile(output / "sparse" / "0")
    assert found.output is not None and found.output.samefile(output)
    assert found.images is not None
    assert found.images.samefile(tmp_path / "scene" / ("images" if has_images_folder else "."))


def test_output_folder_elsewhere_has_no_known_images(tmp_path: Path) -> None:
    write_model(tmp_path / "out" / "sparse" / "0")
    (tmp_path / "out" / "run.json").write_text(RUN_RECORD)
    found = find_map(tmp_path / "out")
    assert found.output is not None and found.output.samefile(tmp_path / "out")
    assert found.images is None


def test_model_of_another_program_takes_images_from_the_user(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    assert find_map(model).images is None
    assert find_map(model).output is None
    (tmp_path / "photos").mkdir()
    assert find_map(model, tmp_path / "photos").images == tmp_path / "photos"
    with pytest.raises(DataError, match="missing: no such folder of images"):
        find_map(model, tmp_path / "missing")


def test_workspace_of_colmap_has_its_images(tmp_path: Path) -> None:
    write_model(tmp_path / "sparse" / "0")
    (tmp_path / "images").mkdir()
    found = find_map(tmp_path)
    assert (found.images, found.output) == (tmp_path / "images", None)


def test_images_of_the_user_come_first(tmp_path: Path) -> None:
    write_model(tmp_path / "sparse" / "0")
    (tmp_path / "images").mkdir()
    (tmp_path / "masked").mkdir()
    assert find_map(tmp_path, tmp_path / "masked").images == tmp_path / "masked"


def test_the_error_names_the_paths_that_were_searched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find_map(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="this is a file"):
        find_map(tmp_path / "file")
    places = "sparse/0, 0, reconstruction/sparse/0, tracking/sparse/0, sparse;"
    with pytest.raises(DataError, match=rf"no COLMAP model here .* {places}"):
        find_map(tmp_path)


def test_what_is_no_folder_of_a_model_is_named_without_waiting(tmp_path: Path) -> None:
    """Opening a named pipe would wait for a program that writes into it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: this is a file"):
        find_map(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"xxx: cannot be read \(File name too long\)"):
        find_map(tmp_path / ("x" * 300))
    folder = write_model(tmp_path / "model")
    (folder / "cameras.bin").unlink()
    os.mkfifo(folder / "cameras.bin")
    with pytest.raises(DataError, match="no COLMAP model here"):
        read_model(folder)
    folder = write_model(tmp_path / "other")
    (folder / "rigs.bin").unlink()
    os.mkfifo(folder / "rigs.bin")
    with pytest.raises(DataError, match=r"rigs\.bin: cannot be read \(it is a named pipe"):
        read_model(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read every folder")
def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    folder.chmod(0)
    try:
        for use in (find_map, read_model, lambda path: model_folder_at(path, (".",))):
            with pytest.raises(DataError, match="cannot be read"):
                use(folder)
    finally:
        folder.chmod(0o755)


def test_incomplete_models_are_not_located(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "points3D.bin").unlink()
    assert model_folder_at(folder, (".",)) is None
    assert model_folder_at(folder, (".",), names=("cameras", "images")) == folder


def test_a_damaged_model_is_a_data_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for name in ("cameras", "images", "points3D"):
        whole = (folder / f"{name}.bin").read_bytes()
        (folder / f"{name}.bin").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="damaged"):
            read_model(folder)
        (folder / f"{name}.bin").write_bytes(whole)
