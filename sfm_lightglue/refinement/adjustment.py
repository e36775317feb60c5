"""Adjust a model with observations of different precision.

COLMAP weighs all observations alike. Here each image becomes several images of one rig without distance between
them, one for each class of precision. The unit of pixels of such an image is the standard deviation of its class, so
COLMAP's errors are in standard deviations. The cameras of these images are separate ones, so their intrinsics cannot
be refined together; they are refined before, from the precise observations alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float32Array, Float64Array, IndexArray
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.refinement.observations import Observations, read_observations

_SIGMAS_PX = np.geomspace(0.1, 0.4, 5)
"""Of the classes: neighbours differ by a factor of 1.41. No keypoint counts as more exact than 0.1 px: that is about
what a camera model leaves of the distortion of a real lens."""

_LOSS_SIGMAS = 1.5
"""Scale of the soft L1 loss in standard deviations."""

_PRECISE_SIGMA_PX, _PRECISE_LOSS_PX = 0.25, 0.15
"""Largest standard deviation of the observations from which intrinsics are refined, and scale of their loss."""

_MIN_PRECISE = 0.5
"""Intrinsics of cameras with a smaller share of precise observations are not refined."""


def adjust_by_precision(
    model: pycolmap.Reconstruction,
    sigmas_px: Mapping[int, Float32Array],
    constant_camera_ids: Collection[int],
    num_threads: int = 1,
    refine_principal_point: bool = False,
    constant_image_ids: Collection[int] = (),
    tolerance: float = 1e-4,
) -> bool:
    """Adjust a model with errors in standard deviations of the keypoints, and a robust loss.

    Args:
        model: changed in place.
        sigmas_px: standard deviation of each keypoint [K] in pixels, by number of the image.
        constant_camera_ids: cameras whose intrinsics are not refined.
        num_threads: of the solver.
        refine_principal_point: refine it too where intrinsics are refined.
        constant_image_ids: images whose poses stay; with one of them, the frame of the model cannot move.
        tolerance: relative change of the cost at which the adjustment stops.

    Returns:
        Whether it was adjusted. A model of rigs with several sensors is not, and one with fewer than two images.
    """
    if model.num_reg_images() < 2 or model.num_points3D() == 0:
        return False
    if any(rig.num_sensors() != 1 for rig in model.rigs.values()):
        return False
    seen = read_observations(model)
    sigmas = np.concatenate([sigmas_px[image_id][seen.keypoints[seen.of(row)]] for row, image_id in _rows(seen)])
    free = _precise_camera_ids(model, seen, sigmas) - set(constant_camera_ids)
    if free:
        options = _options(_PRECISE_LOSS_PX, num_threads, tolerance)
        options.refine_principal_point = refine_principal_point
        _refine_intrinsics(model, seen, sigmas, free, options, constant_image_ids)
    borders = np.sqrt(_SIGMAS_PX[1:] * _SIGMAS_PX[:-1])
    weighted = _weighted(model, seen, np.searchsorted(borders, sigmas))
    _solve(weighted, set(weighted.cameras), constant_image_ids, _options(_LOSS_SIGMAS, num_threads, tolerance))
    for image_id in seen.image_ids:
        frame, moved = model.images[image_id].frame, weighted.frames[image_id].rig_from_world
        assert frame is not None and moved is not None  # the image is registered
        frame.set_cam_from_world(model.images[image_id].camera_id, moved)
    points, adjusted = model.points3D, weighted.points3D
    for number, point_id in enumerate(seen.point_ids, start=1):
        points[point_id].xyz = adjusted[number].xyz
    model.update_point_3d_errors()
    return True


def _rows(seen: Observations) -> enumerate[int]:
    return enumerate(seen.image_ids)


def _options(loss: float, num_threads: int, tolerance: float) -> pycolmap.BundleAdjustmentOptions:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_sensor_from_rig = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.loss_function_scale = loss
    options.ceres.solver_options.num_threads = num_threads
    options.ceres.solver_options.function_tolerance = tolerance
    return options


def _solve(
    model: pycolmap.Reconstruction,
    constant_camera_ids: Collection[int],
    constant_frame_ids: Collection[int],
    options: pycolmap.BundleAdjustmentOptions,
) -> None:
    """Adjust all images and points of a model."""
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(model.reg_image_ids()):
        adjusted.add_image(image_id)
    for camera_id in sorted(constant_camera_ids):
        adjusted.set_constant_cam_intrinsics(camera_id)
    for frame_id in sorted(constant_frame_ids):
        adjusted.set_constant_rig_from_world_pose(frame_id)
    if not constant_frame_ids:
        adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    with quiet_log():
        pycolmap.create_default_bundle_adjuster(options, adjusted, model).solve()


def _precise_camera_ids(model: pycolmap.Reconstruction, seen: Observations, sigmas: Float64Array) -> set[int]:
    """The cameras most of whose observations are precise."""
    camera_ids = np.array([model.images[image_id].camera_id for image_id in seen.image_ids])[seen.images]
    is_precise = sigmas <= _PRECISE_SIGMA_PX
    shares = np.bincount(camera_ids, is_precise) / np.maximum(np.bincount(camera_ids), 1)
    return set(np.flatnonzero(shares >= _MIN_PRECISE).tolist())


def _refine_intrinsics(
    model: pycolmap.Reconstruction,
    seen: Observations,
    sigmas: Float64Array,
    camera_ids: Collection[int],
    options: pycolmap.BundleAdjustmentOptions,
    constant_image_ids: Collection[int],
) -> None:
    """Refine the intrinsics of some cameras from the precise observations; poses and points stay as they are."""
    precise = pycolmap.Reconstruction(model)
    images = seen.images
    for row in np.flatnonzero(sigmas > _PRECISE_SIGMA_PX).tolist():
        image_id, keypoint = seen.image_ids[images[row]], int(seen.keypoints[row])
        if precise.images[image_id].points2D[keypoint].has_point3D():  # COLMAP deletes points of one observation
            precise.delete_observation(image_id, keypoint)
    constant_frame_ids = {model.images[image_id].frame_id for image_id in constant_image_ids}
    _solve(precise, set(model.cameras) - set(camera_ids), constant_frame_ids, options)
    for camera_id in camera_ids:
        model.cameras[camera_id].params = precise.cameras[camera_id].params.tolist()


def _weighted(model: pycolmap.Reconstruction, seen: Observations, classes: IndexArray) -> pycolmap.Reconstruction:
    """A model in which each image is a rig of one image per class. A frame has the number of the image.

    Args:
        model: to be copied.
        seen: its observations.
        classes: [M] of the observations.
    """
    weighted = pycolmap.Reconstruction()
    num_classes = len(_SIGMAS_PX)
    for camera_id in sorted(model.cameras):
        _add_rig(weighted, model.cameras[camera_id])
    image_ids, indices = np.empty(len(seen), np.int64), np.empty(len(seen), np.int64)
    for row, image_id in _rows(seen):
        of_image = seen.of(row)
        first_id = image_id * num_classes
        for number in range(num_classes):
            chosen = of_image.start + np.flatnonzero(classes[of_image] == number)
            image_ids[chosen], indices[chosen] = first_id + number, np.arange(len(chosen))
        _add_frame(weighted, model.images[image_id], seen.xy[of_image], classes[of_image])
    order = np.argsort(seen.points, kind="stable")
    elements = list(map(pycolmap.TrackElement, image_ids[order].tolist(), indices[order].tolist()))
    starts = np.searchsorted(seen.points[order], np.arange(len(seen.positions) + 1)).tolist()
    for position, start, end in zip(seen.positions, starts[:-1], starts[1:], strict=True):
        weighted.add_point3D(position, pycolmap.Track(elements[start:end]))
    return weighted


def _add_rig(weighted: pycolmap.Reconstruction, camera: pycolmap.Camera) -> None:
    """A camera per class, whose unit is the standard deviation, as a rig without distance between them."""
    rig = pycolmap.Rig()
    rig.rig_id = camera.camera_id
    scaled = [*camera.focal_length_idxs(), *camera.principal_point_idxs()]
    for number, sigma_px in enumerate(_SIGMAS_PX):
        params = np.array(camera.params)
        params[scaled] /= sigma_px
        of_class = pycolmap.Camera(
            camera_id=camera.camera_id * len(_SIGMAS_PX) + number,
            model=camera.model,
            width=round(camera.width / sigma_px),
            height=round(camera.height / sigma_px),
            params=params,
        )
        weighted.add_camera(of_class)
        if number == 0:
            rig.add_ref_sensor(of_class.sensor_id)
        else:
            rig.add_sensor(of_class.sensor_id, pycolmap.Rigid3d())
    weighted.add_rig(rig)


def _add_frame(weighted: pycolmap.Reconstruction, image: pycolmap.Image, xy: Float64Array, classes: IndexArray) -> None:
    """An image per class, with its keypoints only.

    Args:
        weighted: receives the images.
        image: of the model.
        xy: [N, 2] pixels of its observations.
        classes: [N] of them.
    """
    num_classes = len(_SIGMAS_PX)
    frame = pycolmap.Frame()
    frame.frame_id, frame.rig_id = image.image_id, image.camera_id
    camera_ids = [image.camera_id * num_classes + number for number in range(num_classes)]
    for number, camera_id in enumerate(camera_ids):
        sensor_id = weighted.cameras[camera_id].sensor_id
        frame.add_data_id(pycolmap.data_t(sensor_id, image.image_id * num_classes + number))
    weighted.add_frame(frame)
    weighted.frames[image.image_id].set_cam_from_world(camera_ids[0], image.cam_from_world())
    for number, camera_id in enumerate(camera_ids):
        of_class = pycolmap.Image(
            image_id=image.image_id * num_classes + number,
            name=f"{image.name}/{number}",
            camera_id=camera_id,
            keypoints=xy[classes == number] / _SIGMAS_PX[number],
        )
        of_class.frame_id = image.image_id
        weighted.add_image(of_class)
    weighted.register_frame(image.image_id)
