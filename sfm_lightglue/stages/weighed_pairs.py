"""The verified pairs of a scene after all of them are known: without still content, and without contradictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.geometry.epipolar import squared_sampson_errors
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.weighing import PairRotation, Weighing, untrusted_bridges, weigh_pairs
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.into_database import PairCounts, VerifiedPairRecord, matched_points, record_of
from sfm_lightglue.two_view.correspondences import MatchedPair
from sfm_lightglue.two_view.given_rotation import fits_rotation
from sfm_lightglue.two_view.still_matches import StillContent
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Rejected, TwoViewGeometry

_MIN_CONSISTENT = 0.7
"""Fraction of the still matches that must fit the geometry of the other matches so that they are kept."""

_CONSISTENT_PX = 2.0
"""Largest Sampson error of a still match that fits, in pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class WeighedPairs:
    """The verified pairs that take part in mapping, and those that do not.

    Args:
        kept: by pair.
        contradicted: verified pairs that contradict the others, by pair.
        still_content: where the images show content that stands still; None if there is none.
    """

    kept: Mapping[ImagePair, VerifiedPairRecord]
    contradicted: Mapping[ImagePair, VerifiedPairRecord]
    still_content: StillContent | None


@dataclass(frozen=True, eq=False, slots=True)
class PairSources:
    """Where the features, matches and geometries of pairs come from: the store, or computed anew."""

    features: Mapping[str, Features]
    camera_from_name: Mapping[str, Camera]
    matcher: CachedMatcher
    verifier: CachedVerifier
    replaced_matches: dict[ImagePair, Matches] = field(default_factory=dict)

    def load(self, pair: ImagePair) -> MatchedPair:
        """Features, matches and cameras of a pair."""
        features = self.features[pair.name0], self.features[pair.name1]
        cameras = self.camera_from_name[pair.name0], self.camera_from_name[pair.name1]
        matches = self.replaced_matches.get(pair) or self.matcher.match(*features)
        return MatchedPair(features, matches, cameras)

    def verify(self, pair: ImagePair, matched: MatchedPair) -> TwoViewGeometry | Rejected:
        """The geometry of a pair."""
        return self.verifier.verify(pair, matched.features, matched.matches, matched.cameras)


def weigh_scene(
    counts: PairCounts,
    sources: PairSources,
    database: DatabaseWriter,
    checks: ChecksConfig,
    executor: Executor = SERIAL,
) -> WeighedPairs:
    """Take still content out of the pairs of a scene, and remove pairs that contradict the others.

    Args:
        counts: of the stage "match".
        sources: of the same stage.
        database: with the geometries of all verified pairs; changed accordingly.
        checks: limits.
        executor: computes pairs anew.
    """
    verified = dict(counts.verified)
    content = counts.still.content(len(sources.camera_from_name))
    if content is not None:
        _take_out_still_content(content, verified, sources, database, executor)
    rotations = [PairRotation(pair, record.rotation, record.weight) for pair, record in sorted(verified.items())]
    weighing = weigh_pairs(rotations, checks.max_rotation_error_deg)
    contradicted = _contradicted(weighing, verified, sources, checks, executor)
    for pair in contradicted:
        database.remove_geometry(pair)
    kept = {pair: record for pair, record in verified.items() if pair not in contradicted}
    return WeighedPairs(kept, {pair: verified[pair] for pair in contradicted}, content)


def _take_out_still_content(
    content: StillContent,
    verified: dict[ImagePair, VerifiedPairRecord],
    sources: PairSources,
    database: DatabaseWriter,
    executor: Executor,
) -> None:
    """Verify the affected pairs again without their still matches."""

    def verify_rest(pair: ImagePair) -> tuple[MatchedPair, TwoViewGeometry | Rejected] | None:
        matched = sources.load(pair)
        points0, points1 = matched_points(matched.features, matched.matches)
        still = content.mask(points0, points1, matched.features[0].image_size)
        if not still.any():
            return None
        rest = Matches(matched.matches.indices[~still], matched.matches.scores[~still], matched.matches.stop_layer)
        matched = MatchedPair(matched.features, rest, matched.cameras)
        geometry = sources.verify(pair, matched)
        if isinstance(geometry, TwoViewGeometry) and _fit(geometry, points0[still], points1[still]):
            return None  # points at infinity, or on the axis of a forward motion
        return matched, geometry

    pairs = [pair for pair in content.pairs if pair in verified]
    for pair, found in zip(pairs, executor.map(verify_rest, pairs), strict=True):
        if found is None:
            continue
        matched, geometry = found
        database.replace_geometry(pair, matched.matches, geometry)
        sources.replaced_matches[pair] = matched.matches
        del verified[pair]
        if isinstance(geometry, TwoViewGeometry):
            verified[pair] = record_of(matched.features, matched.matches, geometry)


def _fit(geometry: TwoViewGeometry, points0: Float64Array, points1: Float64Array) -> bool:
    """Whether still matches fit the geometry of the others."""
    if geometry.kind == "pure_rotation":
        return False
    errors = squared_sampson_errors(geometry.F, points0, points1)
    return float((errors <= _CONSISTENT_PX**2).mean()) >= _MIN_CONSISTENT


def _contradicted(
    weighing: Weighing,
    verified: Mapping[ImagePair, VerifiedPairRecord],
    sources: PairSources,
    checks: ChecksConfig,
    executor: Executor,
) -> list[ImagePair]:
    """Pairs that contradict the rotations of their group, pairs between groups, and bridges that may be as wrong.

    Pairs between two groups contradict each other: otherwise the groups would have been merged.
    """
    limit = checks.max_rotation_error_deg

    def is_true(pair: ImagePair) -> bool:
        matched = sources.load(pair)
        geometry = sources.verify(pair, matched)
        if isinstance(geometry, Rejected) or geometry.kind == "pure_rotation":
            return False
        expected = weighing.expected[pair]
        return fits_rotation(matched, geometry.inlier_mask, expected, limit, sources.verifier.config)

    doubted = [pair for pair, error in weighing.errors_deg.items() if error > limit]
    wrong = {pair for pair, confirmed in zip(doubted, executor.map(is_true, doubted), strict=True) if not confirmed}
    wrong |= verified.keys() - weighing.errors_deg.keys()
    kept = {pair: record.weight for pair, record in verified.items() if pair not in wrong}
    wrong.update(untrusted_bridges(kept, [verified[pair].weight for pair in wrong]))
    return sorted(wrong)
