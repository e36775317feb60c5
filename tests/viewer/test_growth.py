"""The window of a model that grows: mappers leave snapshots for it, and get the same models as without."""

from __future__ import annotations

import importlib.util
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from pipelines import reconstruct as command
from pipelines.reconstruct import main
from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.model_table import read_model_table
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.global_mapper import GlobalMapper
from sfm_lightglue.mapping.incremental import IncrementalMapper
from sfm_lightglue.reconstruction.map_and_judge import map_and_judge
from sfm_lightglue.viewer import growth, live
from sfm_lightglue.viewer.growth import GrowthView, growth_state, newest_snapshots
from tests.helpers.exact_scenes import ring_scene, write_database
from tests.helpers.judged_models import record, weighed_pairs
from tests.helpers.viewed_models import write_viewed_scene

NUM_IMAGES = 8


class Window:
    """Keeps the states that it gets."""

    def __init__(self) -> None:
        self.states: list[dict[str, AnyArray]] = []
        self.is_closed = False
        self.changed = threading.Condition()

    def send(self, state: dict[str, AnyArray]) -> bool:
        with self.changed:
            self.states.append(state)
            self.changed.notify_all()
        return not self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.states) >= number, timeout=30)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    monkeypatch.setattr(growth, "INTERVAL_S", 0.01)
    monkeypatch.setattr(growth, "MAX_SHARE", 1.0)
    yield Window()


def test_a_mapper_leaves_the_growing_model_and_builds_the_same_one(tmp_path: Path) -> None:
    scene = ring_scene(NUM_IMAGES, 100)
    found, sizes = {}, []
    for name in ("without", "with"):
        folder = tmp_path / name
        folder.mkdir()
        task = MappingTask(write_database(folder / "database.db", scene), folder, NUM_IMAGES)
        if name == "with":
            (folder / "growth").mkdir()

            def note(stage: str, num_done: int, num_total: int, growing: Path = folder / "growth") -> None:
                sizes.extend(len(read_model_table(path).names) for path, _ in newest_snapshots([growing])[:1])

            task = replace(task, growth=folder / "growth", progress=note)
        found[name] = poses_of_model(IncrementalMapper().map(task)[0])
    assert max(sizes) >= NUM_IMAGES - 1 and len({*sizes}) >= 3, "the model was seen while it grew"
    assert found["with"].keys() == found["without"].keys() and len(found["with"]) == NUM_IMAGES
    for name, pose in found["with"].items():
        np.testing.assert_array_equal(pose.as_matrix(), found["without"][name].as_matrix())


def test_a_mapper_that_adds_all_at_once_says_so_and_its_model_is_shown_when_it_is_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene, seen = ring_scene(NUM_IMAGES, 100), []
    (tmp_path / "growth").mkdir()
    task = MappingTask(
        write_database(tmp_path / "database.db", scene), tmp_path, NUM_IMAGES, growth=tmp_path / "growth"
    )
    mapper = GlobalMapper()
    map_models = mapper.map

    def map_and_look(task: MappingTask) -> list[pycolmap.Reconstruction]:
        models = map_models(task)
        seen.append(len(newest_snapshots([tmp_path / "growth"])))
        return models

    mapper.map = map_and_look  # type: ignore[method-assign]
    pairs = {(pair.name0, pair.name1): record(weight=1.0) for pair in scene.pairs}
    (judged,) = map_and_judge(mapper, task, weighed_pairs(pairs), ChecksConfig())
    assert "`mapping.name` global" in caplog.text and "when it is mapped" in caplog.text
    ((shown, _), *_) = newest_snapshots([tmp_path / "growth"])
    assert seen == [0] and len(read_model_table(shown).names) == judged.model.num_reg_images() == NUM_IMAGES
    caplog.clear()
    (tmp_path / "again").mkdir()
    GlobalMapper().map(replace(task, growth=None, work=tmp_path / "again"))
    assert "`mapping.name`" not in caplog.text


def test_new_images_are_white_and_up_is_that_of_the_cameras(tmp_path: Path) -> None:
    table = read_model_table(write_viewed_scene(tmp_path / "scene", with_photos=False))
    first, later = growth_state(table, ()), growth_state(table, {"000.jpg", "003.jpg"})
    is_white = (later["line_colors"].reshape(6, 10, 3) == 1).all(axis=(1, 2))
    assert is_white.tolist() == [False, True, True, False, True, True]
    assert not (first["line_colors"] == 1).all(axis=1).any()
    assert later["up"] @ [0, -1, 0] > 0.99 and np.linalg.norm(later["front"]) == pytest.approx(1)
    assert len(later["line_vertices"]) == 48 and later["segments"].max() == 47 and len(later["points"]) > 50


def test_the_window_gets_the_newest_complete_snapshot(tmp_path: Path, window: Window) -> None:
    scene = write_viewed_scene(tmp_path / "scene", num_images=4, with_photos=False)
    model, watched = scene / "reconstruction" / "sparse" / "0", tmp_path / "watched"
    view = GrowthView(window, [tmp_path / "missing", watched])
    shutil.copytree(model, watched / "run" / "1")
    window.wait_for(1)
    torn = watched / "run" / "2"
    torn.mkdir()
    for file in model.iterdir():
        (torn / file.name).write_bytes(file.read_bytes()[:40])
    larger = write_viewed_scene(tmp_path / "larger", num_images=6, with_photos=False)
    shutil.copytree(larger / "reconstruction" / "sparse" / "0", watched / "run" / "3")
    window.wait_for(2)
    view.close()
    assert window.is_closed
    assert [len(state["line_vertices"]) // 8 for state in window.states] == [4, 6]


def test_snapshots_of_an_earlier_run_are_not_shown(tmp_path: Path, window: Window) -> None:
    scene = write_viewed_scene(tmp_path / "scene", num_images=4, with_photos=False)
    watched = tmp_path / "watched"
    shutil.copytree(scene / "reconstruction" / "sparse" / "0", watched / "current" / "1")
    view = GrowthView(window, [watched])
    (watched / "current" / "1").rename(watched / "model-0000")  # as a run that goes on from it does
    time.sleep(0.2)
    larger = write_viewed_scene(tmp_path / "larger", num_images=6, with_photos=False)
    shutil.copytree(larger / "reconstruction" / "sparse" / "0", watched / "current" / "2")
    window.wait_for(1)
    view.close()
    assert [len(state["line_vertices"]) // 8 for state in window.states] == [6]


def test_no_snapshot_is_read_after_the_user_closed_the_window(tmp_path: Path, window: Window) -> None:
    scene = write_viewed_scene(tmp_path / "scene", num_images=4, with_photos=False)
    view = GrowthView(window, [tmp_path / "watched"])
    window.is_closed = True
    for number in ("1", "2"):
        shutil.copytree(scene / "reconstruction" / "sparse" / "0", tmp_path / "watched" / number)
        (tmp_path / "watched" / number / "points3D.bin").touch()  # newer than the one before
        window.wait_for(1)
        time.sleep(0.2)
    view.close()
    assert len(window.states) == 1


def test_reconstruct_shows_the_growing_model_and_closes_the_window(
    tmp_path: Path, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_viewed_scene(tmp_path / "scene", num_images=4, with_photos=False)
    monkeypatch.setattr(live.LiveView, "open", lambda title: window)

    def run(folder: Path, output: Path, config: object, progress: object, confirm: object, growth: Path) -> None:
        shutil.copytree(scene / "reconstruction" / "sparse" / "0", growth / "run" / "1")
        window.wait_for(1)
        raise ConfigError("the end of the test")

    monkeypatch.setattr(command, "reconstruct", run)
    assert main([str(scene), "--view", "--quiet"]) == 2
    assert window.is_closed and len(window.states) == 1


@pytest.mark.parametrize(("missing", "told"), [("display", "there is no display"), ("open3d", "[viewer]")])
def test_reconstruct_says_that_there_is_no_window_and_goes_on(
    missing: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if missing == "display":
        monkeypatch.setattr(live, "require_open3d", lambda: None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(live, "is_display_named", lambda: False)
    folders: list[Path | None] = []

    def run(folder: Path, output: Path, config: object, progress: object, confirm: object, growth: Path | None) -> None:
        folders.append(growth)
        raise ConfigError("the end of the test")

    monkeypatch.setattr(command, "reconstruct", run)
    assert main([str(tmp_path), "--view", "--quiet"]) == 2
    assert folders == [None]
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("no window: ") and told in first and "`report`" in first and "end of the test" in last


@pytest.mark.parametrize("flags", [["--demo"], ["--extend"], ["--dry-run"]])
def test_view_belongs_to_a_run_from_the_beginning(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--view", *flags])
    assert "--view" in capsys.readouterr().err
