"""Checks of the refined intrinsics of a model."""

from __future__ import annotations

import math

import numpy as np
import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.verdict import Check
from sfm_lightglue.scene.cameras import is_fisheye_model

_NUM_SAMPLES = 33

_MAX_UNCERTAIN_IMAGES = 300
"""Number of images from which the uncertainty of the focal lengths is estimated at most."""

_DAMPING = 1e-6
"""Added to the diagonal of the information matrix: one undetermined parameter leaves the others determined."""


def intrinsics_checks(
    model: pycolmap.Reconstruction,
    initial_focal_from_id: dict[int, float],
    constant_camera_ids: frozenset[int],
    config: ChecksConfig,
) -> dict[int, dict[str, Check]]:
    """The checks of each camera whose intrinsics were refined: by camera, then by name.

    Args:
        model: adjusted.
        initial_focal_from_id: focal lengths from EXIF data in pixels, by camera.
        constant_camera_ids: cameras whose intrinsics were given.
        config: limits.
    """
    used = {model.images[image_id].camera_id for image_id in model.reg_image_ids()}
    cameras = {camera_id: model.cameras[camera_id] for camera_id in sorted(used - constant_camera_ids)}
    guessed = frozenset(cameras) - initial_focal_from_id.keys()
    sigma_from_id = focal_uncertainties(model, guessed, constant_camera_ids) if guessed else {}
    checks: dict[int, dict[str, Check]] = {}
    for camera_id, camera in cameras.items():
        focal = camera.mean_focal_length()
        checks[camera_id] = of_camera = {}
        if camera_id in guessed:
            ratio = focal / max(camera.width, camera.height)
            of_camera["max_focal_ratio"] = Check.at_most(ratio, config.max_focal_ratio)
            of_camera["min_focal_ratio"] = Check.at_least(ratio, config.min_focal_ratio)
        else:
            change = math.exp(min(abs(math.log(max(focal, 1e-9) / initial_focal_from_id[camera_id])), 50.0))
            of_camera["max_focal_change"] = Check.at_most(change, config.max_focal_change)
        if not is_fisheye_model(camera.model_name):
            slope = distortion_slope(camera)
            of_camera["min_distortion_slope"] = Check.at_least(slope, config.min_distortion_slope)
        if camera_id in sigma_from_id:
            sigma = sigma_from_id[camera_id]
            of_camera["max_focal_uncertainty"] = Check.at_most(sigma, config.max_focal_uncertainty)
    return checks


def worst_checks(checks_from_camera: dict[int, dict[str, Check]]) -> dict[str, Check]:
    """Of each check, that of the camera with the worst value."""
    worst: dict[str, Check] = {}
    for checks in checks_from_camera.values():
        for name, check in checks.items():
            if name not in worst or check.is_worse_than(worst[name], is_minimum=name.startswith("min_")):
                worst[name] = check
    return worst


def distortion_slope(camera: pycolmap.Camera) -> float:
    """Smallest slope of the distorted over the undistorted distance from the principal point, up to a corner.

    It is 1 without distortion, and 0 if the camera model cannot be inverted at some pixel.
    """
    center = np.array([camera.principal_point_x, camera.principal_point_y])
    corners = np.array([(x, y) for x in (0.0, camera.width) for y in (0.0, camera.height)])
    farthest = corners[np.argmax(np.linalg.norm(corners - center, axis=1))]
    steps = np.linspace(0.0, 1.0, _NUM_SAMPLES)[:, None]
    rays = np.asarray(camera.cam_from_img(center + steps * (farthest - center)), np.float64)
    if not np.isfinite(rays).all():
        return 0.0
    undistorted = np.linalg.norm(rays, axis=1)
    distorted = steps[:, 0] * np.linalg.norm(farthest - center) / camera.mean_focal_length()
    growth = np.diff(undistorted)
    if (growth <= 0).any():
        return 0.0
    return float((np.diff(distorted) / growth).min())


def focal_uncertainties(
    model: pycolmap.Reconstruction, camera_ids: frozenset[int], constant_camera_ids: frozenset[int]
) -> dict[int, float]:
    """Relative standard deviations of focal lengths by the noise of the observations; infinite if undetermined.

    Args:
        model: adjusted; not changed.
        camera_ids: the cameras in question.
        constant_camera_ids: cameras whose intrinsics were not refined.
    """
    image_ids = sorted(model.reg_image_ids())
    chosen = image_ids[:: math.ceil(len(image_ids) / _MAX_UNCERTAIN_IMAGES)]
    examined = [image_id for image_id in image_ids if model.images[image_id].camera_id in camera_ids]
    chosen = sorted({*chosen, *examined[:_MAX_UNCERTAIN_IMAGES]})
    seen = {model.images[image_id].camera_id for image_id in chosen}
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in chosen:
        adjusted.add_image(image_id)
    for camera_id in sorted(constant_camera_ids & seen):
        adjusted.set_constant_cam_intrinsics(camera_id)
    adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, adjusted, model)
    covariance_options = pycolmap.BACovarianceOptions()
    covariance_options.params = pycolmap.BACovarianceOptionsParams.ALL
    covariance_options.damping = _DAMPING
    with quiet_log():
        covariance = pycolmap.estimate_ba_covariance(covariance_options, model, adjuster)
    noise_px = max(float(model.compute_mean_reprojection_error()), 0.1)
    sigmas = {}
    for camera_id in sorted(camera_ids & seen):
        camera = model.cameras[camera_id]
        of_camera = None if covariance is None else covariance.get_other_params_cov(camera.params)
        variance = math.inf if of_camera is None else float(of_camera[0, 0])
        is_valid = math.isfinite(variance) and variance >= 0
        sigmas[camera_id] = math.sqrt(variance) * noise_px / camera.mean_focal_length() if is_valid else math.inf
    return sigmas
