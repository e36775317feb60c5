"""A model as arrays, compared with what pycolmap reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.model_table import read_model_table


def test_points_poses_and_rays_are_those_of_pycolmap(finished: Path) -> None:
    table, wanted = read_model_table(finished), model_arrays(read_model(finished))
    np.testing.assert_array_equal(table.arrays.points, wanted.points)
    np.testing.assert_array_equal(table.arrays.point_colors, wanted.point_colors)
    for found, pose in zip(table.arrays.poses, wanted.poses, strict=True):
        np.testing.assert_allclose(found.as_matrix(), pose.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(table.arrays.corner_rays, wanted.corner_rays, atol=1e-12)


def test_residuals_are_those_of_pycolmap(finished: Path) -> None:
    table, model = read_model_table(finished), read_model(finished)
    assert len(table.point_idx) == model.compute_num_observations()
    point_ids = sorted(model.points3D)
    image_from_name = {image.name: image for image in model.images.values()}
    for row in np.linspace(0, len(table.point_idx) - 1, 200).astype(int):
        image = image_from_name[table.names[table.image_idx[row]]]
        projected = image.project_point(model.points3D[point_ids[table.point_idx[row]]].xyz)
        assert projected is not None
        assert abs(np.linalg.norm(projected - table.xy[row]) - table.residuals_px[row]) < 1e-6


def test_loose_keypoints_are_all_others(finished: Path) -> None:
    table, model = read_model_table(finished), read_model(finished)
    for row, name in enumerate(table.names):
        image = next(image for image in model.images.values() if image.name == name)
        assert (table.image_idx == row).sum() == image.num_points3D
        assert (table.loose_image_idx == row).sum() == image.num_points2D() - image.num_points3D
    assert (np.diff(table.image_idx) >= 0).all()
