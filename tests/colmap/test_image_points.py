"""Keypoints of an image as arrays, beside those that pycolmap returns one by one."""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm_lightglue.colmap.image_points import observed_ids, observing_keypoints, pixels_of, point_ids_of


def test_arrays_are_the_keypoints_one_by_one() -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 3, 30
    options.num_points2D_without_point3D = 7
    model = pycolmap.synthesize_dataset(options)
    for image in model.images.values():
        ids = [point.point3D_id if point.has_point3D() else -1 for point in image.points2D]
        assert -1 in ids and max(ids) >= 0
        np.testing.assert_array_equal(point_ids_of(image), ids)
        np.testing.assert_array_equal(pixels_of(image), [point.xy for point in image.points2D])
        np.testing.assert_array_equal(observing_keypoints(image), [row for row, one in enumerate(ids) if one >= 0])
        np.testing.assert_array_equal(observed_ids(image), [one for one in ids if one >= 0])


def test_an_image_without_keypoints_has_empty_arrays() -> None:
    image = pycolmap.Image()
    assert pixels_of(image).shape == (0, 2)
    assert len(point_ids_of(image)) == len(observed_ids(image)) == len(observing_keypoints(image)) == 0
