"""Models in which places that look alike were made one: found, and mapped again without the pairs that joined them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.model_parts import copy_of_part
from sfm_lightglue.lookalikes.fold_places import located_fold
from sfm_lightglue.lookalikes.model_check import FoldCheck, check_fold
from sfm_lightglue.mapping.database_pairs import matched_pairs
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.merging_by_points import is_of_pieces
from sfm_lightglue.mapping.pair_points import pairs_without_points
from sfm_lightglue.mapping.verdict import Check, FoldSigns
from sfm_lightglue.messages import shortened
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

FOLD_CHECK = "max_conflict"
"""Name of the check that a folded model fails."""

MAX_CHECKED_IMAGES = 2000
"""Number of images of a model from which it is not checked: time and memory grow with the square of their number."""

_MIN_PAIRS = 3
"""Number of pairs of a model from which it may be folded: those with unlike surroundings, or those that joined places
in an earlier attempt and whose images are at one place again."""

_JOINED_AGAIN, _MIN_JOINED_FRACTION = 0.5, 0.5
"""Fraction of the inliers of a left-out pair that are points of a model in which its images are at one place again, and
the fraction of such pairs among those with both images in the model. Ends of a desk that share some points have at most
.34 of the matches, images of shelves in one folded model .57 in the median."""

_MAX_SIGNS, MIN_KEPT = 0.3, 0.8
"""A scene that may be folded is split if at most the first fraction of the images with signs remain, and at least the
second fraction of its registered images are in models of the size below. Of rendered shelves, no image was lost."""

_MIN_LOCATED = 1.6
"""Conflict of the places of a model from which they stand out. It is at least 2.1 in five folded models of rendered
shelves; in right models, which have no sign of a fold, none stand out, or by at most 1.4."""

_MIN_PIECE = 3
"""Smallest number of images of a piece of a folded model that is kept."""


@dataclass(frozen=True, slots=True)
class FoldSearch:
    """What is done about folds when a scene is mapped.

    Args:
        trusted: pairs that the user named; they join no different places.
        cuts: whether folded models are cut into groups of images that agree with each other. If not, they are rejected,
            and the scene is to be mapped again without the pairs that they name.
        left_out: pairs that were left out, because they joined places that look alike in an earlier attempt.
        suspects: whether models that may be folded are, if the places stand out that lie on top of each other.
        only_tells: whether signs of a fold are told, and nothing is done about them, as with known poses.
        taken_back: pairs that were left out after a fold and take part again: what `left_out` pairs say, these do, too.
    """

    trusted: Collection[ImagePair] = frozenset()
    cuts: bool = False
    left_out: frozenset[ImagePair] = frozenset()
    suspects: bool = False
    only_tells: bool = False
    taken_back: frozenset[ImagePair] = frozenset()


Judge = Callable[[Sequence["pycolmap.Reconstruction"]], list[JudgedModel]]


@dataclass(frozen=True, slots=True)
class Folds:
    """Looks for folds in the models of a scene.

    Args:
        num_inliers: of the verified pairs.
        attempted: pairs that were matched, verified or not.
        max_conflict: limit of the check; see `ChecksConfig.max_conflict`.
        probabilities: that a verified pair is a true overlap, where this is known.
        trusted: pairs that the user named. Groups that they join are one place: pairs between them are no sign of a
            fold.
        has_twins: see `check_fold`.
        unlike: pairs that may show places that look alike and that nothing tells apart.
        left_out: number of inliers of the pairs that were left out, because they joined places in an earlier attempt.
        doubtful_inliers: keypoints [K, 2] of the inliers of pairs that are probably wrong, in a scene with twins.
        suspects: see `FoldSearch`.
        only_tells: see `FoldSearch`.
        taken_back: number of inliers of these pairs; see `FoldSearch`.
    """

    num_inliers: Mapping[ImagePair, int]
    attempted: Collection[ImagePair]
    max_conflict: float
    probabilities: Mapping[ImagePair, float] = field(default_factory=dict)
    trusted: frozenset[ImagePair] = frozenset()
    has_twins: bool = False
    unlike: frozenset[ImagePair] = frozenset()
    left_out: Mapping[ImagePair, int] = field(default_factory=dict)
    doubtful_inliers: Mapping[ImagePair, AnyArray] = field(default_factory=dict)
    suspects: bool = False
    only_tells: bool = False
    taken_back: Mapping[ImagePair, int] = field(default_factory=dict)

    @classmethod
    def of_database(cls, database: Path, weighed: WeighedPairs, max_conflict: float, search: FoldSearch) -> Folds:
        """What the check needs of a database and its verified pairs."""
        num_inliers = {pair: record.num_inliers for pair, record in weighed.kept.items()}
        probabilities = {pair: overlap.probability for pair, overlap in weighed.overlaps.items()}
        attempted = matched_pairs(database)
        left_out = {pair: record.num_inliers for pair, record in weighed.apart.items() if pair in search.left_out}
        twins = weighed.has_twins, weighed.unlike, left_out, weighed.doubtful_inliers
        verified = {**weighed.kept, **weighed.contradicted, **weighed.apart}
        taken_back = {pair: verified[pair].num_inliers for pair in sorted(search.taken_back & verified.keys())}
        options = search.suspects, search.only_tells, taken_back
        return cls(num_inliers, attempted, max_conflict, probabilities, frozenset(search.trusted), *twins, *options)

    def checked(self, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
        """The models with the check for folds; those that were published and are folded are rejected."""
        models = [self._checked(each) for each in judged]
        return sorted(models, key=lambda each: each.verdict.outcome == "rejected")  # a stable sort

    def check(self, model: pycolmap.Reconstruction) -> FoldCheck:
        """The check of one model; with the places that lie on top of each other if it is suspected."""
        unlike = pairs_without_points(model, self.doubtful_inliers)  # their images may see one place all the same
        attempted = [pair for pair in self.attempted if pair not in unlike]
        known = {pair: value for pair, value in self.probabilities.items() if pair not in unlike}
        found = check_fold(model, attempted, known, self.trusted, self.has_twins)
        return (self._located(model, found) if self.suspects else None) or found

    def _located(self, model: pycolmap.Reconstruction, found: FoldCheck) -> FoldCheck | None:
        """The places of a model that may be folded; None if it has a fold, or no sign of one, or none stand out."""
        has_sign = found.conflict <= self.max_conflict and self._told(found)
        located = located_fold(model, found, self.attempted) if has_sign else None
        return located if located is not None and located.conflict >= _MIN_LOCATED else None

    def _told(self, found: FoldCheck) -> tuple[str, ...]:
        """The images of a model that may be folded."""
        signs = self._signs(found)
        return tuple(sorted({*found.doubted, *(name for pair in signs.pairs for name in pair)}))

    def _signs(self, found: FoldCheck) -> FoldSigns:
        """The pairs of a model that may be folded."""
        unlike = _if_several(found.without_joined(self.unlike - self.trusted))
        again = self._joined_again(found)
        return FoldSigns(_names_of(found.doubted_pairs), _names_of(again), _names_of(unlike), found.num_known)

    def cut(self, judged: Sequence[JudgedModel], judge: Judge) -> list[JudgedModel]:
        """The models, with the pieces of the folded ones instead of these if pieces are published.

        Args:
            judged: the models of a scene, checked for folds.
            judge: judges models, and checks them for folds.
        """
        kept = [each for each in judged if not is_folded(each)]
        for each in judged:
            if is_folded(each):
                kept += [_of_folded(one, each) for one in self._pieces(each, judge)] or [each]
        return sorted(kept, key=lambda each: (each.verdict.outcome == "rejected", -each.model.num_reg_images()))

    def _pieces(self, folded: JudgedModel, judge: Judge) -> list[JudgedModel]:
        """The published pieces of a folded model; those that are folded are cut again."""
        num_images = folded.model.num_reg_images()
        groups = [group for group in self.check(folded.model).groups if _MIN_PIECE <= len(group) < num_images]
        found: list[JudgedModel] = []
        for piece in judge([copy_of_part(folded.model, group) for group in groups]):
            if is_folded(piece):
                found += self._pieces(piece, judge)
            elif piece.verdict.outcome != "rejected":
                found.append(piece)
        return found

    def _checked(self, judged: JudgedModel) -> JudgedModel:
        if judged.verdict.outcome == "rejected" or judged.model.num_points3D() == 0:
            return judged
        if judged.model.num_reg_images() > MAX_CHECKED_IMAGES:
            note = (
                f"not checked for places that look alike and were made one: it has {judged.model.num_reg_images()}"
                f" images, and the check is for up to {MAX_CHECKED_IMAGES}"
            )
            notes, maybe = (*judged.verdict.notes, note), self._unlike_names(judged)
            return replace(judged, verdict=replace(judged.verdict, notes=notes, maybe_folded=maybe))
        found = self.check(judged.model)
        check = Check.at_most(found.conflict, self.max_conflict)
        checks = {**judged.verdict.checks, FOLD_CHECK: check}
        signs = FoldSigns() if self.only_tells else self._signs(found)
        verdict = replace(judged.verdict, checks=checks, maybe_folded=self._told(found), signs=signs)
        if check.passed:
            located = None if self.suspects else self._located(judged.model, found)  # `check` looked for them
            suspected = self._joining(located) if located is not None else ()
            return replace(judged, verdict=replace(verdict, suspected=suspected))
        return replace(judged, verdict=replace(verdict.as_rejected(), left_out=self._joining(found)))

    def _joining(self, found: FoldCheck) -> tuple[tuple[str, str], ...]:
        """The names of the pairs that join places of a model and that the user does not trust."""
        pairs = [pair for pair in found.joining_pairs(self.num_inliers) if pair not in self.trusted]
        return tuple((pair.name0, pair.name1) for pair in pairs)

    def _unlike_names(self, judged: JudgedModel) -> tuple[str, ...]:
        """The images of a model in pairs whose surroundings are unlike, if these are several."""
        names = {name for name, image in judged.verdict.images.items() if image.status == "registered"}
        unlike = [pair for pair in self.unlike - self.trusted if {pair.name0, pair.name1} <= names]
        return tuple(sorted({name for pair in _if_several(unlike) for name in (pair.name0, pair.name1)}))

    def _joined_again(self, found: FoldCheck) -> Collection[ImagePair]:
        """The left-out pairs whose images are at one place of a model all the same, if these are several.

        Pairs that were taken back caused a fold before: one of few is enough.
        """
        again: set[ImagePair] = set()
        for num_inliers, fewest in ((self.left_out, _MIN_PAIRS), (self.taken_back, 1)):
            inside = {pair: num_inliers[pair] for pair in found.without_joined(num_inliers.keys() - self.trusted)}
            joined = found.joined(inside, _JOINED_AGAIN)
            if len(joined) >= max(fewest, _MIN_JOINED_FRACTION * len(inside)):
                again.update(joined)
        return sorted(again)


def is_folded(judged: JudgedModel) -> bool:
    """Whether a model failed the check for folds."""
    return FOLD_CHECK in judged.verdict.failed


def _names_of(pairs: Collection[ImagePair]) -> tuple[tuple[str, str], ...]:
    return tuple((pair.name0, pair.name1) for pair in pairs)


def _if_several(pairs: Collection[ImagePair]) -> Collection[ImagePair]:
    """The pairs, none if they are too few to tell something."""
    return pairs if len(pairs) >= _MIN_PAIRS else ()


def _of_folded(piece: JudgedModel, folded: JudgedModel) -> JudgedModel:
    """A piece with what is known of the model that it was cut from."""
    notes = [note for note in folded.verdict.notes if not is_of_pieces(note)]  # the pieces were joined by other pairs
    notes += piece.verdict.notes
    left_out = folded.verdict.left_out
    return replace(piece, verdict=replace(piece.verdict, left_out=left_out, notes=tuple(dict.fromkeys(notes))))


def joining_pairs(judged: Sequence[JudgedModel]) -> frozenset[ImagePair]:
    """The pairs that join places that look alike in models that are folded, or were cut."""
    return frozenset(ImagePair(*names) for each in judged for names in each.verdict.left_out)


def suspected_pairs(judged: Sequence[JudgedModel]) -> frozenset[ImagePair]:
    """The pairs that join the places of published models that may be folded."""
    return frozenset(ImagePair(*names) for each in judged for names in each.verdict.suspected)


def explains_better(split: Sequence[JudgedModel], before: Sequence[JudgedModel]) -> bool:
    """Whether a scene that was mapped again without suspected pairs has fewer signs of folds, and most of its images.

    Args:
        split: the models without these pairs.
        before: the models with them.
    """
    signs = [
        sum(len(each.verdict.maybe_folded) for each in found if each.verdict.outcome != "rejected")
        for found in (split, before)
    ]
    images = [len(_published_names(found)) for found in (split, before)]
    return images[0] > 0 and signs[0] <= _MAX_SIGNS * signs[1] and images[0] >= MIN_KEPT * images[1]


def _published_names(judged: Sequence[JudgedModel]) -> set[str]:
    """The images of published models of at least three images."""
    published = [each.verdict.images for each in judged if each.verdict.outcome != "rejected"]
    names = [{name for name, image in images.items() if image.status == "registered"} for images in published]
    return {name for each in names if len(each) >= _MIN_PIECE for name in each}


def still_told(
    found: Sequence[JudgedModel], before: Sequence[JudgedModel], also: Collection[str] = ()
) -> list[JudgedModel]:
    """Models of a scene, in which the images that had signs of a fold in published models before are told, too.

    Args:
        found: the models.
        before: those of the same scene before it was mapped again, or mapping went on.
        also: other images that are told.
    """
    published = [each for each in before if each.verdict.outcome != "rejected"]
    told = {*also, *(name for each in published for name in each.verdict.maybe_folded)}
    models = []
    for each in found:
        registered = {name for name, image in each.verdict.images.items() if image.status == "registered"}
        names = tuple(sorted({*each.verdict.maybe_folded, *(told & registered)}))
        models.append(replace(each, verdict=replace(each.verdict, maybe_folded=names)))
    return models


def with_left_out(
    judged: JudgedModel, apart: Collection[ImagePair], improbable: Collection[ImagePair] = ()
) -> JudgedModel:
    """A model with the pairs of its images that were left out, and notes about them if it is published.

    Args:
        judged: the model.
        apart: the pairs that were left out.
        improbable: those of them that join no places of a model, but are improbable by their own cues.
    """
    images = judged.verdict.images.keys()
    own = [pair for pair in sorted(apart) if {pair.name0, pair.name1} & images]
    notes = judged.verdict.notes
    if judged.verdict.outcome != "rejected":
        joining = [pair for pair in own if pair not in improbable]
        notes += _note_of_left_out(joining, images, "their images seem to show different places that look alike")
        others = [pair for pair in own if pair in improbable]
        notes += _note_of_left_out(others, images, "with them no model was published, and their own cues are weak")
    names = tuple((pair.name0, pair.name1) for pair in own)
    return replace(judged, verdict=replace(judged.verdict, left_out=names, notes=tuple(dict.fromkeys(notes))))


def _note_of_left_out(pairs: Sequence[ImagePair], images: Collection[str], reason: str) -> tuple[str, ...]:
    """What is told of pairs of a model that were left out; nothing without pairs."""
    if not pairs:
        return ()
    inside = sum(pair.name0 in images and pair.name1 in images for pair in pairs)
    shown = shortened(sorted({name for pair in pairs for name in (pair.name0, pair.name1) if name in images}), 3)
    return (
        f"{len(pairs)} verified pairs of this model were left out, {inside} of them between its own images, because"
        f" {reason}: {shown}",
    )
