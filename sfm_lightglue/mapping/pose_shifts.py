"""By how much an adjustment moved images: the reprojection errors that it took away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.image_points import observed_ids, observing_keypoints, pixels_of


def keypoint_errors(model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> list[Float64Array]:
    """Reprojection errors of the keypoints of images.

    Args:
        model: with points.
        image_ids: registered images.

    Returns:
        For each image [K] in pixels, NaN for a keypoint without a point in front of the camera.
    """
    point_ids = np.array(sorted(model.point3D_ids()), np.int64)
    points = model.points3D
    xyz = np.array([points[point_id].xyz for point_id in point_ids.tolist()], np.float64).reshape(-1, 3)
    found = []
    for image_id in image_ids:
        image = model.images[image_id]
        pixels, keypoints = pixels_of(image), observing_keypoints(image)
        pose = np.asarray(image.cam_from_world().matrix())
        in_camera = xyz[np.searchsorted(point_ids, observed_ids(image))] @ pose[:, :3].T + pose[:, 3]
        is_front = in_camera[:, 2] > 0
        errors = np.full(len(pixels), np.nan)
        if is_front.any():
            projected = np.asarray(model.cameras[image.camera_id].img_from_cam(in_camera[is_front]), np.float64)
            errors[keypoints[is_front]] = np.linalg.norm(projected - pixels[keypoints[is_front]], axis=1)
        found.append(errors)
    return found


def errors_taken_away(before: Sequence[Float64Array], after: Sequence[Float64Array]) -> Float64Array:
    """The error [I] that an adjustment took away from the observations of each image.

    Observations that were removed do not count: the others tell of the pose.

    Args:
        before: for each image, errors [K] of its keypoints; NaN for those without a point.
        after: the same of the adjusted model.

    Returns:
        The root of the difference of the squared mean errors, 0 if the error grew or nothing is left to be compared.
    """
    found = np.zeros(len(before))
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        is_kept = np.isfinite(old) & np.isfinite(new)
        if is_kept.any():
            found[row] = np.sqrt(max(old[is_kept].mean() ** 2 - new[is_kept].mean() ** 2, 0.0))
    return found
