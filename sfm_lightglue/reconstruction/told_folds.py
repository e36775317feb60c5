"""Models of which most images have signs of a fold: only parts are mapped that show one place, or they are rejected."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sfm_lightglue.lookalikes.rare_points import places_by_rare_points
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check
from sfm_lightglue.reconstruction.folds import still_told
from sfm_lightglue.types import ImagePair

SIGNS_CHECK = "max_fold_signs"
"""Name of the check that such a model fails."""

_MAX_SIGNS = 0.5
"""Largest fraction of the images of a model that may have signs of a fold if nothing is to be done about them. It is at
least .57 in folded models of rendered houses, towers and shelves. Right models of rendered scenes and of photographs
have no signs, but for things that move or have no keypoints that match again, as water and leaves."""

_MIN_IMAGES = 10
"""Number of images from which something is done: in a small model, a few wrong pairs are signs of most images."""

_MAX_SIGN_PAIRS = 0.5
"""Fraction of the pairs of images of which something is known from which a model is rejected. Unlike surroundings alone
reject and divide no model: water and leaves are unlike everywhere."""

_MIN_BETWEEN, _MAX_WITHIN = 3, 0.1
"""Number of signs that must lie between places that rare points tell, and the largest fraction of the signs of these
images that may lie within a place: if places are right, signs of a fold lie between them. In two folded models of
rendered shelves, all 17 do."""

_MIN_KEPT = 0.4
"""Smallest fraction of the images of the models with signs that must be in parts of them. In four right models of a
folded one of rendered shelves, it is .8."""


def has_many_signs(judged: JudgedModel) -> bool:
    """Whether a published model has signs of a fold in most of its images."""
    return judged.verdict.outcome != "rejected" and not _check(judged).passed


def pairs_between_places(judged: Sequence[JudgedModel], pairs: Collection[ImagePair]) -> frozenset[ImagePair]:
    """The pairs of models with many signs that do not lie within a place that their rare points tell.

    Args:
        judged: the models.
        pairs: that take part in mapping.

    Returns:
        These pairs; none if no places are found, or the signs of a fold do not lie between them.
    """
    between: set[ImagePair] = set()
    for each in judged:
        places = _places(each) if _is_to_be_divided(each) else []
        place_from_name = {name: number for number, names in enumerate(places) for name in names}
        for pair in pairs if places else ():
            ends = pair.name0, pair.name1
            numbers = {place_from_name.get(name, -1) for name in ends}
            if any(name in each.verdict.images for name in ends) and (len(numbers) > 1 or -1 in numbers):
                between.add(pair)
    return frozenset(between)


def keeps_enough(parts: Sequence[JudgedModel], before: Sequence[JudgedModel], accepts_signs: bool = False) -> bool:
    """Whether parts of models with many signs have enough of their images, and all images of the other models.

    Args:
        parts: the models of the scene, mapped without some of the pairs.
        before: the models with these pairs. Those that are rejected for their signs count as those with many signs.
        accepts_signs: whether parts may have many signs, too.
    """
    kept, others = _registered(parts), _registered([each for each in before if not _is_to_be_divided(each)])
    divided = _images_of(_divided(before))
    is_enough = others <= kept and len(kept & divided) >= _MIN_KEPT * len(divided)
    return is_enough and (accepts_signs or not any(has_many_signs(each) for each in parts))


def with_divided(parts: Sequence[JudgedModel], before: Sequence[JudgedModel]) -> list[JudgedModel]:
    """Models that are published in place of those with many signs, and these, rejected; what was told of them stays.

    All images of the latter are told. A part that few others contradict may be wrong, too: in a folded model of
    rendered shelves, the images without signs were those of the one part that was wrong.

    Args:
        parts: see `keeps_enough`.
        before: see `keeps_enough`.
    """
    divided = _divided(before)
    return in_order([*still_told(parts, before, _images_of(divided)), *divided])


def without_many_signs(judged: Sequence[JudgedModel]) -> list[JudgedModel]:
    """The models, the largest first; those whose signs leave hardly a doubt are rejected, and come last.

    A right model must not be rejected: most pairs of its images must seem to show different places, or two kinds of
    signs must tell of most of its images. With fewer signs, it is published with a warning.
    """
    return in_order([_rejected(each) if _is_refuted(each) else each for each in judged])


def in_order(judged: Sequence[JudgedModel]) -> list[JudgedModel]:
    """The models, the largest first; rejected ones come last."""
    return sorted(judged, key=lambda each: (each.verdict.outcome == "rejected", -each.model.num_reg_images()))


def _places(judged: JudgedModel) -> list[tuple[str, ...]]:
    """The places of a model that its rare points tell; none if signs of a fold lie within them."""
    places = places_by_rare_points(judged.model)
    place_from_name = {name: number for number, names in enumerate(places) for name in names}
    numbers = [[place_from_name.get(name) for name in pair] for pair in judged.verdict.signs.pairs]
    known = [pair for pair in numbers if None not in pair]
    num_within = sum(pair[0] == pair[1] for pair in known)
    are_told_apart = len(known) - num_within >= _MIN_BETWEEN and num_within <= _MAX_WITHIN * len(known)
    return places if are_told_apart else []


def _divided(before: Sequence[JudgedModel]) -> list[JudgedModel]:
    """The models with many signs, rejected."""
    is_divided = [(each, SIGNS_CHECK in each.verdict.failed or _is_to_be_divided(each)) for each in before]
    return [_rejected(each) if each.verdict.outcome != "rejected" else each for each, is_one in is_divided if is_one]


def _images_of(divided: Sequence[JudgedModel]) -> set[str]:
    """The images that were registered in these rejected models."""
    images = [item for each in divided for item in each.verdict.images.items()]
    return {name for name, image in images if image.reason == "model_rejected"}


def _is_to_be_divided(judged: JudgedModel) -> bool:
    """Whether most images of a model have signs of a fold other than unlike surroundings.

    Right models, also of photographs, can have images that have more rare points in common than others.
    """
    registered, signs = _registered([judged]), judged.verdict.signs
    names = {name for pair in (*signs.doubted, *signs.joined_again) for name in pair}
    is_large = judged.verdict.outcome != "rejected" and len(registered) >= _MIN_IMAGES
    return is_large and len(names & registered) > _MAX_SIGNS * len(registered)


def _is_refuted(judged: JudgedModel) -> bool:
    if not _is_to_be_divided(judged):
        return False
    signs, registered = judged.verdict.signs, _registered([judged])
    against = {pair for pair in (*signs.doubted, *signs.joined_again) if registered.issuperset(pair)}
    kinds = [{name for pair in pairs for name in pair} for pairs in (signs.doubted, signs.joined_again, signs.unlike)]
    num_agreed = sum(sum(name in names for names in kinds) >= 2 for name in registered)
    return len(against) > _MAX_SIGN_PAIRS * signs.num_known or num_agreed > _MAX_SIGNS * len(registered)


def _rejected(judged: JudgedModel) -> JudgedModel:
    checks = {**judged.verdict.checks, SIGNS_CHECK: _check(judged)}
    return replace(judged, verdict=replace(judged.verdict, checks=checks).as_rejected())


def _check(judged: JudgedModel) -> Check:
    registered = _registered([judged])
    signs = {name for pair in judged.verdict.signs.pairs for name in pair}
    return Check.at_most(len(signs & registered) / max(len(registered), 1), _MAX_SIGNS)


def _registered(judged: Sequence[JudgedModel]) -> set[str]:
    """The images of published models."""
    return {name for each in judged for name, image in each.verdict.images.items() if image.status == "registered"}
