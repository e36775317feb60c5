"""What is adjusted when images come into a model: the images that they touch too, in the frame of the model."""

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.mapping.extend_adjustment import MovablePart, adjust_images, touched_images
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


def test_few_constant_images_are_adjusted_too():
    part = MovablePart.around(model(), {ADDED}, set(range(1, 6)))
    assert part.constant == frozenset()
    assert part.moved == frozenset(range(1, NUM_IMAGES + 1))
    part = MovablePart.around(model(), {ADDED}, set(range(1, 5)))
    assert part.constant == {5, 6, 7}
    assert MovablePart.around(model(), set(range(1, ADDED))).constant == {ADDED}  # nothing is touched
