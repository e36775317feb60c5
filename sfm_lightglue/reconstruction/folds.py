"""Models in which places that look alike were made one: found, and mapped again without the pairs that joined them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.colmap.model_parts import take_out_images
from sfm_lightglue.lookalikes.model_check import FoldCheck, check_fold
from sfm_lightglue.mapping.database_pairs import matched_pairs, remove_geometries
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check
from sfm_lightglue.messages import shortened
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)

FOLD_CHECK = "max_conflict"
"""Name of the check that a folded model fails."""

_MAX_ROUNDS = 3
"""Number of times that a scene is mapped again without pairs that join places that look alike."""

_MIN_PIECE = 3
"""Smallest number of images of a piece of a folded model that is kept."""

Judge = Callable[[Sequence["pycolmap.Reconstruction"]], list[JudgedModel]]


@dataclass(frozen=True, slots=True)
class Folds:
    """Looks for folds in the models of a scene.

    Args:
        num_inliers: of the verified pairs.
        attempted: pairs that were matched, verified or not.
        max_conflict: limit of the check; see `ChecksConfig.max_conflict`.
        probabilities: that a verified pair is a true overlap, where this is known.
    """

    num_inliers: Mapping[ImagePair, int]
    attempted: Collection[ImagePair]
    max_conflict: float
    probabilities: Mapping[ImagePair, float] = field(default_factory=dict)

    @classmethod
    def of_database(
        cls,
        database: Path,
        num_inliers: Mapping[ImagePair, int],
        max_conflict: float,
        probabilities: Mapping[ImagePair, float] | None = None,
    ) -> Folds:
        """What the check needs of a database and its verified pairs."""
        return cls(num_inliers, frozenset(matched_pairs(database)), max_conflict, probabilities or {})

    def checked(self, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
        """The models with the check for folds; those that were published and are folded are rejected."""
        models = [self._checked(each) for each in judged]
        return sorted(models, key=lambda each: each.verdict.outcome == "rejected")  # a stable sort

    def joining_pairs(self, judged: Sequence[JudgedModel]) -> frozenset[ImagePair]:
        """The pairs that join places that look alike in folded models."""
        checks = [self.check(each) for each in judged if is_folded(each)]
        return frozenset(pair for check in checks for pair in check.joining_pairs(self.num_inliers))

    def check(self, judged: JudgedModel) -> FoldCheck:
        """The check of one model."""
        return check_fold(judged.model, self.attempted, self.probabilities)

    def _checked(self, judged: JudgedModel) -> JudgedModel:
        if judged.verdict.outcome == "rejected" or judged.model.num_points3D() == 0:
            return judged
        check = Check.at_most(self.check(judged).conflict, self.max_conflict)
        verdict = replace(judged.verdict, checks={**judged.verdict.checks, FOLD_CHECK: check})
        return replace(judged, verdict=verdict if check.passed else verdict.as_rejected())


def is_folded(judged: JudgedModel) -> bool:
    """Whether a model failed the check for folds."""
    return FOLD_CHECK in judged.verdict.failed


def unfold(
    judged: list[JudgedModel],
    folds: Folds,
    database: Path,
    map_again: Callable[[int], list[JudgedModel]],
    judge: Judge,
) -> tuple[list[JudgedModel], frozenset[ImagePair]]:
    """Map a scene again as long as models are folded, without the pairs that join the places that look alike.

    Pairs between these places that contradict the folded model stay: the right model may have them. If models are still
    folded at last, they are cut into their groups of images.

    Args:
        judged: the models of the scene, checked for folds.
        folds: of the scene.
        database: from which the mapper builds models; the pairs lose their geometry in it.
        map_again: maps and judges the scene again; called with the number of the attempt, from 1.
        judge: judges models, and checks them for folds.

    Returns:
        The models of the last attempt, and the pairs that were left out.
    """
    apart: set[ImagePair] = set()
    for number in range(1, _MAX_ROUNDS + 1):
        found = folds.joining_pairs(judged) - apart
        if not found:
            break
        apart |= found
        logger.debug("a model is folded: mapped again without %d pairs of images that look alike", len(found))
        remove_geometries(database, sorted(found))
        judged = map_again(number)
    if any(is_folded(each) for each in judged):
        joining = folds.joining_pairs(judged) - apart
        apart |= joining
        remove_geometries(database, sorted(joining))
        judged = _cut(judged, folds, judge)
    return judged, frozenset(apart)


def _cut(judged: Sequence[JudgedModel], folds: Folds, judge: Judge) -> list[JudgedModel]:
    """The models, with the pieces of the folded ones, and these, rejected, if a piece is not published."""
    kept: list[JudgedModel] = [each for each in judged if not is_folded(each)]
    for each in judged:
        if is_folded(each):
            groups = [group for group in folds.check(each).groups if len(group) >= _MIN_PIECE]
            pieces = judge([_piece(each.model, group) for group in groups])
            published = [piece for piece in pieces if piece.verdict.outcome != "rejected"]
            kept += published or [each]
    return sorted(kept, key=lambda each: (each.verdict.outcome == "rejected", -each.model.num_reg_images()))


def _piece(model: pycolmap.Reconstruction, names: Collection[str]) -> pycolmap.Reconstruction:
    piece = copy.deepcopy(model)
    take_out_images(piece, sorted({piece.images[i].name for i in piece.reg_image_ids()} - set(names)))
    return piece


def with_left_out(judged: JudgedModel, apart: Collection[ImagePair]) -> JudgedModel:
    """A model with the left out pairs that concern it, and a note about them if it is published."""
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
