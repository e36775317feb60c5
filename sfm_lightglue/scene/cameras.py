"""COLMAP's camera models: undistort points, rotate a camera with its image, guess a camera for an image.

pycolmap evaluates the models, so two-view geometry and mapping use the same rays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.types import Camera, IntrinsicsSource

MAX_DISTORTION = 20.0
"""Largest absolute value of a distortion coefficient. Larger ones are taken for an input error."""

DEFAULT_FOCAL_FACTOR = 1.2
"""Ratio of an unknown focal length to the longer side: COLMAP's default, a lens of about 43 mm."""


def make_camera(
    model: str, size: tuple[int, int], params: Sequence[float], source: IntrinsicsSource = "given"
) -> Camera:
    """Make a camera with checked parameters.

    Args:
        model: COLMAP's name, in upper or lower case.
        size: (width, height) in pixels.
        params: parameters in COLMAP's order.
        source: origin of the parameters.

    Raises:
        ConfigError: if the model is unknown, the number of parameters is wrong, or a value is impossible.
    """
    camera = Camera(model.upper(), size[0], size[1], tuple(params), source)
    native = as_pycolmap(camera)
    order = f"; {camera.model} has {native.params_info}"
    if not all(np.isfinite(camera.params)):
        raise ConfigError(f"camera parameters {list(camera.params)}: all must be finite numbers{order}")
    if min(native.params[i] for i in native.focal_length_idxs()) <= 0:
        raise ConfigError(f"camera parameters {list(camera.params)}: the focal length must be positive{order}")
    cx, cy = (native.params[i] for i in native.principal_point_idxs())
    if not (0 <= cx <= size[0] and 0 <= cy <= size[1]):
        raise ConfigError(
            f"camera parameters {list(camera.params)}: the principal point lies outside the image of"
            f" {size[0]} x {size[1]} pixels{order}"
        )
    # In parameters of another model, a focal length or a principal point may be at the position of the distortion.
    if any(abs(native.params[i]) > MAX_DISTORTION for i in native.extra_params_idxs()):
        raise ConfigError(f"camera parameters {list(camera.params)}: the distortion is too large{order}")
    return camera


def default_camera(
    model: str, size: tuple[int, int], focal_length_px: float | None, magnification: float = 1.0
) -> Camera:
    """Make a camera without distortion whose principal point is the centre of the image.

    Args:
        model: COLMAP's name.
        size: (width, height) in pixels.
        focal_length_px: focal length in pixels; None assumes 1.2 times the longer side.
        magnification: factor of digital zoom and crop on the assumed focal length.

    Raises:
        ConfigError: if the model is unknown.
    """
    focal = focal_length_px or DEFAULT_FOCAL_FACTOR * max(size) * magnification
    native = pycolmap.Camera.create_from_model_name(0, _checked_model(model), focal, size[0], size[1])
    return Camera(model.upper(), size[0], size[1], tuple(native.params), "exif" if focal_length_px else "guessed")


def is_fisheye_model(model: str) -> bool:
    """Whether a camera model of COLMAP describes fisheye lenses, by its name."""
    return "FISHEYE" in model.upper() or model.upper() == "FOV"


def as_pycolmap(camera: Camera, camera_id: int = 0) -> pycolmap.Camera:
    """Convert a camera to pycolmap.

    Raises:
        ConfigError: if the model is unknown, or the number of parameters is wrong.
    """
    native = pycolmap.Camera.create_from_model_name(
        camera_id, _checked_model(camera.model), 1.0, camera.width, camera.height
    )
    if len(native.params) != len(camera.params):
        raise ConfigError(
            f"camera model {camera.model}: expected {len(native.params)} parameters ({native.params_info}),"
            f" got {len(camera.params)}"
        )
    native.params = list(camera.params)
    native.has_prior_focal_length = camera.source != "guessed"
    return native


def mean_focal_length(camera: Camera) -> float:
    """Focal length in pixels, the mean of x and y."""
    return float(_shared_native(camera).mean_focal_length())


@lru_cache(maxsize=256)
def _shared_native(camera: Camera) -> pycolmap.Camera:
    """The camera of pycolmap, made once. It is changeable, so it does not leave this file."""
    return as_pycolmap(camera)


def normalized_from_pixels(camera: Camera, points: AnyArray) -> Float64Array:
    """Convert pixels to normalised image coordinates, without distortion.

    Args:
        camera: a camera of any of COLMAP's models.
        points: [N, 2] pixels, COLMAP convention.

    Returns:
        [N, 2] points on the plane z = 1 of the camera, NaN where the camera model cannot be inverted.
    """
    if len(points) == 0:
        return np.zeros((0, 2))
    return np.asarray(_shared_native(camera).cam_from_img(np.asarray(points, dtype=np.float64)), dtype=np.float64)


def calibration_matrix(camera: Camera) -> Float64Array:
    """K [3, 3] in COLMAP's pixel convention; it does not include the distortion."""
    K: Float64Array = np.asarray(_shared_native(camera).calibration_matrix())
    return K


def turned_camera(camera: Camera, quarter_turns: int) -> Camera:
    """The camera of an image that was rotated clockwise by quarter turns.

    Raises:
        ConfigError: if the distortion of the model cannot be rotated (models with thin-prism terms).
    """
    for _ in range(quarter_turns % 4):
        camera = _turned_once(camera)
    return camera


def _turned_once(camera: Camera) -> Camera:
    """Pixel (x, y) moves to (height - y, x): the new x axis is minus the old y axis, the new y axis is the old x."""
    names = [name.strip() for name in as_pycolmap(camera).params_info.split(",")]
    values = dict(zip(names, camera.params, strict=True))
    if {"sx1", "s0"} & set(names):
        raise ConfigError(f"camera model {camera.model}: thin-prism distortion cannot be rotated with the image")
    turned = values | {"cx": camera.height - values["cy"], "cy": values["cx"]}
    if "fx" in values:
        turned |= {"fx": values["fy"], "fy": values["fx"]}
    if "p1" in values:
        # Tangential distortion is the vector (p2, p1) along (x, y); it rotates like a point.
        turned |= {"p2": -values["p1"], "p1": values["p2"]}
    return Camera(camera.model, camera.height, camera.width, tuple(turned[name] for name in names), camera.source)


def _checked_model(model: str) -> str:
    # A spherical panorama has no image plane, which matching and two-view geometry need.
    known = sorted(set(pycolmap.CameraModelId.__members__) - {"INVALID", "EQUIRECTANGULAR"})
    if model.upper() not in known:
        raise ConfigError(f"camera model {model!r} is unknown; COLMAP has {', '.join(known)}")
    return model.upper()
