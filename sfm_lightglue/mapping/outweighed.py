"""Images of a model whose pose is contradicted by more than what speaks for it, in a scene with places that look alike.

Doubtful pairs take no part in mapping among twins, and a single improbable one is no evidence. But an image whose
strongest pairs lead elsewhere than the few weak ones by which it was registered is probably at the place of a twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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

_MIN_PROBABILITY = 0.1
"""A less probable pair says nothing against a pose: a right model contradicts all pairs of different places. Pairs that
joined places that look alike in an earlier model are less probable, too."""

_MIN_AGAINST = 50.0
"""Smallest weight against an image: as of 50 inliers of a sure pair."""

_MIN_IMAGES = 4
"""Smallest number of images of a model that is examined."""


@dataclass(slots=True)
class _Evidence:
    """Weights of the pairs of an image, by the other image: of those that agree with its pose, and of the others."""

    own: dict[str, float] = field(default_factory=dict)
    against: dict[str, float] = field(default_factory=dict)

    def ratio(self) -> float:
        """The weight against the pose, relative to that for it; 0 if it is not larger or too small.

        As many pairs count against the pose as for it, the strongest ones: each view of twins has wrong pairs with many
        others, but few neighbours. Without a pair that agrees, nothing is known for the pose, and the ratio is 0.
        """
        strongest = sorted(self.against.values(), reverse=True)[: len(self.own)]
        own, against = sum(self.own.values()), sum(strongest)
        return against / own if against > own and against >= _MIN_AGAINST else 0.0

    def forget(self, name: str) -> None:
        """Leave out the pair with an image."""
        self.own.pop(name, None)
        self.against.pop(name, None)


def outweighed_images(
    model: pycolmap.Reconstruction,
    pairs: Sequence[StoredPair],
    doubtful: Mapping[ImagePair, AnyArray],
    probability: Mapping[ImagePair, float],
) -> list[str]:
    """The images with more weight against their pose than for it, the worst one first.

    A pair weighs its number of inliers, times the probability that it shows one place. Each image that is found takes
    its pairs with it, before the next one is looked for: a wrong image contradicts right ones.

    Args:
        model: of the scene.
        pairs: that took part in mapping.
        doubtful: keypoints [K, 2] of the inliers of probably wrong pairs, by pair.
        probability: that a pair shows the same place; 1 if it is not known.
    """
    if model.num_reg_images() < _MIN_IMAGES or not doubtful:
        return []
    evidence = _evidence(model, pairs, doubtful, probability)
    ratios = {name: each.ratio() for name, each in evidence.items()}
    found: list[str] = []
    while len(ratios) >= _MIN_IMAGES:
        worst = max(sorted(ratios), key=lambda name: ratios[name])
        if ratios[worst] == 0:
            break
        found.append(worst)
        del ratios[worst]
        for name in (evidence[worst].own | evidence[worst].against).keys() & ratios.keys():
            evidence[name].forget(worst)
            ratios[name] = evidence[name].ratio()
    return found


def _evidence(
    model: pycolmap.Reconstruction,
    pairs: Sequence[StoredPair],
    doubtful: Mapping[ImagePair, AnyArray],
    probability: Mapping[ImagePair, float],
) -> dict[str, _Evidence]:
    """What pairs say for and against the poses of the images of a model, by name; arguments as above."""
    point_ids = {model.images[i].name: point_ids_of(model.images[i]) for i in sorted(model.reg_image_ids())}
    rows = {ImagePair.from_names(each.name0, each.name1): _rows(each) for each in pairs if not each.is_static}
    evidence = {name: _Evidence() for name in point_ids}
    for pair, inliers in sorted((rows | dict(doubtful)).items()):
        if pair.name0 not in point_ids or pair.name1 not in point_ids:
            continue
        ids = np.stack([point_ids[pair.name0][inliers[:, 0]], point_ids[pair.name1][inliers[:, 1]]])
        has_points = (ids >= 0).all(axis=0)
        if has_points.sum() < _MIN_POINTS:
            continue
        same, certainty = float((ids[0] == ids[1])[has_points].mean()), probability.get(pair, 1.0)
        for name, other in _both_ways(pair):
            if same >= _MIN_SAME:
                evidence[name].own[other] = len(inliers) * certainty
            elif same <= _MAX_SAME and certainty >= _MIN_PROBABILITY:
                evidence[name].against[other] = len(inliers) * certainty
    return evidence


def _both_ways(pair: ImagePair) -> Iterator[tuple[str, str]]:
    yield pair.name0, pair.name1
    yield pair.name1, pair.name0


def _rows(pair: StoredPair) -> AnyArray:
    """Keypoints [K, 2] of the inliers, in the order of the names."""
    rows = np.stack([pair.rows0, pair.rows1], axis=1)
    return rows if pair.name0 <= pair.name1 else rows[:, ::-1]
