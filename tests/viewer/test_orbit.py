"""The mouse moves the viewpoint: up stays up, the distance stays, and what is dragged follows."""

import numpy as np
import pytest

from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.viewer import orbit

UP = np.array([0.0, 0.0, 1.0])
VIEW = Viewpoint(np.array([3.0, -2.0, 1.0]), np.array([0.2, 0.1, 0.0]), UP)
SIZE = (800, 600)


def distance(view: Viewpoint) -> float:
    return float(np.linalg.norm(view.eye - view.target))


@pytest.mark.parametrize("movement", [(50, 0), (0, 40), (-200, -90), (3000, 5000), (0, -5000)])
def test_turning_keeps_the_distance_the_target_and_a_level_horizon(movement):
    view = orbit.turned(VIEW, *movement, SIZE[1])
    assert distance(view) == pytest.approx(distance(VIEW))
    assert view.target.tolist() == VIEW.target.tolist()
    assert view.cam_from_world.R[0] @ UP == pytest.approx(0, abs=1e-9)
    elevation = np.degrees(np.arcsin((view.eye - view.target) @ UP / distance(view)))
    assert abs(elevation) <= orbit.MAX_ELEVATION_DEG + 1e-6


def test_things_in_front_of_the_target_follow_the_mouse():
    front = (VIEW.target + 0.2 * (VIEW.eye - VIEW.target))[None]
    before, _ = VIEW.project(front, SIZE)
    right, _ = orbit.turned(VIEW, 20, 0, SIZE[1]).project(front, SIZE)
    down, _ = orbit.turned(VIEW, 0, 20, SIZE[1]).project(front, SIZE)
    assert right[0, 0] > before[0, 0] + 2 and abs(right[0, 1] - before[0, 1]) < 1
    assert down[0, 1] > before[0, 1] + 2 and abs(down[0, 0] - before[0, 0]) < 1


def test_there_and_back_is_where_it_was():
    back = orbit.turned(orbit.turned(VIEW, 37, 12, 600), -37, -12, 600)
    np.testing.assert_allclose(back.eye, VIEW.eye, atol=1e-9)


def test_shifting_moves_the_target_by_the_pixels_of_the_mouse():
    view = orbit.shifted(VIEW, 40, -25, SIZE[1])
    pixels, _ = view.project(VIEW.target[None], SIZE)
    np.testing.assert_allclose(pixels[0], np.array(SIZE) / 2 + (40, -25), atol=1e-6)
    np.testing.assert_allclose(view.eye - view.target, VIEW.eye - VIEW.target)


def test_the_wheel_goes_nearer_within_limits():
    assert distance(orbit.zoomed(VIEW, 1)) == pytest.approx(orbit.ZOOM_STEP * distance(VIEW))
    assert distance(orbit.zoomed(VIEW, 1000)) == pytest.approx(orbit.MIN_DISTANCE)
    assert distance(orbit.zoomed(VIEW, -1000)) == pytest.approx(orbit.MAX_DISTANCE)


def test_looking_through_a_camera_takes_its_centre_and_direction():
    frustum = np.zeros((8, 3))
    frustum[0] = (1, 2, 0.5)
    frustum[1:5] = frustum[0] + np.array([(1, -0.2, 0.2), (1, 0.2, 0.2), (1, 0.2, -0.2), (1, -0.2, -0.2)])
    view = orbit.through_camera(VIEW, frustum)
    np.testing.assert_allclose(view.eye, frustum[0])
    np.testing.assert_allclose(view.cam_from_world.R[2], [1, 0, 0], atol=1e-9)
    frustum[1:5] = frustum[0] + np.array([(-0.2, -0.2, -1), (0.2, -0.2, -1), (0.2, 0.2, -1), (-0.2, 0.2, -1)])
    assert orbit.through_camera(VIEW, frustum).cam_from_world.R[2][2] < -0.99, "straight down has a way up too"


def test_another_axis_is_up_also_where_the_view_looks_along_it():
    axis = (VIEW.eye - VIEW.target) / distance(VIEW)
    view = orbit.with_up(VIEW, axis)
    np.testing.assert_allclose(view.up, axis)
    assert np.isfinite(view.cam_from_world.R).all()
    assert view.cam_from_world.R[0] @ axis == pytest.approx(0, abs=1e-9)


def test_a_turntable_is_a_full_circle_at_equal_steps():
    views = orbit.turntable(VIEW, 8)
    eyes = np.array([view.eye for view in views])
    np.testing.assert_allclose(eyes[0], VIEW.eye)
    steps = np.linalg.norm(eyes - np.roll(eyes, 1, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose((eyes - VIEW.target) @ UP, (VIEW.eye - VIEW.target) @ UP)
    np.testing.assert_allclose(eyes[4, :2] - VIEW.target[:2], -(eyes[0, :2] - VIEW.target[:2]), atol=1e-9)


def test_aiming_keeps_the_direction():
    view = orbit.aimed(VIEW, np.array([5.0, 5.0, 5.0]))
    assert view.target.tolist() == [5, 5, 5]
    np.testing.assert_allclose(view.eye - view.target, VIEW.eye - VIEW.target)


@pytest.mark.parametrize("aspect", [0.5, 4 / 3, 3.0])
def test_a_turn_has_all_positions_in_every_picture_and_is_near(aspect):
    positions = np.random.default_rng(0).uniform((-3, -1, 0), (3, 1, 1.5), (500, 3))
    view = orbit.fitted_for_turn(VIEW, positions, aspect)
    size = (round(600 * aspect), 600)
    largest = 0.0
    for turned in orbit.turntable(view, 24):
        pixels, depths = turned.project(positions, size)
        assert (depths > 0).all()
        largest = max(largest, float(np.abs(2 * pixels / size - 1).max()))
    assert largest == pytest.approx(0.94, abs=0.002)
    direction = (view.eye - view.target) / distance(view)
    np.testing.assert_allclose(direction, (VIEW.eye - VIEW.target) / distance(VIEW), atol=1e-9)
    assert distance(orbit.fitted_for_turn(VIEW, positions[:1], aspect)) == pytest.approx(orbit.MIN_DISTANCE)
