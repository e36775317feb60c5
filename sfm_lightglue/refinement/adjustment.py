"""Adjust a model with observations of different precision.

COLMAP weighs all observations alike. Here each image becomes several images of one rig without distance between
them, one for each class of precision. The unit of pixels of such an image is the standard deviation of its class, so
COLMAP's errors are in standard deviations. The cameras of these images are separate ones, so their intrinsics cannot
be refined together; they are refined before, from the precise observations alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import add_points
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.geometry.point_choice import PointChoice, wanted_for_intrinsics
from sfm_lightglue.refinement.observations import Observations, read_observations
from sfm_lightglue.refinement.points import adjusted_points

_SIGMAS_PX = np.geomspace(0.1, 0.4, 5)
"""Of the classes: neighbours differ by a factor of 1.41. No keypoint counts as more exact than 0.1 px: that is about
what a camera model leaves of the distortion of a real lens."""

_LOSS_SIGMAS = 1.5
"""Scale of the soft L1 loss in standard deviations."""

_PRECISE_SIGMA_PX, _PRECISE_LOSS_PX = 0.25, 0.15
"""Largest standard deviation of the observations from which intrinsics are refined, and scale of their loss."""

_PASSING = 2.0
"""Factor on the tolerance of the adjustment of the intrinsics, which that of the poses follows."""

_ENOUGH_OF_CAMERA, _ENOUGH_OF_IMAGE = 20_000, 400
"""Precise observations of a camera, and of an image, that determine its intrinsics and its pose well enough."""

_ENOUGH_OF_ALL = 40_000
"""Precise observations of all free cameras together, of which each of many cameras gets an equal part: their common
points tie them together. The least numbers of each image and of each parameter come first, so many get more."""

_ENOUGH_OF_POSE, _MOST_OF_POSE, _ENOUGH_OF_POSES = 1000, 2000, 40_000
"""Observations of an image by which its pose is adjusted, at least and at most, and of all images between these; the
points of all others follow with fixed poses. With all observations both take about twice as long, and the errors of
the centres are not clearly smaller; with 1,000 those of 12 images are a tenth larger. Of them, `_ENOUGH_OF_IMAGE` must
be precise ones."""

_MOST = 0.8
"""All points are adjusted together with the poses if these need a larger part of all observations."""

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
    seen: Observations | None = None,
) -> bool:
    """Adjust a model with errors in standard deviations of the keypoints, and a robust loss.

    Points that fit the adjusted poses nowhere are removed.

    Args:
        model: changed in place.
        sigmas_px: standard deviation of each keypoint [K] in pixels, by number of the image.
        constant_camera_ids: cameras whose intrinsics are not refined.
        num_threads: of the solver.
        refine_principal_point: refine it too where intrinsics are refined.
        constant_image_ids: images whose poses stay; with one of them, the frame of the model cannot move.
        tolerance: relative change of the cost at which the adjustment stops.
        seen: the observations of the model, None to read them.

    Returns:
        Whether it was adjusted. A model of rigs with several sensors is not, and one with fewer than two images.
    """
    if model.num_reg_images() < 2 or model.num_points3D() == 0:
        return False
    if any(rig.num_sensors() != 1 for rig in model.rigs.values()):
        return False
    seen = read_observations(model) if seen is None else seen
    sigmas = np.concatenate([sigmas_px[image_id][seen.keypoints[seen.of(row)]] for row, image_id in _rows(seen)])
    free = _precise_camera_ids(model, seen, sigmas) - set(constant_camera_ids)
    if free:
        options = _options(_PRECISE_LOSS_PX, num_threads, _PASSING * tolerance)
        options.refine_principal_point = refine_principal_point
        chosen = _enough(model, seen, sigmas <= _PRECISE_SIGMA_PX, free)
        _refine_intrinsics(model, seen, chosen, free, options, constant_image_ids)
    classes = np.searchsorted(np.sqrt(_SIGMAS_PX[1:] * _SIGMAS_PX[:-1]), sigmas)
    options = _options(_LOSS_SIGMAS, num_threads, tolerance)
    options.ceres.max_num_images_direct_dense_cpu_solver *= len(_SIGMAS_PX)  # the classes of an image have one pose
    options.ceres.max_num_images_direct_sparse_cpu_solver *= len(_SIGMAS_PX)
    is_chosen = _points_for_poses(seen, sigmas <= _PRECISE_SIGMA_PX)
    of_chosen = np.where(is_chosen[seen.points], classes, -1)
    positions = _adjust_poses(model, seen, of_chosen, constant_image_ids, options)
    fits = np.ones(len(positions), np.bool_)
    if not is_chosen.all():
        positions, fits = adjusted_points(model, seen, positions, _SIGMAS_PX[classes], _LOSS_SIGMAS)
    points = model.points3D
    for point_id, xyz in zip(seen.point_ids, positions, strict=True):
        points[point_id].xyz = xyz
    for row in np.flatnonzero(~fits).tolist():
        model.delete_point3D(seen.point_ids[row])
    model.update_point_3d_errors()
    return True


def _adjust_poses(
    model: pycolmap.Reconstruction,
    seen: Observations,
    classes: IndexArray,
    constant_image_ids: Collection[int],
    options: pycolmap.BundleAdjustmentOptions,
) -> Float64Array:
    """Adjust the poses of a model in place, by observations of classes [M]; those of class -1 are left out.

    Returns:
        The adjusted positions [P, 3] of the points; those without observations stay.
    """
    weighted = _model_of_classes(model, seen, classes, _SIGMAS_PX.tolist())
    _solve(weighted, set(weighted.cameras), constant_image_ids, options)
    for image_id in seen.image_ids:
        frame, moved = model.images[image_id].frame, weighted.frames[image_id].rig_from_world
        assert frame is not None and moved is not None  # the image is registered
        frame.set_cam_from_world(model.images[image_id].camera_id, moved)
    positions, adjusted = seen.positions.copy(), weighted.points3D
    kept = np.flatnonzero(np.bincount(seen.points[classes >= 0], minlength=len(positions)))
    positions[kept] = np.reshape([adjusted[number].xyz for number in range(1, len(kept) + 1)], (-1, 3))
    return positions


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


def _enough(
    model: pycolmap.Reconstruction, seen: Observations, is_precise: BoolArray, camera_ids: Collection[int]
) -> BoolArray:
    """Precise observations [M] that suffice for the intrinsics of some cameras: those of a part of the points.

    The points are chosen by chance, so that they are as far from the middle of the images as all are.
    """
    per_image = np.bincount(seen.images[is_precise], minlength=len(seen.image_ids))
    cameras = np.array([model.images[image_id].camera_id for image_id in seen.image_ids])
    num_params = {number: len(model.cameras[number].params) for number in camera_ids}
    of_camera = wanted_for_intrinsics(per_image, cameras, num_params, _ENOUGH_OF_CAMERA, _ENOUGH_OF_ALL)
    choice = PointChoice(len(seen.positions), seen.points, seen.images, len(seen.image_ids))
    choice.want(np.maximum(_ENOUGH_OF_IMAGE, of_camera), is_precise)
    return np.asarray(is_precise & choice.chosen()[seen.points])


def _points_for_poses(seen: Observations, is_precise: BoolArray) -> BoolArray:
    """Points [P] that determine all poses nearly as well as all do, chosen by chance; all if these are most of them."""
    choice = PointChoice(len(seen.positions), seen.points, seen.images, len(seen.image_ids))
    choice.want(min(max(_ENOUGH_OF_POSES // len(seen.image_ids), _ENOUGH_OF_POSE), _MOST_OF_POSE))
    choice.want(_ENOUGH_OF_IMAGE, is_precise)
    choice.want_pairs()
    is_chosen = choice.chosen()
    is_most = is_chosen[seen.points].sum() > _MOST * len(seen)
    return np.ones(len(is_chosen), np.bool_) if is_most else is_chosen


def _precise_camera_ids(model: pycolmap.Reconstruction, seen: Observations, sigmas: Float64Array) -> set[int]:
    """The cameras most of whose observations are precise."""
    camera_ids = np.array([model.images[image_id].camera_id for image_id in seen.image_ids])[seen.images]
    is_precise = sigmas <= _PRECISE_SIGMA_PX
    shares = np.bincount(camera_ids, is_precise) / np.maximum(np.bincount(camera_ids), 1)
    return set(np.flatnonzero(shares >= _MIN_PRECISE).tolist())


def _refine_intrinsics(
    model: pycolmap.Reconstruction,
    seen: Observations,
    chosen: BoolArray,
    camera_ids: Collection[int],
    options: pycolmap.BundleAdjustmentOptions,
    constant_image_ids: Collection[int],
) -> None:
    """Refine the intrinsics of some cameras from chosen observations [M]; poses and points stay as they are.

    The poses that fit them are not taken over, because an image with few precise observations has any of many. From
    them, the adjustment of all poses would take 0 to 4 of 8 to 12 steps less.
    """
    precise = _model_of_classes(model, seen, np.where(chosen, 0, -1), (1.0,), min_views=2)
    _solve(precise, set(model.cameras) - set(camera_ids), constant_image_ids, options)
    for camera_id in camera_ids:
        model.cameras[camera_id].params = precise.cameras[camera_id].params.tolist()


def _model_of_classes(
    model: pycolmap.Reconstruction,
    seen: Observations,
    classes: IndexArray,
    sigmas_px: Sequence[float],
    min_views: int = 1,
) -> pycolmap.Reconstruction:
    """A model in which each image is a rig of one image per class. A frame has the number of the image.

    Args:
        model: to be copied.
        seen: its observations.
        classes: [M] of the observations; those of class -1 are left out.
        sigmas_px: of the classes.
        min_views: points with fewer observations are left out. The others are numbered from 1, in their order.
    """
    weighted = pycolmap.Reconstruction()
    num_classes = len(sigmas_px)
    num_left = np.bincount(seen.points[classes >= 0], minlength=len(seen.positions))
    classes = np.where(num_left[seen.points] >= min_views, classes, -1)
    for camera_id in sorted(model.cameras):
        _add_rig(weighted, model.cameras[camera_id], sigmas_px)
    indices = np.empty(len(seen), np.int64)
    for row, image_id in _rows(seen):
        of_image = seen.of(row)
        for number in range(num_classes):
            chosen = of_image.start + np.flatnonzero(classes[of_image] == number)
            indices[chosen] = np.arange(len(chosen))
        _add_frame(weighted, model.images[image_id], seen.xy[of_image], classes[of_image], sigmas_px)
    order = np.argsort(seen.points, kind="stable")
    order = order[classes[order] >= 0]
    kept = np.flatnonzero(num_left >= min_views)
    ends = np.searchsorted(seen.points[order], kept, side="right")
    image_ids = np.array(seen.image_ids)[seen.images[order]] * num_classes + classes[order]
    add_points(weighted, seen.positions[kept], ends, image_ids, indices[order])
    return weighted


def _add_rig(weighted: pycolmap.Reconstruction, camera: pycolmap.Camera, sigmas_px: Sequence[float]) -> None:
    """A camera per class, whose unit is the standard deviation, as a rig without distance between them."""
    rig = pycolmap.Rig()
    rig.rig_id = camera.camera_id
    scaled = [*camera.focal_length_idxs(), *camera.principal_point_idxs()]
    for number, sigma_px in enumerate(sigmas_px):
        params = np.array(camera.params)
        params[scaled] /= sigma_px
        of_class = pycolmap.Camera(
            camera_id=camera.camera_id * len(sigmas_px) + number,
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


def _add_frame(
    weighted: pycolmap.Reconstruction,
    image: pycolmap.Image,
    xy: Float64Array,
    classes: IndexArray,
    sigmas_px: Sequence[float],
) -> None:
    """An image per class, with its keypoints only.

    Args:
        weighted: receives the images.
        image: of the model.
        xy: [N, 2] pixels of its observations.
        classes: [N] of them.
        sigmas_px: of the classes.
    """
    num_classes = len(sigmas_px)
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
            keypoints=xy[classes == number] / sigmas_px[number],
        )
        of_class.frame_id = image.image_id
        weighted.add_image(of_class)
    weighted.register_frame(image.image_id)
