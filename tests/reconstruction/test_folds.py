"""Folded models are rejected, mapped again without the pairs that join places, and cut at last."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import pycolmap
import pytest

from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.database_pairs import matched_pairs, remove_geometries
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check, ImageVerdict, ModelVerdict
from sfm_lightglue.reconstruction.folds import FOLD_CHECK, Folds, is_folded, joining_pairs, with_left_out
from sfm_lightglue.reconstruction.known_folds import has_known_fold, left_out_pairs
from sfm_lightglue.reconstruction.unfolding import MAX_UNFOLDINGS, map_unfolded
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ring_scene, write_database
from tests.helpers.folded_models import all_pairs, street_model

LIMIT = ChecksConfig().max_conflict
HOUSES = [tuple(f"{house}-{number}.jpg" for number in range(6)) for house in range(2)]
PAIRS = all_pairs([*HOUSES[0], *HOUSES[1]])
JOINING = frozenset(pair for pair in PAIRS if pair.name0[0] != pair.name1[0])
FOLDS = Folds(dict.fromkeys(PAIRS, 40), PAIRS, LIMIT)


def judged(model: pycolmap.Reconstruction) -> JudgedModel:
    names = sorted(model.images[image_id].name for image_id in model.reg_image_ids())
    images = {name: ImageVerdict("registered", None, None, 100, 1.0) for name in names}
    return JudgedModel(model, ModelVerdict("accepted", {"min_agreement": Check.at_least(1.0, 0.8)}, images))


def checked(*models: pycolmap.Reconstruction) -> list[JudgedModel]:
    return FOLDS.checked([judged(model) for model in models])


def test_a_folded_model_is_rejected_and_names_the_pairs_that_join_its_places() -> None:
    (found,) = checked(street_model(True))
    assert found.verdict.outcome == "rejected"
    assert found.verdict.failed == (FOLD_CHECK,)
    assert {image.reason for image in found.verdict.images.values()} == {"model_rejected"}
    assert is_folded(found)
    joining = joining_pairs([found])
    assert joining <= JOINING
    assert len(joining) >= 30


def test_a_right_model_passes_with_its_value() -> None:
    (found,) = checked(street_model(False))
    assert found.verdict.outcome == "accepted"
    assert found.verdict.checks[FOLD_CHECK] == Check(0.0, LIMIT, True)
    assert list(found.verdict.checks) == ["min_agreement", FOLD_CHECK]
    assert joining_pairs([found]) == frozenset()


def test_rejected_models_and_those_without_points_are_left_as_they_are() -> None:
    rejected = JudgedModel(street_model(True), judged(street_model(True)).verdict.as_rejected())
    assert FOLDS.checked([rejected]) == [rejected]
    empty = judged(pycolmap.Reconstruction())
    assert FOLDS.checked([empty]) == [empty]


def test_a_large_model_is_not_checked_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm_lightglue.reconstruction.folds.MAX_CHECKED_IMAGES", 11)
    (found,) = checked(street_model(True))
    assert found.verdict.outcome == "accepted"
    assert FOLD_CHECK not in found.verdict.checks
    assert "not checked" in found.verdict.notes[0]
    unlike = [ImagePair("0-1.jpg", f"1-{number}.jpg") for number in range(3)]
    (told,) = replace(FOLDS, unlike=frozenset(unlike)).checked([judged(street_model(True))])
    assert told.verdict.maybe_folded == ("0-1.jpg", "1-0.jpg", "1-1.jpg", "1-2.jpg"), "this needs no look at points"
    assert told.verdict.signs.pairs == frozenset(), "nothing is done about them"


def test_a_model_with_several_pairs_of_unlike_surroundings_may_be_folded() -> None:
    unlike = [ImagePair("0-1.jpg", "0-2.jpg"), ImagePair("0-2.jpg", "0-3.jpg"), ImagePair("1-1.jpg", "1-2.jpg")]
    outside = ImagePair("1-1.jpg", "2-1.jpg")
    model = judged(street_model(False))
    (found,) = replace(FOLDS, unlike=frozenset(unlike)).checked([model])
    assert found.verdict.outcome == "accepted"
    assert found.verdict.maybe_folded == ("0-1.jpg", "0-2.jpg", "0-3.jpg", "1-1.jpg", "1-2.jpg")
    for few, trusted in (({*unlike[:2], outside}, ()), (unlike, unlike[:1])):
        folds = replace(FOLDS, unlike=frozenset(few), trusted=frozenset(trusted))
        assert folds.checked([model])[0].verdict.maybe_folded == ()


@pytest.mark.parametrize(("is_folded_again", "trusts"), [(True, False), (True, True), (False, False)])
def test_left_out_pairs_whose_images_are_at_one_place_again_are_told(is_folded_again: bool, trusts: bool) -> None:
    left_out = {ImagePair(f"0-{number}.jpg", f"1-{number}.jpg"): 100 for number in range(6)}
    trusted = frozenset(left_out) if trusts else frozenset[ImagePair]()
    folds = replace(FOLDS, left_out=left_out, max_conflict=99.0, trusted=trusted)
    model = street_model(is_folded_again)
    check = replace(FOLDS.check(model), doubted=(), doubted_pairs=())
    with mock.patch.object(Folds, "check", lambda *_: check):
        (found,) = folds.checked([judged(model)])
        # Most of these pairs have few of their inliers as points of the model.
        few = replace(folds, left_out=left_out | dict.fromkeys(sorted(JOINING - left_out.keys())[:9], 1000))
        assert few.checked([judged(model)])[0].verdict.maybe_folded == ()
    expected = sorted(name for pair in left_out for name in (pair.name0, pair.name1))
    assert list(found.verdict.maybe_folded) == (expected if is_folded_again and not trusts else [])


@pytest.mark.parametrize(("trusted", "is_told"), [(("0-2.jpg", "1-4.jpg"), False), (("0-0.jpg", "0-1.jpg"), True)])
@pytest.mark.parametrize("sign", ["unlike", "left out"])
def test_one_trusted_pair_is_enough_to_say_that_two_groups_are_one_place(
    sign: str, trusted: tuple[str, str], is_told: bool
) -> None:
    pairs = [ImagePair(f"0-{number}.jpg", f"1-{number}.jpg") for number in range(6)]
    unlike, left_out = (pairs, []) if sign == "unlike" else ([], pairs)
    folds = replace(FOLDS, max_conflict=99.0, unlike=frozenset(unlike), left_out=dict.fromkeys(left_out, 100))
    folds, model = replace(folds, trusted=frozenset({ImagePair(*trusted)})), street_model(True)
    check = replace(folds.check(model), doubted=(), doubted_pairs=())
    with mock.patch.object(Folds, "check", lambda *_: check):
        (found,) = folds.checked([judged(model)])
    assert len(found.verdict.maybe_folded) == (12 if is_told else 0)


def test_images_that_contradict_each_other_without_a_fold_are_named() -> None:
    check = replace(FOLDS.check(street_model(False)), doubted=("0-1.jpg", "1-1.jpg"))
    with mock.patch.object(Folds, "check", lambda *_: check):
        (found,) = checked(street_model(False))
    assert (found.verdict.outcome, found.verdict.maybe_folded) == ("accepted", check.doubted)


def test_folded_models_come_after_published_ones() -> None:
    found = checked(street_model(True), street_model(False))
    assert [each.verdict.outcome for each in found] == ["accepted", "rejected"]


def test_places_that_the_user_joined_are_no_fold() -> None:
    trusted = frozenset({ImagePair("0-2.jpg", "1-2.jpg")})
    (found,) = Folds(FOLDS.num_inliers, PAIRS, LIMIT, trusted=trusted).checked([judged(street_model(True))])
    assert found.verdict.outcome == "accepted"


def test_a_trusted_pair_is_not_left_out_of_a_model_that_stays_folded() -> None:
    trusted = frozenset({ImagePair("0-2.jpg", "1-2.jpg")})
    groups = (tuple(f"{house}-{number}.jpg" for number in range(6)) for house in range(2))
    check = FOLDS.check(street_model(True))
    assert set(groups) == set(check.groups)
    folds = Folds(FOLDS.num_inliers, PAIRS, LIMIT, trusted=trusted)
    with mock.patch.object(Folds, "check", lambda *_: check):  # groups that the pair joins over a third one stay apart
        (found,) = folds.checked([judged(street_model(True))])
    assert is_folded(found)
    assert trusted <= joining_pairs(checked(street_model(True)))
    assert joining_pairs([found]) == joining_pairs(checked(street_model(True))) - trusted


def test_the_pieces_of_a_folded_model_keep_its_notes() -> None:
    (folded,) = checked(street_model(True))
    folded = replace(folded, verdict=replace(folded.verdict, notes=("relaxed thresholds",)))
    found = FOLDS.cut([folded], lambda models: checked(*models))
    assert [each.verdict.notes for each in found] == [("relaxed thresholds",)] * 2


def test_a_folded_model_is_cut_into_its_places() -> None:
    found = FOLDS.cut(checked(street_model(True)), lambda models: checked(*models))
    assert [tuple(each.verdict.images) for each in found] == HOUSES
    assert [each.verdict.outcome for each in found] == ["accepted", "accepted"]
    assert all(each.model.num_reg_images() == 6 for each in found)
    assert joining_pairs(found) <= JOINING  # the caller leaves them out


def test_a_piece_that_is_still_folded_is_cut_again() -> None:
    """The groups of a model with three houses may join two of them at first."""
    model = street_model(True, 3)
    names = [tuple(f"{house}-{number}.jpg" for number in range(6)) for house in range(3)]
    check = FOLDS.check(model)
    coarse = replace(check, groups=(names[0] + names[1], names[2]))
    plain = Folds.check
    folds = replace(FOLDS, attempted=all_pairs(sum(names, ())))
    with mock.patch.object(
        Folds, "check", lambda self, each: coarse if each.num_reg_images() == 18 else plain(self, each)
    ):
        found = folds.cut(folds.checked([judged(model)]), lambda models: folds.checked([judged(one) for one in models]))
    assert sorted(tuple(sorted(each.verdict.images)) for each in found) == names
    assert {each.verdict.outcome for each in found} == {"accepted"}


def test_a_folded_model_stays_rejected_if_no_piece_is_published() -> None:
    before = checked(street_model(True))
    found = FOLDS.cut(before, lambda models: [])
    assert found == before


def test_the_left_out_pairs_are_told_with_the_models_that_they_concern() -> None:
    one = with_left_out(judged(street_model(False)), [*JOINING, ImagePair("8.jpg", "9.jpg")])
    assert set(one.verdict.left_out) == {(pair.name0, pair.name1) for pair in JOINING}
    (note,) = one.verdict.notes
    assert f"{len(JOINING)} verified pairs" in note
    assert "look alike" in note
    assert with_left_out(one, []).verdict.left_out == ()
    assert with_left_out(judged(street_model(False)), []).verdict.notes == ()
    improbable = sorted(JOINING)[:2]
    first, second = with_left_out(judged(street_model(False)), JOINING, improbable).verdict.notes
    assert f"{len(JOINING) - 2} verified pairs" in first
    assert "2 verified pairs" in second
    assert "look alike" not in second


@dataclass(frozen=True)
class Weighed:
    has_twins: bool
    apart: tuple[ImagePair, ...] = ()
    kept: tuple[ImagePair, ...] = ()
    overlaps: tuple[ImagePair, ...] = ()


@dataclass(frozen=True)
class Filled:
    path: Path
    left_out: frozenset[ImagePair]
    weighed: Weighed


class Scene:
    """Filled databases, and models that are folded as long as pairs join the houses."""

    def __init__(self, folder: Path, unfolds: bool, has_twins: bool = True, twins_help: bool = False) -> None:
        self.store, self.folder, self.unfolds = Store(folder / "store"), folder, unfolds
        self.has_twins, self.twins_help = has_twins, twins_help
        self.attempts: list[tuple[str, bool]] = []
        self.num_inliers = FOLDS.num_inliers
        self.doubtful = frozenset[ImagePair]()

    def fill(self, path: Path) -> Filled:
        path.write_text(str(len(left_out_pairs(self.store, "key"))))
        has_twins = self.has_twins or has_known_fold(self.store, "key")
        return Filled(path, left_out_pairs(self.store, "key"), Weighed(has_twins))

    def map_filled(self, filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        assert work.is_dir()
        self.attempts.append((name, cuts))
        folds = replace(FOLDS, num_inliers=self.num_inliers)
        is_right = (self.unfolds and filled.left_out) or (self.twins_help and filled.weighed.has_twins)
        found = folds.checked([judged(street_model(not is_right))])
        return FOLDS.cut(found, lambda models: checked(*models)) if cuts else found

    def again(self) -> Scene:
        """The scene in a later run, with the same store."""
        self.folder.joinpath("again").mkdir()
        scene = Scene(self.folder, self.unfolds, self.has_twins, self.twins_help)
        scene.folder = self.folder / "again"
        return scene

    def run(self, is_last: Callable[..., bool] | None = None) -> tuple[Filled, list[JudgedModel]]:
        filled = self.fill(self.folder / "database.db")
        how = self.fill, self.map_filled, lambda weighed: self.doubtful, self.folder, is_last
        return map_unfolded(self.store, "key", filled, *how)  # type: ignore[type-var,arg-type]


def test_a_scene_is_mapped_again_without_the_joining_pairs(tmp_path: Path) -> None:
    scene = Scene(tmp_path, unfolds=True)
    filled, found = scene.run()
    assert [cuts for _, cuts in scene.attempts] == [False, False]
    assert scene.attempts[0] != scene.attempts[1], "snapshots of other pairs are used"
    assert [each.verdict.outcome for each in found] == ["accepted"]
    assert filled.path == tmp_path / "database.db"
    assert filled.left_out <= JOINING
    assert filled.path.read_text() == str(len(filled.left_out))  # the database of the run has them no more
    assert {ImagePair(*names) for names in found[0].verdict.left_out} == filled.left_out
    assert len(found[0].verdict.notes) == 1


@pytest.mark.parametrize("is_last", [True, False])
def test_nothing_is_done_about_a_fold_if_the_scene_is_matched_anew(tmp_path: Path, is_last: bool) -> None:
    scene, asked = Scene(tmp_path, unfolds=True), list[object]()
    filled, found = scene.run(lambda *found: bool(asked.append(found)) or is_last)
    assert len(asked) == 1, "only the first attempt is asked"
    assert len(scene.attempts) == (1 if is_last else 2)
    assert [each.verdict.outcome for each in found] == ["rejected" if is_last else "accepted"]
    assert bool(filled.left_out) == (not is_last)


def test_a_run_that_was_interrupted_later_has_the_same_attempts_and_result(tmp_path: Path) -> None:
    first = Scene(tmp_path, unfolds=True)
    _, before = first.run()
    again = first.again()
    filled, found = again.run()
    assert again.attempts == first.attempts, "those that were finished go on from their snapshots"
    assert [each.verdict for each in found] == [each.verdict for each in before]
    assert filled.path.read_text() == str(len(left_out_pairs(again.store, "key")))


@pytest.mark.parametrize("num_attempts", range(1, 8))
def test_a_killed_run_leaves_nothing_of_a_trial_behind(tmp_path: Path, num_attempts: int) -> None:
    """The attempts from the fifth on are those with twins, which do not help here."""

    class Killed(Exception):
        pass

    killed = Scene(tmp_path, unfolds=False, has_twins=False)
    plain = killed.map_filled

    def until_killed(filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        if len(killed.attempts) == num_attempts:
            raise Killed
        return plain(filled, work, name, cuts, suspects)

    killed.map_filled = until_killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        killed.run()
    again = killed.again()
    filled, found = again.run()
    assert len(again.attempts) == 2 * (MAX_UNFOLDINGS + 1)
    assert [tuple(each.verdict.images) for each in found] == HOUSES
    assert not has_known_fold(again.store, "key")
    assert filled.left_out == left_out_pairs(again.store, "key") != frozenset()
    assert all(each.verdict.left_out for each in found), "they were cut"


def test_a_large_scene_is_mapped_once_more_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sfm_lightglue.reconstruction.unfolding._LARGE", 12)
    scene = Scene(tmp_path, unfolds=False, has_twins=False)
    _, found = scene.run()
    assert [cuts for _, cuts in scene.attempts] == [False, True]
    assert [tuple(each.verdict.images) for each in found] == HOUSES
    assert caplog.text.count("mapped again, because a model is folded") == 1


def test_what_stays_folded_is_cut_at_last(tmp_path: Path) -> None:
    scene = Scene(tmp_path, unfolds=False)
    _, found = scene.run()
    assert [cuts for _, cuts in scene.attempts] == [False] * MAX_UNFOLDINGS + [True]
    assert [tuple(each.verdict.images) for each in found] == HOUSES


def test_a_folded_model_that_no_pairs_join_is_cut_at_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, unfolds=False)
    scene.num_inliers = {}
    _, found = scene.run()
    assert [cuts for _, cuts in scene.attempts] == [False, True]
    assert [tuple(each.verdict.images) for each in found] == HOUSES
    assert left_out_pairs(scene.store, "key") == frozenset()


def test_a_fold_shows_that_a_scene_has_twins(tmp_path: Path) -> None:
    scene = Scene(tmp_path, unfolds=False, has_twins=False, twins_help=True)
    filled, found = scene.run()
    assert [cuts for _, cuts in scene.attempts] == [False] * MAX_UNFOLDINGS + [True, False]
    assert scene.attempts[-1][0] not in {name for name, _ in scene.attempts[:-1]}, "other snapshots"
    assert [len(each.verdict.images) for each in found] == [12]
    assert filled.weighed.has_twins
    assert filled.left_out == frozenset()
    assert filled.path.read_text() == "0"
    again = scene.again()
    assert [len(each.verdict.images) for each in again.run()[1]] == [12]
    assert again.attempts == scene.attempts


@pytest.mark.parametrize("has_twins", [True, False])
def test_what_stays_folded_with_twins_is_what_it_was(tmp_path: Path, has_twins: bool) -> None:
    scene = Scene(tmp_path, unfolds=False, has_twins=has_twins)
    filled, found = scene.run()
    assert len(scene.attempts) == (1 if has_twins else 2) * (MAX_UNFOLDINGS + 1)
    assert [tuple(each.verdict.images) for each in found] == HOUSES
    assert not has_known_fold(scene.store, "key")
    assert filled.left_out == left_out_pairs(scene.store, "key") != frozenset()
    assert filled.path.read_text() == str(len(filled.left_out))


def test_a_right_scene_is_mapped_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, unfolds=False)
    scene.map_filled = lambda filled, work, name, cuts, suspects: checked(street_model(False))  # type: ignore[method-assign]
    filled, found = scene.run()
    assert filled.left_out == frozenset()
    assert found[0].verdict.notes == ()
    assert left_out_pairs(scene.store, "key") == frozenset()


def geometries(database: Path) -> int:
    with pycolmap.Database.open(database) as opened:
        return len(opened.read_two_view_geometries()[0])


@pytest.mark.parametrize("num_removed", [0, 3])
def test_pairs_without_geometry_stay_matched(tmp_path: Path, num_removed: int) -> None:
    scene = ring_scene(5)
    database = write_database(tmp_path / "database.db", scene)
    removed: Collection[ImagePair] = scene.pairs[:num_removed]
    remove_geometries(database, removed)
    assert matched_pairs(database) == set(scene.pairs)
    assert geometries(database) == len(scene.pairs) - num_removed
