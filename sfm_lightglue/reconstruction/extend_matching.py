"""Match the images that come into a model: with similar ones, then with those that see the same points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sfm_lightglue.arrays import IndexArray, Int32Array
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.mapping.extend_pairs import Covisibility, suggested_by_points
from sfm_lightglue.mapping.extend_registration import Link
from sfm_lightglue.pairs.transitive import TransitiveConfig
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.retrieval.describe import describe_scene
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts
from sfm_lightglue.stages.matching import PairResult, match_pairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.stages.turned_images import TurnedImages, most_turned, turn_images
from sfm_lightglue.stages.weighed_pairs import PairSources, WeighedPairs, weigh_scene, write_weighed_pairs
from sfm_lightglue.types import Camera, ImagePair, Matches, Rejected, SceneImage, TwoViewGeometry

NUM_SIMILAR = 4
"""Number of similar images that each image is matched with at first."""

_NUM_SIMILAR_ALONE = 12
"""Number of similar images that an image is matched with if none of the first ones is a verified partner."""

_NUM_VERIFIED, _NUM_VERIFIED_SPARSE = 3, 10
"""Images with fewer verified partners are matched with further ones; the dense layer needs fewer of them, because it is
matched with all images that see the same points."""

MAX_PARTNERS = 15
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
        database: receives images, matches and geometries.
        new_images: that it does not have.
        stored: pairs that it has already.
        excluded: pairs that are never matched.
        rows_from_name: keypoints of the rows of the features of all images; changed for images that are turned.
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
        new_images: Sequence[SceneImage],
        stored: Collection[ImagePair],
        excluded: Collection[ImagePair],
        rows_from_name: dict[str, IndexArray],
        executor: Executor,
        progress: Progress,
    ) -> None:
        self._config, self._features, self._cameras = config, features, camera_from_name
        self._matcher, self._verifier, self._database = matcher, verifier, database
        self._stored, self._excluded, self._rows = frozenset(stored), frozenset(excluded), rows_from_name
        self._executor, self._progress, self._new_images = executor, progress, tuple(new_images)
        self._counts = PairCounts(0)
        self._found: dict[ImagePair, tuple[Matches, TwoViewGeometry | Rejected]] = {}

    def run(self, arrivals: Sequence[str], covisibility: Covisibility, num_among: int) -> MatchedArrivals:
        """Match images that may come into a model.

        Args:
            arrivals: names of the images.
            covisibility: of the model.
            num_among: each image of the model is matched with so many that share points with it, 0 if its points have
                our keypoints.
        """
        self._match(self._similar_pairs(arrivals, NUM_SIMILAR))
        self._match(self._similar_pairs(self._alone(arrivals), _NUM_SIMILAR_ALONE))
        self._turn(self._alone(arrivals))
        self._match(covisibility.nearest(num_among))
        num_verified = _NUM_VERIFIED if self._config.density.is_on else _NUM_VERIFIED_SPARSE
        for _ in range(_NUM_ROUNDS):
            verified = {pair: record.num_inliers for pair, record in self._counts.verified.items()}
            pairs = suggested_by_points(
                arrivals, verified, self._found, covisibility, num_verified, MAX_PARTNERS, self._excluded
            )
            if not pairs:
                break
            self._match(pairs)
        self._write()
        sources = PairSources(self._features, self._cameras, self._matcher, self._verifier)
        weighed = weigh_scene(self._counts, sources, self._config.checks, self._executor)
        changed = {pair: (self._renumbered(pair, matches), found) for pair, (matches, found) in weighed.changed.items()}
        write_weighed_pairs(replace(weighed, changed=changed), self._database)
        return MatchedArrivals(len(self._found.keys() - self._stored), weighed, self._links(weighed))

    def _match(self, pairs: Sequence[ImagePair]) -> None:
        pairs = [pair for pair in pairs if pair not in self._found and pair not in self._excluded]
        found = match_pairs(
            pairs, self._features, self._cameras, self._matcher, self._verifier, self._executor, self._progress
        )
        for result in found:
            self._counts.add(result)
            self._found[result.pair] = result.matches, result.geometry

    def _alone(self, names: Sequence[str]) -> list[str]:
        """The images without a verified pair."""
        verified = {name for pair in self._counts.verified for name in (pair.name0, pair.name1)}
        return [name for name in names if name not in verified]

    def _turn(self, names: Sequence[str]) -> None:
        """Turn images that match others only then, and match them again."""
        upright = {image.name for image in self._new_images if image.quarter_turns == 0}
        names = [name for name in names if name in upright]
        if not 0 < len(names) <= most_turned(len(self._features)):
            return
        similar = describe_scene(self._features, self._matcher.store, self._executor, self._progress)
        turned = TurnedImages(self._features, self._cameras, self._matcher, self._verifier, self._executor)
        turns = turned.find(names, similar, PairPlan((), TransitiveConfig(), sorted(self._excluded)))
        if not turns:
            return
        turn_images(self._features, turns)
        for name in turns:
            self._rows[name] = np.arange(len(self._features.dense(name).keypoints))
        again = [pair for pair in self._found if not turns.keys().isdisjoint((pair.name0, pair.name1))]
        for pair in again:
            del self._found[pair]
        self._match(again)
        self._count_anew()

    def _count_anew(self) -> None:
        """Count what was found: results of images in their wrong orientation count no longer."""
        self._counts = PairCounts(0)
        for pair, (matches, geometry) in self._found.items():
            keypoints = self._features.keypoints_of(pair.name0), self._features.keypoints_of(pair.name1)
            self._counts.add(PairResult(pair, keypoints, matches, geometry, 0.0, 0.0))

    def _write(self) -> None:
        """Write the images and pairs that the database does not have."""
        for image in self._new_images:
            self._database.add_image(image, self._features.dense(image.name).keypoints)
        for pair, (matches, geometry) in self._found.items():
            if pair not in self._stored:
                self._database.add_pair(pair, self._renumbered(pair, matches), geometry)

    def _renumbered(self, pair: ImagePair, matches: Matches) -> Matches:
        """Matches of rows of features, as matches of keypoints of the model."""
        indices = self._keypoints(pair, matches.indices).astype(np.int32)
        return replace(matches, indices=indices, asked0=None, asked1=None)

    def _keypoints(self, pair: ImagePair, indices: Int32Array | IndexArray) -> IndexArray:
        rows = (self._rows[name][one] for name, one in zip((pair.name0, pair.name1), indices.T, strict=True))
        return np.stack(list(rows), axis=1)

    def _links(self, weighed: WeighedPairs) -> tuple[Link, ...]:
        links = []
        for pair in sorted(weighed.kept):
            matches, geometry = weighed.changed.get(pair, self._found[pair])
            assert isinstance(geometry, TwoViewGeometry)  # it is kept
            indices = matches.indices[geometry.inlier_mask].astype(np.int64)
            links.append(Link(pair, self._keypoints(pair, indices)))
        return tuple(links)

    def _similar_pairs(self, arrivals: Sequence[str], num: int) -> list[ImagePair]:
        """Each image with the most similar ones; with all others if there are hardly more."""
        names = sorted(self._features)
        if not arrivals or len(names) <= num + 1:
            return sorted({ImagePair.from_names(name, other) for name in arrivals for other in names if other != name})
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
