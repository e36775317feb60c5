"""Up from the cameras: from their horizons where they look around, else from the images' own upward directions."""

import numpy as np
import pytest

from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.drawing.scene import build_scene
from sfm_lightglue.drawing.up_axis import up_of_cameras, up_of_gravity
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from tests.helpers.models_to_draw import make_model

UP = np.array([0.0, 0.0, 1.0])
NOT_TURNED = np.zeros(12, np.int64)


def looking_down(tilt_deg: float, span_deg: float) -> np.ndarray:
    """Twelve level cameras that look down by an angle, in directions within a span; z is up."""
    rotations = []
    for azimuth in np.radians(np.linspace(0, span_deg, 12)):
        tilt = np.radians(tilt_deg)
        forward = np.array([np.cos(tilt) * np.cos(azimuth), np.cos(tilt) * np.sin(azimuth), -np.sin(tilt)])
        rotations.append(Rigid3.look_at(np.zeros(3), forward, UP).R)
    return np.array(rotations)


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


@pytest.mark.parametrize(("tilt_deg", "span_deg"), [(50, 90), (30, 330), (0, 180)])
def test_cameras_that_look_down_in_several_directions_give_gravity(tilt_deg, span_deg):
    found = up_of_cameras(looking_down(tilt_deg, span_deg), NOT_TURNED)
    assert angle_deg(found, UP) < 1e-3
    mean = -looking_down(tilt_deg, span_deg)[:, 1].mean(axis=0)
    if span_deg == 90:
        assert angle_deg(mean / np.linalg.norm(mean), UP) > 30  # what the mean of the images would give


def test_cameras_that_look_the_same_way_give_the_mean_of_their_own_up():
    rotations = looking_down(10, 2)
    assert angle_deg(up_of_cameras(rotations, NOT_TURNED), UP) == pytest.approx(10, abs=0.5)


def test_a_change_of_frame_turns_the_result():
    R = rotation_from_rotvec(np.array([0.4, -1.1, 0.6]))
    rotations = looking_down(40, 120)
    np.testing.assert_allclose(
        up_of_cameras(rotations @ R.T, NOT_TURNED), R @ up_of_cameras(rotations, NOT_TURNED), atol=1e-9
    )


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("span_deg", [2, 120])
def test_images_that_are_stored_turned_give_the_same_up(quarter_turns, span_deg):
    rotations = looking_down(20, span_deg)
    # The camera was held turned: what is up in the upright image is elsewhere in the stored one.
    angle = np.radians(-90 * quarter_turns)
    stored = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ rotations
    turns = np.full(12, quarter_turns)
    np.testing.assert_allclose(up_of_cameras(stored, turns), up_of_cameras(rotations, NOT_TURNED), atol=1e-9)
    assert angle_deg(up_of_cameras(stored, NOT_TURNED), UP) > 20


def test_no_camera_gives_the_axis_of_an_upright_image():
    assert up_of_cameras(np.zeros((0, 3, 3)), np.zeros(0, np.int64)).tolist() == [0, -1, 0]


def test_the_view_takes_the_given_axis():
    arrays = model_arrays(make_model())
    axis = np.array([0.6, -0.8, 0.0])
    view = build_scene(arrays, 4 / 3, axis).viewpoint
    np.testing.assert_allclose(view.up, axis)
    assert view.cam_from_world.R[0] @ axis == pytest.approx(0, abs=1e-9)
    without = build_scene(arrays).viewpoint
    assert angle_deg(without.up, np.array([0.0, -1.0, 0.0])) < 8


def test_gravity_in_the_cameras_gives_up_whichever_way_they_look():
    rotations = looking_down(50, 90)
    gravities = rotations @ -UP
    np.testing.assert_allclose(up_of_gravity(rotations, gravities), UP, atol=1e-12)
    turned = rotation_from_rotvec(np.array([0.4, -1.1, 0.6]))
    np.testing.assert_allclose(up_of_gravity(rotations @ turned.T, gravities), turned @ UP, atol=1e-12)


def test_gravities_that_contradict_each_other_give_no_up():
    rotations = looking_down(50, 90)
    assert up_of_gravity(rotations, np.tile((0.0, 0.0, 1.0), (12, 1)) * np.array([[1], [-1]] * 6)) is None
    assert up_of_gravity(np.zeros((0, 3, 3)), np.zeros((0, 3))) is None
