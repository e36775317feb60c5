"""Poses are adjusted by a part of the points: enough for each image, free camera and pair; all points follow."""

from copy import deepcopy

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap
import pytest

from sfm_lightglue.geometry.point_choice import PointChoice
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping import dense_adjustment
from sfm_lightglue.mapping.dense_adjustment import PoseAdjustment, adjust_poses
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints
from sfm_lightglue.mapping.dense_tracks import DensePoints
from tests.helpers.dense_models import model_of

NUM_POINTS = 300


def nothing(model):
    """No adjustment: the poses are exact."""


def scene(num_images=4, num_points=NUM_POINTS):
    """Points, a model whose images observe all of them, its keypoints, and the observations of all points."""
    rng = np.random.default_rng(0)
    points = rng.uniform((-1.2, -1, 4), (1.2, 1, 6), (num_points, 3))
    poses = []
    for number in range(num_images):
        R = rotation_from_rotvec(np.array([0.0, 0.08 * number, 0.0]))
        poses.append((R, -R @ (0.4 * number, 0.0, 0.0)))
    pixels = []
    for R, t in poses:
        in_camera = points @ R.T + t
        exact = 800 * in_camera[:, :2] / in_camera[:, 2:] + (500, 400)
        pixels.append(exact + rng.normal(0, 0.3, exact.shape))
    model = model_of(points, poses, [np.arange(num_points)] * num_images, pixels)
    none = (np.zeros(0, np.int64),) * num_images
    names, starts = tuple(f"{i}.png" for i in range(num_images)), num_points * np.arange(num_images + 1)
    keypoints = DenseKeypoints(tuple(range(1, num_images + 1)), names, tuple(pixels), starts, none)
    point = np.tile(np.arange(num_points), num_images)
    return model, keypoints, DensePoints(points, point, np.arange(len(point)))


def adjusted(model, keypoints, points, adjust=nothing, constant=(1,)) -> PoseAdjustment | None:
    observers = keypoints.observers(model, 2.0, 1600)
    return adjust_poses(model, keypoints, points, observers, adjust, 1.5, 3, constant)


@pytest.mark.parametrize("error_px", [6.0, 20.0])
def test_one_wrong_observation_costs_no_point(error_px):
    model, keypoints, points = scene()
    keypoints.pixels[3][:, 1] += error_px
    found = adjusted(model, keypoints, points)
    assert found is not None and len(found.points.xyz) > 0.98 * NUM_POINTS
    is_wrong = found.points.keypoint >= 3 * NUM_POINTS
    assert is_wrong.mean() < 0.01
    assert np.median(found.points.num_observations) == 3


def test_a_keypoint_without_a_ray_costs_its_point_one_observation():
    model, keypoints, points = scene()

    def bends_the_rays(model):
        """Far pixels have no ray with this distortion."""
        model.cameras[1].model = pycolmap.CameraModelId.SIMPLE_RADIAL
        model.cameras[1].params = [800.0, 500.0, 400.0, -1e-3]

    keypoints.pixels[3][:] = 20_000.0
    found = adjusted(model, keypoints, points, bends_the_rays)
    assert found is not None
    assert not np.isfinite(found.observers.points[3 * NUM_POINTS :]).any()
    assert len(found.points.xyz) > 0.98 * NUM_POINTS


def test_there_is_no_adjustment_without_points():
    model, keypoints, points = scene()

    def turns_an_image_away(model):
        for image in model.images.values():
            R = rotation_from_rotvec(np.array([0.0, 0.9 * image.image_id, 0.0]))
            image.frame.set_cam_from_world(1, pycolmap.Rigid3d(pycolmap.Rotation3d(R), np.zeros(3)))

    assert adjusted(model, keypoints, points, turns_an_image_away) is None


def test_a_free_camera_gets_more_points_than_a_fixed_one():
    model, keypoints, points = scene(num_images=4, num_points=3000)
    counts = []
    for constant in ((1,), ()):
        adjusted(model, keypoints, points, lambda part: counts.append(part.num_points3D()), constant)
    assert 400 < counts[0] < 650  # 500 of each image
    assert 2350 < counts[1] < 2650  # 10,000 of the camera


def with_own_cameras(model):
    """The model with a camera for each image, of its number."""
    copy = pycolmap.Reconstruction()
    for image_id in sorted(model.images):
        image, camera = model.images[image_id], deepcopy(model.cameras[1])
        camera.camera_id = image_id
        copy.add_camera_with_trivial_rig(camera)
        pixels = np.array([point.xy for point in image.points2D])
        own = pycolmap.Image(name=image.name, keypoints=pixels, camera_id=image_id, image_id=image_id)
        copy.add_image_with_trivial_frame(own, image.cam_from_world())
    return copy


@pytest.mark.parametrize(
    ("total", "constant", "expected"),
    [(4800, (), 1200), (4800, (2, 3), 2400), (800, (), 1000)],
    ids=["four free", "two free", "250 of each of four parameters"],
)
def test_free_cameras_share_a_number_of_points(monkeypatch, total, constant, expected):
    monkeypatch.setattr(dense_adjustment, "_ENOUGH_OF_ALL", total)
    model, keypoints, points = scene(num_images=4, num_points=3000)
    counts: list[int] = []
    adjusted(
        with_own_cameras(model), keypoints, points, lambda part: counts.append(part.num_points3D()), constant=constant
    )
    assert expected - 100 < counts[0] < expected + 100


def test_points_that_join_two_parts_stay():
    """Images 0 and 1 see one part, 2 and 3 another one; 40 points join them."""
    images = [(0, 1)] * 5000 + [(2, 3)] * 5000 + [(1, 2)] * 40
    point = np.repeat(np.arange(len(images)), 2)
    choice = PointChoice(len(images), point, np.array(images).ravel(), 4)
    choice.want(500)
    assert choice.chosen()[-40:].sum() < 15
    choice.want_pairs()
    assert choice.chosen()[-40:].all()
    assert 900 < choice.chosen().sum() < 1250


def test_long_tracks_join_each_pair_of_their_images():
    images = [(0, 1)] * 1000 + [(0, 1, 2, 3)] * 50 + [(2, 3)] * 1000
    point = np.repeat(np.arange(len(images)), [len(each) for each in images])
    image = np.concatenate([np.array(each) for each in images])
    shuffled = np.random.default_rng(0).permutation(len(point))
    choice = PointChoice(len(images), point[shuffled], image[shuffled], 4)
    choice.want_pairs()
    chosen = choice.chosen()
    assert chosen[1000:1050].all()
    assert 60 < chosen[:1000].sum() < 140
