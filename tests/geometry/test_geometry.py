"""Laws of transforms, epipolar geometry and alignment."""

import numpy as np
import pytest

from sfm_lightglue.evaluation.pose_errors import pose_auc
from sfm_lightglue.geometry.epipolar import (
    essential_from_pose,
    homogeneous,
    sampson_residuals,
    squared_sampson_errors,
    squared_symmetric_epipolar_errors,
    triangulate,
)
from sfm_lightglue.geometry.transforms import (
    Rigid3,
    Sim3,
    cross_matrix,
    direction_angle_deg,
    direction_angles_deg,
    project_to_rotation,
    relative_pose_error_deg,
    rotation_angle_deg,
    rotation_angles_deg,
    rotation_from_rotvec,
    umeyama,
)

SEEDS = range(5)


def random_rigid(generator):
    return Rigid3.from_rotvec(generator.normal(size=3), generator.normal(size=3))


def random_sim(generator):
    pose = random_rigid(generator)
    return Sim3(float(generator.uniform(0.2, 5)), pose.R, pose.t)


def assert_same(a, b, points):
    np.testing.assert_allclose(a @ points, b @ points, atol=1e-10)


@pytest.fixture(params=[random_rigid, random_sim], ids=["Rigid3", "Sim3"])
def make(request):
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
def test_group_axioms(make, seed):
    generator = np.random.default_rng(seed)
    a, b, c = (make(generator) for _ in range(3))
    identity = type(a).identity()
    points = generator.normal(size=(7, 3))
    assert_same((a @ b) @ c, a @ (b @ c), points)
    assert_same(a @ identity, a, points)
    assert_same(identity @ a, a, points)
    assert_same(a @ a.inverse(), identity, points)
    assert_same(a.inverse() @ a, identity, points)
    assert_same(a.inverse().inverse(), a, points)
    np.testing.assert_allclose((a @ b) @ points, a @ (b @ points), atol=1e-10)


def test_application_works_on_any_leading_shape(make):
    generator = np.random.default_rng(0)
    transform, points = make(generator), generator.normal(size=(2, 4, 3))
    np.testing.assert_allclose((transform @ points)[1, 2], transform @ points[1, 2], atol=1e-12)
    assert (transform @ np.zeros((0, 3))).shape == (0, 3)


def test_a_matrix_acts_as_its_transform():
    generator = np.random.default_rng(1)
    pose, points = random_rigid(generator), generator.normal(size=(5, 3))
    np.testing.assert_allclose((homogeneous(points) @ pose.as_matrix().T)[:, :3], pose @ points, atol=1e-12)
    for matrix in (pose.as_matrix(), pose.as_matrix()[:3]):
        assert_same(Rigid3.from_matrix(matrix), pose, points)


def test_the_centre_is_the_origin_of_the_camera():
    pose = random_rigid(np.random.default_rng(2))
    np.testing.assert_allclose(pose @ pose.center, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("R", "t"),
    [
        (np.eye(3) * 1.01, np.zeros(3)),
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3)),
        (np.full((3, 3), np.nan), np.zeros(3)),
        (np.eye(4), np.zeros(3)),
        (np.eye(3), np.zeros((3, 1))),
    ],
    ids=["scaled", "mirrored", "nan", "4x4", "column"],
)
def test_matrices_that_are_no_rotation_are_refused(R, t):
    with pytest.raises(ValueError, match="Rigid3"):
        Rigid3(R, t)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match="scale"):
        Sim3(scale, np.eye(3), np.zeros(3))


def test_from_matrix_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[3, 4\] or \[4, 4\]"):
        Rigid3.from_matrix(np.eye(3))


def test_look_at_puts_the_target_in_the_middle_and_up_at_the_top():
    generator = np.random.default_rng(3)
    for _ in range(5):
        center, target, up = generator.normal(size=(3, 3))
        cam_from_world = Rigid3.look_at(center, target, up)
        np.testing.assert_allclose(cam_from_world.center, center, atol=1e-12)
        np.testing.assert_allclose(cam_from_world @ target, [0, 0, np.linalg.norm(target - center)], atol=1e-12)
        x, y, _ = cam_from_world.R @ up
        assert abs(x) < 1e-12
        assert y < 0  # the y axis points down


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-7, 1e-3, 1.0, 3.1])
def test_rotvec_gives_a_rotation_of_its_length(angle):
    axis = np.array([2.0, -1.0, 2.0]) / 3
    R = rotation_from_rotvec(angle * axis)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(R @ axis, axis, atol=1e-14)
    assert np.radians(rotation_angle_deg(R)) == pytest.approx(angle, rel=1e-6, abs=1e-15)


def test_rotvec_turns_by_the_right_hand():
    np.testing.assert_allclose(rotation_from_rotvec(np.array([0, 0, np.pi / 2])) @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_cross_matrix_is_the_cross_product():
    a, b = np.random.default_rng(4).normal(size=(2, 3))
    np.testing.assert_allclose(cross_matrix(a) @ b, np.cross(a, b), atol=1e-14)


def test_the_nearest_rotation():
    generator = np.random.default_rng(5)
    R = rotation_from_rotvec(generator.normal(size=3))
    np.testing.assert_allclose(project_to_rotation(3 * R), R, atol=1e-12)
    noisy = R + generator.normal(scale=0.1, size=(3, 3))
    nearest = project_to_rotation(noisy)
    assert np.linalg.det(nearest) == pytest.approx(1)
    distance = np.linalg.norm(noisy - nearest)
    for _ in range(20):
        other = rotation_from_rotvec(generator.normal(scale=0.05, size=3)) @ nearest
        assert np.linalg.norm(noisy - other) > distance
    assert np.linalg.det(project_to_rotation(-R)) == pytest.approx(1)


def test_angles_between_directions():
    assert direction_angle_deg([1, 0, 0], [2, 0, 0]) == 0
    assert direction_angle_deg([1, 0, 0], [0, 3, 0]) == pytest.approx(90)
    assert direction_angle_deg([1, 0, 0], [-1, 0, 0]) == pytest.approx(180)
    assert direction_angle_deg([1, 0, 0], [1, 1e-9, 0]) == pytest.approx(np.degrees(1e-9))
    assert direction_angle_deg([0, 0, 0], [1, 0, 0]) == 90


def test_angles_of_many_are_those_of_each():
    generator = np.random.default_rng(8)
    R = np.stack([rotation_from_rotvec(rotvec) for rotvec in generator.normal(size=(6, 3))]).reshape(2, 3, 3, 3)
    np.testing.assert_allclose(rotation_angles_deg(R)[1, 2], rotation_angle_deg(R[1, 2]), rtol=1e-12)
    a, b = generator.normal(size=(2, 4, 3))
    a[1] = 0
    expected = [direction_angle_deg(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(direction_angles_deg(a, b), expected, rtol=1e-12)
    assert expected[1] == 90
    assert rotation_angles_deg(R[:0]).shape == (0, 3)


def test_relative_pose_errors():
    truth = random_rigid(np.random.default_rng(6))
    turned = Rigid3(rotation_from_rotvec(np.radians([0, 7.0, 0])) @ truth.R, 3 * truth.t)
    assert relative_pose_error_deg(turned, truth) == pytest.approx((7, 0), abs=1e-6)
    assert relative_pose_error_deg(Rigid3(truth.R, -truth.t), truth) == pytest.approx((0, 180), abs=1e-5)


@pytest.fixture
def two_views():
    """A pose, points in camera 0, and their image points in both cameras."""
    generator = np.random.default_rng(7)
    cam1_from_cam0 = Rigid3.from_rotvec([0.1, -0.2, 0.05], [1.0, 0.2, -0.1])
    points = generator.uniform([-2, -2, 4], [2, 2, 9], (40, 3))
    in_1 = cam1_from_cam0 @ points
    return cam1_from_cam0, points, points[:, :2] / points[:, 2:], in_1[:, :2] / in_1[:, 2:]


def test_an_essential_matrix_annihilates_correspondences(two_views):
    cam1_from_cam0, _, points0, points1 = two_views
    E = essential_from_pose(cam1_from_cam0)
    residuals = np.einsum("ni,ij,nj->n", homogeneous(points1), E, homogeneous(points0))
    np.testing.assert_allclose(residuals, 0, atol=1e-14)
    singular = np.linalg.svd(E, compute_uv=False)
    length = np.linalg.norm(cam1_from_cam0.t)
    np.testing.assert_allclose(singular, [length, length, 0], atol=1e-14)
    assert np.linalg.norm(E) == pytest.approx(np.sqrt(2) * length)
    assert squared_sampson_errors(E, points0, points1).max() < 1e-28


def test_sampson_errors_are_distances_to_first_order(two_views):
    """A point moved by d across its epipolar line has the error d n1 / √(n0² + n1²), with line norms n0, n1."""
    cam1_from_cam0, _, points0, points1 = two_views
    E = essential_from_pose(cam1_from_cam0)
    lines = homogeneous(points0) @ E.T
    norms1 = np.linalg.norm(lines[:, :2], axis=1)
    norms0 = np.linalg.norm((homogeneous(points1) @ E)[:, :2], axis=1)
    d = 1e-4
    moved = points1 + d * lines[:, :2] / norms1[:, None]
    expected = d * norms1 / np.hypot(norms0, norms1)
    np.testing.assert_allclose(np.sqrt(squared_sampson_errors(E, points0, moved)), expected, rtol=1e-3)
    signed = sampson_residuals(E, homogeneous(points0), homogeneous(moved))
    np.testing.assert_allclose(signed, expected, rtol=1e-3)
    np.testing.assert_allclose(signed**2, squared_sampson_errors(E, points0, moved), rtol=1e-12)


def test_symmetric_epipolar_errors_are_distances_to_lines(two_views):
    cam1_from_cam0, _, points0, points1 = two_views
    E = essential_from_pose(cam1_from_cam0)
    moved = points1 + np.random.default_rng(0).normal(scale=0.01, size=points1.shape)

    def distance(matrix, source, target):
        lines = homogeneous(source) @ matrix.T
        return np.abs((lines * homogeneous(target)).sum(1)) / np.linalg.norm(lines[:, :2], axis=1)

    expected = distance(E, points0, moved) ** 2 + distance(E.T, moved, points0) ** 2
    np.testing.assert_allclose(squared_symmetric_epipolar_errors(E, points0, moved), expected, rtol=1e-9)


@pytest.mark.parametrize("errors", [squared_sampson_errors, squared_symmetric_epipolar_errors])
def test_epipolar_errors_are_independent_of_order_and_scale(two_views, errors):
    cam1_from_cam0, _, points0, points1 = two_views
    E = essential_from_pose(cam1_from_cam0)
    points1 = points1 + 0.01
    np.testing.assert_allclose(errors(E, points0, points1), errors(E.T, points1, points0), rtol=1e-9)
    np.testing.assert_allclose(errors(E, points0, points1), errors(-7 * E, points0, points1), rtol=1e-9)
    assert errors(E, points0[:0], points1[:0]).shape == (0,)
    assert not errors(np.zeros((3, 3)), points0, points1).any()


def test_triangulation_recovers_points(two_views):
    cam1_from_cam0, points, points0, points1 = two_views
    np.testing.assert_allclose(triangulate(cam1_from_cam0, points0, points1), points, rtol=1e-9)


def test_parallel_rays_give_far_finite_points(two_views):
    cam1_from_cam0, _, points0, _ = two_views
    rays = homogeneous(points0) @ cam1_from_cam0.R.T
    points = triangulate(cam1_from_cam0, points0, rays[:, :2] / rays[:, 2:])
    assert np.isfinite(points).all()
    assert np.linalg.norm(points, axis=1).min() > 1e6
    assert triangulate(cam1_from_cam0, points0[:0], points0[:0]).shape == (0, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_umeyama_recovers_a_similarity(seed):
    generator = np.random.default_rng(seed)
    truth, source = random_sim(generator), generator.normal(size=(6, 3))
    found = umeyama(source, truth @ source)
    assert found.scale == pytest.approx(truth.scale)
    assert_same(found, truth, source)


def test_umeyama_on_a_plane_or_a_mirror_image_stays_a_rotation():
    generator = np.random.default_rng(0)
    truth = random_sim(generator)
    flat = generator.normal(size=(6, 3)) * [1, 1, 0]
    assert_same(umeyama(flat, truth @ flat), truth, flat)
    source = generator.normal(size=(6, 3))
    assert np.linalg.det(umeyama(source, source * [1, 1, -1]).R) == pytest.approx(1)


def test_umeyama_is_the_least_squares_optimum():
    generator = np.random.default_rng(0)
    source = generator.normal(size=(20, 3))
    target = random_sim(generator) @ source + generator.normal(scale=0.1, size=(20, 3))
    best = umeyama(source, target)
    error = ((best @ source - target) ** 2).sum()
    for _ in range(20):
        nudge = Rigid3.from_rotvec(*generator.normal(scale=1e-3, size=(2, 3)))
        other = Sim3(best.scale * (1 + generator.normal(scale=1e-3)), nudge.R, nudge.t) @ Sim3(1.0, best.R, best.t)
        assert ((other @ source - target) ** 2).sum() > error


def test_umeyama_without_scale():
    source = np.random.default_rng(0).normal(size=(5, 3))
    assert umeyama(source, 2 * source, with_scale=False).scale == 1


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3))),
        (np.zeros((4, 3)), np.zeros((5, 3))),
        (np.zeros((4, 2)), np.zeros((4, 2))),
        (np.ones((4, 3)), np.arange(12.0).reshape(4, 3)),
    ],
    ids=["too few", "unequal", "2D", "one spot"],
)
def test_umeyama_refuses_degenerate_points(source, target):
    with pytest.raises(ValueError, match="umeyama"):
        umeyama(source, target)


def test_pose_auc_by_hand():
    # Errors 1 and 3, threshold 4: recall is linear from (0, 0) to (1, 1/2) and to (3, 1), then constant. The areas
    # are 1/4 + 3/2 + 1 of 4.
    assert pose_auc([3.0, 1.0], (4.0,)) == pytest.approx((2.75 / 4,))
    # Threshold 2: recall is constant at 1/2 beyond the error 1. The areas are 1/4 + 1/2 of 2.
    assert pose_auc([1.0, 3.0], (2.0,)) == pytest.approx((0.375,))
    assert pose_auc([1.0, np.inf], (2.0,)) == pytest.approx((0.375,))


def test_pose_auc_at_its_ends():
    assert pose_auc([]) == (0.0, 0.0, 0.0)
    assert pose_auc([0.0, 0.0]) == (1.0, 1.0, 1.0)
    assert pose_auc([np.inf, 90.0]) == (0.0, 0.0, 0.0)
    five, ten, twenty = pose_auc(np.random.default_rng(0).uniform(0, 40, 50))
    assert 0 < five < ten < twenty < 1
