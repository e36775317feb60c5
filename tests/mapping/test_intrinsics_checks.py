"""Checks of refined intrinsics: distortion that folds the image, impossible and undetermined focal lengths."""

from __future__ import annotations

import math

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.intrinsics_checks import (
    distortion_slope,
    focal_uncertainties,
    intrinsics_checks,
    worst_checks,
)
from sfm_lightglue.mapping.verdict import Check
from tests.helpers.exact_scenes import make_model, plane_scene, ring_scene

CONFIG = ChecksConfig()
CORNER = 500 / 600
"""Distance of the corner from the centre on the image plane of the cameras below."""


def camera(model: str, *params: float) -> pycolmap.Camera:
    return pycolmap.Camera(model=model, width=800, height=600, params=params, camera_id=1)


def with_distortion(model: str, *coefficients: float) -> pycolmap.Camera:
    focal = (600.0,) if model.startswith(("SIMPLE", "RADIAL")) else (600.0, 600.0)
    return camera(model, *focal, 400, 300, *coefficients)


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "PINHOLE"])
def test_a_pinhole_camera_has_slope_one(model: str) -> None:
    assert distortion_slope(with_distortion(model)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("model", "rest"), [("SIMPLE_RADIAL", ()), ("RADIAL", (0,)), ("OPENCV", (0,) * 3), ("FULL_OPENCV", (0,) * 7)]
)
@pytest.mark.parametrize("k1", [-0.1, -0.15, 0.1, 0.3])
def test_the_slope_is_the_smallest_derivative(model: str, rest: tuple[int, ...], k1: float) -> None:
    """Of r (1 + k1 r^2), up to the undistorted distance of the corner."""
    grid = np.linspace(0, 3, 300_001)
    distorted = grid * (1 + k1 * grid**2)
    farthest = grid[np.argmax(distorted >= CORNER)]
    expected = min(1.0, 1 + 3 * k1 * farthest**2)
    assert distortion_slope(with_distortion(model, k1, *rest)) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(
    ("model", "rest"), [("SIMPLE_RADIAL", ()), ("RADIAL", (0,)), ("OPENCV", (0,) * 3), ("FULL_OPENCV", (0,) * 7)]
)
@pytest.mark.parametrize("k1", [-0.3, -0.5])
def test_distortion_that_folds_the_corner_has_no_slope(model: str, rest: tuple[int, ...], k1: float) -> None:
    """For k1 = -0.3 the largest distorted distance is 0.70, that of the corner is 0.83."""
    assert distortion_slope(with_distortion(model, k1, *rest)) < CONFIG.min_distortion_slope


def test_the_farthest_corner_counts() -> None:
    center, aside = (camera("SIMPLE_RADIAL", 600, cx, cy, -0.12) for cx, cy in ((400, 300), (200, 150)))
    assert distortion_slope(aside) < distortion_slope(center) - 0.1


def checks_of(model: pycolmap.Reconstruction, constant: bool = False, exif: float | None = None) -> dict[str, Check]:
    focal = {} if exif is None else {1: exif}
    return worst_checks(intrinsics_checks(model, focal, frozenset({1}) if constant else frozenset(), CONFIG))


def test_a_right_model_passes_all() -> None:
    checks = checks_of(make_model(ring_scene()))
    assert checks.keys() == {"max_focal_ratio", "min_focal_ratio", "min_distortion_slope", "max_focal_uncertainty"}
    assert all(check.passed for check in checks.values())
    assert checks["max_focal_ratio"].value == pytest.approx(700 / 800)
    assert checks["max_focal_uncertainty"].value == pytest.approx(0.001, abs=0.002)


def test_given_cameras_are_not_checked() -> None:
    model = make_model(plane_scene(0.0))
    model.cameras[1].params = [9730, 400, 300, -0.9]
    assert not all(check.passed for check in checks_of(model).values())
    assert checks_of(model, constant=True) == {}


def test_a_focal_length_of_exif_data_is_a_reference() -> None:
    model = make_model(ring_scene())
    for focal, passed in ((700.0, True), (700 / 1.5, True), (700 * 1.5, True), (700 / 1.7, False), (700 * 1.7, False)):
        checks = checks_of(model, exif=focal)
        assert checks["max_focal_change"].passed is passed
        assert checks["max_focal_change"].value == pytest.approx(math.exp(abs(math.log(focal / 700))))
        assert "max_focal_uncertainty" not in checks, "the EXIF data bound it"


@pytest.mark.parametrize(("focal", "failed"), [(59.0, "min_focal_ratio"), (9730.0, "max_focal_ratio")])
def test_impossible_focal_lengths_fail(focal: float, failed: str) -> None:
    model = make_model(ring_scene())
    model.cameras[1].params = [focal, 400, 300, 0]
    checks = checks_of(model)
    assert not checks[failed].passed
    assert checks["min_focal_ratio" if failed == "max_focal_ratio" else "max_focal_ratio"].passed


def test_a_fisheye_lens_may_bend_as_it_does() -> None:
    model = pycolmap.Reconstruction()
    fisheye = camera("OPENCV_FISHEYE", 250, 250, 400, 300, -0.05, 0, 0, 0)
    model.add_camera_with_trivial_rig(fisheye)
    image = pycolmap.Image(name="a.jpg", image_id=1, camera_id=1)
    model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    assert "min_distortion_slope" not in checks_of(model, exif=250.0)


def test_the_focal_length_of_a_plane_from_straight_above_is_undetermined() -> None:
    check = checks_of(make_model(plane_scene(0.0)))["max_focal_uncertainty"]
    assert not check.passed
    assert check.value is None or check.value > CONFIG.max_focal_uncertainty


@pytest.mark.parametrize("tilt_deg", [20.0, 35.0])
def test_oblique_views_of_a_plane_determine_it(tilt_deg: float) -> None:
    check = checks_of(make_model(plane_scene(tilt_deg)))["max_focal_uncertainty"]
    assert check.passed
    assert check.value is not None
    assert check.value < 0.05


def test_the_uncertainty_is_the_spread_over_the_noise() -> None:
    """Twice the noise of the pixels, twice the standard deviation; more images, less."""
    values = []
    for noise_px, num_images in ((0.3, 8), (0.6, 8), (0.3, 16)):
        scene = ring_scene(num_images)
        object.__setattr__(scene, "noise_px", noise_px)
        values.append(focal_uncertainties(make_model(scene), frozenset({1}), frozenset())[1])
    assert values[1] == pytest.approx(2 * values[0], rel=0.15)
    assert values[2] < values[0]


def test_the_model_is_not_changed() -> None:
    model = make_model(ring_scene(5))
    before = (
        [model.images[i].cam_from_world().matrix().copy() for i in sorted(model.images)],
        list(model.cameras[1].params),
    )
    focal_uncertainties(model, frozenset({1}), frozenset())
    assert np.array_equal(before[0], [model.images[i].cam_from_world().matrix() for i in sorted(model.images)])
    assert before[1] == list(model.cameras[1].params)
