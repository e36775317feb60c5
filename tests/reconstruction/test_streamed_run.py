"""Runs that match pairs while images are extracted give what runs give that do one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.stages import streaming
from sfm_lightglue.stages.streaming import PairStream
from sfm_lightglue.store.inventory import read_all_entries, take_inventory
from tests.helpers.reconstructions import copy_scene


def config(num_threads: int) -> ReconstructConfig:
    quick = {"matcher": {"name": "nearest"}, "extractor": {"max_keypoints": 500}, "refine": {"mode": "off"}}
    return ReconstructConfig.from_mapping({"num_threads": num_threads, "density": {"level": "sparse"}, **quick})


def entries(output: Path, kinds: tuple[str, ...]) -> dict[str, dict[str, AnyArray]]:
    return {key: arrays for one in take_inventory(output, kinds) for key, arrays in read_all_entries(one)}


def assert_equal_results(output: Path, other: Path) -> None:
    assert (output / "database.db").read_bytes() == (other / "database.db").read_bytes()
    found, expected = (entries(folder, ("features", "matches", "two_view")) for folder in (output, other))
    assert found.keys() == expected.keys()
    for key, arrays in found.items():
        assert arrays.keys() == expected[key].keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[key][name])


@pytest.fixture(scope="module")
def stage_after_stage(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run with one thread."""
    output = tmp_path_factory.mktemp("one_thread")
    reconstruct(small_scene_dir, output, config(1))
    return output


@pytest.mark.parametrize("num_threads", [2, 3])
def test_results_do_not_depend_on_the_number_of_threads(
    small_scene_dir: Path,
    stage_after_stage: Path,
    tmp_path: Path,
    num_threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams: list[PairStream] = []

    class Kept(PairStream):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            streams.append(self)

    monkeypatch.setattr(streaming, "PairStream", Kept)
    summary = reconstruct(small_scene_dir, tmp_path, config(num_threads)).summary
    # With three threads, all six images are in progress before the first one is finished.
    assert (streams[0].seconds["match"] > 0) == (num_threads == 2)
    assert summary.num_registered == 6
    assert summary.cache["by_kind"]["two_view"]["misses"] == 15, "each pair is computed once"
    assert_equal_results(tmp_path, stage_after_stage)


def test_a_run_that_ends_between_goes_on(small_scene_dir: Path, stage_after_stage: Path, tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    def end(stage: str, num_done: int, num_total: int) -> None:
        if (stage, num_done) == ("extract", 5):
            raise Ended

    with pytest.raises(Ended):
        reconstruct(small_scene_dir, tmp_path, config(2), end)
    kept = entries(tmp_path, ("two_view",))
    assert kept
    summary = reconstruct(small_scene_dir, tmp_path, config(2)).summary
    assert summary.cache["by_kind"]["two_view"]["misses"] == 15 - len(kept)
    assert_equal_results(tmp_path, stage_after_stage)


class Found:
    """A `WorkProgress` that keeps the last report of each stage."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int]] = {}

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        raise AssertionError("`advance` is called instead")

    def advance(self, stage: str, num_done: int, num_total: int, num_found: int) -> None:
        self.last[stage] = (num_done, num_found)


def test_progress_is_told_what_an_earlier_run_has_computed(small_scene_dir: Path, tmp_path: Path) -> None:
    scene, cold, warm = copy_scene(small_scene_dir, tmp_path / "scene"), Found(), Found()
    left_out = (scene / "images" / "view_05.jpg").rename(tmp_path / "view_05.jpg")
    reconstruct(scene, tmp_path / "out", config(1), cold)
    assert (cold.last["extract"], cold.last["match"], cold.last["map"]) == ((5, 0), (10, 0), (5, 0))
    left_out.rename(scene / "images" / "view_05.jpg")
    reconstruct(scene, tmp_path / "out", config(1), warm)
    assert (warm.last["extract"], warm.last["match"]) == ((6, 5), (15, 10))
