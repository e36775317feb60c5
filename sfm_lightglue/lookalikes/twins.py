"""Scenes with twins: places that match as completely as one place does. How complete a pair is says nothing there.

Pairs from nearly one place with whole unmatched parts show that there are twins. Then these kinds of evidence are left:

- those pairs;
- rare points: true pairs also match what is around the twins, which few other pairs match;
- neighbours in the order of the names, if it is that of the camera's way;
- pairs that are the best ones of both of their images, if many of these look true otherwise;
- triplets: if the same points are matched in all three pairs of three images, and two pairs are true, so is the third
  one. So a pair of twins that is surely wrong and one that is surely true settle many others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.parts import Parts
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.views import PairView
from sfm_lightglue.lookalikes.way_turns import turns_around, turns_back, way_deviations

TWINS_VERSION = 9
"""Part of the keys of models. Raise it when the same cues would give other twins, probabilities or weights."""

_CONFLICT = -0.25
"""Smallest `same_view_conflict` of a pair that is probably wrong."""

_MIN_CONFLICTS, _MIN_CONFLICT_FRACTION = 3, 0.25
"""Number of such pairs that look true otherwise from which a scene has twins, and their fraction of the pairs that look
true and whose conflict is known: two people who walk through a scene make a sixth of them. They must also be half of
such pairs."""

_MIN_LONE, _MIN_LONE_FRACTION = 6, 0.6
"""Number of pairs of far images with equal views that look true, and whose surroundings are unlike, from which a scene
on a way has twins, and their fraction of the far pairs with equal views that look true."""

_NEAR_STEPS, _MIN_NEAR = 2, 3
"""Neighbours on a way with equal views show the same place: if theirs do not match either, surroundings say nothing.
If the surroundings of fewer neighbours are known, only pairs that `turns_around` says to show different sides count."""

_UNLIKE = 0.5
"""Smallest `surroundings_conflict` of a pair with unlike surroundings. Half of these values are above 1.0 in a folded
model of a rendered house with equal sides, a quarter above .5 in a right one of a rendered square, where few keypoints
of each pair are compared."""

_MIN_UNLIKE, _MIN_UNLIKE_FRACTION = 3, 0.45
"""Number of pairs from nearly one place that look true, and whose surroundings are unlike, from which a scene without a
known order may have twins that nothing tells apart, and their fraction of all such pairs. It is .57 to 1 in folded
models of rendered houses with equal sides, at most .3 in right ones of rendered scenes, and 0 in nine sets of
photographs."""

_USUAL_LOGIT = -0.5
"""Logit of a pair with the median of the evidence below: most pairs of twins are wrong."""

_PER_RARITY, _PER_COMPLETENESS = 1.2, 0.3
"""Logits per interquartile range of the track rarity, and of the logit by how complete a pair is."""

_RARITY_LIMITS, _COMPLETENESS_LIMITS = (-1.5, 3.0), (-2.0, 2.0)
"""Ranges of both, as multiples of these ranges."""

_LOGIT_LIMITS = -3.0, 3.0
"""Range of the logit of a pair by both."""

_INCOMPLETE, _INCOMPLETE_LOGIT = -3.0, -1.5
"""A pair that matches clearly less than one place does has at most the second logit; the first one is its limit."""

_PER_CONFLICT = 1.6
"""Logit per unit of `same_view_conflict`."""

_NO_CONFLICT = -0.55
"""Value of `same_view_conflict` up to which it says nothing: twins with few surroundings have small ones too."""

_CONFLICT_LIMITS = 0.0, 4.0
"""Range of the logit against a pair."""

_STEP_LOGITS = 3.5, 1.5
"""Logits for neighbours in the order of a way, and for those with one image between them."""

_FAR_LOGIT = -0.7
"""Logit for images that are farther apart on a way: it may come back to a place, but most of these pairs are twins."""

_AGREES_DEG, _DIFFERS_DEG = 12.0, 30.0
"""A pair agrees with the rotation along the way between its images up to the first angle, and differs from it from the
second one."""

_MANY_AGREE, _MOST_AGREE_FILLED, _FEWEST_AGREE = 0.9, 0.7, 0.05
"""Fraction of the true pairs that agree; the same if a part of the way is filled by the usual rotation; and the
smallest fraction of wrong pairs that is taken for those that agree by chance. Along a straight street all pairs agree,
and this says nothing."""

_TRUSTED_LOGIT = 6.0
"""Logit of a pair that the user named."""

_WITHOUT_ORDER = 2.2
"""Without a known order, the logits are less certain: they are lowered by this in the end."""

_BEST_INLIERS, _BEST_MATCHED = 0.98, 0.9
"""A pair is the best one of both of its images if its number of inliers, relative to their best pairs, is at least the
first number, and how completely it matches them at least the second one."""

_MIN_BEST, _MIN_TRUE_BEST = 5, 0.4
"""Number of such pairs, among images that pairs connect, that tell whether they are true, and the fraction of them that
must look true without the user's word. If the camera stood denser than the twins, they are: half to all of them look
true in 12 rendered scenes. If each view has a twin that is nearly the same, as around a house, nearly all of them are
wrong, and at most a fifth look true."""

_BEST_LIMIT = -0.1
"""Without rare points or neighbours in the order of the names, this makes a pair no more probable than this logit."""

_BEST_LOGIT, _CLEARLY_WRONG = 3.0, -2.2
"""Logit for the best pairs in the former scenes, and the logit from which they get it: a smaller one has a probability
below .1. Of 95 best pairs, one was wrong, with a probability of .02."""

_WRONG_LOGIT = -4.0
"""Logit of a pair that was found to join twins in a model."""

_MAX_THIRDS = 12
"""Number of third images of a pair, those with the most inliers."""

_MIN_CLOSED, _MIN_CLOSED_FRACTION = 8, 0.2
"""A triplet is closed if at least this number of points is matched in all three pairs, and this fraction of the inliers
of the pair with the fewest."""

_MAX_CROSSED = 0.2
"""Points whose matches lead to another point of the first image, relative to those."""

_NUM_STRONGEST = 3
"""Number of triplets for and against a pair that count: triplets with common pairs are no independent evidence."""

_MAX_ROUNDS, _MIN_CHANGE = 30, 1e-3
"""Largest number of rounds in which the pairs of triplets settle each other, and the change of a logit that ends it."""

_LIMITS = 0.01, 0.99
"""Range of the probability of a pair as evidence for others."""


def has_twins(cues: Sequence[PairCues], logits: Float64Array) -> bool:
    """Whether places of a scene match as completely as one place does.

    Args:
        cues: of all pairs.
        logits: [P] of their probabilities by these cues.
    """
    conflicts = np.array([one.same_view_conflict for one in cues])
    is_conflict = conflicts > _CONFLICT
    num_true = int((is_conflict & (logits > 0)).sum())
    num_known = int((~np.isnan(conflicts) & (logits > 0)).sum())
    is_often = num_true >= max(_MIN_CONFLICTS, _MIN_CONFLICT_FRACTION * num_known)
    return is_often and 2 * num_true >= int(is_conflict.sum())


def has_lone_surroundings(pairs: Sequence[PairView], cues: Sequence[PairCues], logits: Float64Array) -> bool:
    """Whether far images of a way have equal views, and nothing around what they match is like.

    What stands around twins can be out of sight in the next image, so that no pair matches it. Water, clouds and leaves
    are matched by no pair either, but then they are like in no two images, whether these are near each other or not. If
    no near images have equal views, the rotations along the way tell a second round from the next of several equal
    sides.

    Args:
        pairs: of the scene; their images are numbered in their order.
        cues: of all pairs.
        logits: [P] of their probabilities by these cues.
    """
    conflicts = np.array([one.surroundings_conflict for one in cues])
    steps = np.array([one.order_step for one in cues])
    is_known = ~np.isnan(conflicts) & (logits > 0)
    is_conflict = is_known & (conflicts > _CONFLICT)
    is_near = steps <= _NEAR_STEPS  # false if the order is not known
    num_near = int((is_known & is_near).sum())
    is_far = is_conflict & (steps > _NEAR_STEPS)
    if num_near < _MIN_NEAR and is_far.any():
        is_far &= turns_around(pairs, steps)
    num_far = int(is_far.sum())
    if num_far < max(_MIN_LONE, _MIN_LONE_FRACTION * int((is_known & ~is_near).sum())):
        return False
    return 2 * int((is_conflict & is_near).sum()) <= num_near


def has_order(cues: Sequence[PairCues]) -> bool:
    """Whether the order of the names is known to be that of a way."""
    return not np.isnan([one.order_step for one in cues]).all()


def unlike_surroundings(cues: Sequence[PairCues], logits: Float64Array) -> BoolArray:
    """Which pairs [P] from nearly one place show nothing around them that is like, if that is so in most such pairs.

    Without a known order nothing tells whether water, clouds and leaves are around all images, or whether these show
    equal sides of a house with nothing in common around them. So this is no evidence against a pair, but worth telling.

    Args:
        cues: of all pairs.
        logits: [P] of their probabilities by these cues.
    """
    conflicts = np.array([one.surroundings_conflict for one in cues], np.float64)
    is_known = ~np.isnan(conflicts) & (logits > 0)
    is_unlike: BoolArray = is_known & (conflicts > _UNLIKE)
    if has_order(cues) or is_unlike.sum() < max(_MIN_UNLIKE, _MIN_UNLIKE_FRACTION * int(is_known.sum())):
        return np.zeros(len(cues), np.bool_)
    return is_unlike


def logits_among_twins(
    tracks: PairTracks,
    cues: Sequence[PairCues],
    logits: Float64Array,
    is_wrong: BoolArray,
    is_trusted: BoolArray | None = None,
) -> Float64Array:
    """The logits [P] that the pairs of a scene with twins are true.

    Args:
        tracks: of the pairs.
        cues: of the pairs.
        logits: [P] by how complete the pairs are.
        is_wrong: [P] pairs that joined twins in a model.
        is_trusted: [P] pairs that the user named; None for none.
    """
    own = _by_rarity(np.array([one.track_rarity for one in cues]), logits)
    conflicts = np.array([one.same_view_conflict for one in cues])
    if has_lone_surroundings(tracks.pairs, cues, logits):
        conflicts = np.fmax(conflicts, [one.surroundings_conflict for one in cues])
    against = np.clip(_PER_CONFLICT * (conflicts - _NO_CONFLICT), *_CONFLICT_LIMITS)
    own -= np.nan_to_num(against)
    steps = np.array([one.order_step for one in cues])
    own[steps > len(_STEP_LOGITS)] += _FAR_LOGIT
    own += _by_way(tracks.pairs, steps)
    is_usual = ~turns_back(tracks.pairs, steps, len(_STEP_LOGITS))
    for step, logit in enumerate(_STEP_LOGITS, 1):
        own[(steps == step) & is_usual] += logit
    others = _others_in_triplets(len(cues), closed_triplets(tracks))
    certain = is_wrong, np.zeros(len(cues), np.bool_) if is_trusted is None else is_trusted
    lowered = _WITHOUT_ORDER if np.isnan(steps).all() else 0.0
    found = _settled(own, certain, others) - lowered
    is_best = _best_of_both(tracks, cues)
    raised = is_best & (found >= _CLEARLY_WRONG) & _is_where_best_are_true(tracks, found, is_best & ~certain[1])
    if not raised.any():
        return found
    agrees = (_in_ranges(np.nan_to_num([one.track_rarity for one in cues])) > 0) | (steps <= len(_STEP_LOGITS))
    limits = np.where(raised & ~agrees, np.maximum(found, _BEST_LIMIT), np.inf)
    return np.minimum(_settled(own + _BEST_LOGIT * raised, certain, others) - lowered, limits)


def _best_of_both(tracks: PairTracks, cues: Sequence[PairCues]) -> BoolArray:
    """The pairs [P] that are the best ones of both of their images; the only pair of an image is none."""
    num_others = [len(others) - 1 for others in tracks.idx_from_other]
    return np.array(
        [
            one.relative_inliers >= _BEST_INLIERS
            and one.relative_matched >= _BEST_MATCHED
            and min(num_others[pair.image0], num_others[pair.image1]) > 0
            for one, pair in zip(cues, tracks.pairs, strict=True)
        ],
        np.bool_,
    )


def _is_where_best_are_true(tracks: PairTracks, found: Float64Array, is_best: BoolArray) -> BoolArray:
    """Which pairs [P] are of images, connected by pairs, many of whose best pairs look true.

    Args:
        tracks: of the pairs.
        found: [P] logits without this.
        is_best: [P] the pairs that tell it; none that the user named, they look true everywhere.
    """
    groups = Parts(len(tracks.idx_from_other))
    for pair in tracks.pairs:
        groups.join(pair.image0, pair.image1)
    group = np.array([groups.root(pair.image0) for pair in tracks.pairs], np.int64)
    size = int(group.max(initial=0)) + 1
    num_best, num_true = (np.bincount(group[mask], minlength=size) for mask in (is_best, is_best & (found > 0)))
    is_enough: BoolArray = (num_best >= _MIN_BEST) & (num_true >= _MIN_TRUE_BEST * num_best)
    return is_enough[group]


def _settled(own: Float64Array, certain: tuple[BoolArray, BoolArray], others: Sequence[IndexArray]) -> Float64Array:
    """The logits [P] after the pairs of triplets have settled each other.

    Args:
        own: [P] logits of the pairs alone.
        certain: [P] pairs that joined twins in a model, and those that the user named.
        others: for each pair, the other two pairs [T, 2] of its triplets.
    """
    own = np.where(certain[0], _WRONG_LOGIT, own)
    own = np.where(certain[1], _TRUSTED_LOGIT, own)
    found = own.copy()
    has_others = [idx for idx, rows in enumerate(others) if len(rows) > 0]
    news = np.zeros(len(own))
    for _ in range(_MAX_ROUNDS):
        probabilities = np.clip(1 / (1 + np.exp(-found)), *_LIMITS)
        news[has_others] = [_news(probabilities[others[idx]]) for idx in has_others]
        change = 0.5 * (own + news - found)
        found += change
        if np.abs(change).max() < _MIN_CHANGE:
            break
    return found


def _by_way(pairs: Sequence[PairView], steps: Float64Array) -> Float64Array:
    """Logits [P] by whether the rotations of pairs are those along the way between their images.

    Equal sides of a tower are turned against each other, so a pair of two of them is turned unlike the way between its
    images. The farther half of the pairs, most of which are wrong, shows how often wrong ones agree by chance.
    """
    logits = np.zeros(len(pairs))
    found = way_deviations(pairs, steps)
    is_asked = found.is_known & (steps > 1)
    if not is_asked.any():
        return logits
    agrees, differs = is_asked & (found.angles_deg <= _AGREES_DEG), is_asked & (found.angles_deg > _DIFFERS_DEG)
    is_far = is_asked & (steps >= np.median(steps[is_asked]))
    by_chance = max(float(agrees[is_far].mean()), _FEWEST_AGREE)
    otherwise = max(float(differs[is_far].mean()), _FEWEST_AGREE)
    of_true = np.where(found.is_filled, _MOST_AGREE_FILLED, _MANY_AGREE)
    logits[agrees] = np.maximum(np.log(of_true / by_chance), 0.0)[agrees]
    logits[differs] = np.minimum(np.log((1 - of_true) / otherwise), 0.0)[differs]
    return logits


def _by_rarity(rarities: Float64Array, logits: Float64Array) -> Float64Array:
    """The logits [P] by the rarity of the matched points and by how complete the pairs are, relative to the scene."""
    own: Float64Array = np.full(len(logits), _USUAL_LOGIT)
    own += _PER_RARITY * np.clip(_in_ranges(np.nan_to_num(rarities)), *_RARITY_LIMITS)
    own += _PER_COMPLETENESS * np.clip(_in_ranges(logits), *_COMPLETENESS_LIMITS)
    own = np.minimum(np.maximum(own, _LOGIT_LIMITS[0]), _LOGIT_LIMITS[1])
    own[logits < _INCOMPLETE] = np.minimum(own[logits < _INCOMPLETE], _INCOMPLETE_LOGIT)
    return own


def _in_ranges(values: Float64Array) -> Float64Array:
    """Deviations [P] from the median, as multiples of the interquartile range."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    deviations: Float64Array = (values - middle) / max(high - low, 1e-6)
    return deviations


def closed_triplets(tracks: PairTracks) -> list[tuple[int, int, int]]:
    """The indices of the three pairs of each three images that match the same points.

    Args:
        tracks: of the pairs of a scene.
    """
    found = set()
    for idx, pair in enumerate(tracks.pairs):
        others0, others1 = tracks.idx_from_other[pair.image0], tracks.idx_from_other[pair.image1]
        num_inliers = {
            third: min(len(tracks.pairs[others[third]].rows) for others in (others0, others1))
            for third in tracks.thirds(idx)
        }
        for third in sorted(num_inliers, key=lambda each: (-num_inliers[each], each))[:_MAX_THIRDS]:
            first, second, last = sorted((idx, others0[third], others1[third]))
            found.add((first, second, last))
    return [triplet for triplet in sorted(found) if _is_closed(tracks, triplet)]


def _is_closed(tracks: PairTracks, triplet: tuple[int, int, int]) -> bool:
    pair = tracks.pairs[triplet[0]]
    ends = {image for idx in triplet for image in (tracks.pairs[idx].image0, tracks.pairs[idx].image1)}
    (third,) = ends - {pair.image0, pair.image1}
    found = tracks.agreement(triplet[0], [third])
    num_closed, num_crossed = int(found.is_confirmed.sum()), int(found.is_crossed.sum())
    fewest = min(len(tracks.pairs[idx].rows) for idx in triplet)
    return num_closed >= max(_MIN_CLOSED, _MIN_CLOSED_FRACTION * fewest) and num_crossed <= _MAX_CROSSED * num_closed


def _others_in_triplets(num_pairs: int, triplets: Sequence[tuple[int, int, int]]) -> list[IndexArray]:
    """For each pair, the other two pairs [T, 2] of its triplets."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(num_pairs)]
    for first, second, last in triplets:
        found[first].append((second, last))
        found[second].append((first, last))
        found[last].append((first, second))
    return [np.array(rows, np.int64).reshape(-1, 2) for rows in found]


def _news(others: Float64Array) -> float:
    """The logit for a pair from the probabilities [T, 2] of the other pairs of its triplets.

    Of the three pairs of a closed triplet, not exactly one is wrong. The mean of the strongest triplets for the pair
    and that of the strongest against it are added.
    """
    both, neither = others.prod(axis=1), (1 - others).prod(axis=1)
    logits = np.sort(np.log((both + neither) / (1 - both)))
    against, favour = logits[:_NUM_STRONGEST], logits[::-1][:_NUM_STRONGEST]
    return float(against[against < 0].sum() + favour[favour > 0].sum()) / _NUM_STRONGEST
