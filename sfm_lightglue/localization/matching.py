"""Matches of an image with the 3D points of a map, collected from several images of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.features import Features
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.localization.result import SupportingImage
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.stages.distributed import in_batches


@dataclass(frozen=True, eq=False, slots=True)
class PointMatches:
    """Matches of the keypoints of an image with 3D points; each point is matched once.

    Args:
        rows: [M] keypoints.
        point_ids: [M] points, all different.
        xyz: [M, 3] their positions.
        found_by: for each image of the map, the pairs (row, point) [M_i, 2] that it gave.
    """

    rows: IndexArray
    point_ids: IndexArray
    xyz: Float64Array
    found_by: Mapping[str, IndexArray]

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints with a match: one can match points of several places."""
        return len(np.unique(self.rows))

    def num_keypoints_of(self, fits: BoolArray) -> int:
        """Number of keypoints that have one of some matches [M]."""
        return len(np.unique(self.rows[fits]))

    def supporting(self, fits: BoolArray | None) -> tuple[SupportingImage, ...]:
        """The images of the map with the numbers of their matches, those with most inliers first.

        Args:
            fits: [M] which matches fit the pose; None without a pose.
        """
        inliers = set()
        if fits is not None:
            inliers = set(zip(self.rows[fits].tolist(), self.point_ids[fits].tolist(), strict=True))
        found = [
            SupportingImage(name, len(pairs), sum(tuple(pair) in inliers for pair in pairs.tolist()))
            for name, pairs in self.found_by.items()
            if len(pairs) > 0
        ]
        return tuple(sorted(found, key=lambda one: (-one.num_inliers, -one.num_matches, one.name)))


@dataclass(frozen=True, eq=False, slots=True)
class ImageMatches:
    """Matches of the keypoints of an image with the points that one image of the map sees.

    Args:
        pairs: [M, 2] of (keypoint, point).
        scores: [M] of the matcher.
        xyz: [M, 3] positions of the points.
    """

    pairs: IndexArray
    scores: Float64Array
    xyz: Float64Array


def match_with_points(
    features: Features,
    names: Sequence[str],
    map_features: Mapping[str, Features],
    points: MapPoints,
    matcher: Matcher,
    num_threads: int = 1,
) -> dict[str, ImageMatches]:
    """Match an image with images of a map, and look up the 3D points that their features have.

    Args:
        features: of the image.
        names: of images of the map.
        map_features: their features.
        points: of the map.
        matcher: of features.
        num_threads: largest number of pairs that are matched at a time. Pairs on one core each are faster than a pair
            on all cores; if there are fewer pairs than threads, each one takes a larger share of the cores.
    """
    others = [map_features[name] for name in names]
    batches = list(in_batches([(features, other) for other in others], matcher.batch_size))
    executor = ThreadExecutor(max(1, min(num_threads, len(batches))))
    matched = [one for batch in executor.map(matcher.match_batch, batches) for one in batch]
    found = {}
    for name, other, matches in zip(names, others, matched, strict=True):
        own = points.of(name, other)
        rows, other_rows = matches.indices.T.astype(np.int64)
        kept = own.has_point[other_rows]
        pairs = np.stack([rows, own.point_ids[other_rows]], axis=1)[kept]
        found[name] = ImageMatches(pairs, matches.scores[kept].astype(np.float64), own.xyz[other_rows[kept]])
    return found


def collected(found: Mapping[str, ImageMatches]) -> PointMatches:
    """The matches with the images of a map as one.

    If several keypoints match one point, the pair that most images gave is kept, then the one with the highest score.

    Args:
        found: of each image of the map.
    """
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(one.pairs for one in found.values())])
    scores = np.concatenate([np.zeros(0), *(one.scores for one in found.values())])
    positions = np.concatenate([np.zeros((0, 3)), *(one.xyz for one in found.values())])
    chosen = _one_of_each_point(pairs, scores)
    by_image = {name: one.pairs for name, one in found.items()}
    return PointMatches(pairs[chosen, 0], pairs[chosen, 1], positions[chosen], by_image)


def _one_of_each_point(pairs: IndexArray, scores: Float64Array) -> IndexArray:
    """Rows of the chosen pairs [M, 2] of (keypoint, point), ordered by keypoint, then point."""
    _, inverse, votes = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((pairs[:, 0], -scores, -votes[inverse.ravel()], pairs[:, 1]))
    _, first = np.unique(pairs[order, 1], return_index=True)
    chosen = order[first]
    return chosen[np.lexsort((pairs[chosen, 1], pairs[chosen, 0]))]
