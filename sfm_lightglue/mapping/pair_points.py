"""Verified pairs whose inliers connect different points of a model."""

from __future__ import annotations

from collections.abc import Mapping

import pycolmap

from sfm_lightglue.arrays import AnyArray, IndexArray
from sfm_lightglue.colmap.image_points import point_ids_of
from sfm_lightglue.types import ImagePair

_FEW_POINTS = 0.2
"""The inliers of a wrong pair agree with a right model by chance only: at most this fraction of those whose keypoints
both have points has one common point."""

_MIN_INLIERS = 10
"""Fewest inliers whose keypoints both have points. A keypoint without a point is no evidence."""


def pairs_without_points(
    model: pycolmap.Reconstruction, inliers_from_pair: Mapping[ImagePair, AnyArray]
) -> frozenset[ImagePair]:
    """The pairs of images of a model whose inliers connect different points of it: they contradict the model.

    In a row of equal things, neighbours can be matched by the wrong thing. Such a pair is wrong, but its images do see
    one place, and the model may know that by other pairs.

    Args:
        model: of the database of the keypoints.
        inliers_from_pair: [K, 2] keypoints of both images.
    """
    images = {model.images[image_id].name: model.images[image_id] for image_id in model.reg_image_ids()}
    ids_from_name: dict[str, IndexArray] = {}
    found = set()
    for pair, inliers in inliers_from_pair.items():
        names = pair.name0, pair.name1
        if len(inliers) == 0 or not images.keys() >= {*names}:
            continue
        for name in names:
            if name not in ids_from_name:
                ids_from_name[name] = point_ids_of(images[name])
        ids0, ids1 = (ids_from_name[name][inliers[:, side]] for side, name in enumerate(names))
        has_points = (ids0 >= 0) & (ids1 >= 0)
        if has_points.sum() >= _MIN_INLIERS and (ids0 == ids1)[has_points].mean() <= _FEW_POINTS:
            found.add(pair)
    return frozenset(found)
