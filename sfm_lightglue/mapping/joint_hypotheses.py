"""The position of one model in another that clearly explains all images of both better than every other one.

Each verified pair between two models says how they lie to each other. In a scene with places that look alike, many
pairs say that one place lies on top of the other: twins look more alike than neighbours, which share little. So a
position with the largest overlap, or only a little less, is never believed. It must be refuted: most points of one
model are missing in the images of the other, though they should be seen. If one other position is left that several
pairs tell, and whose points are found in several images of both models, the models lie like that. If no position of
far larger overlap is refuted, nothing is known: what is left may be that of twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.image_points import point_ids_of
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg
from sfm_lightglue.mapping.joint_evidence import EvidenceSide, JointEvidence, joint_evidence, least_similarity
from sfm_lightglue.mapping.link_alignment import best_alignment
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.mapping.point_links import find_links
from sfm_lightglue.types import ImagePair

JOINT_HYPOTHESES_VERSION = 3
"""Number to raise when a change of the code joins other models."""

_MIN_LINKS = 12
"""Fewest matches of a pair with a point of a model."""

_SAME_DISTANCE, _SAME_TURN_DEG = 0.15, 8.0
"""Two positions are the same if the cameras differ by at most this fraction of the depth of the points, and this
angle."""

_MIN_PAIRS, _MIN_INDEPENDENT = 5, 2
"""Fewest pairs of a hypothesis, and of them without a common image: 10 to 17, and 3 to 4, where it was right."""

_NUM_CANDIDATES = 2
"""Candidates of a position that are refined for each pair alone; more of them for several pairs together."""

_NUM_REFINEMENTS = 2
"""Number of times that the positions of clusters of pairs are refined, and those at the same position merged."""

_MIN_EXPECTED, _MIN_FRACTION = 40, 0.3
"""Fewest points that should be seen, counted for each image, and the smallest fraction that must be found: 167 to 346
points, of which .38 to .57 were found, where it was right. By chance, .01 to .02 are found. A hypothesis of fewer
expected points is no rival either."""

_MIN_FOUND, _MIN_SHOWING = 12, 2
"""Fewest different points of each model that are found in images of the other one, and fewest images of each in which
several are: 17 to 110 points in 2 to 4 images where it was right. One image alone is not believed."""

_MAX_RIVAL = 0.6
"""Largest fraction of found points of any other hypothesis, relative to that of the hypothesis that is believed: .17 to
.46 in runs of rendered tables and cars, where it was right, and mostly .8 to 1.1 in shelves with equal bays."""

_MAX_REFUTED = 0.3
"""Largest fraction of found points of a hypothesis that is refuted: .07 to .22 at the position of twins."""

_MIN_OVERLAP, _MIN_TWIN_PAIRS = 5.0, 0.5
"""Of the other hypotheses with at least this fraction of the pairs of the one that is believed, those of the most
expected points and of the most pairs must have at least so many times its expected points: 14 to 58 times where it was
right. Pairs of twins whose position is told a little wrong overlap as much as the others, so they refute nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class JointHypothesis:
    """A position of one model in another, and what speaks for it.

    Args:
        pairs: that say so.
        num_independent: of them without a common image.
        target_from_source: between the worlds of the models.
        evidence: of all images of both.
    """

    pairs: tuple[ImagePair, ...]
    num_independent: int
    target_from_source: Sim3
    evidence: JointEvidence

    def __str__(self) -> str:
        """What is known of it, for the log."""
        evidence = self.evidence
        found = f"{evidence.num_matched} of {evidence.num_expected} points found"
        different = f"{evidence.num_points[0]} and {evidence.num_points[1]} different ones"
        images = f"in {evidence.num_images[0]} and {evidence.num_images[1]} images"
        return f"{len(self.pairs)} pairs tell a position, {found} ({different}, {images})"


@dataclass(frozen=True, eq=False, slots=True)
class ClearPosition:
    """The hypothesis that is believed, and the next one.

    Args:
        best: is believed.
        rival: of the other ones that were compared, that with the largest fraction of found points.
    """

    best: JointHypothesis
    rival: JointHypothesis

    @property
    def rival_ratio(self) -> float:
        """Fraction of found points of the rival relative to that of the best; the smaller, the clearer."""
        return self.rival.evidence.fraction / self.best.evidence.fraction


def joint_hypotheses(
    target: pycolmap.Reconstruction,
    source: pycolmap.Reconstruction,
    pairs: Sequence[StoredPair],
    side_of: Callable[[pycolmap.Reconstruction], EvidenceSide],
    seed: int,
) -> list[JointHypothesis]:
    """The positions of a model in another that verified pairs tell, those of most pairs first.

    Args:
        target: a model.
        source: another model of other images.
        pairs: verified pairs between their images, also doubtful ones.
        side_of: gives a model with its descriptors; asked only if a position may be believed.
        seed: of the random samples.

    Returns:
        The hypotheses; none if too few pairs tell one position, or all tell the same one: then none can be believed.
    """
    depth = _median_depth(target)
    if depth is None or len(pairs) < _MIN_PAIRS:
        return []
    same = _Same(_centers(source), depth)
    clusters: list[_Cluster] = []
    for pair, found in _told(target, source, pairs, seed):
        near = next((each for each in clusters if same.are(each.position, found)), None)
        if near is None:
            clusters.append(_Cluster(found, [pair]))
        else:
            near.members.append(pair)
    if len(clusters) < 2 or not any(_may_be_believed(each.members) for each in clusters):
        return []
    for _ in range(_NUM_REFINEMENTS):
        clusters = _merged([_refined(target, source, each, seed) for each in clusters], same)
    sides = side_of(target), side_of(source)
    min_similarity, hypotheses = least_similarity(sides), []
    for each in clusters:
        evidence = joint_evidence(*sides, each.position, min_similarity)
        names = _names(each.members)
        hypotheses.append(JointHypothesis(names, _num_independent(names), each.position, evidence))
    return sorted(hypotheses, key=lambda each: (-len(each.pairs), each.pairs))


def clear_hypothesis(hypotheses: Sequence[JointHypothesis]) -> ClearPosition | None:
    """The hypothesis that is clearly better than every other one; None if there is none, or none refutes the twins.

    Args:
        hypotheses: of two models.
    """
    possible = [each for each in hypotheses if _is_possible(each)]
    if not possible:
        return None
    best = max(possible, key=lambda each: (each.evidence.fraction, each.pairs))
    rivals = [each for each in hypotheses if each is not best and each.evidence.num_expected >= _MIN_EXPECTED]
    if any(each.evidence.fraction > _MAX_RIVAL * best.evidence.fraction for each in rivals):
        return None
    twins = [each for each in rivals if len(each.pairs) >= _MIN_TWIN_PAIRS * len(best.pairs)]
    if not twins:
        return None
    of_most_points = max(twins, key=lambda each: (each.evidence.num_expected, each.pairs))
    of_most_pairs = max(twins, key=lambda each: (len(each.pairs), each.pairs))
    for twin in (of_most_points, of_most_pairs):
        is_larger = twin.evidence.num_expected >= _MIN_OVERLAP * best.evidence.num_expected
        if not is_larger or twin.evidence.fraction > _MAX_REFUTED:
            return None
    return ClearPosition(best, max(rivals, key=lambda each: (each.evidence.fraction, each.pairs)))


def _is_possible(hypothesis: JointHypothesis) -> bool:
    evidence = hypothesis.evidence
    return (
        len(hypothesis.pairs) >= _MIN_PAIRS
        and hypothesis.num_independent >= _MIN_INDEPENDENT
        and evidence.num_expected >= _MIN_EXPECTED
        and evidence.fraction >= _MIN_FRACTION
        and min(evidence.num_points) >= _MIN_FOUND
        and min(evidence.num_images) >= _MIN_SHOWING
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Same:
    """Tells whether two positions of a model in another are the same.

    Args:
        centers: [N, 3] of the cameras of the source.
        depth: usual depth of the points of the target.
    """

    centers: Float64Array
    depth: float

    def are(self, first: Sim3, second: Sim3) -> bool:
        distance = float(np.linalg.norm(first @ self.centers - second @ self.centers, axis=1).max())
        return distance <= _SAME_DISTANCE * self.depth and rotation_angle_deg(first.R.T @ second.R) <= _SAME_TURN_DEG


@dataclass(slots=True)
class _Cluster:
    """Pairs that tell the same position.

    Args:
        position: of the source in the target.
        members: the pairs.
        num_used: number of the pairs, the first ones, whose matches tell the position.
    """

    position: Sim3
    members: list[StoredPair]
    num_used: int = 1


def _refined(
    target: pycolmap.Reconstruction, source: pycolmap.Reconstruction, cluster: _Cluster, seed: int
) -> _Cluster:
    """The cluster with the position that all its pairs tell."""
    members = cluster.members
    if cluster.num_used == len(members):
        return cluster
    position = best_alignment(find_links(target, source, members), seed) or cluster.position
    return _Cluster(position, members, len(members))


def _merged(clusters: Sequence[_Cluster], same: _Same) -> list[_Cluster]:
    """The clusters, of those at the same position all pairs together; that of most pairs tells the position."""
    found: list[_Cluster] = []
    for each in sorted(clusters, key=lambda each: (-len(each.members), _names(each.members))):
        near = next((other for other in found if same.are(other.position, each.position)), None)
        if near is None:
            found.append(replace(each, members=[*each.members]))
        else:
            near.members.extend(each.members)
    return found


def _names(pairs: Sequence[StoredPair]) -> tuple[ImagePair, ...]:
    return tuple(sorted(ImagePair.from_names(pair.name0, pair.name1) for pair in pairs))


def _may_be_believed(pairs: Sequence[StoredPair]) -> bool:
    return len(pairs) >= _MIN_PAIRS and _num_independent(_names(pairs)) >= _MIN_INDEPENDENT


def _told(
    target: pycolmap.Reconstruction, source: pycolmap.Reconstruction, pairs: Sequence[StoredPair], seed: int
) -> list[tuple[StoredPair, Sim3]]:
    """Pairs with the position that each tells alone, those with most matches first."""
    found = []
    for pair in pairs:
        links = find_links(target, source, [pair])
        alignment = best_alignment(links, seed, _NUM_CANDIDATES) if len(links) >= _MIN_LINKS else None
        if alignment is not None:
            found.append((pair, alignment))
    return sorted(found, key=lambda each: (-len(each[0].rows0), each[0].name0, each[0].name1))


def _centers(model: pycolmap.Reconstruction) -> Float64Array:
    """Centres [N, 3] of the cameras of a model."""
    poses = [Rigid3.from_matrix(model.images[k].cam_from_world().matrix()) for k in sorted(model.reg_image_ids())]
    return np.array([pose.center for pose in poses], np.float64).reshape(-1, 3)


def _median_depth(model: pycolmap.Reconstruction) -> float | None:
    """Median depth of the points that the images of a model observe; None if they observe none."""
    depths = []
    for k in sorted(model.reg_image_ids()):
        image = model.images[k]
        ids = point_ids_of(image)
        xyz = np.array([model.points3D[point].xyz for point in ids[ids >= 0].tolist()], np.float64).reshape(-1, 3)
        depths.append((Rigid3.from_matrix(image.cam_from_world().matrix()) @ xyz)[:, 2])
    together = np.concatenate(depths) if depths else np.zeros(0)
    return float(np.median(together)) if len(together) > 0 else None


def _num_independent(pairs: Sequence[ImagePair]) -> int:
    seen: set[str] = set()
    number = 0
    for pair in pairs:
        if not {pair.name0, pair.name1} & seen:
            seen |= {pair.name0, pair.name1}
            number += 1
    return number
