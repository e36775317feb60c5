"""Further runs of the main job: what is computed again, what is not, and what another run may not disturb."""

from __future__ import annotations

import shutil
from pathlib import Path

import pycolmap
import pytest
from PIL import Image as PilImage

from sfm_lightglue.errors import ReconstructionError, StoreError
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.reconstructions import copy_scene, one_thread, tree


def test_another_run_in_the_same_folder_disturbs_nothing(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    """While the first maps, a second one with other options starts and ends."""
    output, other = tmp_path / "out", one_thread(extractor={"name": "sift", "max_keypoints": 300})
    started = []

    def start_other(stage: str, num_done: int, num_total: int) -> None:
        if stage == "map" and not started:
            started.append(reconstruct(small_scene_dir, output, other).summary)

    summary = reconstruct(small_scene_dir, output, one_thread(), start_other).summary
    assert summary.num_points != started[0].num_points
    assert tree(output / "sparse") == tree(finished / "sparse")
    again = reconstruct(small_scene_dir, output, other).summary
    assert again.num_points == started[0].num_points
    assert again.cache["misses"] == 0
    assert [path.name for path in output.glob(".work*")] == []


def test_bad_photos_that_come_and_go_are_told_as_they_are(
    small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = copy_scene(small_scene_dir, tmp_path / "scene")
    (scene / "images" / "first.jpg").write_text("no picture")
    assert reconstruct(scene, config=one_thread()).summary.num_skipped == 1
    (scene / "images" / "first.jpg").rename(scene / "images" / "second.jpg")
    caplog.clear()
    summary = reconstruct(scene, config=one_thread()).summary
    assert summary.cache["misses"] == 0
    assert [image["name"] for image in summary.skipped] == ["second.jpg"]
    assert not any("first.jpg" in record.getMessage() for record in caplog.records)


def test_a_full_disk_is_a_store_error(small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(StoreError, match="1 MiB are left"):
        reconstruct(small_scene_dir, tmp_path / "out", one_thread())
    monkeypatch.undo()
    summary = reconstruct(small_scene_dir, tmp_path / "out", one_thread()).summary
    assert summary.cache["by_kind"]["features"] == {"hits": 6, "misses": 0}


def test_second_run_computes_nothing(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = tree(tmp_path / "out" / "sparse")
    summary = reconstruct(small_scene_dir, tmp_path / "out", one_thread()).summary
    assert summary.cache["misses"] == 0
    assert summary.cache["hits"] > 0
    assert tree(tmp_path / "out" / "sparse") == before


def test_same_seed_and_one_thread_give_the_same_bytes(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    reconstruct(small_scene_dir, tmp_path / "out", one_thread())
    first, second = tree(finished), tree(tmp_path / "out")
    for name in (first, second):
        name.pop("run.json")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_one_changed_image_recomputes_what_depends_on_it(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    scene = copy_scene(small_scene_dir, tmp_path / "scene")
    shutil.copytree(finished, tmp_path / "out")
    changed = scene / "images" / "view_02.jpg"
    with PilImage.open(changed) as picture:
        picture.save(changed, quality=90, exif=picture.getexif())
    summary = reconstruct(scene, tmp_path / "out", one_thread()).summary
    kinds = summary.cache["by_kind"]
    assert kinds["features"] == {"hits": 5, "misses": 1}
    assert kinds["matches"] == {"hits": 10, "misses": 5}
    assert kinds["two_view"] == {"hits": 10, "misses": 5}
    assert kinds["models"] == {"hits": 0, "misses": 1}


def test_one_more_photo_repeats_nothing(small_scene_dir: Path, tmp_path: Path) -> None:
    scene = copy_scene(small_scene_dir, tmp_path / "scene")
    late = scene / "images" / "view_05.jpg"
    late.rename(tmp_path / "late.jpg")
    assert reconstruct(scene, config=one_thread()).summary.num_registered == 5
    (tmp_path / "late.jpg").rename(late)
    summary = reconstruct(scene, config=one_thread()).summary
    assert summary.num_registered == 6
    assert summary.cache["by_kind"]["matches"] == {"hits": 10, "misses": 5}


def test_interrupted_run_continues(small_scene_dir: Path, tmp_path: Path) -> None:
    def stop_at_pair_8(stage: str, num_done: int, num_total: int) -> None:
        if (stage, num_done) == ("match", 8):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(small_scene_dir, tmp_path / "out", one_thread(), stop_at_pair_8)
    assert not (tmp_path / "out" / "database.db").exists()
    assert not list((tmp_path / "out").rglob("*.part"))
    summary = reconstruct(small_scene_dir, tmp_path / "out", one_thread()).summary
    assert summary.num_registered == 6
    assert summary.cache["by_kind"]["features"] == {"hits": 6, "misses": 0}
    assert summary.cache["by_kind"]["matches"] == {"hits": 8, "misses": 7}


def test_torn_entries_are_computed_again(
    small_scene_dir: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    entries = sorted((tmp_path / "out").rglob("*.npz"))
    for i, path in enumerate(entries):
        content = path.read_bytes()
        size = len(content) // 2 if len(path.stem) == 64 else 100  # the first half of a shard has whole entries
        path.write_bytes((content[:size], b"", b"no archive at all")[i % 3])
    summary = reconstruct(small_scene_dir, tmp_path / "out", one_thread()).summary
    assert summary.num_registered == 6
    hits = {kind: counts["hits"] for kind, counts in summary.cache["by_kind"].items() if counts["hits"]}
    assert hits in ({}, {"features": 6})  # features that were computed again, for the dense layer beside them
    assert sum("computed again" in record.message for record in caplog.records) == len(entries)
    assert tree(tmp_path / "out" / "sparse") == tree(finished / "sparse")


def test_both_ways_to_name_the_scene_agree(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    summary = reconstruct(small_scene_dir / "images", tmp_path / "out", one_thread()).summary
    assert summary.cache["misses"] == 0


def test_stale_models_of_an_earlier_run_vanish(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    shutil.copytree(finished / "sparse" / "0", tmp_path / "out" / "sparse" / "1")
    reconstruct(small_scene_dir, tmp_path / "out", one_thread())
    assert sorted(path.name for path in (tmp_path / "out" / "sparse").iterdir()) == ["0"]


def test_the_database_is_that_of_the_model(small_scene_dir: Path, tmp_path: Path) -> None:
    """Back to an earlier configuration, whose model is restored from the store, the database goes back too."""
    sparse = {"density": {"level": "sparse"}}
    few = {"extractor": {"name": "sift", "max_keypoints": 500}, "refine": {"complete_tracks": False}}
    large, small = one_thread(), one_thread(**few, **sparse)
    output = tmp_path / "out"

    def num_keypoints() -> int:
        with pycolmap.Database.open(output / "database.db") as database:
            return int(database.num_keypoints())

    reconstruct(small_scene_dir, output, large)
    before = num_keypoints()
    reconstruct(small_scene_dir, output, small)
    assert num_keypoints() == 6 * 500
    summary = reconstruct(small_scene_dir, output, large).summary
    assert summary.cache["misses"] == 0
    assert num_keypoints() == before
    (output / "database.db").unlink()
    assert reconstruct(small_scene_dir, output, large).summary.cache["misses"] == 0
    assert num_keypoints() == before


def test_a_failed_run_leaves_no_model_of_an_earlier_one(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    impossible = one_thread(two_view={"min_inliers": 5000})
    with pytest.raises(ReconstructionError):
        reconstruct(small_scene_dir, output, impossible)
    assert not (output / "sparse" / "0").exists()
    assert not (output / "points.ply").exists()
    assert reconstruct(small_scene_dir, output, one_thread()).summary.cache["misses"] == 0
    assert tree(output / "sparse") == tree(finished / "sparse")
