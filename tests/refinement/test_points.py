"""Points follow given poses: as in COLMAP's adjustment, also through a fisheye lens, or they leave."""

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.point_positions import PointViews, best_positions
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.refinement.adjustment import adjust_by_precision
from sfm_lightglue.refinement.observations import move_keypoints, read_observations
from sfm_lightglue.refinement.points import adjusted_points

SIGMA_PX, LOSS = 0.2, 1.5
WIDE = pycolmap.Camera(
    model="OPENCV_FISHEYE", width=900, height=900, params=[320.0, 320.0, 450.0, 450.0, 0.02, -0.01, 0, 0], camera_id=1
)


def wide_model(seed: int = 0, num_points: int = 150) -> pycolmap.Reconstruction:
    """Five images with a fisheye lens, most of whose points are 40 to 65 degrees beside the axis; noise of .2 px."""
    rng = np.random.default_rng(seed)
    angle, tilt = rng.uniform(0, 2 * np.pi, num_points), rng.uniform(np.radians(40), np.radians(65), num_points)
    depth = rng.uniform(2, 4, num_points)
    points = np.column_stack([np.tan(tilt) * np.cos(angle), np.tan(tilt) * np.sin(angle), np.ones(num_points)])
    points *= depth[:, None]
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(WIDE)
    tracks = [pycolmap.Track() for _ in points]
    for number in range(5):
        R = rotation_from_rotvec(np.array([0.02 * number, -0.03 * number, 0.1 * number]))
        t = -R @ np.array([0.3 * number, 0.2 * (number % 2), 0.1 * (number % 3)])
        pixels = np.asarray(WIDE.img_from_cam(points @ R.T + t)) + rng.normal(0, SIGMA_PX, (num_points, 2))
        image = pycolmap.Image(name=f"{number}.png", keypoints=pixels, camera_id=1, image_id=number + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(R), t))
        for row, track in enumerate(tracks):
            track.add_element(number + 1, row)
    for xyz, track in zip(points, tracks, strict=True):
        model.add_point3D(xyz, track)
    return model


def test_points_of_a_fisheye_lens_are_those_of_an_adjustment_with_fixed_poses() -> None:
    model = wide_model()
    seen = read_observations(model)
    found, fits = adjusted_points(model, seen, seen.positions, np.full(len(seen), SIGMA_PX), LOSS)
    sigmas = {image_id: np.full(150, SIGMA_PX, np.float32) for image_id in model.reg_image_ids()}
    adjust_by_precision(model, sigmas, {1}, constant_image_ids=sorted(model.reg_image_ids()), tolerance=1e-8)
    exact = read_observations(model).positions
    assert fits.all()
    apart, moved = np.linalg.norm(found - exact, axis=1), np.linalg.norm(exact - seen.positions, axis=1)
    assert np.median(apart) < 0.01 * np.median(moved)


def test_keypoints_beyond_what_the_camera_can_show_do_not_count() -> None:
    model = wide_model()
    without = pycolmap.Reconstruction(model)
    for row in range(100):
        without.delete_observation(2, row)
    move_keypoints(model, 2, np.arange(100), np.tile([990.0, 450.0], (100, 1)))  # 97 degrees beside the axis
    results = []
    for each in (model, without):
        seen = read_observations(each)
        found, fits = adjusted_points(each, seen, seen.positions, np.full(len(seen), SIGMA_PX), LOSS)
        assert fits.all()
        results.append(found)
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def test_points_that_fit_the_poses_nowhere_leave() -> None:
    model = wide_model()
    seen = read_observations(model)
    start = seen.positions.copy()
    start[:10, 2] *= -1  # behind all cameras
    start[10:20] *= 1.3
    found, fits = adjusted_points(model, seen, start, np.full(len(seen), SIGMA_PX), LOSS)
    assert not fits[:10].any() and fits[10:].all()
    assert np.linalg.norm(found[10:] - seen.positions[10:], axis=1).max() < 0.2


@pytest.mark.parametrize("loss", [None, 0.5])
def test_steps_go_on_until_they_are_short(loss: float | None) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (40, 3)) + np.array([0, 0, 5])
    R = np.array([rotation_from_rotvec(np.array([0, 0.1 * number, 0])) for number in range(6)])
    t = np.array([[-0.5 * number, 0, 0] for number in range(6)])
    point, image = np.repeat(np.arange(40), 6), np.tile(np.arange(6), 40)
    in_camera = np.einsum("nij,nj->ni", R[image], points[point]) + t[image]
    xy = in_camera[:, :2] / in_camera[:, 2:] + rng.normal(0, 1e-3, (240, 2))
    xy[::6] += 0.02  # one wrong observation of each point
    views = PointViews.of(point, image, R, t, xy, np.full(240, 500.0))
    found = best_positions(views, points * [1, 1, 1.2], loss, 30)
    assert views.steps(found, loss)[1].max() < 2e-3
    if loss is not None:
        exact = np.median(np.linalg.norm(found - points, axis=1))
        squared = np.median(np.linalg.norm(best_positions(views, points, None, 30) - points, axis=1))
        assert exact < 0.3 * squared
