"""Extract, match and verify the images of a scene as a stream, into a COLMAP database."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.matching import match_pairs
from sfm_lightglue.types import ImagePair, Rejected, Scene, TwoViewGeometry


@dataclass(slots=True)
class PairCounts:
    """How many pairs were matched and verified.

    Args:
        num_pairs: pairs that were matched.
        num_verified: pairs with a two-view geometry.
        best: largest number of inliers, and its pair; None if no pair was verified.
    """

    num_pairs: int
    num_verified: int = 0
    best: tuple[int, ImagePair] | None = None

    def add(self, pair: ImagePair, geometry: TwoViewGeometry | Rejected) -> None:
        """Count a pair."""
        if isinstance(geometry, TwoViewGeometry):
            self.num_verified += 1
            if self.best is None or geometry.num_inliers > self.best[0]:
                self.best = geometry.num_inliers, pair


def extract_scene(
    scene: Scene, extractor: CachedExtractor, executor: Executor = SERIAL, progress: Progress = silent
) -> SceneFeatures:
    """Features of all images of a scene; images that cannot be decoded are logged and left out.

    Raises:
        DataError: if no image can be decoded.
    """
    features = SceneFeatures(scene, extractor)
    features.extract(executor, progress)
    if len(features) == 0:
        raise DataError(f"{scene.root}: none of the {len(scene.images)} images can be decoded")
    return features


def match_scene(
    pairs: tuple[ImagePair, ...],
    features: SceneFeatures,
    database: DatabaseWriter,
    matcher: CachedMatcher,
    verifier: CachedVerifier,
    clock: Clock,
    executor: Executor = SERIAL,
    progress: Progress = silent,
) -> PairCounts:
    """Match and verify pairs, and write each into a database that contains their images.

    Args:
        pairs: pairs of images without features are skipped.
        features: of the scene.
        database: receives matches and geometries.
        matcher: with the store.
        verifier: with the store.
        clock: receives the time of the stages "match" and "verify".
        executor: computes batches of pairs.
        progress: called after each pair.
    """
    camera_from_name = {image.name: image.camera for image in features.decoded_images}
    usable = [pair for pair in pairs if {pair.name0, pair.name1} <= camera_from_name.keys()]
    counts = PairCounts(len(usable))
    worked = dict.fromkeys(("match", "verify"), 0.0)
    start = time.perf_counter()
    for result in match_pairs(usable, features, camera_from_name, matcher, verifier, executor, progress):
        database.add_pair(result.pair, result.matches, result.geometry)
        counts.add(result.pair, result.geometry)
        worked["match"] += result.match_seconds
        worked["verify"] += result.verify_seconds
    _share_out(time.perf_counter() - start, worked, clock)
    return counts


def _share_out(wall_seconds: float, worked: Mapping[str, float], clock: Clock) -> None:
    """Divide the wall time of matching and verification, which run at the same time, in proportion to their work."""
    total = sum(worked.values())
    for stage, seconds in worked.items():
        clock.seconds[stage] += wall_seconds * (seconds / total if total else 1 / len(worked))
