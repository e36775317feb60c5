"""A scene is mapped again as long as places that look alike lie on top of each other in a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.reconstruction.agreeing_parts import is_contradicted_only
from sfm_lightglue.reconstruction.folds import (
    MIN_KEPT,
    explains_better,
    is_folded,
    joining_pairs,
    still_told,
    suspected_pairs,
    with_left_out,
)
from sfm_lightglue.reconstruction.known_folds import (
    has_known_fold,
    improbable_pairs,
    left_out_pairs,
    save_folds,
    save_improbable,
    save_taken_back,
)
from sfm_lightglue.reconstruction.map_and_judge import num_published, tell_notes
from sfm_lightglue.reconstruction.snapshot_folder import new_folder
from sfm_lightglue.reconstruction.told_folds import keeps_enough, pairs_between_places, with_divided, without_many_signs
from sfm_lightglue.store.atomic_file import publish_file, store_errors
from sfm_lightglue.store.publication import SQLITE_SIDE_FILES
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    from sfm_lightglue.reconstruction.job_values import FilledDatabase
    from sfm_lightglue.stages.weighed_pairs import WeighedPairs

logger = logging.getLogger(__name__)

Fill = Callable[[Path], "FilledDatabase"]
"""Fills a new database at a path."""

MapFilled = Callable[["FilledDatabase", Path, str, bool, bool], list[JudgedModel]]
"""Maps and judges a database."""

MAX_UNFOLDINGS = 3
"""Number of times that a scene is mapped again at most while models are folded; then these are cut."""

MAX_MAPPINGS = 12
"""Number of times that a scene is mapped at most, all attempts together."""

_LARGE, _MAX_MAPPINGS_OF_LARGE = 200, 2
"""Number of images in models from which mapping takes long, and the number of times that such a scene is mapped."""


@dataclass(slots=True)
class _Attempts:
    """Maps a scene, and counts how often.

    Args:
        map_filled: see `map_unfolded`.
        num_left: number of further attempts.
        is_large: whether an attempt takes long, so that each is told.
    """

    map_filled: MapFilled
    num_left: int = MAX_MAPPINGS
    is_large: bool = False

    def first(self, filled: FilledDatabase, work: Path, name: str) -> list[JudgedModel]:
        """The models of the first attempt; their number of images limits the number of further ones."""
        judged = self.map_filled(filled, work, name, False, False)
        self.is_large = len({image for each in judged for image in each.verdict.images}) >= _LARGE
        self.num_left = (_MAX_MAPPINGS_OF_LARGE if self.is_large else MAX_MAPPINGS) - 1
        return judged

    def again(
        self, reason: str, filled: FilledDatabase, work: Path, name: str, cuts: bool, suspects: bool
    ) -> list[JudgedModel]:
        """The models of a further attempt; folded ones are cut if it is the last one."""
        level = logging.WARNING if self.is_large else logging.INFO
        logger.log(level, "the scene is mapped again, because %s", reason)
        self.num_left -= 1
        return self.map_filled(filled, work, name, cuts or self.num_left == 0, suspects)


def map_unfolded(
    store: Store,
    key: str,
    filled: FilledDatabase,
    fill: Fill,
    map_filled: MapFilled,
    doubtful: Callable[[WeighedPairs], frozenset[ImagePair]],
    work: Path,
    is_last: Callable[[WeighedPairs, Sequence[JudgedModel]], bool] | None = None,
) -> tuple[FilledDatabase, list[JudgedModel]]:
    """Map a scene, and again without the pairs that join places that look alike while a model is folded.

    Pairs between these places that contradict the folded model are weighed again: they may be those that are right. If
    a model is still folded at last, it is cut into the groups of images that agree with each other. A fold shows that
    the scene has twins, also if the pairs did not, and so do many signs of a fold. If models that may be folded remain,
    or images are left, pairs are weighed as in a scene with twins, and it is mapped again: those that were left out may
    be true ones.

    Then it is mapped without the pairs that join the places of models that may be folded, if these places stand out, by
    rare points or by the points that their images share. Otherwise, a model whose signs of a fold leave hardly a doubt
    is rejected.
    If no model is published at last, it is mapped without the pairs that are doubtful by themselves. The result is kept
    if it explains the scene better. A large scene is mapped once more at most.

    An interrupted run begins with all pairs, and goes on from the snapshots of its attempts: a trial that had not ended
    leaves nothing behind.

    Args:
        store: keeps the pairs that are left out; see `left_out_pairs`.
        key: of the models that are mapped.
        filled: the database of the scene.
        fill: fills a new database without the pairs that are left out.
        map_filled: maps and judges a database in a folder; called with a name that depends on the left-out pairs, and
            with whether folded models are to be cut, and with whether those are that may be folded.
        doubtful: finds the pairs that take part although they are doubtful.
        work: an existing folder for intermediate files.
        is_last: whether the first attempt is the last one, because the scene is going to be matched more thoroughly:
            the signs of a fold depend on the matches.

    Returns:
        The database of the last attempt, and its models. Their verdicts name the pairs that were left out.
    """
    if left_out_pairs(store, key) or has_known_fold(store, key):  # an interrupted run
        save_folds(store, key, frozenset(), False)
        save_taken_back(store, key, frozenset())
        filled = _refilled(filled, fill, new_folder(work / "restarted"))
    attempts, improbable = _Attempts(map_filled), frozenset[ImagePair]()
    had_twins = filled.weighed.has_twins
    judged = attempts.first(filled, work, _attempt_name(store, key))
    if is_last is not None and is_last(filled.weighed, judged):
        return filled, judged
    filled, judged, was_folded = _without_folds(store, key, (filled, judged), fill, attempts, work)
    # Without overlaps, nothing is asked about places that look alike.
    is_contradicted = bool(filled.weighed.overlaps) and any(is_contradicted_only(each) for each in judged)
    is_contradicted = is_contradicted or bool(filled.weighed.apart)
    may_have_twins = was_folded or (num_published(judged) == 0 and is_contradicted)
    may_have_twins = may_have_twins or bool(pairs_between_places(judged, filled.weighed.kept))
    if _is_unsure(judged):
        is_asked = may_have_twins and not filled.weighed.has_twins
    else:
        # A scene that had twins from the start would be mapped as before.
        is_asked = was_folded and not had_twins and _lacks_images(left_out_pairs(store, key), judged)
    if is_asked and attempts.num_left > 0:
        filled, judged = _with_twins(store, key, (filled, judged), fill, attempts, work / "twins")
    between, is_split = frozenset[ImagePair](), False
    if attempts.num_left > 0:
        between = pairs_between_places(judged, filled.weighed.kept)
    if between:
        folder = new_folder(work / "by-places")
        filled, judged, is_split = _places(store, key, (filled, judged), between, fill, attempts, folder)
    suspected = suspected_pairs(judged)
    if suspected and not is_split and attempts.num_left > 0:
        folder = new_folder(work / "split")
        filled, judged, is_split = _split(store, key, (filled, judged), suspected, fill, attempts, folder, True)
    if not is_split:
        judged = without_many_signs(judged)
    if judged and num_published(judged) == 0 and attempts.num_left > 0:
        pairs = doubtful(filled.weighed)
        if pairs:
            folder, before = new_folder(work / "sure"), left_out_pairs(store, key)
            filled, judged, is_kept = _split(store, key, (filled, judged), pairs, fill, attempts, folder, False)
            improbable = pairs - before if is_kept else improbable
    if improbable:
        save_improbable(store, key, improbable)
    left_out = left_out_pairs(store, key)
    told = [with_left_out(each, left_out, improbable) for each in judged]
    tell_notes(told)
    return filled, told


def told_as_before(
    store: Store, key: str, found: Sequence[JudgedModel], before: Sequence[JudgedModel]
) -> list[JudgedModel]:
    """Models of a scene that was mapped once more with the same pairs, with what is known of the models before.

    Args:
        store: of the run.
        key: of the models that are mapped.
        found: the models.
        before: those of `map_unfolded`.
    """
    improbable = improbable_pairs(store, key)
    left_out = left_out_pairs(store, key)
    told = [with_left_out(each, left_out, improbable) for each in still_told(found, before)]
    tell_notes(told, {note for each in before for note in each.verdict.notes})
    return told


def _without_folds(
    store: Store,
    key: str,
    before: tuple[FilledDatabase, list[JudgedModel]],
    fill: Fill,
    attempts: _Attempts,
    work: Path,
    suspects: bool = False,
) -> tuple[FilledDatabase, list[JudgedModel], bool]:
    """Map a scene until no model is folded or those that are were cut; also whether one was folded."""
    filled, judged = before
    number, cuts = 0, False
    while not cuts and attempts.num_left > 0 and any(is_folded(each) for each in judged):
        number += 1
        joining = joining_pairs(judged)
        cuts = number == MAX_UNFOLDINGS or not joining  # without a pair to leave out, the next model is the same
        reason = f"a model is folded; {len(joining)} pairs of images that look alike are left out"
        folder = work / f"unfold-{number}"
        filled = _filled_again(store, key, joining, filled, fill, folder)
        judged = attempts.again(reason, filled, folder, _attempt_name(store, key), cuts, suspects)
    joining = joining_pairs(judged)
    if joining:  # models were cut
        filled = _filled_again(store, key, joining, filled, fill, work / "cut")
    return filled, judged, number > 0


def _is_unsure(judged: Sequence[JudgedModel]) -> bool:
    """Whether models may be folded, were cut because they were, or none is published."""
    published = [each.verdict for each in judged if each.verdict.outcome != "rejected"]
    return not published or any(each.maybe_folded or each.left_out for each in published)


def _published(judged: Sequence[JudgedModel]) -> list[set[str]]:
    """The registered images of each published model."""
    published = [each.verdict.images for each in judged if each.verdict.outcome != "rejected"]
    return [{name for name, image in images.items() if image.status == "registered"} for images in published]


def _lacks_images(left_out: frozenset[ImagePair], judged: Sequence[JudgedModel]) -> bool:
    """Whether images of pairs that were left out are in no published model."""
    known = set[str]().union(*_published(judged))
    return any(name not in known for pair in left_out for name in (pair.name0, pair.name1))


def _adds_images(found: Sequence[JudgedModel], before: Sequence[JudgedModel]) -> bool:
    """Whether models have all images of those before and others, and the largest one is not smaller."""
    names = _published(found), _published(before)
    has_more = set[str]().union(*names[0]) > set[str]().union(*names[1])
    return has_more and max(map(len, names[0])) >= max(map(len, names[1]), default=0)


def _with_twins(
    store: Store,
    key: str,
    before: tuple[FilledDatabase, list[JudgedModel]],
    fill: Fill,
    attempts: _Attempts,
    work: Path,
) -> tuple[FilledDatabase, list[JudgedModel]]:
    """Map a scene in which a fold was found with pairs that are weighed as in a scene with twins, none left out.

    What was there before stays if these models are not sure either, or lack too many of its images. If it is sure, the
    pairs that joined places in the fold may be true ones between other images of its groups, without which images lack.
    Then it stays, unless these models add images to it. They are judged by these pairs: if most of them are at one
    place again, the models may be folded.
    """
    filled, judged = before
    left_out = left_out_pairs(store, key)
    save_folds(store, key, frozenset(), True)
    save_taken_back(store, key, left_out)
    with store_errors(work):
        work.mkdir()
    again, reason = _refilled(filled, fill, work), "models may be wrong; pairs are weighed as in a scene with twins"
    found = attempts.again(reason, again, work, _attempt_name(store, key), False, False)
    again, found, _ = _without_folds(store, key, (again, found), fill, attempts, work)
    if _is_unsure(judged):
        is_better = num_published(found) >= MIN_KEPT * num_published(judged)
    else:
        is_better = _adds_images(found, judged)
    if is_better and not _is_unsure(found):
        return again, found
    save_folds(store, key, left_out, False)
    save_taken_back(store, key, frozenset())
    with store_errors(work):
        (work / "before").mkdir()
    return _refilled(filled, fill, work / "before"), judged


def _split(
    store: Store,
    key: str,
    before: tuple[FilledDatabase, list[JudgedModel]],
    pairs: frozenset[ImagePair],
    fill: Fill,
    attempts: _Attempts,
    work: Path,
    suspects: bool,
) -> tuple[FilledDatabase, list[JudgedModel], bool]:
    """Map a scene without pairs that may join places that look alike.

    If this does not explain it better, models that may be folded are cut into their places. If this does not either,
    what was there before stays.

    Args:
        store: see `map_unfolded`.
        key: see `map_unfolded`.
        before: the database and the models with these pairs.
        pairs: to be left out.
        fill: see `map_unfolded`.
        attempts: maps the scene.
        work: an existing folder.
        suspects: whether the pairs join places that stand out in models.

    Returns:
        The database, its models, and whether they are new.
    """
    filled, judged = before
    left_out, has_fold = left_out_pairs(store, key), has_known_fold(store, key)
    reason = "a model may be folded" if suspects else "no model is published"
    reason += f"; {len(pairs)} pairs that may join places that look alike are left out"
    again = _filled_again(store, key, pairs, filled, fill, work / "filled")
    found = attempts.again(reason, again, work, _attempt_name(store, key), False, suspects)
    again, found, _ = _without_folds(store, key, (again, found), fill, attempts, work, suspects)
    found = without_many_signs(found)
    is_kept = explains_better(found, judged) and (suspects or keeps_enough(found, judged, True))
    if not is_kept:
        save_folds(store, key, left_out, has_fold)
        again = _refilled(filled, fill, new_folder(work / "before"))
    if not is_kept and suspects and attempts.num_left > 0:
        reason, folder = "a model may be folded; it is to be cut", new_folder(work / "places")
        found = without_many_signs(attempts.again(reason, again, folder, _attempt_name(store, key), True, True))
        is_kept = explains_better(found, judged)
        joining = joining_pairs(found)
        if is_kept and joining:
            again = _filled_again(store, key, joining, again, fill, work / "cut-places")
    if is_kept:
        return again, still_told(found, judged) if suspects else with_divided(found, judged), True
    return again, judged, False


def _places(
    store: Store,
    key: str,
    before: tuple[FilledDatabase, list[JudgedModel]],
    between: frozenset[ImagePair],
    fill: Fill,
    attempts: _Attempts,
    work: Path,
) -> tuple[FilledDatabase, list[JudgedModel], bool]:
    """Map a scene without the pairs between places that rare points tell.

    What was there before stays if too few of its images are in published models, or one has many signs of a fold again.
    Arguments and results are those of `_split`; the models that were divided are among the rejected ones.
    """
    filled, judged = before
    left_out, has_fold = left_out_pairs(store, key), has_known_fold(store, key)
    again = _filled_again(store, key, between, filled, fill, work / "filled")
    # A trusted pair takes part all the same.
    save_folds(store, key, left_out_pairs(store, key) - again.weighed.kept.keys(), has_fold)
    reason = f"most images of a model have signs of a fold; {len(between)} pairs between its places are left out"
    found = attempts.again(reason, again, work, _attempt_name(store, key), True, False)
    joining = joining_pairs(found)
    if joining:  # models were cut
        again = _filled_again(store, key, joining, again, fill, work / "cut")
    if keeps_enough(found, judged):
        return again, with_divided(found, judged), True
    save_folds(store, key, left_out, has_fold)
    return _refilled(filled, fill, new_folder(work / "before")), judged, False


def _attempt_name(store: Store, key: str) -> str:
    """The name of an attempt. A killed run may go on only from snapshots of a mapping without the same pairs."""
    pairs = sorted((pair.name0, pair.name1) for pair in left_out_pairs(store, key))
    return make_key("pairs", pairs, "twins") if has_known_fold(store, key) else make_key("pairs", pairs)


def _filled_again(
    store: Store,
    key: str,
    joining: frozenset[ImagePair],
    filled: FilledDatabase,
    fill: Fill,
    folder: Path,
) -> FilledDatabase:
    """The database without more pairs, at the path of the one before."""
    save_folds(store, key, left_out_pairs(store, key) | joining, has_known_fold(store, key))
    with store_errors(folder):
        folder.mkdir()
    return _refilled(filled, fill, folder)


def _refilled(filled: FilledDatabase, fill: Fill, folder: Path) -> FilledDatabase:
    """The database of the pairs that take part now, at the path of the one before."""
    again = fill(folder / filled.path.name)
    with store_errors(filled.path):
        publish_file(again.path, filled.path, SQLITE_SIDE_FILES)
    return replace(again, path=filled.path)
