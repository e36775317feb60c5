"""Models that may be folded are mapped again without the pairs that join their places, or cut; what is worse goes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sfm_lightglue.colmap.model_parts import copy_of_part
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check, FoldSigns, ImageVerdict, ModelVerdict
from sfm_lightglue.reconstruction.agreeing_parts import is_contradicted_only
from sfm_lightglue.reconstruction.folds import Folds, explains_better, is_folded, still_told, suspected_pairs
from sfm_lightglue.reconstruction.known_folds import left_out_pairs
from sfm_lightglue.reconstruction.map_and_judge import Judging
from sfm_lightglue.reconstruction.told_folds import (
    SIGNS_CHECK,
    has_many_signs,
    keeps_enough,
    pairs_between_places,
    without_many_signs,
)
from sfm_lightglue.reconstruction.unfolding import map_unfolded, told_as_before
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair
from tests.helpers.folded_models import all_pairs, street_model

TOLD = "sfm_lightglue.reconstruction.told_folds."
HOUSES = [tuple(f"{house}-{number}.jpg" for number in range(6)) for house in range(2)]
PAIRS = all_pairs([*HOUSES[0], *HOUSES[1]])
JOINING = frozenset(pair for pair in PAIRS if pair.name0[0] != pair.name1[0])
UNLIKE = frozenset(ImagePair(f"0-{number}.jpg", f"1-{number}.jpg") for number in range(4))
FOLDS = Folds(dict.fromkeys(PAIRS, 40), PAIRS, ChecksConfig().max_conflict, unlike=UNLIKE)
SURE = replace(FOLDS, left_out=dict.fromkeys(UNLIKE, 100))


@pytest.fixture(autouse=True)
def no_rare_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOLD + "places_by_rare_points", lambda model: [])


def folded(num_twins: int = 400) -> JudgedModel:
    """Two houses at one place with most of their points in common."""
    model = street_model(True, num_twins=num_twins, num_own=120)
    return judged(model)


def judged(model) -> JudgedModel:  # type: ignore[no-untyped-def]
    names = sorted(model.images[image_id].name for image_id in model.reg_image_ids())
    images = {name: ImageVerdict("registered", None, None, 100, 1.0) for name in names}
    return JudgedModel(model, ModelVerdict("accepted", {"min_agreement": Check.at_least(1.0, 0.8)}, images))


def test_a_model_with_a_sign_of_a_fold_names_the_pairs_that_join_its_places() -> None:
    (found,) = FOLDS.checked([folded()])
    assert found.verdict.outcome == "accepted"
    assert len(found.verdict.maybe_folded) == 8
    assert len(suspected_pairs([found])) >= 30
    assert suspected_pairs([found]) <= JOINING


def test_without_a_sign_nothing_is_suspected() -> None:
    (found,) = replace(FOLDS, unlike=frozenset()).checked([folded()])
    assert (found.verdict.maybe_folded, found.verdict.suspected) == ((), ())


def test_no_place_stands_out_in_a_right_model_with_a_sign() -> None:
    unlike = [ImagePair("0-1.jpg", "0-2.jpg"), ImagePair("0-2.jpg", "0-3.jpg"), ImagePair("1-1.jpg", "1-2.jpg")]
    (found,) = replace(FOLDS, unlike=frozenset(unlike), suspects=True).checked([judged(street_model(False))])
    assert found.verdict.outcome == "accepted"
    assert found.verdict.maybe_folded != ()
    assert found.verdict.suspected == ()


def test_a_suspected_model_is_cut_into_its_places() -> None:
    folds = replace(FOLDS, suspects=True)
    (found,) = folds.checked([folded()])
    assert is_folded(found)
    pieces = folds.cut([found], lambda models: folds.checked([judged(one) for one in models]))
    assert [tuple(each.verdict.images) for each in pieces] == HOUSES
    assert {each.verdict.outcome for each in pieces} == {"accepted"}


def test_a_split_needs_fewer_signs_and_most_images() -> None:
    (before,) = FOLDS.checked([folded()])
    right = judged(street_model(False))
    other = replace(right, verdict=replace(right.verdict, maybe_folded=("0-1.jpg",) * 5))
    assert explains_better([right], [before])
    assert not explains_better([other], [before]), "signs remain"
    assert explains_better([right, replace(other, verdict=other.verdict.as_rejected())], [before]), (
        "it is not published"
    )
    assert not explains_better([], [before])
    for num_images in (9, 10):
        images = dict(list(right.verdict.images.items())[:num_images])
        small = replace(right, verdict=replace(right.verdict, images=images))
        assert explains_better([small], [before]) == (num_images == 10), "most images must stay"


def test_only_registered_images_of_published_models_are_told_again() -> None:
    (before,) = FOLDS.checked([folded()])
    right = judged(street_model(False))
    lost = {"0-0.jpg": ImageVerdict("doubtful", "contradicts")}
    right = replace(right, verdict=replace(right.verdict, images={**right.verdict.images, **lost}))
    (found,) = still_told([right], [before])
    assert set(found.verdict.maybe_folded) == set(before.verdict.maybe_folded) - {"0-0.jpg"}
    (found,) = still_told([right], [replace(before, verdict=before.verdict.as_rejected())])
    assert found.verdict.maybe_folded == ()


@pytest.mark.parametrize("is_after_split", [True, False])
def test_models_that_were_split_are_not_merged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_after_split: bool
) -> None:
    module = "sfm_lightglue.reconstruction.map_and_judge."
    merged, houses = folded().model, [judged(copy_of_part(folded().model, names)) for names in HOUSES]

    def merge(models, adjust, is_as_good):  # type: ignore[no-untyped-def]
        return [merged] if is_as_good(merged, *models) else models

    monkeypatch.setattr(module + "merge_models", merge)
    monkeypatch.setattr(module + "read_stored_pairs", lambda database: [])
    monkeypatch.setattr(Judging, "judged", lambda self, models: FOLDS.checked([judged(each) for each in models]))
    task = MappingTask(tmp_path / "database.db", tmp_path, 12)
    judging = Judging(None, task, ChecksConfig(), frozenset(), is_after_split=is_after_split)
    assert len(judging.merged(houses)) == (2 if is_after_split else 1)


@dataclass(frozen=True)
class Weighed:
    kept: dict[ImagePair, None]
    has_twins: bool = False
    apart: tuple[ImagePair, ...] = ()
    overlaps: tuple[ImagePair, ...] = ()


@dataclass(frozen=True)
class Filled:
    path: Path
    weighed: Weighed


@dataclass
class Scene:
    """A scene whose model may be folded until pairs are left out; `helps` tells which attempt gives right models."""

    folder: Path
    helps: str
    attempts: list[tuple[bool, bool]] = field(default_factory=list)
    stored: Path | None = None
    trusted: frozenset[ImagePair] = frozenset()
    folds: Folds = FOLDS
    others: list[JudgedModel] = field(default_factory=list)

    def fill(self, path: Path) -> Filled:
        left_out = left_out_pairs(self.store, "key")
        path.write_text(str(len(left_out)))
        return Filled(path, Weighed({pair: None for pair in PAIRS if pair not in left_out - self.trusted}))

    @property
    def store(self) -> Store:
        return Store(self.stored or self.folder / "store")

    def map_filled(self, filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        assert work.is_dir()
        self.attempts.append((cuts, suspects))
        if self.helps == "sure" and not left_out_pairs(self.store, "key"):
            return [replace(folded(), verdict=folded().verdict.as_rejected())]
        if self.helps in {"mapping", "sure"} and left_out_pairs(self.store, "key"):
            return replace(FOLDS, unlike=frozenset()).checked([judged(street_model(False))])
        if self.helps == "places" and left_out_pairs(self.store, "key"):
            return [judged(copy_of_part(folded().model, names)) for names in HOUSES]
        if self.helps == "few places" and left_out_pairs(self.store, "key"):
            return [judged(copy_of_part(folded().model, HOUSES[0][:3]))]
        if self.helps in {"nothing", "few places"} and (suspects or cuts):
            return []
        folds = replace(self.folds, suspects=suspects)
        found = folds.checked([folded(), *self.others])
        return folds.cut(found, lambda models: folds.checked([judged(one) for one in models])) if cuts else found

    def run(self) -> tuple[Filled, list[JudgedModel]]:
        filled = self.fill(self.folder / "database.db")
        how = self.fill, self.map_filled, lambda weighed: JOINING
        return map_unfolded(self.store, "key", filled, *how, self.folder)  # type: ignore[type-var,arg-type]


@pytest.mark.parametrize("helps", ["mapping", "cutting"])
def test_a_scene_that_may_be_folded_is_split(tmp_path: Path, helps: str) -> None:
    scene = Scene(tmp_path, helps)
    filled, found = scene.run()
    names = [tuple(each.verdict.images) for each in found]
    assert names == ([HOUSES[0] + HOUSES[1]] if helps == "mapping" else HOUSES)
    assert sum(len(each.verdict.maybe_folded) for each in found) == 8, "what was not sure stays so"
    left_out = left_out_pairs(scene.store, "key")
    assert len(left_out) >= 30
    assert left_out <= JOINING
    assert filled.path.read_text() == str(len(left_out)), "the database of the run has them no more"


@pytest.mark.parametrize("knows_places", [False, True])
@pytest.mark.parametrize("helps", ["nothing", "few places"])
@pytest.mark.parametrize("is_sure", [False, True])
def test_what_explains_nothing_better_is_undone_and_a_model_that_is_surely_folded_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_places: bool, helps: str, is_sure: bool
) -> None:
    if knows_places:
        monkeypatch.setattr(TOLD + "places_by_rare_points", lambda model: HOUSES)
    scene = Scene(tmp_path, helps, folds=SURE if is_sure else FOLDS)
    filled, found = scene.run()
    assert [len(each.verdict.images) for each in found] == [12], "nothing is lost"
    assert len(found[0].verdict.maybe_folded) == 8
    expected = ("rejected", (SIGNS_CHECK,)) if is_sure else ("accepted", ())
    assert (found[0].verdict.outcome, found[0].verdict.failed) == expected, "one kind of sign is told"
    assert ((True, False) in scene.attempts) == (knows_places and is_sure)
    assert left_out_pairs(scene.store, "key") == frozenset()
    assert filled.path.read_text() == "0"


def test_only_the_places_that_rare_points_tell_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOLD + "places_by_rare_points", lambda model: HOUSES)
    trusted = min(JOINING)
    scene = Scene(tmp_path, "places", trusted=frozenset([trusted]), folds=SURE)
    _, found = scene.run()
    assert [tuple(each.verdict.images) for each in found] == [*HOUSES, HOUSES[0] + HOUSES[1]]
    assert (found[2].verdict.outcome, found[2].verdict.failed) == ("rejected", (SIGNS_CHECK,)), "the folded one is kept"
    assert scene.attempts == [(False, False), (False, False), (True, False)], "shares of points are not asked"
    found = found[:2]
    assert sum(len(each.verdict.maybe_folded) for each in found) == 12, "all parts are told"
    assert left_out_pairs(scene.store, "key") == JOINING - {trusted}


def test_a_model_with_few_signs_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOLD + "places_by_rare_points", lambda model: HOUSES)
    (many,), (unlike,) = SURE.checked([folded()]), FOLDS.checked([folded()])
    few = replace(many, verdict=replace(many.verdict, signs=FoldSigns(doubted=pairs_of(3), num_known=4)))
    assert (has_many_signs(many), has_many_signs(few)) == (True, False)
    assert pairs_between_places([few, unlike], PAIRS) == frozenset()
    assert pairs_between_places([many], PAIRS) == JOINING
    assert [each.verdict.outcome for each in without_many_signs([few, unlike])] == ["accepted", "accepted"]


def pairs_of(number: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"0-{idx}.jpg", f"1-{idx}.jpg") for idx in range(number))


SIGNS = {
    "one kind": (FoldSigns(doubted=pairs_of(6), num_known=20), 12, False),
    "most pairs": (FoldSigns(doubted=pairs_of(6), num_known=11), 12, True),
    "only unlike": (FoldSigns(unlike=pairs_of(6), num_known=6), 12, False),
    "two kinds": (FoldSigns(doubted=pairs_of(5), unlike=pairs_of(4), num_known=66), 12, True),
    "two kinds of few": (FoldSigns(doubted=pairs_of(5), unlike=pairs_of(3), num_known=66), 12, False),
    "small": (FoldSigns(doubted=pairs_of(4), unlike=pairs_of(4), num_known=6), 9, False),
}


@pytest.mark.parametrize("name", SIGNS)
def test_only_signs_that_leave_hardly_a_doubt_reject_a_model(name: str) -> None:
    signs, num_images, is_rejected = SIGNS[name]
    names = [*HOUSES[0][: num_images - num_images // 2], *HOUSES[1][: num_images // 2]]
    each = judged(copy_of_part(street_model(False), names))
    (found,) = without_many_signs([replace(each, verdict=replace(each.verdict, signs=signs))])
    assert found.verdict.outcome == ("rejected" if is_rejected else "accepted")


def test_rejected_models_are_in_the_order_of_their_sizes() -> None:
    small, large = (judged(copy_of_part(street_model(False), names)) for names in (HOUSES[0], HOUSES[0] + HOUSES[1]))
    small = replace(small, verdict=small.verdict.as_rejected())
    large = replace(large, verdict=replace(large.verdict, signs=SIGNS["most pairs"][0]))
    assert [len(each.verdict.images) for each in without_many_signs([small, large])] == [12, 6]


def test_places_with_signs_within_them_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOLD + "places_by_rare_points", lambda model: HOUSES)
    (many,) = SURE.checked([folded()])
    within = tuple((f"{house}-{number}.jpg", f"{house}-{number + 1}.jpg") for house in (0, 1) for number in range(4))
    wrong = replace(many.verdict, signs=replace(many.verdict.signs, doubted=within))
    assert has_many_signs(replace(many, verdict=wrong))
    assert pairs_between_places([replace(many, verdict=wrong)], PAIRS) == frozenset()


def test_places_must_have_enough_images_and_all_of_the_other_models() -> None:
    (many,) = SURE.checked([folded()])
    parts = [judged(copy_of_part(folded().model, names)) for names in (HOUSES[0][:4], HOUSES[1][:2])]
    assert (keeps_enough(parts, [many]), keeps_enough(parts[:1], [many])) == (True, False)
    images = {name: ImageVerdict("registered") for name in ("a.jpg", "b.jpg")}
    other = replace(many, verdict=ModelVerdict("accepted", {}, images))
    assert not keeps_enough(parts, [many, other])
    assert keeps_enough([*parts, other], [many, other])
    assert (keeps_enough([many], [many]), keeps_enough([many], [many], accepts_signs=True)) == (False, True)


def test_a_split_is_not_kept_if_its_model_is_surely_folded(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "cutting")
    plain = scene.map_filled

    def mapped(filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        found = plain(filled, work, name, cuts, suspects)
        if not suspects:
            return found
        each = judged(street_model(False))
        return [replace(each, verdict=replace(each.verdict, signs=SIGNS["most pairs"][0]))]

    scene.map_filled = mapped  # type: ignore[method-assign]
    _, found = scene.run()
    assert len(scene.attempts) == 3
    assert [(len(each.verdict.images), each.verdict.outcome) for each in found] == [(12, "accepted")]
    assert found[0].verdict.signs.unlike == tuple((pair.name0, pair.name1) for pair in sorted(UNLIKE)), "that before"


def test_with_known_poses_signs_are_only_told() -> None:
    (surely,) = without_many_signs(SURE.checked([folded()]))
    (known,) = without_many_signs(replace(SURE, only_tells=True).checked([folded()]))
    assert (surely.verdict.outcome, known.verdict.outcome) == ("rejected", "accepted")
    assert known.verdict.maybe_folded == surely.verdict.maybe_folded != ()


@pytest.mark.parametrize("has_overlaps", [True, False])
def test_without_lookalikes_a_rejected_scene_is_mapped_once(tmp_path: Path, has_overlaps: bool) -> None:
    attempts = []

    def fill(path: Path) -> Filled:
        path.write_text("")
        return Filled(path, Weighed({}, overlaps=tuple(JOINING) if has_overlaps else ()))

    def map_filled(*arguments: object) -> list[JudgedModel]:
        attempts.append(arguments)
        each = judged(street_model(False))
        verdict = replace(each.verdict, checks={"min_agreement": Check.at_least(0.1, 0.8)})
        return [replace(each, verdict=verdict.as_rejected())]

    how = fill, map_filled, lambda weighed: frozenset()
    map_unfolded(Store(tmp_path / "store"), "key", fill(tmp_path / "database.db"), *how, tmp_path)  # type: ignore[arg-type]
    assert len(attempts) == (2 if has_overlaps else 1)


def test_pairs_of_images_without_a_place_are_between_places(monkeypatch: pytest.MonkeyPatch) -> None:
    (many,) = SURE.checked([folded()])
    places = [HOUSES[0], HOUSES[1][:3]]
    monkeypatch.setattr(TOLD + "places_by_rare_points", lambda model: places)
    others = [ImagePair("1-0.jpg", "elsewhere.jpg"), ImagePair("elsewhere.jpg", "nowhere.jpg")]
    within = {pair for names in places for pair in all_pairs(names)}
    assert pairs_between_places([many], [*PAIRS, *others]) == {*PAIRS, others[0]} - within


def test_an_interrupted_trial_is_begun_again(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    scene = Scene(tmp_path, "mapping")
    plain = scene.map_filled

    def killed(*arguments: object) -> list[JudgedModel]:
        if len(scene.attempts) == 1:
            raise Killed
        return plain(*arguments)  # type: ignore[arg-type]

    scene.map_filled = killed  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        scene.run()
    assert left_out_pairs(scene.store, "key") != frozenset()
    again = Scene(tmp_path / "again", "mapping", stored=tmp_path / "store")
    again.folder.mkdir()
    _, found = again.run()
    assert again.attempts == [(False, False), (False, True)], "it begins with all pairs"
    assert [tuple(each.verdict.images) for each in found] == [HOUSES[0] + HOUSES[1]]


def test_a_scene_without_a_model_is_mapped_without_doubtful_pairs(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "sure")
    _, found = scene.run()
    assert [each.verdict.outcome for each in found] == ["accepted"]
    assert left_out_pairs(scene.store, "key") == JOINING
    (note,) = found[0].verdict.notes
    assert "their own cues are weak" in note
    (again,) = told_as_before(scene.store, "key", [judged(street_model(False))], found)
    assert (again.verdict.notes, again.verdict.left_out) == (found[0].verdict.notes, found[0].verdict.left_out)


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        (("min_agreement",), True),
        (("min_agreement", "max_focal_ratio"), False),
        (("max_conflict",), False),
        ((), False),
    ],
)
def test_only_pairs_contradict_a_model_that_fails_nothing_else(failed: tuple[str, ...], expected: bool) -> None:
    right = judged(street_model(False))
    checks = {name: Check(0.0, 1.0, False) for name in failed}
    found = replace(right, verdict=replace(right.verdict, checks=checks).as_rejected())
    assert is_contradicted_only(found) == expected
    assert not is_contradicted_only(replace(right, verdict=replace(right.verdict, checks=checks))), "it is published"
