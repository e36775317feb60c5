"""Which images of a rendered scene truly show the same surface, by depth and pose."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.synthetic.render import SyntheticScene, corresponding_points

_STEP_PX = 12


def overlap_matrix(scene: SyntheticScene) -> Float64Array:
    """Overlaps [N, N] of the images, in the order of `scene.names`.

    Returns:
        Fraction of the surface seen in image i, by area in the image, that image j sees; 1 on the diagonal.
    """
    overlaps = np.eye(len(scene.names))
    start = _STEP_PX // 2
    totals = [max(int((scene.depths[name][start::_STEP_PX, start::_STEP_PX] > 0).sum()), 1) for name in scene.names]
    for i, j in combinations(range(len(scene.names)), 2):
        for first, second in ((i, j), (j, i)):
            points, _ = corresponding_points(scene, scene.names[first], scene.names[second], _STEP_PX)
            overlaps[first, second] = len(points) / totals[first]
    return overlaps


def connected_groups(names: tuple[str, ...], overlaps: Float64Array, min_overlap: float = 0.2) -> list[list[str]]:
    """Groups of images that overlaps connect, the largest first.

    Args:
        names: of the images.
        overlaps: [N, N] in this order, see `overlap_matrix`.
        min_overlap: both overlaps of a pair must be at least this.
    """
    joined = np.minimum(overlaps, overlaps.T) >= min_overlap
    group = np.arange(len(names))
    for i, j in combinations(range(len(names)), 2):
        if joined[i, j]:
            group[group == group[j]] = group[i]
    groups = [[names[row] for row in np.flatnonzero(group == label)] for label in np.unique(group)]
    return sorted(groups, key=lambda members: (-len(members), members))
