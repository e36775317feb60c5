"""Checks of the refined intrinsics of a model."""

from __future__ import annotations

import math

import numpy as np
import pycolmap

from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.quiet_log import quiet_log
from sfm_lightglue.mapping.verdict import Check

_FISHEYE_WORDS = ("FISHEYE", "FOV")
_NUM_SAMPLES = 33

_MAX_UNCERTAIN_IMAGES = 60
"""Number of images from which the uncertainty of the focal lengths is estimated at most."""


def is_fisheye(camera: pycolmap.Camera) -> bool:
    """Whether the camera model projects angles, so that the slope of its distortion has no limit."""
    return any(word in camera.model_name for word in _FISHEYE_WORDS)


def intrinsics_checks(
    model: pycolmap.Reconstruction,
    initial_focal_from_id: dict[int, float],
    constant_camera_ids: frozenset[int],
    config: ChecksConfig,
) -> dict[str, Check]:
    """The checks of the cameras whose intrinsics were refined, by name; empty if there are none.

    Args:
        model: adjusted.
        initial_focal_from_id: focal lengths from EXIF data in pixels, by camera.
        constant_camera_ids: cameras whose intrinsics were given.
        config: limits.
    """
    used = {model.images[image_id].camera_id for image_id in model.reg_image_ids()}
    cameras = {camera_id: model.cameras[camera_id] for camera_id in sorted(used - constant_camera_ids)}
    if not cameras:
        return {}
    ratios = [camera.mean_focal_length() / max(camera.width, camera.height) for camera in cameras.values()]
    checks = {
        "max_focal_ratio": Check.at_most(max(ratios), config.max_focal_ratio),
        "min_focal_ratio": Check.at_least(min(ratios), config.min_focal_ratio),
    }
    changes = [
        abs(math.log(max(cameras[camera_id].mean_focal_length(), 1e-9) / focal))
        for camera_id, focal in initial_focal_from_id.items()
        if camera_id in cameras
    ]
    if changes:
        checks["max_focal_change"] = Check.at_most(math.exp(min(max(changes), 50.0)), config.max_focal_change)
    plain = [camera for camera in cameras.values() if not is_fisheye(camera)]
    if plain:
        slope = min(distortion_slope(camera) for camera in plain)
        checks["min_distortion_slope"] = Check.at_least(slope, config.min_distortion_slope)
    guessed = frozenset(cameras) - frozenset(initial_focal_from_id)
    if guessed:
        sigma = focal_uncertainty(model, guessed, constant_camera_ids)
        limit = config.max_focal_uncertainty
        checks["max_focal_uncertainty"] = Check(None, limit, False) if sigma is None else Check.at_most(sigma, limit)
    return checks


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


def focal_uncertainty(
    model: pycolmap.Reconstruction, camera_ids: frozenset[int], constant_camera_ids: frozenset[int]
) -> float | None:
    """Largest relative standard deviation of focal lengths by the noise of the observations; None if undetermined.

    Args:
        model: adjusted; not changed.
        camera_ids: the cameras in question.
        constant_camera_ids: cameras whose intrinsics were not refined.
    """
    image_ids = sorted(model.reg_image_ids())
    step = math.ceil(len(image_ids) / _MAX_UNCERTAIN_IMAGES)
    chosen = image_ids[::step]
    if not any(model.images[image_id].camera_id in camera_ids for image_id in chosen):
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
    with quiet_log():
        covariance = pycolmap.estimate_ba_covariance(covariance_options, model, adjuster)
    if covariance is None:
        return None
    noise_px = max(float(model.compute_mean_reprojection_error()), 0.1)
    sigmas = []
    for camera_id in sorted(camera_ids & seen):
        camera = model.cameras[camera_id]
        of_camera = covariance.get_other_params_cov(camera.params)
        if of_camera is None or not np.isfinite(of_camera[0, 0]) or of_camera[0, 0] < 0:
            return None
        sigmas.append(math.sqrt(of_camera[0, 0]) * noise_px / camera.mean_focal_length())
    return max(sigmas, default=None)
