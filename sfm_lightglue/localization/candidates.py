"""Which images of a map a query is matched with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.retrieval.image_index import ImageIndex

_NUM_ASKED = 4
"""Similar images that are looked at for each one that is chosen."""

RIVAL_SIMILARITY = 0.6
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
        The images that are matched first, with those of other places, and the other ones: all different, and `num` at
        most.
    """
    similar = index.query(features, _NUM_ASKED * num)
    names = [name for name, _ in similar]
    num_near = num if len(similar) <= num else num - int(_RIVAL_SHARE * num)
    place = names[: min(num_first, num_near)]
    rivals = [name for name, similarity in similar[num_near:] if similarity >= RIVAL_SIMILARITY * similar[0][1]]
    rivals = _of_other_places(rivals, place, points)[: num - num_near]
    fill = [name for name in names[num_near:] if name not in rivals][: num - num_near - len(rivals)]
    chosen = [name for name in names if name in {*names[:num_near], *rivals, *fill}]
    # An image of another place may show that a pose is ambiguous, so no pose is accepted before it was matched.
    first = [*chosen[:num_first], *_of_other_places(chosen[num_first:], chosen[:num_first], points)]
    return first, [name for name in chosen if name not in first]


def _of_other_places(names: Sequence[str], place: Sequence[str], points: MapPoints) -> list[str]:
    """Those of some images that see points of the map, but none that an image of `place` sees."""
    if len(names) == 0 or len(place) == 0:
        return []
    ids = np.unique(np.concatenate([points.observed_ids(name) for name in place]))
    seen = {name: points.observed_ids(name) for name in names}
    return [name for name in names if len(seen[name]) > 0 and not np.isin(seen[name], ids, assume_unique=True).any()]
