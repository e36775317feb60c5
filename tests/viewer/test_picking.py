"""What lies under the mouse, without a window."""

import numpy as np
import pytest

from sfm_lightglue.drawing.scene import frustum_lines, pinhole_corner_rays
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.viewer.picking import Picked, in_view, pick, pick_camera, pick_point, pixel_ray, ray_depths

SIZE = (800, 600)
VIEW = Viewpoint(np.array([0.0, -1.0, -6.0]), np.zeros(3), np.array([0.0, -1.0, 0.0]))
POINTS = np.random.default_rng(0).uniform(-2, 2, (3000, 3)).astype(np.float32)
NO_POINTS = np.zeros((0, 3), np.float32)
NO_FRUSTA = np.zeros((0, 8, 3), np.float32)


def frusta_at(centers: list[tuple[float, float, float]], size: float = 0.3) -> np.ndarray:
    poses = tuple(Rigid3.look_at(np.array(c), np.add(c, (0.2, 0.1, 1)), np.array([0, -1, 0])) for c in centers)
    lines = frustum_lines(poses, (pinhole_corner_rays(640, 480),) * len(poses), size)
    return lines.vertices.reshape(-1, 8, 3).astype(np.float32)


def pixel_of(position: np.ndarray) -> tuple[float, float]:
    pixels, _ = VIEW.project(np.asarray(position, np.float64)[None], SIZE)
    return float(pixels[0, 0]), float(pixels[0, 1])


@pytest.mark.parametrize("row", [0, 100, 2999])
def test_the_ray_through_the_pixel_of_a_point_meets_it(row):
    ray = pixel_ray(VIEW, SIZE, pixel_of(POINTS[row]))
    _, depth = VIEW.project(POINTS[row : row + 1].astype(np.float64), SIZE)
    np.testing.assert_allclose(VIEW.eye + depth[0] * ray, POINTS[row], atol=1e-5)


def test_rays_hit_a_frustum_exactly_where_its_outline_is():
    frusta = frusta_at([(0.3, 0.2, 0.0)])
    from PIL import Image, ImageDraw  # the outline of a convex body is filled by its faces

    image = Image.new("1", SIZE)
    corners, _ = VIEW.project(frusta[0].astype(np.float64), SIZE)
    for face in ((0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (1, 2, 3, 4)):
        ImageDraw.Draw(image).polygon([tuple(corners[i]) for i in face], fill=1)
    inside = np.asarray(image)
    left, top = corners[:5].min(axis=0).astype(int) - 12
    right, bottom = corners[:5].max(axis=0).astype(int) + 12
    wrong = 0
    for x in range(left, right, 3):
        for y in range(top, bottom, 3):
            hit = np.isfinite(ray_depths(VIEW.eye, pixel_ray(VIEW, SIZE, (x + 0.5, y + 0.5)), frusta)[0])
            near = inside[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            wrong += bool(near.all() != near.any()) is False and hit != inside[y, x]
    assert wrong == 0 and inside.sum() > 500


def test_the_nearer_of_two_frusta_behind_each_other_is_picked():
    frusta = frusta_at([(0, 0, 2.0), (0, 0.0, 0.0)])
    ray = frusta[1, 1:5].mean(axis=0)
    found = pick_camera(VIEW, SIZE, pixel_of(ray), frusta)
    assert found is not None and found[0] == 1
    assert found[1] == pytest.approx(6.0, abs=0.5)


def test_a_frustum_around_the_eye_hides_nothing():
    around = frusta_at([tuple(VIEW.eye - (0.1, 0.05, 0.5))], size=3.0)
    assert np.isinf(ray_depths(VIEW.eye, np.array([0.0, 0.0, 1.0]), around)).all()


def test_a_tiny_camera_is_picked_near_its_centre():
    frusta = frusta_at([(1.0, 0.5, 1.0), (-1, 0, 0)], size=0.001)
    x, y = pixel_of(frusta[0, 0])
    assert pick_camera(VIEW, SIZE, (x + 5, y - 5), frusta) == (0, pytest.approx(7.0, abs=0.5))
    assert pick_camera(VIEW, SIZE, (x + 40, y), frusta) is None


def test_the_point_with_the_nearest_projection_is_picked():
    pixels, depths = VIEW.project(POINTS.astype(np.float64), SIZE)
    rng = np.random.default_rng(2)
    for xy in rng.uniform((250, 200), (550, 400), (40, 2)):
        found = pick_point(VIEW, SIZE, tuple(xy), POINTS)
        distances = np.linalg.norm(pixels - xy, axis=1)
        if distances.min() > 8:
            assert found is None
            continue
        assert found is not None
        row, depth = found
        assert distances[row] <= distances.min() + 2.0 and depth == pytest.approx(depths[row], rel=1e-5)


def test_of_points_at_one_pixel_the_nearest_to_the_eye_is_picked():
    ray = pixel_ray(VIEW, SIZE, (500.0, 250.0))
    points = (VIEW.eye + np.array([7.0, 4.0, 9.0])[:, None] * ray).astype(np.float32)
    assert pick_point(VIEW, SIZE, (500.4, 250.3), points) == (1, pytest.approx(4.0, abs=1e-5))


def test_points_behind_the_eye_are_not_picked():
    behind = (VIEW.eye - 3 * pixel_ray(VIEW, SIZE, (400.0, 300.0)))[None].astype(np.float32)
    assert pick_point(VIEW, SIZE, (400.0, 300.0), behind) is None


def test_a_point_before_a_camera_is_picked_and_one_behind_it_is_not():
    frusta = frusta_at([(0, 0, 0)])
    xy = pixel_of(frusta[0, 1:5].mean(axis=0))
    ray = pixel_ray(VIEW, SIZE, xy)
    before, after = (np.array([VIEW.eye + depth * ray], np.float32) for depth in (3.0, 9.0))
    assert pick(VIEW, SIZE, xy, before, frusta) == Picked("point", 0)
    assert pick(VIEW, SIZE, xy, after, frusta) == Picked("camera", 0)
    assert pick(VIEW, SIZE, xy, after, NO_FRUSTA) == Picked("point", 0)
    assert pick(VIEW, SIZE, xy, NO_POINTS, frusta) == Picked("camera", 0)
    assert pick(VIEW, SIZE, (5.0, 5.0), NO_POINTS, NO_FRUSTA) is None


def test_points_in_view_are_those_that_project_into_the_picture():
    points = np.random.default_rng(3).uniform(-8, 8, (5000, 3)).astype(np.float32)
    pixels, _ = VIEW.project(points.astype(np.float64), SIZE)
    inside = ((pixels >= 0) & (pixels <= SIZE)).all(axis=1)  # NaN is not
    assert (in_view(VIEW, SIZE, points) == inside).mean() > 0.999
    assert in_view(VIEW, SIZE, NO_POINTS).shape == (0,)
