"""Which images of a map a query is matched with."""

from __future__ import annotations

from collections.abc import Sequence

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


def choose_candidates(
    index: ImageIndex, features: Features, points: MapPoints, num: int, num_first: int
) -> tuple[list[str], list[str]]:
    """The most similar images, and some of other places that are nearly as similar.

    If two places look alike, the images of one of them may all be more similar. Images of the other one are needed to
    see that the pose is ambiguous.

    Args:
        index: of the images of the map.
        features: of the query.
        points: of the map; images without a common point are of different places.
        num: largest number of images.
        num_first: number of the most similar ones that are matched first.

    Returns:
        The images that are matched first, with those of other places, and the other ones.
    """
    similar = index.query(features, _NUM_ASKED * num)
    names = [name for name, _ in similar]
    if len(similar) <= num:
        rivals = _rivals(similar, num_first, points, len(similar))
        first = [*names[:num_first], *rivals]
        return first, [name for name in names if name not in first]
    num_rivals = int(_RIVAL_SHARE * num)
    rivals = _rivals(similar, num - num_rivals, points, num_rivals)
    first = [*names[:num_first], *rivals]
    others = [name for name in names if name not in first]
    return first, others[: max(0, num - len(first))]


def _rivals(similar: Sequence[tuple[str, float]], num_own: int, points: MapPoints, most: int) -> list[str]:
    """Images of other places than the most similar ones, which are nearly as similar.

    Args:
        similar: names and similarities, the most similar first.
        num_own: images of the place.
        points: of the map; images without a common point are of different places.
        most: largest number of images.
    """
    own = [name for name, _ in similar[:num_own]]
    if most == 0 or len(own) == len(similar):
        return []
    ids, limit = np.unique(np.concatenate([points.observed_ids(name) for name in own])), similar[0][1]
    found: list[str] = []
    for name, similarity in similar[num_own:]:
        if len(found) == most or similarity < _RIVAL_SIMILARITY * limit:
            break
        seen = points.observed_ids(name)
        if len(seen) > 0 and not np.isin(seen, ids, assume_unique=True).any():
            found.append(name)
    return found
