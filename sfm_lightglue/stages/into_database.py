"""Extract, match and verify the images of a scene as a stream, into a COLMAP database."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.weighing import weight_of
from sfm_lightglue.pairs.pair_sets import IndexedPairs, pairs_among
from sfm_lightglue.pairs.transitive import suggested_pairs, without_unlikely
from sfm_lightglue.retrieval.closer_look import CloserLook
from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.keypoints import HasKeypoints
from sfm_lightglue.stages.matching import PairResult, match_pairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.two_view.still_matches import StillMap, is_still
from sfm_lightglue.types import Camera, ImagePair, Matches, PairEvidence, Rejected, Scene, TwoViewGeometry, TwoViewKind

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class VerifiedPairRecord:
    """What is kept in memory of a verified pair.

    Args:
        kind: of the geometry.
        cam1_from_cam0: its pose.
        weight: evidence that the pair is true.
        num_inliers: of the geometry.
        still_fraction: fraction of the inliers that lie at the same pixel of both images.
        inliers: what the cues about look-alikes need; None if they are not asked for.
    """

    kind: TwoViewKind
    cam1_from_cam0: Rigid3
    weight: float
    num_inliers: int
    still_fraction: float
    inliers: InlierRecord | None = None


@dataclass(frozen=True, eq=False, slots=True)
class InlierRecord:
    """The inliers of a verified pair.

    Args:
        rows: [K, 2] uint16 or int32 keypoints of the inliers, by their rows in both images.
        num_matches: number of matches, inliers or not.
        evidence: of the geometry; None if it was not measured.
        asked0: `Matches.asked0` as bits, see `numpy.packbits`; None if all keypoints were asked.
        asked1: likewise.
    """

    rows: npt.NDArray[Any]
    num_matches: int
    evidence: PairEvidence | None
    asked0: UInt8Array | None = None
    asked1: UInt8Array | None = None

    @classmethod
    def of(cls, matches: Matches, geometry: TwoViewGeometry) -> InlierRecord:
        """Those of a pair, in few bytes: all verified pairs of a scene are kept at a time."""
        rows = matches.indices[geometry.inlier_mask]
        few = rows.astype(np.uint16) if rows.max(initial=0) < 2**16 else rows
        asked0, asked1 = (None if one is None else np.packbits(one) for one in (matches.asked0, matches.asked1))
        return cls(few, len(matches), geometry.evidence, asked0, asked1)


class PairReceiver(Protocol):
    """What a `DatabaseWriter` does with the results of a pair."""

    def add_pair(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Take the matches of a pair, and its geometry if it was verified."""


@dataclass(slots=True)
class PairCounts:
    """How many pairs were matched, and what was verified.

    Args:
        num_pairs: pairs that were matched.
        verified: by pair, those with a two-view geometry.
        still: the still matches of all pairs.
        keeps_inliers: whether the records have the inliers of the pairs.
        num_left_out: suggested pairs that were not matched, because few of their keypoints match.
    """

    num_pairs: int
    verified: dict[ImagePair, VerifiedPairRecord] = field(default_factory=dict)
    still: StillMap = field(default_factory=StillMap)
    keeps_inliers: bool = False
    num_left_out: int = 0

    @property
    def num_verified(self) -> int:
        """Number of pairs with a two-view geometry."""
        return len(self.verified)

    def add(self, result: PairResult) -> None:
        """Count a pair."""
        pair, keypoints = result.pair, result.keypoints
        points0, points1 = matched_points(keypoints, result.matches)
        sizes = keypoints[0].image_size, keypoints[1].image_size
        self.still.add(pair, points0, points1, sizes, min(len(one) for one in keypoints))
        if isinstance(result.geometry, TwoViewGeometry):
            inliers = InlierRecord.of(result.matches, result.geometry) if self.keeps_inliers else None
            self.verified[pair] = _record((points0, points1), sizes, result.geometry, inliers)


def matched_points(features: tuple[HasKeypoints, HasKeypoints], matches: Matches) -> tuple[Float32Array, Float32Array]:
    """Matched pixels [M, 2] of image 0 and of image 1."""
    rows0, rows1 = matches.indices.T
    return features[0].keypoints[rows0], features[1].keypoints[rows1]


def record_of(
    features: tuple[HasKeypoints, HasKeypoints],
    matches: Matches,
    geometry: TwoViewGeometry,
    keeps_inliers: bool = False,
) -> VerifiedPairRecord:
    """The record of a verified pair.

    Args:
        features: of both images, or their keypoints.
        matches: of the pair.
        geometry: of the pair.
        keeps_inliers: whether the record has the inliers.
    """
    inliers = InlierRecord.of(matches, geometry) if keeps_inliers else None
    sizes = features[0].image_size, features[1].image_size
    return _record(matched_points(features, matches), sizes, geometry, inliers)


def without_inliers(record: VerifiedPairRecord) -> VerifiedPairRecord:
    """A record that needs less memory."""
    return record if record.inliers is None else replace(record, inliers=None)


def _record(
    points: tuple[Float32Array, Float32Array],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    geometry: TwoViewGeometry,
    inliers: InlierRecord | None,
) -> VerifiedPairRecord:
    num_inliers, still = geometry.num_inliers, 0.0
    if sizes[0] == sizes[1] and num_inliers > 0:
        still = float(is_still(*points, sizes[0])[geometry.inlier_mask].mean())
    return VerifiedPairRecord(geometry.kind, geometry.cam1_from_cam0, weight_of(geometry), num_inliers, still, inliers)


def extract_scene(
    scene: Scene,
    extractor: CachedExtractor,
    executor: Executor = SERIAL,
    progress: Progress = silent,
    max_keypoints_dense: int = 0,
) -> SceneFeatures:
    """Features of all images of a scene; images that cannot be decoded are logged and left out.

    Args:
        scene: the images.
        extractor: with the store.
        executor: works on several images at a time.
        progress: called after each image.
        max_keypoints_dense: about the number of places of the dense layer of an image; 0 for none.

    Raises:
        DataError: if no image can be decoded.
    """
    features = SceneFeatures(scene, extractor, max_keypoints_dense=max_keypoints_dense)
    features.extract(executor, progress)
    return features


def match_scene(
    plan: PairPlan,
    features: SceneFeatures,
    camera_from_name: Mapping[str, Camera],
    database: PairReceiver,
    matcher: CachedMatcher,
    verifier: CachedVerifier,
    clock: Clock,
    executor: Executor = SERIAL,
    progress: Progress = silent,
    keeps_inliers: bool = False,
) -> PairCounts:
    """Match and verify pairs, and write each into a database that contains their images.

    After the selected pairs, those that the verified ones suggest are matched, until these suggest no more, or no pair
    of a round is verified.

    Args:
        plan: pairs of images without features are skipped.
        features: of the scene.
        camera_from_name: intrinsics of the images with features.
        database: receives matches and geometries.
        matcher: with the store.
        verifier: with the store.
        clock: receives the time of the stages "match" and "verify".
        executor: computes batches of pairs.
        progress: called after each pair.
        keeps_inliers: whether the records of the pairs have their inliers.
    """
    counts = PairCounts(0, keeps_inliers=keeps_inliers)

    def match(pairs: Sequence[ImagePair]) -> None:
        worked = dict.fromkeys(("match", "verify"), 0.0)
        counts.num_pairs += len(pairs)
        start = time.perf_counter()
        for result in match_pairs(pairs, features, camera_from_name, matcher, verifier, executor, progress):
            database.add_pair(result.pair, result.matches, result.geometry)
            counts.add(result)
            worked["match"] += result.match_seconds
            worked["verify"] += result.verify_seconds
        clock.share_out(time.perf_counter() - start, worked)

    usable = pairs_among(plan.pairs, camera_from_name)
    match(usable)
    if plan.transitive.rounds > 0:
        asked = IndexedPairs.from_pairs(camera_from_name, usable)
        barred = IndexedPairs.from_pairs(camera_from_name, pairs_among(plan.excluded, camera_from_name))

        @cache
        def similar() -> SimilarImages:
            return describe_scene(features, matcher.store, executor, progress)

        look = CloserLook(features, matcher.store, executor, progress)
        for _ in range(plan.transitive.rounds):
            num_before = counts.num_verified
            inliers = {pair: record.num_inliers for pair, record in counts.verified.items()}
            with clock.stage("select"):
                suggested = suggested_pairs(asked.union(barred), inliers, plan.transitive, similar)
                likely = without_unlikely(suggested, inliers, plan.transitive, look)
            counts.num_left_out += len(suggested) - len(likely)
            match(likely)
            asked = asked.union(suggested)
            if counts.num_verified == num_before:
                break
    if counts.num_left_out > 0:
        logger.info(
            "%d suggested pairs are left out, because few of their keypoints match (`transitive.closer_look`)",
            counts.num_left_out,
        )
    return counts
