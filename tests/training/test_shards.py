"""Shards of training scenes: read back, made again if damaged, independent of the number of workers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.sift import SiftConfig
from sfm_lightglue.training.data.labelled_pairs import make_scene
from sfm_lightglue.training.data.labelled_scenes import TrainingScene
from sfm_lightglue.training.data.shards import make_shards, photo_paths, read_shard, shard_folder, write_shard
from tests.helpers.rendered_scenes import CONFIG, SMALL, same


def test_shards_round_trip(tmp_path, photo_folder):
    paths = photo_paths(photo_folder)
    scenes = [make_scene(paths, seed, replace(CONFIG, unrelated_share=0.5)) for seed in range(3)]
    empty = TrainingScene((), ())
    write_shard(tmp_path / "a.npz", [scenes[0], empty, *scenes[1:]])
    back = read_shard(tmp_path / "a.npz")
    assert len(back) == 4
    assert all(map(same, back, [scenes[0], empty, *scenes[1:]]))
    write_shard(tmp_path / "b.npz", [])
    assert read_shard(tmp_path / "b.npz") == []


def test_shards_are_kept_and_damaged_ones_made_again(tmp_path, photo_folder, caplog):
    arguments = {"config": CONFIG, "scenes_per_shard": 1}
    made = list(make_shards(photo_folder, tmp_path, 7, [0, 1], 0, **arguments))
    assert [path.name for path in made] == ["000000.npz", "000001.npz"]
    first, second = made
    whole = first.read_bytes()
    stamp = second.stat().st_mtime_ns
    first.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        read_shard(first)
    assert sorted(make_shards(photo_folder, tmp_path, 7, [0, 1], 0, **arguments)) == made
    assert "making it again" in caplog.text
    assert same(read_shard(first)[0], make_scene(photo_paths(photo_folder), 7 * 10**10, CONFIG))
    assert second.stat().st_mtime_ns == stamp, "a good shard is kept"
    assert not same(read_shard(first)[0], read_shard(second)[0])
    assert not list(first.parent.glob(".*")), "no temporary file remains"


def test_workers_make_the_same_shard(tmp_path, photo_folder):
    config = replace(CONFIG, views=replace(SMALL, num_views=2))
    there = list(make_shards(photo_folder, tmp_path / "a", 1, [3], 1, config, 1))
    here = list(make_shards(photo_folder, tmp_path / "b", 1, [3], 0, config, 1))
    assert same(read_shard(there[0])[0], read_shard(here[0])[0])


def test_another_configuration_has_another_folder(tmp_path, photo_folder):
    photos = photo_paths(photo_folder)
    configs = [CONFIG, replace(CONFIG, min_overlap=0.1), replace(CONFIG, sift=SiftConfig(max_keypoints=201))]
    folders = {shard_folder(tmp_path, photos, 0, config, 20) for config in configs}
    folders |= {shard_folder(tmp_path, photos, 1, CONFIG, 20), shard_folder(tmp_path, photos[1:], 0, CONFIG, 20)}
    assert len(folders) == 5
    assert shard_folder(tmp_path, photos, 0, CONFIG, 20) in folders


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(DataError, match="no photographs"):
        photo_paths(tmp_path)
