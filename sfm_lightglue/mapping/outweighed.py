"""Images of a model whose pose is contradicted by more than what speaks for it, in a scene with places that look alike.

Doubtful pairs take no part in mapping among twins, and a single improbable one is no evidence. But an image whose
strongest pairs lead elsewhere than the few weak ones by which it was registered is probably at the place of a twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.image_points import point_ids_of
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.types import ImagePair

_MIN_POINTS = 8
"""Fewest matches with a point in both images that tell whether a model agrees with a pair."""

_MIN_SAME, _MAX_SAME = 0.5, 0.2
"""A model agrees with a pair if at least the first fraction of these matches have one point, and contradicts it if at
most the second one have."""

_MIN_AGAINST = 50.0
"""Smallest weight against an image: as of 50 inliers of a sure pair."""

_MIN_IMAGES = 4
"""Smallest number of images of a model that is examined."""


def most_outweighed_image(
    model: pycolmap.Reconstruction,
    pairs: Sequence[StoredPair],
    doubtful: Mapping[ImagePair, AnyArray],
    probability: Mapping[ImagePair, float],
) -> str | None:
    """The image with the most weight against its pose, relative to that for it; None if no weight against is larger.

    A pair weighs its number of inliers, times the probability that it shows one place. In rendered scenes with twins,
    what speaks against right images was at most .7 of what speaks for them, and 1.7 at a wrong one.

    Args:
        model: of the scene.
        pairs: that took part in mapping.
        doubtful: keypoints [K, 2] of the inliers of probably wrong pairs, by pair.
        probability: that a pair shows the same place; 1 if it is not known.
    """
    point_ids = {model.images[i].name: point_ids_of(model.images[i]) for i in sorted(model.reg_image_ids())}
    if len(point_ids) < _MIN_IMAGES or not doubtful:
        return None
    rows = {ImagePair.from_names(each.name0, each.name1): _rows(each) for each in pairs if not each.is_static}
    weights = {name: np.zeros(2) for name in point_ids}  # for and against
    for pair, inliers in sorted((rows | dict(doubtful)).items()):
        if pair.name0 not in point_ids or pair.name1 not in point_ids:
            continue
        ids = np.stack([point_ids[pair.name0][inliers[:, 0]], point_ids[pair.name1][inliers[:, 1]]])
        has_points = (ids >= 0).all(axis=0)
        if has_points.sum() < _MIN_POINTS:
            continue
        same = float((ids[0] == ids[1])[has_points].mean())
        weight = len(inliers) * probability.get(pair, 1.0) * np.array([same >= _MIN_SAME, same <= _MAX_SAME])
        weights[pair.name0] += weight
        weights[pair.name1] += weight
    outweighed = {
        name: float(against / max(own, 1e-9))
        for name, (own, against) in weights.items()
        if against > own and against >= _MIN_AGAINST
    }
    return max(sorted(outweighed), key=lambda name: outweighed[name]) if outweighed else None


def _rows(pair: StoredPair) -> AnyArray:
    """Keypoints [K, 2] of the inliers, in the order of the names."""
    rows = np.stack([pair.rows0, pair.rows1], axis=1)
    return rows if pair.name0 <= pair.name1 else rows[:, ::-1]
