"""Bundle adjustment reaches the optimum that COLMAP's adjuster reaches, and keeps what it must not change."""

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.tracking.bundle_adjustment import Bundle, adjust
from sfm_lightglue.tracking.projection import pixels_from_cam
from sfm_lightglue.types import Camera

PINHOLE = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0))
NUM_POINTS = 150


def exact_bundle(camera=PINHOLE, num_cams=6, num_free=4):
    """Cameras in a row that all see all points; the first ones are constant."""
    random = np.random.default_rng(0)
    xyz = random.uniform((-2, -2, 5), (2, 2, 9), (NUM_POINTS, 3))
    R = np.stack([rotation_from_rotvec(0.05 * random.normal(size=3)) for _ in range(num_cams)])
    t = np.stack([0.4 * np.arange(num_cams), 0.1 * random.normal(size=num_cams), np.zeros(num_cams)], axis=1)
    points, cams = np.repeat(np.arange(NUM_POINTS), num_cams), np.tile(np.arange(num_cams), NUM_POINTS)
    pixels = pixels_from_cam(camera, np.einsum("mij,mj->mi", R[cams], xyz[points]) + t[cams])
    return Bundle(R, t, xyz, cams, points, pixels, np.arange(num_cams) >= num_cams - num_free, camera)


def disturbed(bundle, noise_px=0.0, size=0.02):
    random = np.random.default_rng(1)
    turns = np.stack([rotation_from_rotvec(size / 3 * random.normal(size=3)) for _ in bundle.R])
    moves = size * random.normal(size=bundle.t.shape)
    free = bundle.is_free[:, None]
    return replace(
        bundle,
        R=np.where(free[:, None], turns @ bundle.R, bundle.R),
        t=np.where(free, bundle.t + moves, bundle.t),
        xyz=bundle.xyz + size * random.normal(size=bundle.xyz.shape),
        pixels=bundle.pixels + noise_px * random.normal(size=bundle.pixels.shape),
    )


def test_exact_values_stay():
    bundle = exact_bundle()
    adjusted = adjust(bundle, loss_px=1.0, max_iterations=5)
    assert np.allclose(adjusted.R, bundle.R, atol=1e-9)
    assert np.allclose(adjusted.t, bundle.t, atol=1e-8)
    assert np.allclose(adjusted.xyz, bundle.xyz, atol=1e-7)


def test_disturbed_poses_and_points_come_back():
    bundle = exact_bundle()
    adjusted = adjust(disturbed(bundle), loss_px=1.0, max_iterations=30, min_decrease=1e-9)
    assert np.allclose(adjusted.t, bundle.t, atol=1e-4)
    assert np.allclose(adjusted.xyz, bundle.xyz, atol=1e-3)
    assert adjusted.errors_px().max() < 1e-2


def test_constant_poses_are_the_same_numbers():
    start = disturbed(exact_bundle(), noise_px=0.5)
    adjusted = adjust(start, loss_px=1.0, max_iterations=5)
    constant = ~start.is_free
    assert np.array_equal(adjusted.R[constant], start.R[constant])
    assert np.array_equal(adjusted.t[constant], start.t[constant])
    assert not np.array_equal(adjusted.t[~constant], start.t[~constant])


def test_colmaps_adjuster_reaches_the_same_optimum():
    start = disturbed(exact_bundle(), noise_px=1.0)
    adjusted = adjust(start, loss_px=1.0, max_iterations=50, min_decrease=1e-10)
    model = colmaps_optimum(start, loss_px=1.0)
    t = np.stack([model.images[cam + 1].cam_from_world().translation for cam in range(len(start.t))])
    xyz = np.stack([model.points3D[point + 1].xyz for point in range(NUM_POINTS)])
    assert np.abs(adjusted.t - t).max() < 1e-4
    assert np.abs(adjusted.xyz - xyz).max() < 1e-3


def colmaps_optimum(bundle, loss_px):
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(as_pycolmap(bundle.camera, 1))
    for cam, (R, t) in enumerate(zip(bundle.R, bundle.t, strict=True)):
        pixels = bundle.pixels[bundle.cams == cam]
        image = pycolmap.Image(name=f"{cam}", keypoints=pixels, camera_id=1, image_id=cam + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(R), t))
    for point, xyz in enumerate(bundle.xyz):
        elements = [pycolmap.TrackElement(cam + 1, point) for cam in range(len(bundle.R))]
        model.add_point3D(xyz, pycolmap.Track(elements))
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in model.images:
        adjusted.add_image(image_id)
        if not bundle.is_free[image_id - 1]:
            adjusted.set_constant_rig_from_world_pose(image_id)
    adjusted.set_constant_cam_intrinsics(1)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_sensor_from_rig = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.HUBER
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.function_tolerance = 1e-12
    with quiet_log():
        pycolmap.create_default_bundle_adjuster(options, adjusted, model).solve()
    return model


def test_outliers_hardly_matter():
    bundle = exact_bundle()
    start = disturbed(bundle)
    pixels = start.pixels.copy()
    pixels[::20] += 30
    adjusted = adjust(replace(start, pixels=pixels), loss_px=0.5, max_iterations=30, min_decrease=1e-7)
    assert np.abs(adjusted.t - bundle.t).max() < 0.02
    errors = adjusted.errors_px()
    assert errors[::20].min() > 20
    assert np.median(errors) < 0.5


@pytest.mark.parametrize(
    ("camera", "wrong", "refined"),
    [
        (PINHOLE, (460.0, 320.0, 240.0), (0,)),
        (
            Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, -0.1)),
            (480.0, 320.0, 240.0, 0.0),
            (0, 3),
        ),
    ],
    ids=["focal length", "distortion"],
)
def test_wrong_intrinsics_come_back(camera, wrong, refined):
    bundle = exact_bundle(camera, num_free=5)
    start = replace(bundle, camera=replace(camera, params=wrong))
    adjusted = adjust(start, loss_px=1.0, max_iterations=40, refined_params=refined, min_decrease=1e-9)
    assert adjusted.camera.params == pytest.approx(camera.params, abs=0.5)
    assert adjusted.camera.params[1:3] == camera.params[1:3]


def test_more_points_than_a_block_give_the_same_result():
    """The Schur complement is the sum over blocks of points."""
    bundle = disturbed(exact_bundle(), noise_px=0.5)
    copies = 8
    offsets = np.repeat(np.arange(copies), len(bundle.points))
    repeated = replace(
        bundle,
        xyz=np.tile(bundle.xyz, (copies, 1)),
        cams=np.tile(bundle.cams, copies),
        points=np.tile(bundle.points, copies) + NUM_POINTS * offsets,
        pixels=np.tile(bundle.pixels, (copies, 1)),
    )
    adjusted = [adjust(one, loss_px=1.0, max_iterations=5) for one in (bundle, repeated)]
    assert len(repeated.xyz) > 1024
    assert np.allclose(adjusted[0].t, adjusted[1].t, atol=1e-9)


def test_a_point_behind_a_camera_has_an_infinite_error():
    bundle = exact_bundle()
    xyz = bundle.xyz.copy()
    xyz[0] = (0, 0, -5)
    errors = replace(bundle, xyz=xyz).errors_px()
    assert np.isinf(errors[:6]).all()
    assert np.isfinite(errors[6:]).all()


def test_a_point_behind_a_camera_does_not_hinder_the_others():
    bundle = exact_bundle()
    start = disturbed(bundle)
    start.xyz[0] = (0, 0, -5)
    adjusted = adjust(start, loss_px=1.0, max_iterations=30, min_decrease=1e-9)
    assert np.allclose(adjusted.t, bundle.t, atol=1e-4)
    assert adjusted.xyz[0].tolist() == [0, 0, -5]


def test_points_without_parallax_do_not_hinder_the_others():
    """Their depth is unknown: single steps would carry them through the cameras."""
    bundle = exact_bundle()
    start = disturbed(bundle, noise_px=0.5)
    far = np.arange(10)
    xyz = bundle.xyz.copy()
    xyz[far] *= 1e5
    in_cam = np.einsum("mij,mj->mi", bundle.R[bundle.cams], xyz[bundle.points]) + bundle.t[bundle.cams]
    is_far = np.isin(bundle.points, far)
    pixels = start.pixels.copy()
    pixels[is_far] = pixels_from_cam(PINHOLE, in_cam[is_far])
    pixels[is_far] += np.random.default_rng(2).normal(size=(is_far.sum(), 2))
    start.xyz[far] = 20 * bundle.xyz[far]
    adjusted = adjust(replace(start, pixels=pixels), loss_px=1.0, max_iterations=30, min_decrease=1e-7)
    assert np.abs(adjusted.t - bundle.t).max() < 0.02
    assert np.median(adjusted.errors_px()) < 1


def test_no_observations_change_nothing():
    bundle = exact_bundle()
    none = np.zeros(0, np.int64)
    empty = replace(bundle, xyz=np.zeros((0, 3)), cams=none, points=none, pixels=np.zeros((0, 2)))
    assert adjust(empty, loss_px=1.0, max_iterations=5) is empty
