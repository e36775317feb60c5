"""Shards of training scenes: read back, made again if damaged, independent of the number of workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.training.data import shard_makers
from sfm_lightglue.training.data.describers import InlineDescriber, build_extractor
from sfm_lightglue.training.data.labelled_pairs import SceneConfig, make_scenes
from sfm_lightglue.training.data.labelled_scenes import TrainingScene, TrainingView
from sfm_lightglue.training.data.shard_makers import ShardOrder, make_shards, make_with_pool
from sfm_lightglue.training.data.shards import (
    ShardArrays,
    read_shard,
    read_shard_arrays,
    shard_arrays,
    shard_folder,
    write_shard,
)
from tests.helpers import training_scenes
from tests.helpers.rendered_scenes import CONFIG, SMALL, same
from tests.helpers.untrained import write_aliked

PAIRS = replace(CONFIG, views=replace(SMALL, num_views=2, image_size=(160, 120)))
EMPTY = TrainingScene((), ())


@pytest.fixture
def scenes() -> list[TrainingScene]:
    return [training_scenes.make_scene(0), EMPTY, training_scenes.make_scene(1, 40), training_scenes.make_scene(2)]


def test_shards_round_trip(tmp_path, scenes):
    write_shard(tmp_path / "a.npz", scenes)
    back = read_shard(tmp_path / "a.npz")
    assert len(back) == 4
    assert all(map(same, back, scenes))
    for few in ([], [EMPTY]):
        write_shard(tmp_path / "b.npz", few)
        assert len(read_shard(tmp_path / "b.npz")) == len(few)


def test_descriptors_of_other_features_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    empty = np.zeros(3, np.float32)
    descriptors = rng.normal(size=(3, 64)).astype(np.float16)
    view = TrainingView(np.zeros((3, 2), np.float32), empty, empty, empty, descriptors, (640, 480))
    write_shard(tmp_path / "a.npz", [TrainingScene((view,), ())])
    arrays = read_shard_arrays(tmp_path / "a.npz")
    assert arrays.descriptors.dtype == np.float16 and np.array_equal(arrays.descriptors, descriptors)
    assert np.abs(np.linalg.norm(view.unit_descriptors, axis=1) - 1).max() < 1e-5


def test_arrays_are_those_of_the_scenes_joined(scenes):
    arrays = shard_arrays(scenes)
    assert arrays.num_views.tolist() == [2, 0, 2, 2] and arrays.num_pairs.tolist() == [1, 0, 1, 1]
    assert arrays.view_rows.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert np.array_equal(arrays.keypoints, np.concatenate([v.keypoints for scene in scenes for v in scene.views]))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scores", lambda values: values[1:]),
        ("num_pairs", lambda values: values + 1),
        ("num_keypoints", lambda values: values + 1),
        ("view_idxs", lambda values: values + 1),
        ("view_idxs", lambda values: values - 1),
        ("matches", lambda values: values + 1),
        ("matches", lambda values: values + 1000),
        ("matches", lambda values: values - 1000),
        ("states0", lambda values: values * 0),
        ("states1", lambda values: values[1:]),
        ("descriptors", lambda values: values[1:]),
        ("descriptors", lambda values: values.astype(np.float32)),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path, scenes, name, change):
    arrays = shard_arrays(scenes)
    values = {field: getattr(arrays, field) for field in ShardArrays.__slots__}
    values[name] = change(values[name])
    with pytest.raises(ValueError, match=r"contradict|not exist|of type"):
        ShardArrays(**values)
    np.savez(tmp_path / "a.npz", **values)
    with pytest.raises(DataError, match=r"a\.npz: not a readable shard"):
        read_shard_arrays(tmp_path / "a.npz")


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
    assert same(read_shard(first)[0], scene_of(photo_folder, 7 * 10**10, CONFIG))
    assert second.stat().st_mtime_ns == stamp, "a good shard is kept"
    assert not same(read_shard(first)[0], read_shard(second)[0])
    assert not list(first.parent.glob(".*")), "no temporary file remains"


def scene_of(photo_folder: Path, seed: int, config: SceneConfig) -> TrainingScene:
    describer = InlineDescriber(build_extractor(config.features, "cpu"))
    return make_scenes(PhotoLibrary.open(photo_folder), [seed], config, describer)[0]


def test_workers_make_the_same_shards(tmp_path, photo_folder, monkeypatch):
    """So does one renderer with a pool for SIFT, as with a GPU: batches are rendered ahead of the labels."""
    monkeypatch.setattr(shard_makers, "_SCENES_AT_ONCE", 1)
    here = list(make_shards(photo_folder, tmp_path / "a", 1, [3, 5], 0, PAIRS, 2))
    there = sorted(make_shards(photo_folder, tmp_path / "b", 1, [3, 5], 2, PAIRS, 2))
    with_pool = list(make_with_pool(ShardOrder(photo_folder, tmp_path / "c", 1, PAIRS, 2, "cpu"), [3, 5], 2))
    assert [path.name for path in here] == ["000003.npz", "000005.npz"]
    for others in (there, with_pool):
        assert [path.name for path in others] == [path.name for path in here]
        assert [path.read_bytes() for path in others] == [path.read_bytes() for path in here]


def test_scenes_of_a_network_have_matches(tmp_path, photo_folder):
    options = (("weights", str(write_aliked(tmp_path / "aliked.pth"))), ("detection_threshold", 0.0))
    config = replace(CONFIG, extractor="aliked", extractor_options=options)
    (path,) = make_shards(photo_folder, tmp_path, 0, [0], 0, config, 1)
    arrays = read_shard_arrays(path)
    assert arrays.descriptors.dtype == np.float16 and (arrays.num_keypoints == 200).all()
    assert not arrays.scales.any() and not arrays.orientations.any()
    assert len(arrays.matches) > 5


def test_another_configuration_has_another_folder(tmp_path, photo_folder):
    library = PhotoLibrary.open(photo_folder)
    fewer = PhotoLibrary(photo_folder, library.contents[1:], None)
    write_aliked(tmp_path / "aliked.pth")
    weights = (("weights", str(tmp_path / "aliked.pth")),)
    configs = [
        CONFIG,
        replace(CONFIG, min_overlap=0.1),
        replace(CONFIG, max_keypoints=201),
        replace(CONFIG, extractor_options=(("edge_threshold", 11.0),)),
        replace(CONFIG, extractor="aliked", extractor_options=weights),
    ]
    folders = {shard_folder(tmp_path, library, 0, config, 20) for config in configs}
    folders |= {shard_folder(tmp_path, library, 1, CONFIG, 20), shard_folder(tmp_path, fewer, 0, CONFIG, 20)}
    assert len(folders) == 7
    (tmp_path / "aliked.pth").write_bytes(b"other weights")
    assert shard_folder(tmp_path, library, 0, configs[-1], 20) not in folders
    assert shard_folder(tmp_path, library, 0, CONFIG, 20) in folders
    with pytest.raises(ConfigError):
        replace(CONFIG, max_keypoints=0)
