"""Verified pairs weighed against each other: which of them can be true together.

Two images of different places that look alike can have many inliers, but the rotation between them contradicts the
rotations of other pairs. Starting from single images, groups of images are merged: all pairs between two groups vote
for a rotation between them, with their evidence as weight. The groups with the clearest vote, by pairs that close
triangles with others, are merged first. In the end, a pair that contradicts the rotations of its group is wrong.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.geometry.transforms import rotation_angles_deg
from sfm_lightglue.types import ImagePair, PairEvidence, TwoViewGeometry

WEIGHING_VERSION = 3
"""Part of a model's key. Raise it when the same verified pairs would be weighed in another way."""

_MIN_MARGIN = 1.5
"""Two groups are merged if the best rotation has at least this multiple of the weight of any other rotation."""

_MAX_VOTERS = 256
"""Number of pairs between two groups that vote: the strongest."""

_MIN_BRIDGE_FACTOR = 3.0
"""A pair that alone connects two parts of the scene must have this multiple of the weight of wrong pairs."""

_REPETITIVE = 0.25
"""Fraction of wrong pairs from which a scene has parts that look alike, so that a bridge needs more evidence."""

_MIN_WRONG_PAIRS = 3
"""Number of wrong pairs that must have this weight."""

_NUM_SWEEPS = 10
"""Iterations of the rotation averaging."""

_MAX_TRIANGLES = 20
"""Number of triangles of each pair that are examined at most."""

_TRIANGLE_PAIRS = 1024
"""Number of pairs whose triangles are in memory at a time."""

_BASE_WEIGHT = 0.02
"""Weight of an inlier that is not distinctive, as a fraction of that of a distinctive one."""


@dataclass(frozen=True, eq=False, slots=True)
class Weighing:
    """The result of weighing.

    Args:
        errors_deg: by pair of images in one group, the angle between its rotation and that of the group.
        names: of the images, sorted.
        group: index [N] of the group of each image.
        rotations: [N, 3, 3], `cam_from_group` of each image.
    """

    errors_deg: Mapping[ImagePair, float]
    names: tuple[str, ...]
    group: IndexArray
    rotations: Float64Array

    @property
    def group_from_name(self) -> dict[str, int]:
        """Index of the group of each image."""
        return dict(zip(self.names, self.group.tolist(), strict=True))

    def expected(self, pair: ImagePair) -> Float64Array:
        """The rotation [3, 3] of `cam1_from_cam0` that the group of a pair implies."""
        row0, row1 = (bisect_left(self.names, name) for name in (pair.name0, pair.name1))
        expected: Float64Array = self.rotations[row1] @ self.rotations[row0].T
        return expected


def weight_of(geometry: TwoViewGeometry) -> float:
    """Evidence that a pair is true: its distinctive inliers, reduced by the signs that speak against it.

    Args:
        geometry: of the pair, with evidence.
    """
    evidence = geometry.evidence or PairEvidence(0, 0, 1.0, 0.0)
    share = (evidence.num_distinctive_inliers + 1) / (evidence.num_distinctive + 2)
    inlier_ratio = geometry.num_inliers / len(geometry.inlier_mask)
    count = evidence.num_distinctive_inliers + _BASE_WEIGHT * geometry.num_inliers
    return float(count * share**2 * inlier_ratio * evidence.mean_inlier_score)


def weigh_pairs(
    pairs: Sequence[ImagePair], rotations: Float64Array, weights: Float64Array, max_error_deg: float
) -> Weighing:
    """Merge images into groups with consistent rotations.

    Args:
        pairs: verified pairs.
        rotations: [P, 3, 3], of their `cam1_from_cam0`.
        weights: [P] evidence that they are true, see `weight_of`; only ratios matter.
        max_error_deg: rotations that differ by at most this angle vote together.
    """
    names = tuple(sorted({name for pair in pairs for name in (pair.name0, pair.name1)}))
    row_from_name = {name: row for row, name in enumerate(names)}
    rows = [(row_from_name[pair.name0], row_from_name[pair.name1]) for pair in pairs]
    groups = _Groups(len(names), np.array(rows, np.int64).reshape(-1, 2), rotations, weights, max_error_deg)
    groups.merge_all()
    averaged = groups.averaged_rotations()
    inside = np.flatnonzero(groups.is_inside)
    rows0, rows1 = groups.rows[inside].T
    errors = rotation_angles_deg(rotations[inside] @ _transposed(averaged[rows1] @ _transposed(averaged[rows0])))
    errors_deg = {pairs[idx]: error for idx, error in zip(inside.tolist(), errors.tolist(), strict=True)}
    return Weighing(errors_deg, names, groups.group, averaged)


def untrusted_bridges(weights: Mapping[ImagePair, float], contradicted: Sequence[float]) -> list[ImagePair]:
    """Pairs that alone connect two parts of a scene, and are not clearly stronger than pairs known to be wrong.

    No other pair can confirm or contradict such a pair. One or two strong wrong pairs, such as those of a moving
    object, have no influence: parts that look alike give many.

    Args:
        weights: of the kept pairs.
        contradicted: weights of the pairs that contradict the others.
    """
    strongest = sorted(contradicted, reverse=True)[_MIN_WRONG_PAIRS - 1 : _MIN_WRONG_PAIRS]
    is_repetitive = len(contradicted) >= _REPETITIVE * (len(weights) + len(contradicted))
    limit = _MIN_BRIDGE_FACTOR * sum(strongest) if is_repetitive else 0.0
    return [pair for pair in _bridges(weights) if weights[pair] < limit]


def _bridges(pairs: Iterable[ImagePair]) -> list[ImagePair]:
    """Pairs without which the images of one connected part would fall into two.

    Source: Tarjan, A note on finding the bridges of a graph, 1974 (without recursion).
    """
    neighbours: dict[str, list[str]] = {}
    for pair in sorted(pairs):
        neighbours.setdefault(pair.name0, []).append(pair.name1)
        neighbours.setdefault(pair.name1, []).append(pair.name0)
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    bridges = []
    for root in neighbours:
        if root in order:
            continue
        order[root] = lowest[root] = len(order)
        stack = [(root, "", iter(neighbours[root]))]
        while stack:
            name, parent, remaining = stack[-1]
            child = next(remaining, None)
            if child is None:
                stack.pop()
                if parent:
                    lowest[parent] = min(lowest[parent], lowest[name])
                    if lowest[name] > order[parent]:
                        bridges.append(ImagePair.from_names(parent, name))
            elif child not in order:
                order[child] = lowest[child] = len(order)
                stack.append((child, name, iter(neighbours[child])))
            elif child != parent:
                lowest[name] = min(lowest[name], order[child])
    return sorted(bridges)


@dataclass(frozen=True, eq=False, slots=True)
class _Vote:
    """The best rotation `second_from_first` between two groups.

    Args:
        rotation: [3, 3].
        weight: of the pairs that vote for it.
        other_weight: largest weight of another rotation.
        support: of the triangles that these pairs close.
    """

    rotation: Float64Array
    weight: float
    other_weight: float
    support: float

    @property
    def priority(self) -> float:
        return self.weight - self.other_weight + self.support

    @property
    def is_clear(self) -> bool:
        return self.weight >= _MIN_MARGIN * self.other_weight


class _Groups:
    """Groups of images: a group is the row of one of its images.

    Args:
        num_images: N.
        rows: [P, 2] of the images of the pairs, the lower one first, each pair once.
        pair_rotations: [P, 3, 3].
        weights: [P].
        max_error_deg: rotations that differ by at most this angle vote together.
    """

    def __init__(
        self,
        num_images: int,
        rows: IndexArray,
        pair_rotations: Float64Array,
        weights: Float64Array,
        max_error_deg: float,
    ) -> None:
        self.group = np.arange(num_images)
        self.rotations = np.tile(np.eye(3), (num_images, 1, 1))  # cam_from_group of each image
        self.rows = rows
        self._pair_rotations = pair_rotations
        self._max_error_deg = max_error_deg
        # A sum of squares: many weak pairs that share one mistake do not outvote a strong pair.
        self._weights = weights**2
        self._support = self._support_of_triangles(weights)
        self._members = {row: [row] for row in range(num_images)}
        self._pairs_between: dict[int, dict[int, list[int]]] = {row: {} for row in range(num_images)}
        for idx, (first, second) in enumerate(rows.tolist()):
            self._pairs_between[first][second] = self._pairs_between[second][first] = [idx]
        # The vote of a single pair is that of itself: no other one contradicts it.
        priorities = (self._weights + self._support).tolist()
        self._priorities = {self._code(*key): each for key, each in zip(rows.tolist(), priorities, strict=True)}
        self._clearest_first = [(-priority, code) for code, priority in self._priorities.items()]
        heapq.heapify(self._clearest_first)

    @property
    def is_inside(self) -> BoolArray:
        """[P] whether both images of a pair are in one group."""
        inside: BoolArray = self.group[self.rows[:, 0]] == self.group[self.rows[:, 1]]
        return inside

    def merge_all(self) -> None:
        """Merge groups, those with the clearest vote first, until no vote is clear."""
        while self._clearest_first:
            priority, code = heapq.heappop(self._clearest_first)
            if self._priorities.get(code) == -priority:  # else the votes were counted anew meanwhile
                first, second = divmod(code, len(self.group))
                self._merge(first, second, self._vote(first, second).rotation)

    def averaged_rotations(self) -> Float64Array:
        """`cam_from_group` [N, 3, 3] by all pairs that nearly agree, so that errors do not add up along a walk.

        Source: Hartley, Trumpf, Dai and Li, Rotation averaging, 2013, section 5 (here with robust weights).
        """
        inside = self.is_inside
        (rows0, rows1), between = self.rows[inside].T, self._pair_rotations[inside]
        backward = np.swapaxes(between, 1, 2)
        rotations = self._outvoted(rows0, rows1, between, self._weights[inside])
        for _ in range(_NUM_SWEEPS if inside.any() else 0):
            errors = rotation_angles_deg(between @ rotations[rows0] @ np.swapaxes(rotations[rows1], 1, 2))
            weights = np.sqrt(self._weights[inside]) / (1 + (errors / self._max_error_deg) ** 2) ** 2
            weights = weights[:, None, None]
            sums = 1e-9 * rotations
            np.add.at(sums, rows1, weights * (between @ rotations[rows0]))
            np.add.at(sums, rows0, weights * (backward @ rotations[rows1]))
            U, _, Vt = np.linalg.svd(sums)
            U[:, :, 2] *= np.linalg.det(U @ Vt)[:, None]
            rotations = U @ Vt
        return rotations

    def _support_of_triangles(self, weights: Float64Array) -> Float64Array:
        """For each pair [P], the squared weights of the triangles that it closes, each by its weaker other pair."""
        num, support = len(self.group), np.zeros(len(weights))
        codes = self.rows[:, 0] * num + self.rows[:, 1]
        order = np.argsort(codes)
        neighbours: dict[int, set[int]] = {row: set() for row in range(num)}
        for i, j in self.rows.tolist():
            neighbours[i].add(j)
            neighbours[j].add(i)
        for start in range(0, len(codes), _TRIANGLE_PAIRS):
            triangles = [
                (idx, i, j, third)
                for idx, (i, j) in enumerate(self.rows[start : start + _TRIANGLE_PAIRS].tolist(), start)
                for third in sorted(neighbours[i] & neighbours[j])[:_MAX_TRIANGLES]
            ]
            if not triangles:
                continue
            idxs, first, second, thirds = np.array(triangles).T
            to_third, weights0 = self._between(first, thirds, codes, order, weights)
            from_third, weights1 = self._between(thirds, second, codes, order, weights)
            errors = rotation_angles_deg(_transposed(self._pair_rotations[idxs]) @ from_third @ to_third)
            closed = errors <= self._max_error_deg
            np.add.at(support, idxs[closed], np.minimum(weights0, weights1)[closed] ** 2)
        return support

    def _between(
        self, rows0: IndexArray, rows1: IndexArray, codes: IndexArray, order: IndexArray, weights: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Rotations `cam1_from_cam0` [T, 3, 3] and weights [T] of the pairs between images."""
        wanted = np.minimum(rows0, rows1) * len(self.group) + np.maximum(rows0, rows1)
        idxs = order[np.searchsorted(codes, wanted, sorter=order)]
        is_swapped = rows0 > rows1
        rotations = self._pair_rotations[idxs]
        rotations[is_swapped] = _transposed(rotations[is_swapped])
        return rotations, weights[idxs]

    def _outvoted(
        self, rows0: IndexArray, rows1: IndexArray, between: Float64Array, squared: Float64Array
    ) -> Float64Array:
        """The rotations, of single images another one if most of their pairs vote for it.

        A strong wrong pair can attach an image before the others are connected.
        """
        rotations = self.rotations.copy()
        by_end = [_by_value(rows, len(rotations)) for rows in (rows1, rows0)]
        for row in range(len(rotations)):
            forward, backward = (order[starts[row] : starts[row + 1]] for order, starts in by_end)
            if len(forward) + len(backward) < 3:
                continue
            proposals = np.concatenate(
                [
                    between[forward] @ rotations[rows0[forward]],
                    _transposed(between[backward]) @ rotations[rows1[backward]],
                ]
            )
            votes = np.concatenate([squared[forward], squared[backward]])
            if len(votes) > _MAX_VOTERS:
                strongest = np.sort(np.argsort(-votes, kind="stable")[:_MAX_VOTERS])
                proposals, votes = proposals[strongest], votes[strongest]
            angles = _angles_between_deg(proposals)
            totals = (angles <= self._max_error_deg) @ votes
            best = int(np.argmax(totals))
            errors = rotation_angles_deg(proposals @ rotations[row].T)
            current = float(votes[errors <= self._max_error_deg].sum())
            if errors[best] > 2 * self._max_error_deg and totals[best] >= _MIN_MARGIN * current:
                rotations[row] = proposals[best]
        return rotations

    def _merge(self, first: int, second: int, second_from_first: Float64Array) -> None:
        """Merge two groups: the smaller one takes over the frame of the larger one."""
        kept, absorbed, absorbed_from_kept = first, second, second_from_first
        if len(self._members[first]) < len(self._members[second]):
            kept, absorbed, absorbed_from_kept = second, first, second_from_first.T
        members = self._members.pop(absorbed)
        # A rotation again: the errors of products of such votes would double with each merge.
        U, _, Vt = np.linalg.svd(absorbed_from_kept)
        self.rotations[members] = self.rotations[members] @ (U @ Vt)
        self.group[members] = kept
        self._members[kept] += members
        others = self._pairs_between.pop(absorbed)
        for other in sorted(others):
            del self._pairs_between[other][absorbed], self._priorities[self._code(absorbed, other)]
            if other != kept:
                idxs = [*self._pairs_between[kept].get(other, ()), *others[other]]
                self._pairs_between[kept][other] = self._pairs_between[other][kept] = idxs
        for other in sorted(others):
            if other != kept:
                self._count_votes(*sorted((kept, other)))

    def _code(self, first: int, second: int) -> int:
        """One number for two groups in any order."""
        return min(first, second) * len(self.group) + max(first, second)

    def _count_votes(self, first: int, second: int) -> None:
        vote, code = self._vote(first, second), self._code(first, second)
        self._priorities[code] = vote.priority
        if vote.is_clear:
            heapq.heappush(self._clearest_first, (-vote.priority, code))

    def _vote(self, first: int, second: int) -> _Vote:
        """The vote of the pairs between two groups."""
        idxs = np.array(sorted(self._pairs_between[first][second]))
        if len(idxs) > _MAX_VOTERS:
            idxs = np.sort(idxs[np.argsort(-self._weights[idxs], kind="stable")[:_MAX_VOTERS]])
        rows0, rows1 = self.rows[idxs].T
        candidates = np.swapaxes(self.rotations[rows1], 1, 2) @ self._pair_rotations[idxs] @ self.rotations[rows0]
        is_swapped = self.group[rows0] != first
        candidates[is_swapped] = np.swapaxes(candidates[is_swapped], 1, 2)
        weights = self._weights[idxs]
        if len(idxs) == 1:
            return _Vote(candidates[0], float(weights[0]), 0.0, float(self._support[idxs[0]]))
        angles = _angles_between_deg(candidates)
        totals = (angles <= self._max_error_deg) @ weights
        best = int(np.argmax(totals))
        others = totals[angles[best] > 2 * self._max_error_deg]
        voters = np.flatnonzero(angles[best] <= self._max_error_deg)
        strongest = voters[np.argmax(weights[voters])]
        support = float(self._support[idxs[voters]].sum())
        return _Vote(candidates[strongest], float(totals[best]), float(others.max(initial=0.0)), support)


def _angles_between_deg(rotations: Float64Array) -> Float64Array:
    """Angles [K, K] between rotations [K, 3, 3] in degrees, exact to a millionth of a degree."""
    flat = rotations.reshape(-1, 9)
    angles: Float64Array = np.degrees(np.arccos(np.clip((flat @ flat.T - 1) / 2, -1, 1)))
    return angles


def _by_value(values: IndexArray, num: int) -> tuple[IndexArray, IndexArray]:
    """The positions of the values 0 to num - 1, in their order, and where those of each value start [num + 1]."""
    order = np.argsort(values, kind="stable")
    return order, np.searchsorted(values[order], np.arange(num + 1))


def _transposed(rotations: Float64Array) -> Float64Array:
    return np.swapaxes(rotations, -1, -2)
