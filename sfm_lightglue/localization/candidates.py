"""Which images of a map a query is matched with."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.retrieval.image_index import ImageIndex

_NUM_ASKED = 4
"""Similar images that are looked at for each one that is chosen."""

_RIVAL_SIMILARITY = 0.6
"""An image of another place is matched too if it is at least so similar, compared with the most similar one."""

_RIVAL_SHARE = 0.25
"""Fraction of the chosen images that may be of other places."""


def choose_candidates(index: ImageIndex, features: Features, points: MapPoints, num: int) -> list[str]:
    """The most similar images, and some of other places that are nearly as similar.

    If two places look alike, the images of one of them may all be more similar. Images of the other one are needed to
    see that the pose is ambiguous.

    Args:
        index: of the images of the map.
        features: of the query.
        points: of the map; images without a common point are of different places.
        num: largest number of images.
    """
    similar = index.query(features, _NUM_ASKED * num)
    if len(similar) <= num:
        return [name for name, _ in similar]
    num_rivals = int(_RIVAL_SHARE * num)
    chosen = [name for name, _ in similar[: num - num_rivals]]
    limit = _RIVAL_SIMILARITY * similar[0][1]
    ids = np.unique(np.concatenate([points.observed_ids(name) for name in chosen]))
    for name, similarity in similar[num - num_rivals :]:
        if len(chosen) == num or similarity < limit:
            break
        own = points.observed_ids(name)
        if len(own) > 0 and not np.isin(own, ids, assume_unique=True).any():
            chosen.append(name)
    rest = (name for name, _ in similar if name not in chosen)
    return [*chosen, *(name for name, _ in zip(rest, range(num - len(chosen)), strict=False))]
