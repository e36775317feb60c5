"""Models of which most images have signs of a fold: only parts are mapped that show one place, or they are rejected."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sfm_lightglue.lookalikes.rare_points import places_by_rare_points
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check
from sfm_lightglue.types import ImagePair

SIGNS_CHECK = "max_fold_signs"
"""Name of the check that such a model fails."""

_MAX_SIGNS = 0.5
"""Largest fraction of the images of a published model that may have signs of a fold. It is at least .57 in folded
models of rendered houses, towers and shelves. Right models of rendered scenes and of photographs have no signs, but for
things that move or have no keypoints that match again, as water and leaves."""


def has_many_signs(judged: JudgedModel) -> bool:
    """Whether a published model has signs of a fold in most of its images."""
    return judged.verdict.outcome != "rejected" and not _check(judged).passed


def pairs_between_places(judged: Sequence[JudgedModel], pairs: Collection[ImagePair]) -> frozenset[ImagePair]:
    """The pairs of models with many signs that do not lie within a place that their rare points tell.

    Args:
        judged: the models.
        pairs: that take part in mapping.

    Returns:
        These pairs; none if no places are found.
    """
    between: set[ImagePair] = set()
    for each in judged:
        places = places_by_rare_points(each.model) if has_many_signs(each) else []
        place_from_name = {name: number for number, names in enumerate(places) for name in names}
        for pair in pairs if places else ():
            ends = pair.name0, pair.name1
            numbers = {place_from_name.get(name, -1) for name in ends}
            if any(name in each.verdict.images for name in ends) and (len(numbers) > 1 or -1 in numbers):
                between.add(pair)
    return frozenset(between)


def without_many_signs(judged: Sequence[JudgedModel]) -> list[JudgedModel]:
    """The models; those with many signs are rejected, and come last."""
    models = []
    for each in judged:
        if has_many_signs(each):
            checks = {**each.verdict.checks, SIGNS_CHECK: _check(each)}
            each = replace(each, verdict=replace(each.verdict, checks=checks).as_rejected())
        models.append(each)
    return sorted(models, key=lambda each: each.verdict.outcome == "rejected")  # a stable sort


def _check(judged: JudgedModel) -> Check:
    registered = [name for name, image in judged.verdict.images.items() if image.status == "registered"]
    num_signs = len(set(judged.verdict.maybe_folded) & set(registered))
    return Check.at_most(num_signs / max(len(registered), 1), _MAX_SIGNS)
