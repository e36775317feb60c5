"""Images that a model may show at a wrong place: pairs that contradict it tell more surely where they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair

_ODDS_RATIO = 20.0
"""Images are told if the odds of a pair that contradicts the model are so many times those of the weakest of the used
pairs that connect both images best. Of 234 runs over rendered scenes and photographs, this is so in two: a rendered
square with two equal sides, where one image is at the wrong side (86), and a folded model of a walk along equal shelves
(2,400). The ratio is at most 9.5 in right models, and 10 to 12 in a folded rendered house. In a later run of photos of
a building, the only wrong image of 54 has a ratio of 33."""

_SUREST = 1 - 1e-6
"""Larger probabilities are not distinguished."""

_MAX_IMAGES = 2000
"""Models of more images are not looked at: time grows with the square of their number."""


def with_misplaced_told(
    judged: Sequence[JudgedModel], weighed: WeighedPairs, trusted: Collection[ImagePair]
) -> list[JudgedModel]:
    """The models; in published ones, images that may be at a wrong place are told, too.

    Args:
        judged: the models of a scene.
        weighed: its verified pairs, with probabilities unless places that look alike are not looked for.
        trusted: pairs that the user named; they are not doubted.
    """
    probabilities = {pair: overlap.probability for pair, overlap in weighed.overlaps.items()}
    probabilities.update(dict.fromkeys(probabilities.keys() & trusted, 1.0))
    found = []
    for each in judged:
        names = [name for name, image in each.verdict.images.items() if image.status == "registered"]
        told: set[str] = set()
        if each.verdict.outcome != "rejected" and len(names) <= _MAX_IMAGES:
            told = misplaced_images(names, weighed.kept, weighed.contradicted, probabilities)
        maybe = tuple(sorted({*each.verdict.maybe_folded, *told}))
        found.append(replace(each, verdict=replace(each.verdict, maybe_folded=maybe)))
    return found


def misplaced_images(
    registered: Collection[str],
    used: Iterable[ImagePair],
    contradicted: Iterable[ImagePair],
    probabilities: Mapping[ImagePair, float],
) -> set[str]:
    """Images of a model that may be at a wrong place.

    A few images of one of two places that look alike can be registered at the other one by several pairs, while the
    pairs with their true neighbours contradict these and take no part. Folds are found by points that are missing
    between groups of images; a single image is no group.

    Args:
        registered: images of the model.
        used: verified pairs that took part in mapping.
        contradicted: verified pairs that took no part, because they contradict the others.
        probabilities: that a pair is a true overlap; pairs without a value are not compared.

    Returns:
        For each pair that is much more probable than what connects its images in the model: its images, and those that
        used pairs of some more odds connect with them, without the largest such part of the model.
    """
    names = frozenset(registered)
    odds, against = (
        {pair: _odds(probabilities[pair]) for pair in pairs if pair in probabilities and _is_in(pair, names)}
        for pairs in (used, contradicted)
    )
    tree = _strongest_tree(names, odds)
    weakest = min(tree.values(), default=0.0)
    told: set[str] = set()
    for pair, value in against.items():
        if weakest * _ODDS_RATIO > value:
            continue
        part_from_name = _parts(names, [other for other, strength in tree.items() if strength * _ODDS_RATIO > value])
        parts = [part_from_name[name] for name in (pair.name0, pair.name1)]
        if parts[0] is not parts[1]:
            largest = max(part_from_name.values(), key=len)
            told |= {pair.name0, pair.name1, *(name for part in parts if part is not largest for name in part)}
    return told


def _is_in(pair: ImagePair, names: frozenset[str]) -> bool:
    return pair.name0 in names and pair.name1 in names


def _odds(probability: float) -> float:
    limited = min(probability, _SUREST)
    return limited / (1 - limited)


def _strongest_tree(names: frozenset[str], odds: Mapping[ImagePair, float]) -> dict[ImagePair, float]:
    """The pairs of a spanning tree with the largest odds: they connect any two images by the best of all ways."""
    part_from_name = {name: {name} for name in sorted(names)}
    tree: dict[ImagePair, float] = {}
    for pair in sorted(odds, key=lambda one: (-odds[one], one)):
        if _joined(part_from_name, pair):
            tree[pair] = odds[pair]
    return tree


def _parts(names: frozenset[str], pairs: Iterable[ImagePair]) -> dict[str, set[str]]:
    """The part of each image, of those that pairs connect."""
    part_from_name = {name: {name} for name in sorted(names)}
    for pair in pairs:
        _joined(part_from_name, pair)
    return part_from_name


def _joined(part_from_name: dict[str, set[str]], pair: ImagePair) -> bool:
    """Join the parts of both images; returns whether they were two."""
    smaller, larger = sorted((part_from_name[pair.name0], part_from_name[pair.name1]), key=len)
    if smaller is larger:
        return False
    larger |= smaller
    part_from_name.update(dict.fromkeys(smaller, larger))
    return True
