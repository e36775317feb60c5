"""Points that too few images observe leave a model."""

from __future__ import annotations

from collections.abc import Collection

import pycolmap


def short_tracks(model: pycolmap.Reconstruction, min_views: int) -> list[int]:
    """Ids of the points with fewer than `min_views` observations, ascending."""
    points = model.points3D
    return sorted(point_id for point_id in model.point3D_ids() if points[point_id].track.length() < min_views)


def remove_short_tracks(model: pycolmap.Reconstruction, min_views: int, kept: Collection[int] = ()) -> int:
    """Remove the points with fewer than `min_views` observations.

    A filter of reprojection errors leaves points of two observations. Of a point that had three, the third did not fit
    the others: the two may be a wrong match.

    Args:
        model: changed in place.
        min_views: smallest number of observations; each image observes a point once.
        kept: ids of points that stay in any case.

    Returns:
        Number of the removed points.
    """
    removed = sorted(set(short_tracks(model, min_views)) - set(kept))
    for point_id in removed:
        model.delete_point3D(point_id)
    return len(removed)
