"""Pairs that were left out after a fold are asked again if images are left, and stay left out if that does not help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from sfm_lightglue.colmap.model_parts import copy_of_part
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.reconstruction import job, second_mapping
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.folds import Folds, FoldSearch
from sfm_lightglue.reconstruction.job_values import ModelKeys
from sfm_lightglue.reconstruction.known_folds import has_known_fold, left_out_pairs, save_taken_back, taken_back_pairs
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ring_scene, write_database
from tests.helpers.folded_models import street_model
from tests.helpers.judged_models import record, weighed_pairs
from tests.reconstruction.test_folds import FOLDS, HOUSES, PAIRS, Filled, Scene, Weighed, checked, judged

ALL = [*HOUSES[0], *HOUSES[1]]


def right(*names: Sequence[str]) -> list[JudgedModel]:
    """Right models of some images."""
    return checked(*(copy_of_part(street_model(False), each) for each in names))


class Losing(Scene):
    """A scene whose models lack images without the pairs that joined its places.

    Args:
        folder: of the scene.
        num_without: images of the model without these pairs, which is right.
        again: gives the models with all pairs, weighed as in a scene with twins.
        has_twins: whether the scene has twins from the start.
    """

    def __init__(
        self, folder: Path, num_without: int, again: Callable[[Store], list[JudgedModel]], has_twins: bool = False
    ) -> None:
        super().__init__(folder, unfolds=True, has_twins=has_twins)
        self.num_without, self.map_again = num_without, again

    def fill(self, path: Path) -> Filled:
        filled = super().fill(path)
        has_twins = filled.weighed.has_twins or bool(filled.left_out)
        return Filled(filled.path, filled.left_out, Weighed(has_twins, kept=tuple(PAIRS)))

    def map_filled(self, filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        self.attempts.append((name, cuts))
        if has_known_fold(self.store, "key"):
            return self.map_again(self.store)
        return right(ALL[: self.num_without]) if filled.left_out else checked(street_model(True))


def folded_again(store: Store) -> list[JudgedModel]:
    """A folded model that only the pairs tell that were taken back."""
    taken_back = dict.fromkeys(sorted(taken_back_pairs(store, "key"))[:2], 40)
    model = street_model(True)
    check = replace(FOLDS.check(model), doubted=(), doubted_pairs=())
    with mock.patch.object(Folds, "check", lambda *_: check):
        return replace(FOLDS, max_conflict=99.0, taken_back=taken_back).checked([judged(model)])


def test_if_images_are_left_the_pairs_that_were_left_out_are_asked_again(tmp_path: Path) -> None:
    scene = Losing(tmp_path, 8, lambda _: right(ALL))
    filled, found = scene.run()
    assert [len(each.verdict.images) for each in found] == [12]
    assert filled.left_out == left_out_pairs(scene.store, "key") == frozenset()
    assert taken_back_pairs(scene.store, "key") != frozenset(), "models are judged by them"
    assert len(scene.attempts) == 3


@pytest.mark.parametrize(
    "again",
    [
        lambda _: right(ALL[:8]),  # no more images
        lambda _: right(ALL[1:]),  # without one that was in a model
        lambda _: right(*HOUSES),  # in smaller models
        lambda _: checked(street_model(True)),
        folded_again,
    ],
)
def test_they_stay_left_out_if_they_add_no_images_or_a_model_is_folded(
    tmp_path: Path, again: Callable[[Store], list[JudgedModel]]
) -> None:
    scene = Losing(tmp_path, 8, again)
    filled, found = scene.run()
    assert [sorted(each.verdict.images) for each in found] == [ALL[:8]]
    assert [each.verdict.maybe_folded for each in found] == [()]
    assert filled.left_out == left_out_pairs(scene.store, "key") != frozenset()
    assert not has_known_fold(scene.store, "key")
    assert taken_back_pairs(scene.store, "key") == frozenset()
    assert filled.path.read_text() == str(len(filled.left_out))
    assert len(scene.attempts) >= 3


@pytest.mark.parametrize(("num_without", "has_twins"), [(12, False), (8, True)])
def test_nothing_is_asked_again_if_all_images_are_in_models_or_twins_were_known(
    tmp_path: Path, num_without: int, has_twins: bool
) -> None:
    scene = Losing(tmp_path, num_without, lambda _: right(ALL), has_twins)
    scene.run()
    assert len(scene.attempts) == 2


def test_nothing_is_asked_again_if_the_missing_images_are_in_no_left_out_pair(tmp_path: Path) -> None:
    scene = Losing(tmp_path, 12, lambda _: right(ALL))
    plain = scene.fill
    others = (*PAIRS, ImagePair("0-0.jpg", "lost.jpg"))
    scene.fill = lambda path: replace(plain(path), weighed=replace(plain(path).weighed, kept=others))  # type: ignore[method-assign]
    scene.run()
    assert len(scene.attempts) == 2


def test_pairs_that_were_taken_back_judge_models_wherever_they_are_now(tmp_path: Path) -> None:
    """Some take part again, others do not."""
    kept, apart, absent = (ImagePair(*names) for names in (("a", "b"), ("a", "c"), ("b", "d")))
    weighed = weighed_pairs({(kept.name0, kept.name1): record(num_inliers=70)})
    weighed = replace(weighed, apart={apart: record(num_inliers=50)})
    search = FoldSearch(taken_back=frozenset({kept, apart, absent}))
    folds = Folds.of_database(write_database(tmp_path / "database.db", ring_scene(3)), weighed, 0.5, search)
    assert folds.taken_back == {kept: 70, apart: 50}
    assert folds.left_out == {}


def test_a_run_judges_its_models_by_the_pairs_that_were_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pair, seen = Store(tmp_path / "store"), ImagePair("a", "b"), []
    save_taken_back(store, "key", frozenset({pair}))
    task = MappingTask(tmp_path / "database.db", tmp_path, 10, frozenset(), seed=0)
    monkeypatch.setattr(job, "_mapping_task", lambda *_: nullcontext(task))
    monkeypatch.setattr(job, "map_and_judge", lambda *args: seen.append(args[-1]))
    clock, keys = SimpleNamespace(stage=lambda _: nullcontext()), ModelKeys("key", "finished")
    run = SimpleNamespace(store=store, keys=keys, config=ReconstructConfig(), trusted=(), growth=None, clock=clock)
    filled = SimpleNamespace(weighed=Weighed(True, kept=(pair,)), guessed_camera_ids=frozenset())
    job._map(run, None, None, filled, tmp_path, "first")  # type: ignore[arg-type]
    assert [search.taken_back for search in seen] == [{pair}]


def test_a_second_look_judges_models_by_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, pair = [], ImagePair("a", "b")
    monkeypatch.setattr(second_mapping, "remove_geometries", lambda *_: None)
    monkeypatch.setattr(second_mapping, "_extended", lambda judging, judged, excluded: list(judged))
    monkeypatch.setattr(second_mapping, "Judging", lambda *_: SimpleNamespace(merged=list))
    monkeypatch.setattr(second_mapping, "Folds", SimpleNamespace(of_database=lambda *args: seen.append(args[-1])))
    task = MappingTask(tmp_path / "database.db", tmp_path, 10, frozenset(), seed=0)
    arguments = None, task, weighed_pairs(), ReconstructConfig(), frozenset(), [], (), ()
    assert second_mapping.map_with_added(*arguments, frozenset({pair})) is None  # type: ignore[arg-type]
    assert [search.taken_back for search in seen] == [{pair}]
