"""Images that match no other one because they are stored turned, which their EXIF data do not say."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.types import Camera, ImagePair, TwoViewGeometry

logger = logging.getLogger(__name__)

TURNS_VERSION = 1
"""Number to raise when a change of the code turns other images."""

_NUM_PARTNERS = 3
"""Images that a turned image is matched with: the most similar ones."""


@dataclass(frozen=True, eq=False, slots=True)
class TurnedImages:
    """Finds out how images that match no other one must be turned.

    Args:
        features: of the scene.
        camera_from_name: intrinsics.
        matcher: with the store.
        verifier: with the store.
        executor: works on several images at a time.
    """

    features: SceneFeatures
    camera_from_name: Mapping[str, Camera]
    matcher: CachedMatcher
    verifier: CachedVerifier
    executor: Executor = SERIAL

    def find(self, names: Sequence[str], similar: SimilarImages, plan: PairPlan) -> dict[str, int]:
        """Clockwise quarter turns, 1 to 3, of the images that match another one only if they are turned.

        Each image is turned in three ways and matched with the images that look most similar; the way with most
        inliers counts. It is cheap, because pairs that do not match end after their first keypoints.

        Args:
            names: images without a verified pair.
            similar: global descriptors of the scene.
            plan: an image is matched with images only that it could be paired with.
        """
        row_from_name = {name: row for row, name in enumerate(similar.names)}
        known = [name for name in names if name in row_from_name]
        num_others = len(similar) if plan.is_exact else _NUM_PARTNERS + len(plan.excluded)
        nearest, _ = similar.between([row_from_name[name] for name in known], np.arange(len(similar)), num_others)
        others = [[similar.names[row] for row in rows if row >= 0] for rows in nearest.tolist()]
        partners = [
            list(islice((one for one in near if plan.allows(ImagePair.from_names(name, one))), _NUM_PARTNERS))
            for name, near in zip(known, others, strict=True)
        ]
        found = self.executor.map(lambda item: self._turns_of(*item), zip(known, partners, strict=True))
        return {name: turns for name, turns in zip(known, found, strict=True) if turns > 0}

    def _turns_of(self, name: str, partners: Sequence[str]) -> int:
        """The best number of turns of an image; 0 if it matches none of its partners in any way."""
        try:
            inliers = [sum(self._num_inliers(name, turns, partner) for partner in partners) for turns in (1, 2, 3)]
        except DataError as error:
            logger.debug("%s: not turned: %s", name, error)
            return 0
        return 1 + int(np.argmax(inliers)) if max(inliers, default=0) > 0 else 0

    def _num_inliers(self, name: str, turns: int, partner: str) -> int:
        features = {name: self.features.turned(name, turns), partner: self.features[partner]}
        pair = ImagePair.from_names(name, partner)
        both = features[pair.name0], features[pair.name1]
        cameras = self.camera_from_name[pair.name0], self.camera_from_name[pair.name1]
        geometry = self.verifier.verify(pair, both, self.matcher.match(*both), cameras)
        return geometry.num_inliers if isinstance(geometry, TwoViewGeometry) else 0


def most_turned(num_images: int) -> int:
    """Number of images without a verified pair up to which they are turned.

    Of more, most show something else: photos that are stored turned alike match each other.
    """
    return max(5, num_images // 5)


def encode_turns(turns_from_name: Mapping[str, int]) -> dict[str, AnyArray]:
    """Turns as arrays of an entry of the store."""
    return {"turns": np.array(json.dumps(dict(turns_from_name), sort_keys=True))}


def decode_turns(arrays: Mapping[str, AnyArray]) -> dict[str, int]:
    """The turns of an entry of the store.

    Raises:
        Exception: if it holds something else.
    """
    turns = {str(name): int(value) for name, value in json.loads(str(arrays["turns"])).items()}
    if not {*turns.values()} <= {1, 2, 3}:
        raise ValueError("not quarter turns")
    return turns


def turn_images(features: SceneFeatures, turns_from_name: Mapping[str, int]) -> None:
    """Use the features of the turned images, and tell the user.

    Args:
        features: of the scene.
        turns_from_name: clockwise quarter turns of images.

    Raises:
        DataError: if an image can no longer be read.
    """
    for name, turns in sorted(turns_from_name.items()):
        if features.is_turned(name):
            continue
        features.turn(name, turns)
        logger.warning(
            "%s: matches other images only if it is turned by %d degrees clockwise, which its EXIF data do not say; its"
            " features are those of the turned image",
            name,
            90 * turns,
        )
