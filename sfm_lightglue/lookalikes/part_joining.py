"""Parts of a scene that one hypothesis joins clearly better than any other one.

The pairs between two parts say how these lie to each other. Pairs of one hypothesis match the same tracks, pairs of
another one match the same tracks with other ones: at most one hypothesis is right. A doubtful pair says little by
itself. But if it is far more probable than all pairs that contradict it, and these are many, or other pairs say the
same, then it tells how the parts are joined. A pair to a third part that matches the same tracks contradicts it, too:
the third part may be a twin of one of both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import rotation_angles_deg
from sfm_lightglue.lookalikes.part_tracks import MIN_COMMON_TRACKS, PartTracks, num_common
from sfm_lightglue.lookalikes.part_turns import AGREES_DEG, DIFFERS_DEG, PartTurns
from sfm_lightglue.lookalikes.parts import Between, Parts, independent_pairs, joint_probability
from sfm_lightglue.lookalikes.views import ImageView, PairView

MIN_AMBIGUOUS = 0.25
"""A pair with a smaller probability helps to join no parts."""

MIN_JOINING_PROBABILITY = 0.9
"""Probability that at least one of several ambiguous pairs is true which join parts without a comparison."""

_MIN_ODDS_RATIO = 10.0
"""The odds of a pair that joins two parts, in relation to the largest odds of the pairs that contradict it."""

_MIN_SAME, _MIN_RIVALS = 2, 8
"""Number of other ambiguous pairs between the parts that say the same, or of those that contradict it: one of both is
needed, and one that contradicts it in any case, so that the hypothesis was compared with others. Those that say the
same need two without a common image, unless a part is one image. Those that contradict it only by their rotation count
at most twice as often as they have no common image."""

_MIN_SAME_TRACKS = 0.5
"""Fraction of the tracks that two pairs both match, and that pairs of one hypothesis match alike."""

_MIN_TURN_INLIERS = 0.25
"""A pair between parts says how these are turned if it has at least this fraction of the inliers of the hypothesis."""

_MIN_SUPPORTING = 2
"""Number of pairs between a third part and one of both that must say the same, so that a pair to the third part that
matches the same tracks does not contradict a hypothesis."""

_MAX_TOGETHER = 0.2
"""If at most this fraction of the tracks that two pairs match with different ones are surely different points, they can
be parts of the same tracks."""

_MIN_PARTLY_ALIKE, _MIN_FRAGMENT_ODDS_RATIO = 0.1, 3.0
"""And then they must match at least this fraction of their common tracks alike, or the odds of the other pair must be
smaller by this factor. Bays of one wall that no image sees together are turned alike, too, and nothing is alike then: a
rival that is hardly less probable contradicts."""

_MAX_SAME_VIEW = 0.5
"""Largest cosine of the angle between the optical axes of two images of a part between which the camera turned: neither
a camera that rolls did, nor one that looks a little aside."""

_MIN_UNCOMPARED = 0.1
"""A pair between the parts that cannot be compared counts as a contradiction from this fraction of the probability."""


def with_clear_joining(
    images: Sequence[ImageView],
    pairs: Sequence[PairView],
    probabilities: Float64Array,
    is_used: BoolArray,
    parts: Parts,
    is_left_out: BoolArray | None = None,
    is_wrong: BoolArray | None = None,
) -> BoolArray:
    """The used pairs, and those that join two parts clearly better than the pairs that contradict them.

    Args:
        images: of the scene.
        pairs: its pairs.
        probabilities: [P] to be a true overlap.
        is_used: [P] pairs that take part in mapping.
        parts: that these connect; changed in place.
        is_left_out: [P] pairs that join nothing, but contradict others; None for none.
        is_wrong: [P] pairs that joined places that look alike: what says the same joins nothing; None for none.
    """
    nothing = np.zeros(len(pairs), np.bool_)
    is_wrong = nothing if is_wrong is None else is_wrong
    is_left_out = is_wrong if is_left_out is None else is_left_out | is_wrong
    is_used = is_used.copy()
    weights = np.array([len(pair.rows) for pair in pairs], np.float64)
    tracks: PartTracks | None = None
    turns: PartTurns | None = None
    bridges: list[_Bridge] = []
    refused: set[int] = set()  # best pairs; asked again only after no other one joins parts
    changed: set[int] = set()  # images of parts that were joined since then
    while True:
        between = parts.between(pairs)
        possible = [each for each in _possible(pairs, probabilities, is_left_out, between) if each[1] not in refused]
        if possible and tracks is None:
            tracks = PartTracks.of_pairs(images, pairs, is_used)
        if possible and turns is None:
            turns = PartTurns.of_pairs(len(images), pairs, weights, is_used)
        strong = _strong(probabilities, between) if possible else {}
        joined: set[int] = set()
        for key, best in possible:
            if tracks is None or turns is None or joined & {*key}:  # what was found between the parts is outdated
                continue
            hypothesis = _Hypothesis(tracks, turns, pairs, probabilities, best, parts)
            is_third = hypothesis.is_of_third(strong, between, key) or hypothesis.is_again(bridges, between[key])
            agreeing = [] if is_third else hypothesis.agreeing(between[key], is_left_out, is_wrong)
            if not agreeing:
                refused.add(best)
                continue
            members = parts.members(key[0]), parts.members(key[1])
            is_used[agreeing] = True
            tracks = tracks.joined([pairs[idx] for idx in agreeing], members[0] | members[1])
            bridges += [_Bridge(idx, *members) for idx in agreeing]
            parts.join(*key)
            joined |= {*key}
        if joined:
            turns, changed = None, changed | joined
        elif changed and refused:
            refused -= _best_near(changed, refused, pairs, parts, between)
            changed = set()
        else:
            return is_used


def _best_near(
    changed: Collection[int], refused: Collection[int], pairs: Sequence[PairView], parts: Parts, between: Between
) -> set[int]:
    """The refused pairs one of whose parts was joined, or has pairs with one that was: others are refused again."""
    roots = {parts.root(image) for image in changed}
    near = roots | {part for key in between if roots & {*key} for part in key}
    return {idx for idx in refused if near & {parts.root(pairs[idx].image0), parts.root(pairs[idx].image1)}}


@dataclass(frozen=True, eq=False, slots=True)
class _Bridge:
    """A doubtful pair that joined two parts, with the images of these."""

    idx: int
    first: frozenset[int]
    second: frozenset[int]

    def beyond(self, image: int) -> frozenset[int]:
        """The images of the other part than that of an image; none if it was in neither of them."""
        if image in self.first:
            return self.second
        return self.first if image in self.second else frozenset()


_Strong = Mapping[int, Sequence[tuple[int, Sequence[int]]]]
"""For each part, other parts with the pairs that can be hardly less probable than a pair that joins parts."""


def _strong(probabilities: Float64Array, between: Between) -> _Strong:
    """The pairs that can be hardly less probable than a pair that joins parts: most of a scene are not."""
    found: dict[int, list[tuple[int, Sequence[int]]]] = {}
    for (first, second), idxs in between.items():
        strong = [idx for idx in idxs if not _is_clear(MIN_AMBIGUOUS, probabilities[idx])]
        if strong:
            found.setdefault(first, []).append((second, strong))
            found.setdefault(second, []).append((first, strong))
    return found


def _possible(
    pairs: Sequence[PairView], probabilities: Float64Array, is_left_out: BoolArray, between: Between
) -> list[tuple[tuple[int, int], int]]:
    """The parts that may be joined, each with the best pair between them, the most probable one first.

    Tracks cost more than this, so parts whose pairs cannot suffice whatever their tracks are do not come so far.
    """
    found = []
    for key, idxs in sorted(between.items()):
        ambiguous = [idx for idx in idxs if probabilities[idx] >= MIN_AMBIGUOUS and not is_left_out[idx]]
        if not ambiguous:
            continue
        best = max(ambiguous, key=lambda idx: (probabilities[idx], -idx))
        has_weak = any(_is_clear(probabilities[best], probabilities[idx]) for idx in idxs)
        if has_weak or joint_probability(pairs, probabilities, ambiguous) >= MIN_JOINING_PROBABILITY:
            found.append((key, best))
    return sorted(found, key=lambda each: (-probabilities[each[1]], each[0]))


@dataclass(frozen=True, eq=False, slots=True)
class _Hypothesis:
    """How the best pair between two parts says that they are joined."""

    tracks: PartTracks
    turns: PartTurns
    pairs: Sequence[PairView]
    probabilities: Float64Array
    best: int
    parts: Parts

    def is_of_third(self, strong: _Strong, between: Between, key: tuple[int, int]) -> bool:
        """Whether a pair to a third part matches the same tracks, is hardly less probable, and says something else.

        It says the same if pairs between the third part and the other one of both lead to the same matches.

        Args:
            strong: the pairs of each part that can be hardly less probable.
            between: all pairs.
            key: the parts of the hypothesis.
        """
        for near, far in (key, key[::-1]):
            for third, idxs in strong.get(near, ()):
                if third == far:
                    continue
                around = between.get((min(third, far), max(third, far)), ())
                for idx in idxs:
                    if _is_clear(self.probabilities[self.best], self.probabilities[idx]) or not self._has_common(idx):
                        continue
                    if len(around) < _MIN_SUPPORTING:
                        return True
                    turn = self._turn_from(idx, near) @ self._turn_from(self.best, far)
                    if not self._is_supported(self.tracks.united(self.pairs[idx]), turn, around, far):
                        return True
        return False

    def is_again(self, bridges: Sequence[_Bridge], between: Sequence[int]) -> bool:
        """Whether a doubtful pair already joined one of the parts by the same tracks, and nothing beyond it agrees.

        Args:
            bridges: doubtful pairs that joined parts.
            between: the pairs between both parts.
        """
        image_from_part = {self.parts.root(image): image for image in self._ends(self.best)}
        for bridge in bridges:
            if not self._has_common(bridge.idx):
                continue
            near = self.parts.root(self.pairs[bridge.idx].image0)
            (far,) = image_from_part.keys() - {near}
            beyond = bridge.beyond(image_from_part[near])
            around = [idx for idx in between if beyond & {*self._ends(idx)}]
            if not self._is_supported(self.tracks, self._turn_from(self.best, far), around, far):
                return True
        return False

    def _ends(self, idx: int) -> tuple[int, int]:
        return self.pairs[idx].image0, self.pairs[idx].image1

    def _is_supported(self, tracks: PartTracks, turn: Float64Array, idxs: Sequence[int], far: int) -> bool:
        """Whether pairs to one of both parts say the same, clearly rather than something else.

        Args:
            tracks: by which these pairs are compared.
            turn: [3, 3] rotation from that part to the other one, as it should be.
            idxs: of these pairs.
            far: the number of the part.
        """
        expected = self._from(tracks, self.best, far)
        alike = {idx: tracks.fraction_alike(expected, self._from(tracks, idx, far)) for idx in idxs}
        angles = {idx: rotation_angles_deg(turn.T @ self._turn_from(idx, far)) for idx in idxs if self._has_turn(idx)}
        by_tracks = (
            [idx for idx, each in alike.items() if each is not None and each >= _MIN_SAME_TRACKS],
            [idx for idx, each in alike.items() if each is not None and each < _MIN_SAME_TRACKS],
        )
        by_turns = (
            [idx for idx, angle in angles.items() if angle <= AGREES_DEG],
            [idx for idx, angle in angles.items() if angle > DIFFERS_DEG],
        )
        turns_tell = self._num_independent(by_turns[1]) >= _MIN_RIVALS
        return any(
            len(same) >= _MIN_SUPPORTING
            and len(others) > 0
            and _is_clear(self.probabilities[same].max(), self.probabilities[others].max())
            for same, others in ((by_tracks, by_turns) if turns_tell else (by_tracks,))
        )

    def _num_independent(self, idxs: Sequence[int]) -> int:
        """The number of some pairs, at most twice that of those without a common image.

        Wrong pairs of one image can turn it in any direction, so they are no independent evidence.
        """
        return min(len(idxs), 2 * len(independent_pairs(self.pairs, self.probabilities, idxs)))

    def _turn_from(self, idx: int, part: int) -> Float64Array:
        """The rotation [3, 3] from a part to the other one of a pair."""
        return self.turns.between(self.pairs[idx], self.parts.root(self.pairs[idx].image0) != part)

    def _has_turn(self, idx: int) -> bool:
        """Whether a pair has enough inliers to say how parts are turned."""
        return len(self.pairs[idx].rows) >= _MIN_TURN_INLIERS * len(self.pairs[self.best].rows)

    def _from(self, tracks: PartTracks, idx: int, part: int) -> IndexArray:
        """The tracks [K, 2] that a pair matches, those of a part first."""
        found = tracks.matched(self.pairs[idx])
        return found if self.parts.root(self.pairs[idx].image0) == part else found[:, ::-1]

    def agreeing(self, between: Sequence[int], is_left_out: BoolArray, is_wrong: BoolArray) -> list[int]:
        """The best pair and the ambiguous ones that say the same, if it is clearly better than all others.

        Args:
            between: the pairs between both parts.
            is_left_out: [P] as in `with_clear_joining`.
            is_wrong: [P] as there.
        """
        part = self.parts.root(self.pairs[self.best].image0)
        expected = self._from(self.tracks, self.best, part)
        highest = float(self.probabilities[self.best])
        turn = self._turn_from(self.best, part)
        angles = {
            idx: float(rotation_angles_deg(turn.T @ self._turn_from(idx, part))) if self._has_turn(idx) else 0.0
            for idx in between
        }
        turned = [idx for idx, angle in angles.items() if angle > DIFFERS_DEG]
        turns_tell = len(turned) >= _MIN_RIVALS
        same, by_turn, num_rivals, most = [self.best], [], 0, 0.0
        for idx in between:
            if idx == self.best:
                continue
            probability, found = float(self.probabilities[idx]), self._from(self.tracks, idx, part)
            alike = self.tracks.fraction_alike(expected, found)
            is_alike = alike is not None and alike >= _MIN_SAME_TRACKS
            is_turned = angles[idx] > DIFFERS_DEG
            if is_alike and is_wrong[idx]:
                return []
            if alike is None and not is_turned:
                most = max(most, probability if probability >= _MIN_UNCOMPARED * highest else 0.0)
            elif is_turned or not is_alike:
                is_same_turn = turns_tell and angles[idx] <= AGREES_DEG and self._has_turn(idx)
                is_fragment = is_same_turn and self._may_be_fragment(idx, alike)
                closes = is_same_turn and self._closes_turn(idx)
                if (is_fragment or closes) and self._are_apart(expected, found):
                    if closes and is_wrong[idx]:
                        return []
                    if not is_fragment and probability >= MIN_AMBIGUOUS and not is_left_out[idx]:
                        same.append(idx)
                    continue
                most = max(most, probability)
                if alike is None:
                    by_turn.append(idx)
                else:
                    num_rivals += 1
            elif probability >= MIN_AMBIGUOUS and not is_left_out[idx]:
                same.append(idx)
        num_rivals += self._num_independent(by_turn)
        if num_rivals == 0:
            joint = joint_probability(self.pairs, self.probabilities, same)
            is_compared = joint >= MIN_JOINING_PROBABILITY
        else:
            is_compared = num_rivals >= _MIN_RIVALS or (len(same) > _MIN_SAME and self._has_independent(same))
        return same if is_compared and _is_clear(highest, most) else []

    def _has_independent(self, idxs: Sequence[int]) -> bool:
        """Whether two pairs have no common image, or one of both parts is an image, which all its pairs have."""
        if any(len(self.parts.members(self.parts.root(image))) == 1 for image in self._ends(self.best)):
            return True
        return any(not {*self._ends(first)} & {*self._ends(second)} for first, second in combinations(idxs, 2))

    def _may_be_fragment(self, idx: int, alike: float | None) -> bool:
        """Whether a pair can match other pieces of the tracks of points; these were matched in no used pair."""
        probabilities = self.probabilities[self.best], self.probabilities[idx]
        return (alike is not None and alike >= _MIN_PARTLY_ALIKE) or _is_clear(*probabilities, _MIN_FRAGMENT_ODDS_RATIO)

    def _closes_turn(self, idx: int) -> bool:
        """Whether a pair joins other ends of the parts, and the camera turned around in both of them.

        Then both ends agree on the rotation only if the parts lie around something, and both pairs are right: at other
        ends of two straight walls, wrong pairs agree on it, too.
        """
        image_from_part = {self.parts.root(image): image for image in self._ends(self.best)}
        views = self.turns.rotations[:, 2]  # directions of the optical axes
        ends = [(image, image_from_part[self.parts.root(image)]) for image in self._ends(idx)]
        return all(image != other and views[image] @ views[other] <= _MAX_SAME_VIEW for image, other in ends)

    def _are_apart(self, expected: IndexArray, found: IndexArray) -> bool:
        """Whether hardly any image observes both of different tracks that two pairs match with the same one."""
        return self.tracks.fraction_seen_together(expected, found) <= _MAX_TOGETHER

    def _has_common(self, idx: int) -> bool:
        """Whether another pair matches the same tracks of one of both parts."""
        best, other = self.pairs[self.best], self.pairs[idx]
        return any(
            num_common(self.tracks.observed(self.best, best, side), self.tracks.observed(idx, other, column))
            >= MIN_COMMON_TRACKS
            for side, column in self._sides_of_one_part(best, other)
        )

    def _sides_of_one_part(self, best: PairView, other: PairView) -> Iterator[tuple[int, int]]:
        """The sides of two pairs that lie in the same part."""
        for side, image in enumerate((best.image0, best.image1)):
            for column, other_image in enumerate((other.image0, other.image1)):
                if self.parts.root(image) == self.parts.root(other_image):
                    yield side, column


def _is_clear(probability: float, rival: float, ratio: float = _MIN_ODDS_RATIO) -> bool:
    """Whether a pair is clearly more probable than one that contradicts it."""
    return _odds(float(probability)) >= ratio * _odds(float(rival))


def _odds(probability: float) -> float:
    return probability / max(1 - probability, 1e-9)
