"""Cameras: undistortion is the inverse of projection, and a camera rotates with its image."""

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.images.orientation import turn_forward
from sfm_lightglue.scene.cameras import (
    as_pycolmap,
    calibration_matrix,
    default_camera,
    make_camera,
    mean_focal_length,
    normalized_from_pixels,
    turned_camera,
)

SIZE = (640, 480)
MODELS = {
    "SIMPLE_PINHOLE": (500, 310, 250),
    "PINHOLE": (500, 520, 310, 250),
    "SIMPLE_RADIAL": (500, 310, 250, -0.1),
    "RADIAL": (500, 310, 250, -0.1, 0.03),
    "OPENCV": (500, 520, 310, 250, -0.1, 0.03, 0.004, -0.007),
    "FULL_OPENCV": (500, 520, 310, 250, -0.1, 0.03, 0.004, -0.007, 0.002, 0.05, 0.01, 0.003),
    "OPENCV_FISHEYE": (500, 520, 310, 250, -0.02, 0.01, 0.003, -0.001),
    "SIMPLE_RADIAL_FISHEYE": (500, 310, 250, -0.02),
    "RADIAL_FISHEYE": (500, 310, 250, -0.02, 0.01),
    "SIMPLE_FISHEYE": (500, 310, 250),
    "FISHEYE": (500, 520, 310, 250),
    "FOV": (500, 520, 310, 250, 0.4),
    "SIMPLE_DIVISION": (500, 310, 250, -0.1),
    "DIVISION": (500, 520, 310, 250, -0.1),
    "EUCM": (500, 520, 310, 250, 0.5, 1.1),
}
THIN_PRISM = {
    "THIN_PRISM_FISHEYE": (500, 520, 310, 250, -0.02, 0.01, 0.004, -0.007, 0.003, -0.001, 0.002, 0.003),
    "RAD_TAN_THIN_PRISM_FISHEYE": (500, 520, 310, 250, *[0.001] * 12),
}
POINTS = np.random.default_rng(0).uniform([-0.5, -0.35, 1], [0.5, 0.35, 1], (50, 3))
"""Directions [N, 3] well inside the image."""

QUARTER_TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""Rotation of camera axes if the image is rotated clockwise: the new x is minus the old y, the new y is the old x."""


def project(camera, points):
    return as_pycolmap(camera).img_from_cam(points)


def test_every_model_of_colmap_is_tested():
    known = set(pycolmap.CameraModelId.__members__) - {"INVALID", "EQUIRECTANGULAR"}
    assert known == MODELS.keys() | THIN_PRISM.keys()


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("model", MODELS)
def test_a_rotated_camera_projects_rotated_points_to_rotated_pixels(model, turns):
    camera = make_camera(model, SIZE, MODELS[model])
    expected = turn_forward(project(camera, POINTS), turns % 4, SIZE)
    rotation = np.linalg.matrix_power(QUARTER_TURN, turns % 4)
    turned = turned_camera(camera, turns)
    assert turned.size == (SIZE[::-1] if turns % 2 else SIZE)
    np.testing.assert_allclose(project(turned, POINTS @ rotation.T), expected, atol=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_four_quarter_turns_are_the_identity(model):
    camera = make_camera(model, SIZE, MODELS[model], "exif")
    once = turned_camera(camera, 1)
    assert once != camera
    assert once.source == "exif"
    assert turned_camera(once, 3) == turned_camera(camera, 4) == turned_camera(camera, 0) == camera


@pytest.mark.parametrize("model", THIN_PRISM)
def test_rotating_a_thin_prism_model_is_refused(model):
    camera = make_camera(model, SIZE, THIN_PRISM[model])
    assert turned_camera(camera, 0) == camera
    with pytest.raises(ConfigError, match=f"{model}.*thin-prism"):
        turned_camera(camera, 1)


@pytest.mark.parametrize("model", MODELS | THIN_PRISM)
def test_undoing_a_camera_is_the_inverse_of_projecting(model):
    camera = make_camera(model, SIZE, (MODELS | THIN_PRISM)[model])
    pixels = project(camera, POINTS)
    np.testing.assert_allclose(normalized_from_pixels(camera, pixels), POINTS[:, :2], atol=1e-6)
    float32 = normalized_from_pixels(camera, pixels.astype(np.float32))
    assert float32.dtype == np.float64
    np.testing.assert_allclose(float32, POINTS[:, :2], atol=1e-6)
    assert normalized_from_pixels(camera, np.zeros((0, 2), np.float32)).shape == (0, 2)


def test_calibration_matrix_and_focal_length():
    camera = make_camera("OPENCV", SIZE, MODELS["OPENCV"])
    np.testing.assert_array_equal(calibration_matrix(camera), [[500, 0, 310], [0, 520, 250], [0, 0, 1]])
    assert mean_focal_length(camera) == 510


def test_results_are_copies():
    """The camera of pycolmap is shared by all callers."""
    camera = make_camera("OPENCV", SIZE, MODELS["OPENCV"])
    before = calibration_matrix(camera), normalized_from_pixels(camera, 100 * POINTS[:, :2])
    kept = [array.copy() for array in before]
    for array in before:
        array[:] = 7
    np.testing.assert_array_equal(calibration_matrix(camera), kept[0])
    np.testing.assert_array_equal(normalized_from_pixels(camera, 100 * POINTS[:, :2]), kept[1])
    as_pycolmap(camera).params = np.ones(8)
    assert mean_focal_length(camera) == 510


def test_cameras_are_told_apart_by_all_of_their_parameters():
    cameras = [make_camera("SIMPLE_RADIAL", SIZE, (500 + f, 310, 250, k)) for f in (0, 1e-9) for k in (0, 1e-9)]
    points = [normalized_from_pixels(camera, POINTS[:, :2] * 300 + 200) for camera in cameras]
    assert len({one.tobytes() for one in points}) == len(cameras)


def test_threads_share_cameras():
    cameras = [make_camera(model, SIZE, params) for model, params in MODELS.items()]
    pixels = [project(camera, POINTS) for camera in cameras]
    alone = [as_pycolmap(camera).cam_from_img(one) for camera, one in zip(cameras, pixels, strict=True)]
    jobs = list(range(len(cameras))) * 40
    together = ordered_map(lambda i: normalized_from_pixels(cameras[i], pixels[i]), jobs, 4)
    assert all(np.array_equal(points, alone[i]) for i, points in zip(jobs, together, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_a_default_camera_has_no_distortion_and_looks_through_the_centre(model):
    camera = default_camera(model, SIZE, 600.0)
    assert camera.source == "exif"
    np.testing.assert_allclose(calibration_matrix(camera), [[600, 0, 320], [0, 600, 240], [0, 0, 1]])
    straight = project(default_camera("PINHOLE", SIZE, 600.0), POINTS)
    # Fisheye models always distort; the default of FOV has a small distortion.
    if "FISHEYE" not in model:
        np.testing.assert_allclose(project(camera, POINTS), straight, atol=0.01)


def test_an_unknown_focal_length_is_guessed_and_marked_as_guessed():
    camera = default_camera("simple_radial", (480, 640), None)
    assert camera.model == "SIMPLE_RADIAL"
    assert camera.source == "guessed"
    assert mean_focal_length(camera) == pytest.approx(1.2 * 640)
    assert not as_pycolmap(camera).has_prior_focal_length
    assert as_pycolmap(default_camera("PINHOLE", SIZE, 500.0)).has_prior_focal_length
    assert as_pycolmap(make_camera("PINHOLE", SIZE, MODELS["PINHOLE"]), 7).camera_id == 7


@pytest.mark.parametrize("model", ["PINHOL", "", "INVALID", "EQUIRECTANGULAR"])
def test_the_error_for_an_unknown_model_lists_the_known_ones(model):
    for make in (lambda: make_camera(model, SIZE, (1, 2, 3, 4)), lambda: default_camera(model, SIZE, None)):
        with pytest.raises(ConfigError, match=r"unknown; COLMAP has .*OPENCV, .*PINHOLE, .*SIMPLE_RADIAL"):
            make()


def test_the_error_for_a_wrong_number_of_parameters_lists_their_names():
    with pytest.raises(ConfigError, match=r"OPENCV: expected 8 parameters \(fx, fy, cx, cy, k1, .*\), got 4"):
        make_camera("opencv", SIZE, (500, 520, 310, 250))


@pytest.mark.parametrize("params", [(0, 320, 240), (-5, 320, 240), (np.nan, 320, 240), (500, np.inf, 240)])
def test_impossible_parameters_are_refused(params):
    with pytest.raises(ConfigError, match=r"must be (positive|finite)"):
        make_camera("SIMPLE_PINHOLE", SIZE, params)
