"""Models are read back after they are written, and again from the store: a file that is not whole is no success."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.binary_model import read_binary_content
from sfm_lightglue.colmap.written_model import difference_from_model, ply_difference
from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.mapping.cached_models import MapStatistics, keep_models, load_models
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.mapped_models import read_mapped, save_mapped
from sfm_lightglue.mapping.model_files import pack_models, poses_of_packed
from sfm_lightglue.mapping.verdict import ModelVerdict
from sfm_lightglue.reconstruction.publish import warn_of_look_alikes
from sfm_lightglue.reconstruction.run_record import Summary
from sfm_lightglue.store.store import Store
from tests.helpers.checkout import ROOT


def make_model(seed: int = 0, num_points: int = 30) -> pycolmap.Reconstruction:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 2, 3
    options.num_points3D, options.num_points2D_without_point3D = num_points, 2
    pycolmap.set_random_seed(seed)
    model = pycolmap.synthesize_dataset(options)
    for number, point in model.points3D.items():
        point.color, point.error = np.array([number % 256, 7, 9], np.uint8), number / 10
    return model


@pytest.mark.parametrize("num_points", [0, 30])
def test_packed_models_are_the_models(tmp_path: Path, num_points: int) -> None:
    models = {"sparse/0": make_model(0, num_points), "sparse/1": make_model(1), "rejected/0": make_model(2)}
    files = pack_models(models, tmp_path)
    names = ("cameras", "frames", "images", "points3D", "rigs")
    assert files.keys() == {*(f"{path}/{name}.bin" for path in models for name in names), "points.ply"}
    models["sparse/0"].export_PLY(tmp_path / "again.ply")
    assert files["points.ply"].tobytes() == (tmp_path / "again.ply").read_bytes()
    for path, model in models.items():
        images = {image.name: image for image in model.images.values()}
        found = poses_of_packed(files, path)
        assert found.keys() == images.keys()
        for name, pose in found.items():
            native = images[name].cam_from_world()
            np.testing.assert_allclose(pose, [*np.roll(native.rotation.quat, 1), *native.translation], atol=1e-12)


def test_a_packed_model_without_its_images_is_damaged(tmp_path: Path) -> None:
    files = pack_models({"sparse/0": make_model(0)}, tmp_path)
    with pytest.raises(DataError, match=r"sparse/0/images\.bin: the file is missing"):
        poses_of_packed({name: file for name, file in files.items() if "images" not in name}, "sparse/0")


def test_each_difference_from_the_model_is_seen(tmp_path: Path) -> None:
    model = make_model()
    model.write_binary(tmp_path)
    model.export_PLY(tmp_path / "points.ply")
    content = read_binary_content(tmp_path)
    assert difference_from_model(content, model) is None

    def moved_camera(other: pycolmap.Reconstruction) -> None:
        other.cameras[1].params = other.cameras[1].params * 1.001

    def moved_frame(other: pycolmap.Reconstruction) -> None:
        pose = other.frames[2].rig_from_world
        other.frames[2].rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + 1e-6)

    def moved_point(other: pycolmap.Reconstruction) -> None:
        other.points3D[3].xyz = other.points3D[3].xyz + 1e-9

    def recolored_point(other: pycolmap.Reconstruction) -> None:
        other.points3D[3].color = np.array([1, 2, 3], np.uint8)

    def fewer_points(other: pycolmap.Reconstruction) -> None:
        other.delete_point3D(3)

    def shorter_track(other: pycolmap.Reconstruction) -> None:
        element = other.points3D[3].track.elements[0]
        other.delete_observation(element.image_id, element.point2D_idx)

    def renamed(other: pycolmap.Reconstruction) -> None:
        other.images[1].name = "another.jpg"

    for edit in (moved_camera, moved_frame, moved_point, recolored_point, fewer_points, shorter_track, renamed):
        other = pycolmap.Reconstruction(tmp_path)
        edit(other)
        assert difference_from_model(content, other) is not None, edit.__name__
    ply = (tmp_path / "points.ply").read_bytes()
    assert ply_difference(ply, content.points) is None
    for damaged in (b"", ply[:-1], ply[:-15], ply[:-1] + bytes([ply[-1] ^ 1]), ply.replace(b"vertex 30", b"vertex 29")):
        assert ply_difference(damaged, content.points) is not None


def test_a_model_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path) -> None:
    """The limit on the size of files acts like a full disk; pycolmap returns as if all were well."""
    program = """
import resource, signal, sys
from pathlib import Path
from sfm_lightglue.errors import StoreError
from sfm_lightglue.mapping.mapped_models import read_mapped, save_mapped
from sfm_lightglue.mapping.model_files import pack_models
from tests.mapping.test_model_files import make_model

model = make_model(num_points=400)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 100, 5_000, 20_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        pack_models({"sparse/0": model}, Path(sys.argv[1]) / str(limit))
        print("no error")
    except StoreError as error:
        print(error)
"""
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("the model was not written completely" in line and "free space on the disk" in line for line in lines)


def test_a_model_is_written_twice_before_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = iter(["first", None, "third", "fourth"])
    monkeypatch.setattr("sfm_lightglue.mapping.model_files.difference_from_model", lambda *_: next(faults))
    assert len(pack_models({"sparse/0": make_model()}, tmp_path)) == 6
    with pytest.raises(StoreError, match="not written completely \\(fourth\\)"):
        pack_models({"sparse/0": make_model()}, tmp_path / "again")


def kept(folder: Path) -> tuple[Store, dict[str, Any]]:
    """A store with the models of a key, and the arrays of the entry."""
    judged = [
        JudgedModel(make_model(0), ModelVerdict("accepted", {}, {}, ("check it",))),
        JudgedModel(make_model(1), ModelVerdict("rejected", {}, {})),
    ]
    store = Store(folder / "store")
    (folder / "work").mkdir()
    keep_models(store, "key", judged, [None] * len(judged), MapStatistics((), {}), folder / "work")
    arrays = store.read("models", "key")
    assert arrays is not None
    return store, arrays


def edited(arrays: dict[str, Any], edit: Callable[[Any], None]) -> dict[str, Any]:
    values = json.loads(str(arrays["statistics"]))
    edit(values)
    return arrays | {"statistics": np.array(json.dumps(values))}


def test_notes_are_kept_with_the_models(tmp_path: Path) -> None:
    store, _ = kept(tmp_path)
    loaded = load_models(store, "key")
    assert loaded is not None
    assert [model.notes for model in loaded.statistics.models] == [("check it",), ()]
    summary = Summary.from_statistics(loaded.statistics, (), {}, {}, None)
    assert [model["notes"] for model in summary.models] == [["check it"], []]
    judged = [JudgedModel(make_model(0), ModelVerdict("accepted", {}, {}, ("check it",)))]
    save_mapped(store, "key", judged, (), tmp_path / "work")
    mapped = read_mapped(store, "key", tmp_path / "again")
    assert mapped is not None
    assert mapped[0][0].verdict.notes == ("check it",)


def test_images_that_may_be_folded_are_kept_with_the_models_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, names = Store(tmp_path / "folded"), ("a.jpg", "b.jpg")
    judged = [JudgedModel(make_model(0), ModelVerdict("accepted", {}, {}, maybe_folded=names))]
    (tmp_path / "work").mkdir()
    save_mapped(store, "key", judged, (), tmp_path / "work")
    mapped = read_mapped(store, "key", tmp_path / "again")
    assert mapped is not None
    assert mapped[0][0].verdict.maybe_folded == names
    (tmp_path / "packed").mkdir()
    keep_models(store, "models", mapped[0], [None], MapStatistics((), {}), tmp_path / "packed")
    loaded = load_models(store, "models")
    assert loaded is not None
    summary = Summary.from_statistics(loaded.statistics, (), {"total": 1.0}, {}, None)
    assert [model["maybe_folded"] for model in summary.models] == [[*names]]
    assert "(model 0 may be folded: it may show several places that look alike as one)" in str(summary)
    several = replace(summary, models=(summary.models[0], summary.models[0]))
    assert "(models 0, 1 may be folded: they may show several places" in str(several)
    warn_of_look_alikes(loaded.statistics)
    assert "may be wrong (folded): 2 of its images (a.jpg, b.jpg) match others of it" in caplog.text
    assert "`pairs.path`" in caplog.text and "`lookalikes.trust_pairs`" in caplog.text


def test_an_entry_of_an_earlier_version_has_no_notes(tmp_path: Path) -> None:
    store, arrays = kept(tmp_path)
    store.save("models", "key", edited(arrays, lambda values: [model.pop("notes") for model in values["models"]]))
    loaded = load_models(store, "key")
    assert loaded is not None
    assert [model.notes for model in loaded.statistics.models] == [(), ()]


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no numbers": lambda arrays: {name: array for name, array in arrays.items() if name != "statistics"},
    "no JSON": lambda arrays: arrays | {"statistics": np.array("{")},
    "other JSON": lambda arrays: arrays | {"statistics": np.array("[1]")},
    "no models": lambda arrays: edited(arrays, lambda values: values.pop("models")),
    "a field too few": lambda arrays: edited(arrays, lambda values: values["models"][0].pop("num_points")),
    "a field too many": lambda arrays: edited(arrays, lambda values: values["models"][0].update(more=1)),
    "another number": lambda arrays: edited(arrays, lambda values: values["models"][0].update(num_points=29)),
    "another path": lambda arrays: edited(arrays, lambda values: values["models"][0].update(path="../sparse/0")),
    "a file too few": lambda arrays: {name: array for name, array in arrays.items() if name != "sparse/0/rigs.bin"},
    "a file too many": lambda arrays: arrays | {"sparse/7/rigs.bin": arrays["sparse/0/rigs.bin"]},
    "no cloud": lambda arrays: {name: array for name, array in arrays.items() if name != "points.ply"},
    "a short cloud": lambda arrays: arrays | {"points.ply": arrays["points.ply"][:-1]},
    "a short model": lambda arrays: arrays | {"sparse/0/points3D.bin": arrays["sparse/0/points3D.bin"][:-8]},
    "points of another model": lambda arrays: arrays | {"sparse/0/points3D.bin": arrays["rejected/0/points3D.bin"]},
    "no bytes": lambda arrays: arrays | {"sparse/0/rigs.bin": arrays["sparse/0/rigs.bin"].astype(np.float64)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_entry_of_the_store_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    store, arrays = kept(tmp_path)
    assert load_models(store, "key") is not None
    store.save("models", "key", CHANGES[name](arrays))
    with caplog.at_level(logging.WARNING):
        assert load_models(store, "key") is None
    assert "not usable, will be computed again" in caplog.text
    assert (store.counts["models"].hits, store.counts["models"].misses) == (1, 1)
