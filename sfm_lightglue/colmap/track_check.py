"""Check that the tracks of 3D points and the keypoints of images refer to each other."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.model_content import INVALID_POINT_ID, ModelContent


def check_tracks(content: ModelContent, is_complete: bool) -> int:
    """Check the tracks of a model against the keypoints of its images.

    COLMAP stores each observation twice, in the track of its point and at the keypoint of its image. Other programs
    may write one of the two only, or take points out and leave the keypoints as they are. Where both are there, they
    must agree.

    Args:
        content: of the files.
        is_complete: no reference may be missing.

    Returns:
        Number of keypoints whose point the model does not have.

    Raises:
        DataError: if they contradict each other.
    """
    images, points = content.images, content.points
    num_keypoints = len(images.point_ids)
    from_tracks = np.full(num_keypoints, -1, np.int64)
    from_tracks[_keypoints_of_tracks(content)] = np.repeat(np.arange(len(points.ids)), points.track_lengths)
    is_seen = images.point_ids != INVALID_POINT_ID
    from_images = np.full(num_keypoints, -1, np.int64)
    from_images[is_seen] = _rows(points.ids, images.point_ids[is_seen])
    is_missing = is_seen & (from_images < 0)

    contradicting = from_tracks != from_images
    image_of_keypoint = np.repeat(np.arange(len(images.ids)), images.num_points)
    if not is_complete:  # a contradiction needs two sides: an image that knows its points, a point with a track
        knows_points = np.zeros(len(images.ids), np.bool_)
        knows_points[image_of_keypoint[is_seen]] = True
        has_track = np.append(points.track_lengths > 0, False)  # the last is that of no point
        is_half = (from_tracks < 0) & ~has_track[from_images]
        contradicting &= knows_points[image_of_keypoint] & ~is_half
    if contradicting.any():
        image_id = images.ids[image_of_keypoint[np.argmax(contradicting)]]
        raise content.damaged("points3D", f"it and the keypoints of image {image_id} contradict each other")
    if is_complete and is_missing.any():
        raise content.damaged("images", "a keypoint has a point that the model does not have")
    return int(is_missing.sum())


def _keypoints_of_tracks(content: ModelContent) -> AnyArray:
    """Index of the keypoint of each observation [T] among the keypoints of all images."""
    images, tracks = content.images, content.points.tracks
    row = _rows(images.ids, tracks[:, 0])
    if (row < 0).any():
        image_id = tracks[np.argmax(row < 0), 0]
        raise content.damaged("points3D", f"a track has image {image_id}, which the model does not have")
    if (tracks[:, 1] >= images.num_points[row]).any():
        raise content.damaged("points3D", "a track has a keypoint that its image does not have")
    where: AnyArray = (np.cumsum(images.num_points) - images.num_points)[row] + tracks[:, 1]
    if len(where) > 0 and np.bincount(where).max() > 1:
        raise content.damaged("points3D", "a keypoint is in two tracks")
    return where


def _rows(ids: AnyArray, wanted: AnyArray) -> AnyArray:
    """Index [N] of each wanted id among the unique ids, -1 where there is none."""
    if len(ids) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(ids, kind="stable")
    low, high = ids[order[0]], ids[order[-1]]
    if int(high) - int(low) < 8 * len(ids) + 1024:  # nearly consecutive, as COLMAP numbers them: a table is fast
        table = np.full(int(high) - int(low) + 1, -1, np.int64)
        table[(ids - low).astype(np.int64)] = np.arange(len(ids))
        inside = (wanted >= low) & (wanted <= high)
        rows = np.full(len(wanted), -1, np.int64)
        rows[inside] = table[(wanted[inside] - low).astype(np.int64)]
        return rows
    position = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    return np.where(ids[order[position]] == wanted, order[position], -1)
