"""The default viewpoint: the whole scene is visible, from behind and above the cameras, without outliers."""

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.drawing.viewpoint import choose_viewpoint, near_mask, scene_radius
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from tests.helpers.models_to_draw import UP, add_outliers, image_positions, make_model, scene_of


@pytest.mark.parametrize("aspect", [0.5, 4 / 3, 3.0])
def test_the_whole_scene_is_in_the_image_and_fills_it(aspect):
    scene = scene_of(make_model(), aspect)
    seen = np.concatenate([scene.points, scene.frusta.vertices])
    xy, depth = image_positions(scene.viewpoint, seen, aspect)
    assert (depth > 0).all()
    assert np.abs(xy).max() <= 0.95
    assert np.ptp(xy, axis=0).max() > 1.7
    center_xy, _ = image_positions(scene.viewpoint, np.median(scene.points, axis=0)[None], aspect)
    assert np.abs(center_xy).max() < 0.7


def test_the_viewpoint_is_behind_and_above_the_cameras():
    scene = scene_of(make_model())
    eye = scene.viewpoint.eye
    assert eye[2] < scene.centers[:, 2].min()
    assert eye[1] < scene.centers[:, 1].min()  # y downwards
    assert scene.viewpoint.up @ UP > 0.9


def test_outliers_do_not_move_the_view():
    clean, spoiled = scene_of(make_model()), scene_of(add_outliers(make_model()))
    assert len(spoiled.points) == len(clean.points) + 40
    assert spoiled.radius == pytest.approx(clean.radius, rel=0.05)
    assert np.linalg.norm(spoiled.viewpoint.eye - clean.viewpoint.eye) < 0.05 * clean.radius


def test_a_distant_camera_does_not_move_the_view():
    model = make_model(num_images=9)
    points = model_arrays(model).points
    poses = [Rigid3.look_at(np.array([x, 0, 0]), np.array([x, 0, 1.0]), UP) for x in range(9)]
    lost = Rigid3.look_at(np.array([1e6, 0, 0]), np.array([1e6, 0, 1.0]), UP)
    centers = np.array([pose.center for pose in [*poses, lost]])
    np.testing.assert_array_equal(near_mask(centers), [True] * 9 + [False])
    assert scene_radius(points, centers) == pytest.approx(scene_radius(points, centers[:-1]))


def test_evenly_spaced_cameras_are_no_outliers():
    assert near_mask(np.column_stack([np.arange(50.0), np.zeros((50, 2))])).all()
    assert near_mask(np.zeros((4, 3))).all()
    assert near_mask(np.zeros((0, 3))).shape == (0,)


def test_cameras_around_an_object_are_all_seen():
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    centers = 4 * np.column_stack([np.cos(angles), np.zeros(12), np.sin(angles)])
    poses = [Rigid3.look_at(center, np.zeros(3), UP) for center in centers]
    points = np.random.default_rng(0).normal(size=(100, 3))
    viewpoint = choose_viewpoint(points, poses, centers, 1.5)
    xy, depth = image_positions(viewpoint, centers, 1.5)
    assert (depth > 0).all() and np.abs(xy).max() < 0.95
    assert viewpoint.eye @ UP > 1


@pytest.mark.parametrize("turns", [[0, 0], [0, 2], [0, 1, 2, 3]])
def test_cameras_that_look_straight_down_or_lie_on_their_side(turns):
    down = Rigid3.look_at(np.array([0, -5.0, 0]), np.zeros(3), np.array([0, 0, 1.0]))
    poses = [Rigid3.from_rotvec([0, 0, turn * np.pi / 2], np.zeros(3)) @ down for turn in turns]
    points = np.random.default_rng(0).normal(size=(100, 3)) * [3, 0.1, 3]
    viewpoint = choose_viewpoint(points, poses, np.array([pose.center for pose in poses]), 1.5)
    assert viewpoint.eye @ UP > 3  # from above
    assert np.isfinite(viewpoint.cam_from_world.as_matrix()).all()


@pytest.mark.parametrize(("num_images", "num_points"), [(1, 400), (1, 0), (6, 0), (0, 400), (0, 1), (1, 1)])
def test_small_models_work(num_images, num_points):
    scene = scene_of(make_model(num_images, num_points))
    seen = np.concatenate([scene.points, scene.frusta.vertices])
    xy, depth = image_positions(scene.viewpoint, seen, 4 / 3)
    assert (depth > 0).all()
    assert np.abs(xy).max() < 1


def test_an_empty_model_is_an_error():
    with pytest.raises(DataError, match="nothing to show"):
        scene_of(pycolmap.Reconstruction())


def test_a_synthetic_dataset_of_colmap_is_shown_whole():
    pycolmap.set_random_seed(0)
    scene = scene_of(pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions()))
    assert scene.centers.shape == (10, 3)
    xy, depth = image_positions(scene.viewpoint, np.concatenate([scene.points, scene.centers]), 4 / 3)
    assert (depth > 0).all() and np.abs(xy).max() < 1
