"""Which verified pairs take part in mapping, by the probability that they are true overlaps.

True pairs come first: they connect images to parts of the scene. A doubtful pair within a part takes part if tracks
over true pairs agree with it. A doubtful pair between two parts never joins them alone: several that share no image
must do so together, or one must be clearly more probable than all those that contradict it. Two parts that only other
doubtful pairs join stay apart: they may be two places that look alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.lookalikes.part_joining import MIN_AMBIGUOUS, MIN_JOINING_PROBABILITY, with_clear_joining
from sfm_lightglue.lookalikes.parts import Parts, joint_probability
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.lookalikes.views import ImageView, PairView

SELECTION_VERSION = 9
"""Part of the keys of models. Raise it when other pairs would be selected by the same probabilities."""

CLEARLY_WRONG = 0.1
"""A pair with a smaller probability is probably wrong."""

MIN_CLEARLY_WRONG = 3
"""Number of such pairs without support from which a scene has places that look alike. In other scenes, all pairs take
part: a wide baseline is no reason to leave a pair out."""

_MIN_CLOSED_TRACKS = 5
"""Number of tracks over true pairs that must agree with a doubtful pair."""

_MIN_CLOSED = 0.9
"""Fraction of the inliers that tracks confirm, of those that they confirm or cross."""

_MIN_MATCHED_TRACKS = 0.2
"""Number of these tracks, as a fraction of all tracks between both images over true pairs."""

_MIN_CONFIRMED = 0.1
"""Number of these tracks, as a fraction of the inliers of the pair."""

_MIN_JOINED = 3
"""Number of doubtful pairs that join two parts from which tracks over them also confirm improbable pairs."""

_NUM_ROUNDS = 3
"""Rounds in which pairs that were supported in the last round support others."""


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """The result for the pairs of a scene.

    Args:
        is_used: [P] pairs that take part in mapping.
        is_confirmed: [P] doubtful pairs within a part that tracks over true pairs agree with. Doubtful pairs that join
            two parts are no true pairs: they confirm nothing before the parts are joined.
        is_joined: [P] doubtful pairs that join parts clearly better than all others. Doubtful pairs that tracks over
            these agree with are not among them: they say nothing that these do not say.
        has_look_alikes: whether pairs that nothing supports are probably wrong. What such a join confirms is no
            support: a wrong one would hide that.
        part: [N] number of the part of each image; images without a pair that is used are parts of their own.
    """

    is_used: BoolArray
    is_confirmed: BoolArray
    is_joined: BoolArray
    has_look_alikes: bool
    part: tuple[int, ...]


def select_pairs(
    images: Sequence[ImageView],
    pairs: Sequence[PairView],
    probabilities: Float64Array,
    is_trusted: BoolArray,
    config: LookalikesConfig,
    has_twins: bool = False,
    is_left_out: BoolArray | None = None,
    is_wrong: BoolArray | None = None,
) -> Selection:
    """Decide which pairs take part in mapping.

    Args:
        images: of the scene.
        pairs: its verified pairs, each once.
        probabilities: [P] of the pairs.
        is_trusted: [P] pairs that take part whatever their probability is.
        config: what is done with doubtful pairs.
        has_twins: whether places match as completely as one place does: several doubtful pairs join no parts then,
            unless one of them is clearly the best, and tracks confirm no pair that is probably wrong.
        is_left_out: [P] pairs that contradict others and take no part, unless they are trusted; None for none.
        is_wrong: [P] pairs that joined places that look alike, and take no part either; None for none.
    """
    wrong = np.zeros(len(pairs), np.bool_) if is_wrong is None else is_wrong & ~is_trusted
    left_out = wrong if is_left_out is None else wrong | (is_left_out & ~is_trusted)
    is_true = ((probabilities >= config.min_probability) | is_trusted) & ~left_out
    if config.mode == "off":
        is_true = ~left_out
    parts = Parts(len(images))
    for idx in np.argsort(-probabilities, kind="stable").tolist():
        if is_true[idx]:
            parts.join(pairs[idx].image0, pairs[idx].image1)
    is_used = sure = is_true
    is_confirmed, is_joined = np.zeros(len(pairs), np.bool_), np.zeros(len(pairs), np.bool_)
    if config.mode == "auto" and not is_true.all():
        joined = is_used if has_twins else _with_joining(pairs, probabilities, is_used, parts, left_out)
        waits = ~left_out & (probabilities >= (MIN_AMBIGUOUS if has_twins else 0.0))
        # Before parts are joined by doubtful pairs: tracks over these would confirm every pair between the parts.
        tracks = PairTracks(images, pairs)
        supported = _with_supported(tracks, pairs, probabilities, joined, parts, waits)
        is_confirmed = supported & ~joined
        before = [parts.root(image) for image in range(len(images))]
        clear = with_clear_joining(images, pairs, probabilities, joined, parts, left_out, wrong)
        sure, is_joined = supported | clear, clear & ~joined
        is_used = sure
        if is_joined.any():  # tracks over one pair confirm all that say the same, and these may be as wrong as it
            waits &= (probabilities >= MIN_AMBIGUOUS) | _is_between_joined(pairs, is_joined, before)
            is_used = _with_supported(tracks, pairs, probabilities, sure, parts, waits)
    num_wrong = int((~sure & ~left_out & (probabilities < CLEARLY_WRONG)).sum())
    has_look_alikes = has_twins or num_wrong >= MIN_CLEARLY_WRONG
    if config.mode == "auto" and not has_look_alikes:
        is_used = ~left_out
        for idx in np.flatnonzero(is_used).tolist():
            parts.join(pairs[idx].image0, pairs[idx].image1)
    part = tuple(parts.root(image) for image in range(len(images)))
    return Selection(is_used, is_confirmed, is_joined, has_look_alikes, part)


def _with_joining(
    pairs: Sequence[PairView], probabilities: Float64Array, is_used: BoolArray, parts: Parts, is_left_out: BoolArray
) -> BoolArray:
    """The used pairs, and the ambiguous ones that join parts together; the parts with the surest pairs come first."""
    is_used = is_used.copy()
    ambiguous = np.flatnonzero(~is_used & ~is_left_out & (probabilities >= MIN_AMBIGUOUS))
    while True:
        between: dict[tuple[int, int], list[int]] = {}
        for idx in ambiguous.tolist():
            roots = sorted((parts.root(pairs[idx].image0), parts.root(pairs[idx].image1)))
            if roots[0] != roots[1]:
                between.setdefault((roots[0], roots[1]), []).append(idx)
        votes = {key: joint_probability(pairs, probabilities, idxs) for key, idxs in sorted(between.items())}
        best = max(votes, key=lambda key: votes[key], default=None)
        if best is None or votes[best] < MIN_JOINING_PROBABILITY:
            return is_used
        is_used[between[best]] = True
        parts.join(*best)


def _is_between_joined(pairs: Sequence[PairView], is_joined: BoolArray, part: Sequence[int]) -> BoolArray:
    """Which pairs [P] lie between parts that several doubtful pairs join.

    Args:
        pairs: of the scene.
        is_joined: [P] pairs that join parts.
        part: [N] number of the part of each image before.
    """
    keys = [frozenset({part[pair.image0], part[pair.image1]}) for pair in pairs]
    counts = Counter(key for key, joins in zip(keys, is_joined.tolist(), strict=True) if joins)
    return np.array([counts[key] >= _MIN_JOINED for key in keys], np.bool_)


def _with_supported(
    tracks: PairTracks,
    pairs: Sequence[PairView],
    probabilities: Float64Array,
    is_used: BoolArray,
    parts: Parts,
    waits: BoolArray,
) -> BoolArray:
    """The used pairs, and those that wait within a part and that tracks over used pairs agree with."""
    waiting = [
        idx
        for idx in np.argsort(-probabilities, kind="stable").tolist()
        if not is_used[idx] and waits[idx] and parts.root(pairs[idx].image0) == parts.root(pairs[idx].image1)
    ]
    for _ in range(_NUM_ROUNDS):
        supported = [idx for idx in waiting if _is_supported(tracks, pairs[idx], idx, is_used)]
        if not supported:
            break
        is_used = is_used.copy()
        is_used[supported] = True
        waiting = [idx for idx in waiting if not is_used[idx]]
    return is_used


def _is_supported(tracks: PairTracks, pair: PairView, idx: int, is_used: BoolArray) -> bool:
    others0, others1 = tracks.idx_from_other[pair.image0], tracks.idx_from_other[pair.image1]
    thirds = [third for third in tracks.thirds(idx) if is_used[others0[third]] and is_used[others1[third]]]
    found = tracks.agreement(idx, thirds)
    num_closed, num_crossed = int(found.is_confirmed.sum()), int(found.is_crossed.sum())
    return (
        num_closed >= _MIN_CLOSED_TRACKS
        and num_closed >= _MIN_CLOSED * (num_closed + num_crossed)
        and num_closed >= _MIN_MATCHED_TRACKS * found.num_tracks
        and num_closed >= _MIN_CONFIRMED * len(pair.rows)
    )
