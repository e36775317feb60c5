"""The verified pairs of a scene after all of them are known: without still content, and without contradictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, reporting, silent
from sfm_lightglue.geometry.epipolar import squared_sampson_errors
from sfm_lightglue.lookalikes.config import LOOKALIKES_OFF, LookalikesConfig
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.weighing import Weighing, untrusted_bridges, weigh_pairs
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.into_database import (
    PairCounts,
    VerifiedPairRecord,
    matched_points,
    record_of,
    without_inliers,
)
from sfm_lightglue.stages.pair_doubt import PairDoubt, PairOverlap
from sfm_lightglue.two_view.correspondences import MatchedPair
from sfm_lightglue.two_view.given_rotation import with_rotation
from sfm_lightglue.two_view.still_matches import DOMINATED, StillContent, is_still
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Rejected, TwoViewGeometry

_MIN_CONSISTENT = 0.7
"""Fraction of the still matches that must fit the geometry of the other matches so that they are kept."""

_GUESSED_FACTOR = 3.0
"""Factor on the largest angle between rotations if a focal length is guessed."""

_CONSISTENT_PX = 2.0
"""Largest Sampson error of a still match that fits, in pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class WeighedPairs:
    """The verified pairs that take part in mapping, and those that do not.

    Args:
        kept: by pair.
        contradicted: verified pairs that contradict the others, by pair.
        changed: matches and geometry of the pairs that were computed anew, by pair.
        still_content: where the images show content that stands still; None if there is none.
        num_without_still: number of pairs from which still matches were taken out.
        apart: verified pairs that take no part because they may show places that look alike, by pair.
        overlaps: by verified pair, how probable it is that both images show the same place; empty if that was not
            estimated.
        has_twins: whether places of the scene match as completely as one place does.
        unlike: kept pairs that may show places that look alike and that nothing tells apart.
        doubtful_inliers: in a scene with twins, keypoints [K, 2] of the inliers of verified pairs that are probably
            wrong, by pair.
        joined: kept pairs that are doubtful, but join parts of the scene clearly better than any other pairs.
    """

    kept: Mapping[ImagePair, VerifiedPairRecord]
    contradicted: Mapping[ImagePair, VerifiedPairRecord]
    changed: Mapping[ImagePair, ChangedPair]
    still_content: StillContent | None
    num_without_still: int = 0
    apart: Mapping[ImagePair, VerifiedPairRecord] = field(default_factory=dict)
    overlaps: Mapping[ImagePair, PairOverlap] = field(default_factory=dict)
    has_twins: bool = False
    unlike: frozenset[ImagePair] = frozenset()
    doubtful_inliers: Mapping[ImagePair, AnyArray] = field(default_factory=dict)
    joined: frozenset[ImagePair] = frozenset()


ChangedPair = tuple[Matches, TwoViewGeometry | Rejected]
"""Matches and geometry that replace those of the stage "match"."""


@dataclass(frozen=True, eq=False, slots=True)
class PairSources:
    """Where the features, matches and geometries of pairs come from: the store, or computed anew.

    Args:
        features: by name of image.
        camera_from_name: intrinsics.
        matcher: with the store.
        verifier: with the store.
        changed: pairs that were computed anew; their matches are used.
        position_m_from_name: known positions [3] of images in metres.
    """

    features: Mapping[str, Features]
    camera_from_name: Mapping[str, Camera]
    matcher: CachedMatcher
    verifier: CachedVerifier
    changed: Mapping[ImagePair, ChangedPair] = field(default_factory=dict)
    position_m_from_name: Mapping[str, Float64Array] = field(default_factory=dict)

    def load(self, pair: ImagePair) -> MatchedPair:
        """Features, matches and cameras of a pair."""
        features = self.features[pair.name0], self.features[pair.name1]
        cameras = self.camera_from_name[pair.name0], self.camera_from_name[pair.name1]
        matches = self.changed[pair][0] if pair in self.changed else self.matcher.match(*features)
        return MatchedPair(features, matches, cameras)


def weigh_scene(
    counts: PairCounts,
    sources: PairSources,
    checks: ChecksConfig,
    executor: Executor = SERIAL,
    progress: Progress = silent,
    lookalikes: LookalikesConfig = LOOKALIKES_OFF,
    trusted: Collection[ImagePair] = (),
    left_out: Collection[ImagePair] = (),
    has_fold: bool = False,
) -> WeighedPairs:
    """Take still content out of the pairs of a scene, and find those that contradict the others or are doubtful.

    Args:
        counts: of the stage "match"; with inliers, unless `lookalikes` is off.
        sources: of the same stage.
        checks: limits.
        executor: computes pairs anew.
        progress: called with "weigh" after each of them.
        lookalikes: what is done with pairs that may show places that look alike.
        trusted: pairs that take part in mapping if they are verified.
        left_out: pairs that take no part, because they joined places that look alike in a model. The others are weighed
            without them, or against them in a scene with twins.
        has_fold: whether a model of the scene was folded, so that it has twins.
    """
    verified = {pair: counts.verified[pair] for pair in ImagePair.in_order(counts.verified)}
    changed: dict[ImagePair, ChangedPair] = {}
    content = counts.still.content(len(sources.camera_from_name))
    if content is not None:
        changed = _without_still_content(content, verified, sources, executor, progress)
        sources = replace(sources, changed={**sources.changed, **changed})
        _update(verified, changed, sources)
    joining = {pair: verified.pop(pair) for pair in sorted((set(left_out) - set(trusted)) & verified.keys())}
    limit_deg = _rotation_limit_deg(checks, sources)
    doubt = _doubt(verified, joining, sources, trusted, lookalikes, limit_deg, has_fold)
    if doubt.joining:  # the pairs that joined twins are evidence against others
        verified |= joining
    pairs = ImagePair.in_order(verified)
    rotations = np.array([verified[pair].cam1_from_cam0.R for pair in pairs]).reshape(-1, 3, 3)
    weights = doubt.weights(np.array([verified[pair].weight for pair in pairs], np.float64))
    weighing = weigh_pairs(pairs, rotations, weights, limit_deg)
    weight_from_pair = dict(zip(pairs, weights.tolist(), strict=True))
    corrected, wrong = _second_look(weighing, verified, sources, limit_deg, executor, progress)
    _update(verified, corrected, sources)
    wrong |= verified.keys() - weighing.errors_deg.keys()  # of groups that contradict each other: they were not merged
    wrong -= doubt.trusted
    kept = {pair: record for pair, record in verified.items() if pair not in wrong and pair not in joining}
    wrong.update(
        untrusted_bridges(
            {pair: record.weight for pair, record in kept.items()},
            [weight_from_pair[pair] if doubt.has_twins else verified[pair].weight for pair in sorted(wrong)],
        )
    )
    wrong -= doubt.trusted
    alike = {
        pair for pair in wrong if doubt.has_twins and doubt.overlaps[pair].probability < lookalikes.min_probability
    }
    contradicted = {pair: verified[pair] for pair in sorted(wrong - alike)}
    candidates = ImagePair.in_order(verified.keys() - wrong - joining.keys())
    kept_apart, joined = doubt.kept_apart_and_joined(candidates)
    apart = {pair: verified[pair] for pair in kept_apart}
    apart |= {pair: verified.get(pair, record) for pair, record in joining.items() if pair not in wrong}
    apart |= {pair: verified[pair] for pair in sorted(alike)}
    kept = {pair: record for pair, record in kept.items() if pair not in wrong and pair not in apart}
    return WeighedPairs(
        {pair: without_inliers(record) for pair, record in kept.items()},
        {pair: without_inliers(record) for pair, record in contradicted.items()},
        changed | corrected,
        content,
        len(changed),
        {pair: without_inliers(apart[pair]) for pair in ImagePair.in_order(apart)},
        doubt.overlaps,
        doubt.has_twins,
        doubt.unlike & kept.keys(),
        doubt.doubtful_inliers() if doubt.has_twins else {},
        frozenset(joined & kept.keys()),
    )


def _doubt(
    verified: Mapping[ImagePair, VerifiedPairRecord],
    joining: Mapping[ImagePair, VerifiedPairRecord],
    sources: PairSources,
    trusted: Collection[ImagePair],
    lookalikes: LookalikesConfig,
    limit_deg: float,
    has_fold: bool,
) -> PairDoubt:
    """The doubt about the pairs of a scene; in one with twins, with those that joined places that look alike."""
    if joining:
        doubt = PairDoubt.of_scene({**verified, **joining}, sources, trusted, lookalikes, limit_deg, joining, has_fold)
        if doubt.has_twins:
            return doubt
    doubt = PairDoubt.of_scene(verified, sources, trusted, lookalikes, limit_deg, has_fold=has_fold)
    if joining and doubt.has_twins:  # the pairs that joined twins stay evidence
        return PairDoubt.of_scene({**verified, **joining}, sources, trusted, lookalikes, limit_deg, joining, True)
    return doubt


def write_weighed_pairs(weighed: WeighedPairs, database: DatabaseWriter) -> None:
    """Bring a database with all verified pairs of a scene up to date."""
    for pair, (matches, geometry) in sorted(weighed.changed.items()):
        database.replace_geometry(pair, matches, geometry)
    for pair in [*weighed.contradicted, *weighed.apart]:
        database.remove_geometry(pair)


def _rotation_limit_deg(checks: ChecksConfig, sources: PairSources) -> float:
    """Largest angle between rotations that agree. A guessed focal length changes the angle of every rotation."""
    is_guessed = any(camera.source == "guessed" for camera in sources.camera_from_name.values())
    return checks.max_rotation_error_deg * (_GUESSED_FACTOR if is_guessed else 1.0)


def _update(
    verified: dict[ImagePair, VerifiedPairRecord], changed: Mapping[ImagePair, ChangedPair], sources: PairSources
) -> None:
    for pair, (matches, geometry) in changed.items():
        has_inliers = verified.pop(pair).inliers is not None
        if isinstance(geometry, TwoViewGeometry):
            features = sources.features[pair.name0], sources.features[pair.name1]
            verified[pair] = record_of(features, matches, geometry, has_inliers)


def _without_still_content(
    content: StillContent,
    verified: Mapping[ImagePair, VerifiedPairRecord],
    sources: PairSources,
    executor: Executor,
    progress: Progress,
) -> dict[ImagePair, ChangedPair]:
    """Verify the affected pairs again without their still matches."""

    def verify_rest(pair: ImagePair) -> ChangedPair | None:
        matched = sources.load(pair)
        points0, points1 = matched_points(matched.features, matched.matches)
        size = matched.features[0].image_size
        # Still matches that dominate a pair are taken out wherever they lie.
        is_dominated = verified[pair].still_fraction >= DOMINATED
        still = is_still(points0, points1, size) if is_dominated else content.mask(points0, points1, size)
        if not still.any():
            return None
        rest = matched.matches.where(~still)
        geometry = sources.verifier.verify(pair, matched.features, rest, matched.cameras)
        if isinstance(geometry, TwoViewGeometry) and _fit(geometry, points0[still], points1[still]):
            return None  # points at infinity, or on the axis of a forward motion
        return rest, geometry

    pairs = [pair for pair in content.pairs if pair in verified]
    results = reporting(executor.map(verify_rest, pairs), "weigh", len(pairs), progress)
    found = zip(pairs, results, strict=True)
    return {pair: changed for pair, changed in found if changed is not None}


def _fit(geometry: TwoViewGeometry, points0: Float32Array, points1: Float32Array) -> bool:
    """Whether still matches fit the geometry of the others."""
    if geometry.kind == "pure_rotation":
        return False
    errors = squared_sampson_errors(geometry.F, points0, points1)
    return float((errors <= _CONSISTENT_PX**2).mean()) >= _MIN_CONSISTENT


def _second_look(
    weighing: Weighing,
    verified: Mapping[ImagePair, VerifiedPairRecord],
    sources: PairSources,
    limit_deg: float,
    executor: Executor,
    progress: Progress,
) -> tuple[dict[ImagePair, ChangedPair], set[ImagePair]]:
    """Of the pairs that contradict the rotations of their group: those whose matches fit it too, and the wrong ones."""

    def corrected(pair: ImagePair) -> ChangedPair | None:
        if verified[pair].kind == "pure_rotation":
            return None
        matched = sources.load(pair)
        geometry = sources.verifier.verify(pair, matched.features, matched.matches, matched.cameras)
        if isinstance(geometry, Rejected):
            return None
        fitted = with_rotation(matched, geometry, weighing.expected(pair), limit_deg, sources.verifier.config)
        return None if fitted is None else (matched.matches, fitted)

    doubted = [pair for pair, error in weighing.errors_deg.items() if error > limit_deg]
    results = reporting(executor.map(corrected, doubted), "weigh", len(doubted), progress)
    found = dict(zip(doubted, results, strict=True))
    return (
        {pair: changed for pair, changed in found.items() if changed is not None},
        {pair for pair, changed in found.items() if changed is None},
    )
