"""What images see that came into a model is densified, refined and coloured."""

import copy
from pathlib import Path

import numpy as np
import PIL.Image

from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.extend import Extending
from sfm_lightglue.mapping.incremental import MappingConfig
from sfm_lightglue.mapping.short_tracks import num_views_of_points
from sfm_lightglue.reconstruction.extend_finish import ExtensionFinishing
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.types import DenseFeatures, Features
from tests.helpers.dense_models import SIZE, model_of

NUM_IMAGES = 4


def test_an_image_without_points_changes_nothing():
    """All its observations were beyond the limits."""
    poses = [(rotation_from_rotvec(np.array([0, 0.05 * k, 0])), np.array([-0.3 * k, 0, 0])) for k in range(NUM_IMAGES)]
    points = np.random.default_rng(0).uniform((-1.0, -1, 4), (1.0, 1, 7), (50, 3))
    model = model_of(points, poses, seen=[np.arange(50)] * (NUM_IMAGES - 1) + [np.zeros(0, np.int64)])
    before = {image_id: model.images[image_id].cam_from_world().matrix().copy() for image_id in model.reg_image_ids()}
    task = MappingTask(Path(), Path(), NUM_IMAGES)
    extending = Extending({}, lambda _: None, DensityConfig(level="sparse"), MappingConfig(), task)
    clock = Clock.for_stages(("densify", "refine", "map", "write"))
    finishing = ExtensionFinishing(extending, {}, RefinementConfig(), clock, SERIAL, moves_touched=True, refined=None)
    finishing.finish(model, [NUM_IMAGES], num_views_of_points(model))
    assert all(np.array_equal(model.images[i].cam_from_world().matrix(), pose) for i, pose in before.items())
    assert model.num_points3D() == 50


def test_points_that_lose_their_third_observation_leave_a_dense_model():
    poses = [(rotation_from_rotvec(np.array([0, 0.05 * k, 0])), np.array([-0.3 * k, 0, 0])) for k in range(NUM_IMAGES)]
    points = np.random.default_rng(0).uniform((-1.0, -1, 4), (1.0, 1, 7), (50, 3))
    every = np.arange(50)
    exact = model_of(points, poses, [every, every[2:], every, every[10:]])
    pixels = [np.array([point.xy for point in exact.images[k + 1].points2D]) for k in range(NUM_IMAGES)]
    pixels[2][2:10, 1] += 8.0  # points 1 and 2 have two observations, 3 to 10 have three, one of them is wrong
    model = model_of(points, poses, [every, every[2:], every, every[10:]], pixels)
    ids = sorted(model.point3D_ids())
    rows = {image.name: np.zeros(0, np.int64) for image in model.images.values()}
    empty = Features(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros((0, 8), np.float32), SIZE)
    none = DenseFeatures.from_features(empty, 0)
    before = num_views_of_points(model)
    # Or image 4 came to points 3 to 10 first, and points 1 and 2 lost an image when it was registered.
    registered = before | dict.fromkeys(ids[:2], 3) | dict.fromkeys(ids[2:10], 2)
    cases = ("sparse", before, ids), ("normal", before, ids[:2] + ids[10:]), ("normal", registered, ids[2:])
    for level, known, left in cases:
        task = MappingTask(Path(), Path(), NUM_IMAGES, frozenset({1}))
        extending = Extending(rows, lambda _: none, DensityConfig(level=level), MappingConfig(), task)
        clock = Clock.for_stages(("densify", "refine", "map", "write"))
        finishing = ExtensionFinishing(extending, {}, RefinementConfig(mode="off"), clock, SERIAL, True, None)
        extended = copy.deepcopy(model)
        finishing.finish(extended, [NUM_IMAGES], known)
        assert sorted(extended.point3D_ids()) == left


def test_new_points_have_the_colours_of_the_images_that_came_in(tmp_path):
    """The files of the other images are not read, unless no image that came in sees a point."""
    poses = [(rotation_from_rotvec(np.array([0, 0.05 * k, 0])), np.array([-0.3 * k, 0, 0])) for k in range(NUM_IMAGES)]
    points = np.random.default_rng(0).uniform((-1.0, -1, 4), (1.0, 1, 7), (50, 3))
    model = model_of(points, poses, seen=[np.arange(50)] * NUM_IMAGES)
    camera = model.cameras[model.images[NUM_IMAGES].camera_id]
    PIL.Image.new("RGB", (camera.width, camera.height), (10, 20, 200)).save(tmp_path / "added.png")
    task = MappingTask(Path(), Path(), NUM_IMAGES)
    extending = Extending({}, lambda _: None, DensityConfig(level="sparse"), MappingConfig(), task)
    clock = Clock.for_stages(("densify", "refine", "map", "write"))
    paths = {model.images[NUM_IMAGES].name: tmp_path / "added.png"}
    options = clock, SERIAL, False, None
    finishing = ExtensionFinishing(extending, paths, RefinementConfig(mode="off"), *options)
    known = dict.fromkeys(sorted(model.point3D_ids())[:20], NUM_IMAGES)
    finishing.finish(model, [NUM_IMAGES], known)
    for point_id in model.point3D_ids():
        expected = [0, 0, 0] if point_id in known else [10, 20, 200]
        np.testing.assert_array_equal(model.points3D[point_id].color, expected)
    lost = sorted(model.point3D_ids())[-1]
    (observed,) = [one for one in model.points3D[lost].track.elements if one.image_id == NUM_IMAGES]
    model.delete_observation(NUM_IMAGES, observed.point2D_idx)
    known = dict.fromkeys(sorted(set(model.point3D_ids()) - {lost}), NUM_IMAGES)
    others = ExtensionFinishing(extending, paths, RefinementConfig(mode="off"), clock, SERIAL, True, None)
    first = model.images[1]
    PIL.Image.new("RGB", (camera.width, camera.height), (90, 80, 70)).save(tmp_path / "first.png")
    paths |= {image.name: tmp_path / "first.png" for image in (first, model.images[2], model.images[3])}
    finishing.finish(model, [NUM_IMAGES], known)  # a model with other keypoints
    np.testing.assert_array_equal(model.points3D[lost].color, [90, 80, 70])
    others.finish(model, [NUM_IMAGES], known)
    assert sorted(model.point3D_ids()) == list(known)
    lost, _ = known.popitem()
    model.points3D[lost].color = np.zeros(3, np.uint8)
    (tmp_path / "added.png").unlink()  # it is lost meanwhile: the other images show the point too
    others.finish(model, [NUM_IMAGES], known)
    np.testing.assert_array_equal(model.points3D[lost].color, [90, 80, 70])
