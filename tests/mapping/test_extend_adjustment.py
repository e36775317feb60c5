"""What is adjusted when images come into a model: the images that they touch too, in the frame of the model."""

from pathlib import Path

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.extend import Extending
from sfm_lightglue.mapping.extend_adjustment import MovablePart, adjust_images, touched_images
from sfm_lightglue.mapping.incremental import MappingConfig
from tests.helpers.dense_models import model_of

NUM_POINTS, NUM_IMAGES = 150, 8
ADDED = NUM_IMAGES
MOVED = 2
"""Id of an earlier image whose pose is wrong."""


def poses():
    rotations = [rotation_from_rotvec(np.array([0.0, 0.04 * number, 0.0])) for number in range(NUM_IMAGES)]
    return [(R, -R @ np.array([0.3 * number, 0.05 * (number % 3), 0.0])) for number, R in enumerate(rotations)]


def truth():
    return {f"{number}.png": Rigid3(R, t) for number, (R, t) in enumerate(poses())}


def model(seen=None):
    """A model in which image number k has the id k + 1; the pose of an earlier image is wrong, and so are points."""
    generator = np.random.default_rng(0)
    xyz = generator.uniform((-1.0, -1, 4), (3.0, 1, 7), (NUM_POINTS, 3))
    everything = [np.arange(NUM_POINTS)] * NUM_IMAGES
    built = model_of(xyz, poses(), seen=seen or everything)
    frame = built.frames[built.images[MOVED].frame_id]
    pose = frame.rig_from_world
    frame.rig_from_world = pycolmap.Rigid3d(pose.rotation, pose.translation + np.array([0.02, 0.01, 0]))
    for point_id in built.point3D_ids():
        built.points3D[point_id].xyz = built.points3D[point_id].xyz + generator.normal(0, 0.01, 3)
    return built


def matrices(built):
    return {i: built.images[i].cam_from_world().matrix().copy() for i in built.reg_image_ids()}


def test_images_are_touched_by_their_share_of_observed_points():
    seen = [np.arange(NUM_POINTS)] * 3 + [np.arange(100, NUM_POINTS)] * (NUM_IMAGES - 4) + [np.arange(106)]
    built = model(seen)
    assert touched_images(built, {ADDED}) == {1, 2, 3, 4, 5, 6, 7}  # six of fifty points are more than a tenth
    seen[-1] = np.arange(104)
    assert touched_images(model(seen), {ADDED}) == {1, 2, 3}


def test_touched_images_are_adjusted_and_the_others_stay():
    built = model()
    before = matrices(built)
    adjust_images(built, [ADDED], 0.5, (), 1, touched={MOVED})
    after = matrices(built)
    stayed = [i for i in before if np.array_equal(before[i], after[i])]
    assert stayed == [i for i in before if i not in (MOVED, ADDED)]
    R, t = poses()[MOVED - 1]
    assert np.allclose(after[MOVED], np.column_stack([R, t]), atol=1e-4)


def test_without_constant_images_the_frame_is_that_of_the_earlier_ones():
    built = model()
    before, camera = poses_of_model(built), built.cameras[1].params.tolist()
    adjust_images(built, [ADDED], 0.5, (), 1, touched=set(range(1, ADDED)))
    after = poses_of_model(built)
    assert align_poses(after, truth()).max_center_error < 1e-4
    assert align_poses(before, truth()).max_center_error > 1e-2
    old = [f"{number}.png" for number in range(NUM_IMAGES - 1)]
    centers = [np.array([each[name].center for name in old]) for each in (before, after)]
    means = [each.mean(axis=0) for each in centers]
    assert np.allclose(means[0], means[1], atol=1e-9)
    spreads = [np.linalg.norm(each - mean) for each, mean in zip(centers, means, strict=True)]
    assert np.isclose(spreads[0], spreads[1], rtol=1e-9)
    turned = sum(after[name].R.T @ before[name].R for name in old)
    assert np.allclose(turned, turned.T, atol=1e-9), "the mean rotation between them is none"
    assert built.cameras[1].params.tolist() == camera


def errors_px(built, image_id):
    """Reprojection error of each observation of an image."""
    image = built.images[image_id]
    seen = image.get_observation_points2D()
    return np.array([np.linalg.norm(image.project_point(built.points3D[one.point3D_id].xyz) - one.xy) for one in seen])


def chain(num_seen, noise_px=0.5):
    """Images along a line with noisy keypoints; each point is seen by some images that follow each other."""
    generator = np.random.default_rng(0)
    number, num_blocks = 9, 9 - num_seen + 1
    rotations = [rotation_from_rotvec(np.array([0, 0.04 * k, 0.0])) for k in range(number)]
    chained = [(R, -R @ np.array([0.5 * k, 0.05 * (k % 3), 0.0])) for k, R in enumerate(rotations)]
    middles = 0.5 * (np.arange(num_blocks) + (num_seen - 1) / 2)
    blocks = [generator.uniform((x - 0.8, -0.8, 4), (x + 0.8, 0.8, 7), (60, 3)) for x in middles]
    seen = [
        np.concatenate([np.arange(60 * b, 60 * (b + 1)) for b in range(num_blocks) if b <= k < b + num_seen])
        for k in range(number)
    ]
    built = model_of(np.concatenate(blocks), chained, seen=seen)
    for image_id in built.reg_image_ids():
        for point in built.images[image_id].points2D:
            point.xy = point.xy + generator.normal(0, noise_px, 2)
    return built


@pytest.mark.parametrize("num_seen", [2, 3])
def test_images_do_not_move_away_from_points_that_others_see(num_seen):
    """Few images stay constant beside the touched ones, and they share other points with the rest of the chain."""
    built = chain(num_seen)
    before = {image_id: errors_px(built, image_id).mean() for image_id in range(1, 9)}
    poses_before = matrices(built)
    moved = adjust_images(built, [9], 0.5, (), 1, touched={8})
    assert all(errors_px(built, image_id).mean() < before[image_id] + 0.1 for image_id in range(1, 9))
    assert all(np.abs(matrices(built)[i] - poses_before[i]).max() < 0.01 for i in range(1, 9))
    assert {i for i in poses_before if not np.array_equal(matrices(built)[i], poses_before[i])} <= moved


def test_all_points_of_images_that_are_adjusted_are_in_the_part():
    seen = [np.arange(NUM_POINTS)] * 2 + [np.arange(100)] * (NUM_IMAGES - 2)
    part = MovablePart.around(model(seen), {ADDED}, set(range(3, ADDED)))
    assert part.moved == frozenset(range(1, NUM_IMAGES + 1))
    assert part.constant == frozenset()
    assert part.model.num_points3D() == NUM_POINTS, "also those that only the first two images see"


def test_added_images_that_share_no_point_with_earlier_ones_keep_their_frame():
    seen = [np.arange(100)] * (NUM_IMAGES - 2) + [np.arange(100, NUM_POINTS)] * 2
    built = model(seen)
    before = matrices(built)
    assert adjust_images(built, [ADDED - 1, ADDED], 0.5, (), 1) == {ADDED - 1, ADDED}
    after = matrices(built)
    assert all(np.allclose(after[image_id], before[image_id], atol=1e-6) for image_id in before)
    assert max(errors_px(built, ADDED)) < 1e-3


def test_added_images_without_points_stay():
    built = model([np.arange(100)] * (NUM_IMAGES - 1) + [np.zeros(0, np.int64)])
    before = matrices(built)
    adjust_images(built, [ADDED], 0.5, (), 1)
    assert all(np.array_equal(pose, before[image_id]) for image_id, pose in matrices(built).items())


def test_points_of_all_adjusted_images_are_filtered():
    """A point that only images see which are adjusted beside the touched ones."""
    built = model([np.arange(NUM_POINTS)] * 2 + [np.arange(100)] * (NUM_IMAGES - 2))
    far = built.images[1].points2D[NUM_POINTS - 1].point3D_id
    point = built.images[1].points2D[NUM_POINTS - 1]
    point.xy = point.xy + 50.0
    task = MappingTask(Path(), Path(), NUM_IMAGES, num_threads=1)
    extending = Extending({}, lambda _: None, DensityConfig(), MappingConfig(), task)
    extending.adjust(built, [ADDED], set(range(3, ADDED)))
    assert far not in built.points3D


def test_few_constant_images_are_adjusted_too():
    part = MovablePart.around(model(), {ADDED}, set(range(1, 6)))
    assert part.constant == frozenset()
    assert part.moved == frozenset(range(1, NUM_IMAGES + 1))
    part = MovablePart.around(model(), {ADDED}, set(range(1, 5)))
    assert part.constant == {5, 6, 7}
    assert MovablePart.around(model(), set(range(1, ADDED))).constant == {ADDED}  # nothing is touched
