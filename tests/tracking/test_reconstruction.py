"""A map as a model of COLMAP has the same observations, and survives writing and reading."""

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.tracking.projection import reprojection_errors_px
from sfm_lightglue.tracking.reconstruction import as_reconstruction
from sfm_lightglue.tracking.slam_map import SlamMap
from tests.helpers.slam_scene import CAMERA, Walk


@pytest.fixture
def slam_map():
    """Three keyframes of map 0 whose true points are observed wherever they are seen; one keyframe of map 1."""
    walk = Walk(noise_px=0.5, num_points=200)
    slam_map = SlamMap(CAMERA)
    for idx in range(4):
        keyframe = walk.keyframe(idx)
        keyframe.map_id = int(idx == 3)
        slam_map.add_keyframe(keyframe)
    for number, xyz in enumerate(walk.xyz):
        track = [
            (idx, int(np.flatnonzero(walk.numbers[idx] == number)[0]))
            for idx in range(3)
            if number in walk.numbers[idx]
        ]
        if len(track) >= 2:
            slam_map.add_points(xyz[None], [track])
    for keyframe in slam_map.keyframes.values():
        keyframe.colors = np.full((len(keyframe.keypoints), 3), 100 + keyframe.idx, np.uint8)
    return slam_map


def test_the_model_has_the_keyframes_and_observations_of_the_map(slam_map):
    model = as_reconstruction(slam_map, 0)
    assert model.is_valid()
    assert sorted(model.images) == [1, 2, 3]
    point_ids = slam_map.points_of([0, 1, 2])
    assert model.num_points3D() == len(point_ids) > 50
    for idx in range(3):
        keyframe, image = slam_map.keyframes[idx], model.images[idx + 1]
        assert image.name == keyframe.name
        assert np.allclose(image.cam_from_world().matrix(), keyframe.cam_from_world.as_matrix()[:3])
        assert [point.has_point3D() for point in image.points2D] == (keyframe.point_ids >= 0).tolist()
        assert np.array_equal([point.xy for point in image.points2D], keyframe.keypoints)
    assert model.cameras[1].params.tolist() == list(CAMERA.params)


def test_errors_and_colors_are_those_of_the_observations(slam_map):
    model = as_reconstruction(slam_map, 0)
    for point in model.points3D.values():
        errors = []
        for element in point.track.elements:
            keyframe = slam_map.keyframes[element.image_id - 1]
            pixels = keyframe.keypoints[[element.point2D_idx]]
            errors.append(reprojection_errors_px(CAMERA, keyframe.cam_from_world, point.xyz[None], pixels)[0])
        assert point.error == pytest.approx(np.mean(errors), abs=1e-6)
        assert 100 <= point.color.min() <= point.color.max() <= 102


def test_a_written_model_is_read_again(slam_map, tmp_path):
    model = as_reconstruction(slam_map, 0)
    model.write(tmp_path)
    again = pycolmap.Reconstruction(tmp_path)
    assert again.num_reg_images() == 3
    assert again.num_points3D() == model.num_points3D()
    assert again.compute_num_observations() == model.compute_num_observations()


def test_a_map_of_one_keyframe_is_a_model_without_points(slam_map):
    model = as_reconstruction(slam_map, 1)
    assert sorted(model.images) == [4]
    assert model.num_points3D() == 0
