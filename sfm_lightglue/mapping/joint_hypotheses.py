"""The position of one model in another that clearly explains all images of both better than every other one.

Each verified pair between two models says how they lie to each other. In a scene with places that look alike, many
pairs say that one place lies on top of the other: twins look more alike than neighbours, which share little. So the
position with the largest overlap is not believed. It is refuted if most points of one model are missing in the images
of the other, though they should be seen. If one other position is left that several pairs tell, and whose points are
found, the models lie like that. If the largest overlap is not refuted, or nothing was compared, nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.geometry.transforms import Sim3, rotation_angle_deg
from sfm_lightglue.mapping.joint_evidence import EvidenceSide, JointEvidence, joint_evidence, least_similarity
from sfm_lightglue.mapping.link_alignment import best_alignment
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.mapping.point_links import find_links
from sfm_lightglue.types import ImagePair

JOINT_HYPOTHESES_VERSION = 1
"""Number to raise when a change of the code joins other models."""

_MIN_LINKS = 12
"""Fewest matches of a pair with a point of a model."""

_SAME_DISTANCE, _SAME_TURN_DEG = 0.15, 8.0
"""Two pairs say the same if the cameras differ by at most this fraction of the depth of the points, and this angle."""

_MIN_PAIRS, _MIN_INDEPENDENT = 5, 2
"""Fewest pairs of a hypothesis, and of them without a common image: 10 to 16, and 3 to 4, where it was right."""

_MIN_EXPECTED, _MIN_FRACTION = 40, 0.3
"""Fewest points that should be seen, counted for each image, and the smallest fraction that must be found: 61 to 346
points, of which .38 to .48 were found, where it was right. By chance, .01 to .02 are found."""

_MAX_RIVAL = 0.6
"""Largest fraction of found points of any other hypothesis, relative to that of the hypothesis that is believed: .17 to
.46 in runs of rendered tables and cars, where it was right, and mostly .8 to 1.1 in shelves with equal bays."""

_MIN_RIVAL_EXPECTED, _MIN_RIVAL_PAIRS = 50, 0.5
"""Fewest expected points of another hypothesis that is compared. One with at least this fraction of the pairs, and with
more expected points, must be among them: that of twins overlaps most."""


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
        found = f"{self.evidence.num_matched} of {self.evidence.num_expected} points found"
        return f"{len(self.pairs)} pairs tell a position, {found}"


def joint_hypotheses(
    target: pycolmap.Reconstruction,
    source: pycolmap.Reconstruction,
    pairs: Sequence[StoredPair],
    descriptors_of: Callable[[str], AnyArray],
    seed: int,
) -> list[JointHypothesis]:
    """The positions of a model in another that verified pairs tell, those of most pairs first.

    Args:
        target: a model.
        source: another model of other images.
        pairs: verified pairs between their images, also doubtful ones.
        descriptors_of: gives those [N, D] of the first N keypoints of an image.
        seed: of the random samples.
    """
    sides = [EvidenceSide.of_model(model, descriptors_of) for model in (target, source)]
    centers = np.array([view.pose.center for view in sides[1].views])
    depth = _median_depth(sides[0])
    clusters: list[tuple[Sim3, list[StoredPair]]] = []
    for pair, found in _told(target, source, pairs, seed):
        for first, members in clusters:
            distance = float(np.linalg.norm(first @ centers - found @ centers, axis=1).max())
            turn_deg = rotation_angle_deg(first.R.T @ found.R)
            if distance <= _SAME_DISTANCE * depth and turn_deg <= _SAME_TURN_DEG:
                members.append(pair)
                break
        else:
            clusters.append((found, [pair]))
    min_similarity, hypotheses = least_similarity(sides), []
    for first, members in clusters:
        refined = best_alignment(find_links(target, source, members), seed) or first
        evidence = joint_evidence(sides[0], sides[1], refined, min_similarity)
        names = tuple(sorted(ImagePair.from_names(pair.name0, pair.name1) for pair in members))
        hypotheses.append(JointHypothesis(names, _num_independent(names), refined, evidence))
    return sorted(hypotheses, key=lambda each: (-len(each.pairs), each.pairs))


def clear_hypothesis(hypotheses: Sequence[JointHypothesis]) -> JointHypothesis | None:
    """The hypothesis that is clearly better than every other one; None if there is none, or nothing was compared.

    Args:
        hypotheses: of two models.
    """
    possible = [
        each
        for each in hypotheses
        if len(each.pairs) >= _MIN_PAIRS
        and each.num_independent >= _MIN_INDEPENDENT
        and each.evidence.num_expected >= _MIN_EXPECTED
        and each.evidence.fraction >= _MIN_FRACTION
    ]
    if not possible:
        return None
    best = max(possible, key=lambda each: (each.evidence.fraction, each.pairs))
    rivals = [each for each in hypotheses if each is not best and each.evidence.num_expected >= _MIN_RIVAL_EXPECTED]
    if any(each.evidence.fraction > _MAX_RIVAL * best.evidence.fraction for each in rivals):
        return None
    is_compared = any(
        len(each.pairs) >= _MIN_RIVAL_PAIRS * len(best.pairs)
        and each.evidence.num_expected >= best.evidence.num_expected
        for each in rivals
    )
    return best if is_compared else None


def _told(
    target: pycolmap.Reconstruction, source: pycolmap.Reconstruction, pairs: Sequence[StoredPair], seed: int
) -> list[tuple[StoredPair, Sim3]]:
    """Pairs with the position that each tells alone, those with most matches first."""
    found = []
    for pair in pairs:
        links = find_links(target, source, [pair])
        alignment = best_alignment(links, seed) if len(links) >= _MIN_LINKS else None
        if alignment is not None:
            found.append((pair, alignment))
    return sorted(found, key=lambda each: (-len(each[0].rows0), each[0].name0, each[0].name1))


def _median_depth(side: EvidenceSide) -> float:
    """Median depth of the points that the images of a model observe."""
    depths = [(view.pose @ side.xyz[view.point_rows[view.point_rows >= 0]])[:, 2] for view in side.views]
    return float(np.median(np.concatenate(depths)))


def _num_independent(pairs: Sequence[ImagePair]) -> int:
    seen: set[str] = set()
    number = 0
    for pair in pairs:
        if not {pair.name0, pair.name1} & seen:
            seen |= {pair.name0, pair.name1}
            number += 1
    return number
