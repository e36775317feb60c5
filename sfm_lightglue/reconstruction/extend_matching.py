"""Match the images that come into a model: with similar ones, then with those that see the same points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import IndexArray, Int32Array
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.mapping.extend_keypoints import RowsFromName
from sfm_lightglue.mapping.extend_pairs import Covisibility, suggested_by_points
from sfm_lightglue.mapping.extend_registration import Link
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts
from sfm_lightglue.stages.matching import match_pairs
from sfm_lightglue.stages.weighed_pairs import PairSources, WeighedPairs, weigh_scene, write_weighed_pairs
from sfm_lightglue.types import Camera, ImagePair, Matches, TwoViewGeometry

NUM_SIMILAR = 4
"""Number of similar images that each image is matched with at first."""

_NUM_SIMILAR_ALONE = 12
"""Number of similar images that an image is matched with if none of the first ones is a verified partner."""

_NUM_VERIFIED, _NUM_VERIFIED_SPARSE = 3, 10
"""Images with fewer verified partners are matched with further ones; the dense layer needs fewer of them, because it is
matched with all images that see the same points."""

_MAX_PARTNERS = 15
"""Largest number of images that each image is matched with."""

_NUM_ROUNDS = 2
"""Number of rounds after the first one."""

CHOSEN = f"extension: each added image with the {NUM_SIMILAR} most similar ones, then by common points of the model"
"""What was matched, for the summary."""


@dataclass(frozen=True, eq=False, slots=True)
class MatchedArrivals:
    """What was matched for an extension.

    Args:
        num_pairs: that the database did not have before.
        weighed: the verified pairs.
        links: their matches, as keypoints of the model.
    """

    num_pairs: int
    weighed: WeighedPairs
    links: tuple[Link, ...]


class ArrivalMatching:
    """Matches and verifies pairs into a database that has their images.

    Args:
        config: of the run.
        features: of the scene.
        camera_from_name: intrinsics.
        matcher: with the store.
        verifier: with the store.
        database: receives matches and geometries.
        stored: pairs that it has already.
        excluded: pairs that are never matched.
        rows_from_name: keypoints of the rows of the features of all images.
        executor: computes batches of pairs.
        progress: called after each pair.
    """

    def __init__(
        self,
        config: ReconstructConfig,
        features: SceneFeatures,
        camera_from_name: Mapping[str, Camera],
        matcher: CachedMatcher,
        verifier: CachedVerifier,
        database: DatabaseWriter,
        stored: Collection[ImagePair],
        excluded: Collection[ImagePair],
        rows_from_name: RowsFromName,
        executor: Executor,
        progress: Progress,
    ) -> None:
        self._config, self._features, self._cameras = config, features, camera_from_name
        self._matcher, self._verifier, self._database = matcher, verifier, database
        self._stored, self._excluded, self._rows = frozenset(stored), frozenset(excluded), rows_from_name
        self._executor, self._progress = executor, progress
        self._counts = PairCounts(0)
        self._inliers: dict[ImagePair, Link] = {}
        self._asked: set[ImagePair] = set()

    def run(self, arrivals: Sequence[str], covisibility: Covisibility, num_among: int) -> MatchedArrivals:
        """Match images that may come into a model.

        Args:
            arrivals: names of the images.
            covisibility: of the model.
            num_among: each image of the model is matched with so many that share points with it, 0 if its points have
                our keypoints.
        """
        self._match(self._similar_pairs(arrivals, NUM_SIMILAR))
        matched = {name for pair in self._counts.verified for name in (pair.name0, pair.name1)}
        self._match(self._similar_pairs([name for name in arrivals if name not in matched], _NUM_SIMILAR_ALONE))
        self._match(covisibility.nearest(num_among))
        num_verified = _NUM_VERIFIED if self._config.density.is_on else _NUM_VERIFIED_SPARSE
        for _ in range(_NUM_ROUNDS):
            verified = {pair: record.num_inliers for pair, record in self._counts.verified.items()}
            pairs = suggested_by_points(
                arrivals, verified, self._asked, covisibility, num_verified, _MAX_PARTNERS, self._excluded
            )
            if not pairs:
                break
            self._match(pairs)
        sources = PairSources(self._features, self._cameras, self._matcher, self._verifier)
        weighed = weigh_scene(self._counts, sources, self._config.checks, self._executor)
        changed = {pair: (self._renumbered(pair, matches), found) for pair, (matches, found) in weighed.changed.items()}
        write_weighed_pairs(replace(weighed, changed=changed), self._database)
        return MatchedArrivals(len(self._asked - self._stored), weighed, self._links(weighed))

    def _match(self, pairs: Sequence[ImagePair]) -> None:
        pairs = [pair for pair in pairs if pair not in self._asked and pair not in self._excluded]
        self._asked.update(pairs)
        found = match_pairs(
            pairs, self._features, self._cameras, self._matcher, self._verifier, self._executor, self._progress
        )
        for result in found:
            if result.pair not in self._stored:
                self._database.add_pair(result.pair, self._renumbered(result.pair, result.matches), result.geometry)
            self._counts.add(result)
            if isinstance(result.geometry, TwoViewGeometry):
                indices = result.matches.indices[result.geometry.inlier_mask].astype(np.int64)
                self._inliers[result.pair] = Link(result.pair, indices)

    def _renumbered(self, pair: ImagePair, matches: Matches) -> Matches:
        """Matches of rows of features, as matches of keypoints of the model."""
        return replace(matches, indices=self._keypoints(pair, matches.indices).astype(np.int32))

    def _keypoints(self, pair: ImagePair, indices: Int32Array | IndexArray) -> IndexArray:
        rows = (self._rows[name][one] for name, one in zip((pair.name0, pair.name1), indices.T, strict=True))
        return np.stack(list(rows), axis=1)

    def _links(self, weighed: WeighedPairs) -> tuple[Link, ...]:
        links = []
        for pair in sorted(weighed.kept):
            indices = self._inliers[pair].indices
            if pair in weighed.changed:
                matches, geometry = weighed.changed[pair]
                assert isinstance(geometry, TwoViewGeometry)  # it is kept
                indices = matches.indices[geometry.inlier_mask].astype(np.int64)
            links.append(Link(pair, self._keypoints(pair, indices)))
        return tuple(links)

    def _similar_pairs(self, arrivals: Sequence[str], num: int) -> list[ImagePair]:
        """Each image with the most similar ones; with all others if there are hardly more."""
        names = sorted(self._features)
        if not arrivals or len(names) <= num + 1:
            return sorted({ImagePair.from_names(name, other) for name in arrivals for other in names if other != name})
        from sfm_lightglue.retrieval.describe import describe_scene

        similar = describe_scene(self._features, self._matcher.store, self._executor, self._progress)
        row_from_name = {name: row for row, name in enumerate(similar.names)}
        rows = np.array([row_from_name[name] for name in arrivals if name in row_from_name], np.int64)
        nearest, _ = similar.between(rows, np.arange(len(similar.names)), num)
        return sorted(
            {
                ImagePair.from_names(similar.names[row], similar.names[other])
                for row, others in zip(rows.tolist(), nearest.tolist(), strict=True)
                for other in others
                if other >= 0 and other != row
            }
        )
