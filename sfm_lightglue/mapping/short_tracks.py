"""Points that too few images observe leave a model."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pycolmap

from sfm_lightglue.colmap.image_points import observed_ids


def num_views_of_points(model: pycolmap.Reconstruction) -> dict[int, int]:
    """Number of images that observe each point, by its id, ascending.

    An image may observe a point more than once in the model of another tool.
    """
    points = model.points3D
    return {point_id: _num_views(points[point_id]) for point_id in sorted(model.point3D_ids())}


def _num_views(point: pycolmap.Point3D) -> int:
    return len({element.image_id for element in point.track.elements})


def short_tracks(model: pycolmap.Reconstruction, min_views: int) -> list[int]:
    """Ids of the points that fewer than `min_views` images observe, ascending."""
    ids = np.array(sorted(model.point3D_ids()), np.int64)
    seen = [np.unique(observed_ids(model.images[image_id])) for image_id in sorted(model.reg_image_ids())]
    observed, num_images = np.unique(np.concatenate([ids[:0], *seen]), return_counts=True)
    few = ids[~np.isin(ids, observed[num_images >= min_views])].tolist()
    # Images of other tools may not know their points: only the tracks tell for sure.
    return [point_id for point_id in few if _num_views(model.points3D[point_id]) < min_views]


def remove_short_tracks(model: pycolmap.Reconstruction, min_views: int, kept: Collection[int] = ()) -> int:
    """Remove the points that fewer than `min_views` images observe.

    A filter of reprojection errors leaves points of two observations. Of a point that had three, the third did not fit
    the others: the two may be a wrong match.

    Args:
        model: changed in place.
        min_views: smallest number of images.
        kept: ids of points that stay in any case.

    Returns:
        Number of the removed points.
    """
    removed = sorted(set(short_tracks(model, min_views)) - set(kept))
    for point_id in removed:
        model.delete_point3D(point_id)
    return len(removed)
