"""Models in which places that look alike were made one: found, and mapped again without the pairs that joined them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.model_parts import take_out_images
from sfm_lightglue.lookalikes.model_check import FoldCheck, check_fold
from sfm_lightglue.mapping.database_pairs import matched_pairs
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.merging_by_points import is_of_pieces
from sfm_lightglue.mapping.pair_points import pairs_without_points
from sfm_lightglue.mapping.verdict import Check
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
    """

    trusted: frozenset[ImagePair] = frozenset()
    cuts: bool = False
    left_out: frozenset[ImagePair] = frozenset()


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

    @classmethod
    def of_database(cls, database: Path, weighed: WeighedPairs, max_conflict: float, search: FoldSearch) -> Folds:
        """What the check needs of a database and its verified pairs."""
        num_inliers = {pair: record.num_inliers for pair, record in weighed.kept.items()}
        probabilities = {pair: overlap.probability for pair, overlap in weighed.overlaps.items()}
        attempted = matched_pairs(database)
        left_out = {pair: record.num_inliers for pair, record in weighed.apart.items() if pair in search.left_out}
        twins = weighed.has_twins, weighed.unlike, left_out, weighed.doubtful_inliers
        return cls(num_inliers, attempted, max_conflict, probabilities, search.trusted, *twins)

    def checked(self, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
        """The models with the check for folds; those that were published and are folded are rejected."""
        models = [self._checked(each) for each in judged]
        return sorted(models, key=lambda each: each.verdict.outcome == "rejected")  # a stable sort

    def check(self, model: pycolmap.Reconstruction) -> FoldCheck:
        """The check of one model."""
        unlike = pairs_without_points(model, self.doubtful_inliers)  # their images may see one place all the same
        attempted = [pair for pair in self.attempted if pair not in unlike]
        known = {pair: value for pair, value in self.probabilities.items() if pair not in unlike}
        return check_fold(model, attempted, known, self.trusted, self.has_twins)

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
        for piece in judge([_piece(folded.model, group) for group in groups]):
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
            notes, maybe = (*judged.verdict.notes, note), tuple(sorted(self._unlike_names(judged)))
            return replace(judged, verdict=replace(judged.verdict, notes=notes, maybe_folded=maybe))
        found = self.check(judged.model)
        check = Check.at_most(found.conflict, self.max_conflict)
        maybe = tuple(sorted({*found.doubted, *self._unlike_names(judged, found), *self._joined_again(found)}))
        checks = {**judged.verdict.checks, FOLD_CHECK: check}
        verdict = replace(judged.verdict, checks=checks, maybe_folded=maybe)
        if check.passed:
            return replace(judged, verdict=verdict)
        pairs = [pair for pair in found.joining_pairs(self.num_inliers) if pair not in self.trusted]
        joining = tuple((pair.name0, pair.name1) for pair in pairs)
        return replace(judged, verdict=replace(verdict.as_rejected(), left_out=joining))

    def _unlike_names(self, judged: JudgedModel, found: FoldCheck | None = None) -> set[str]:
        """The images of a model in pairs whose surroundings are unlike, if these are several."""
        names = {name for name, image in judged.verdict.images.items() if image.status == "registered"}
        untrusted = self.unlike - self.trusted
        unlike = untrusted if found is None else found.without_joined(untrusted)
        return _names_of([pair for pair in unlike if {pair.name0, pair.name1} <= names])

    def _joined_again(self, found: FoldCheck) -> set[str]:
        """The images of left-out pairs that are at one place of a model all the same, if these are several."""
        inside = {pair: self.left_out[pair] for pair in found.without_joined(self.left_out.keys() - self.trusted)}
        again = found.joined(inside, _JOINED_AGAIN)
        return _names_of(again) if len(again) >= _MIN_JOINED_FRACTION * len(inside) else set()


def is_folded(judged: JudgedModel) -> bool:
    """Whether a model failed the check for folds."""
    return FOLD_CHECK in judged.verdict.failed


def _names_of(pairs: Collection[ImagePair]) -> set[str]:
    """The images of pairs, none if the pairs are too few to tell something."""
    return {name for pair in pairs for name in (pair.name0, pair.name1)} if len(pairs) >= _MIN_PAIRS else set()


def _piece(model: pycolmap.Reconstruction, names: Collection[str]) -> pycolmap.Reconstruction:
    piece = copy.deepcopy(model)
    take_out_images(piece, sorted({piece.images[i].name for i in piece.reg_image_ids()} - set(names)))
    return piece


def _of_folded(piece: JudgedModel, folded: JudgedModel) -> JudgedModel:
    """A piece with what is known of the model that it was cut from."""
    notes = [note for note in folded.verdict.notes if not is_of_pieces(note)]  # the pieces were joined by other pairs
    notes += piece.verdict.notes
    left_out = folded.verdict.left_out
    return replace(piece, verdict=replace(piece.verdict, left_out=left_out, notes=tuple(dict.fromkeys(notes))))


def joining_pairs(judged: Sequence[JudgedModel]) -> frozenset[ImagePair]:
    """The pairs that join places that look alike in models that are folded, or were cut."""
    return frozenset(ImagePair(*names) for each in judged for names in each.verdict.left_out)


def with_left_out(judged: JudgedModel, apart: Collection[ImagePair]) -> JudgedModel:
    """A model with the pairs of its images that were left out, and a note about them if it is published."""
    images = judged.verdict.images.keys()
    own = tuple(sorted((pair.name0, pair.name1) for pair in apart if {pair.name0, pair.name1} & images))
    inside = sum({*names} <= images for names in own)
    notes = judged.verdict.notes
    if own and judged.verdict.outcome != "rejected":
        shown = shortened(sorted({name for names in own for name in names} & images), 3)
        notes = (
            *notes,
            f"{len(own)} verified pairs of this model were left out, {inside} of them between its own images, because"
            f" their images seem to show different places that look alike: {shown}",
        )
    return replace(judged, verdict=replace(judged.verdict, left_out=own, notes=notes))
