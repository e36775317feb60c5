"""Which images are similar is computed once for the same features."""

import threading
import time

import numpy as np
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.retrieval.scene_vocabulary import KIND
from sfm_lightglue.stages.folder_executor import FolderExecutor
from sfm_lightglue.store.leases import FOLDER_NAME, Leases
from sfm_lightglue.store.store import Store
from tests.helpers.random_features import random_sift

NUM = 12


class Scene(dict):
    """Features that know their keys, and count how often they are read."""

    def __init__(self, seeds, seconds_each=0.0, damaged=""):
        super().__init__({f"{row:03}.jpg": random_sift(seed, 60) for row, seed in enumerate(seeds)})
        self.keys_by_name = {f"{row:03}.jpg": f"key of {seed}" for row, seed in enumerate(seeds)}
        self.num_reads, self._seconds_each, self._damaged = 0, seconds_each, damaged

    def __getitem__(self, name):
        self.num_reads += 1
        time.sleep(self._seconds_each)
        if name == self._damaged:
            raise DataError(f"{name}: cannot be decoded")
        return super().__getitem__(name)

    def key_of(self, name):
        return self.keys_by_name[name]


ROWS = np.array([[0, 3], [5, 2], [11, 10]])


def answers(similar):
    return [
        np.array(similar.names),
        *similar.nearest(4),
        *similar.between([7, 1], [0, 1, 2], 2),
        similar.similarity(ROWS),
        *similar.by_vectors().nearest(4),
        similar.by_vectors().similarity(ROWS),
    ]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_second_run_reads_and_computes_nothing(tmp_path, monkeypatch):
    expected = answers(describe_scene(Scene(range(NUM))))
    with Store(tmp_path) as store:
        assert_equal(answers(describe_scene(Scene(range(NUM)), store)), expected)
    monkeypatch.setattr("sfm_lightglue.retrieval.similar_images._nearest_columns", None)
    again, store = Scene(range(NUM)), Store(tmp_path)
    assert_equal(answers(describe_scene(again, store)), expected)
    assert again.num_reads == 0
    assert KIND not in store.counts, "signatures were read"


def test_other_features_have_other_results(tmp_path):
    for seeds in (range(NUM), [*range(NUM - 1), 99], range(NUM - 1), reversed(range(NUM))):
        seeds = [*seeds]
        with Store(tmp_path) as store:
            found = describe_scene(Scene(seeds), store).nearest(3)
        assert_equal(found, describe_scene(Scene(seeds)).nearest(3))


def test_names_are_no_part_of_the_key(tmp_path):
    with Store(tmp_path) as store:
        first = describe_scene(Scene(range(NUM)), store)
        nearest = first.nearest(3)
        renamed = Scene(range(NUM))
        moved = {f"folder/{name}": one for name, one in renamed.items()}
        renamed.clear()
        renamed.update(moved)
        renamed.keys_by_name = {f"folder/{name}": key for name, key in renamed.keys_by_name.items()}
        second = describe_scene(renamed, store)
        assert second.names == tuple(f"folder/{name}" for name in first.names)
        assert_equal(second.nearest(3), nearest)
        assert renamed.num_reads == 0


def test_nothing_is_kept_of_a_scene_with_an_image_that_cannot_be_read(tmp_path):
    with Store(tmp_path) as store:
        assert len(describe_scene(Scene(range(NUM), damaged="004.jpg"), store)) == NUM - 1
    with Store(tmp_path) as store:
        assert_equal(answers(describe_scene(Scene(range(NUM)), store)), answers(describe_scene(Scene(range(NUM)))))


@pytest.mark.parametrize("change", [lambda rows: rows + 100, lambda rows: rows[:-1], lambda rows: rows.astype(float)])
def test_results_of_another_scene_are_computed_again(tmp_path, monkeypatch, change):
    expected = answers(describe_scene(Scene(range(NUM))))
    original = Store.save

    def save(store, kind, key, arrays):
        wrong = {name: change(one) if name == "found" else one for name, one in arrays.items()}
        original(store, kind, key, wrong)

    monkeypatch.setattr(Store, "save", save)
    with Store(tmp_path) as store:
        assert_equal(answers(describe_scene(Scene(range(NUM)), store)), expected)
    monkeypatch.undo()
    assert_equal(answers(describe_scene(Scene(range(NUM)), Store(tmp_path))), expected)


def test_one_process_compares_and_the_others_wait(tmp_path):
    scenes = [Scene(range(NUM), seconds_each=0.01) for _ in range(2)]
    found = {}

    def work(number):
        with Store(tmp_path) as store:
            executor = FolderExecutor(1, store, Leases(tmp_path / FOLDER_NAME, 10), 4, 4)
            found[number] = describe_scene(scenes[number], store, executor).nearest(4)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_equal(found[0], found[1])
    fewest, most = sorted(scene.num_reads for scene in scenes)
    assert most >= NUM
    assert fewest <= 1, "both have read the features"
