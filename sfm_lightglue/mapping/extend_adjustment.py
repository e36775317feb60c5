"""Adjust images that came into a model, with all that they see; everything else stays as it is."""

from __future__ import annotations

from collections.abc import Collection

import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.mapping.extend_keypoints import seen_points

_FUNCTION_TOLERANCE = 1e-6


def part_seen_by(model: pycolmap.Reconstruction, image_ids: Collection[int]) -> pycolmap.Reconstruction:
    """A copy of a model that has only the points which some images observe, and the images that observe these."""
    return part_of_points(model, seen_points(model, image_ids))


def part_of_points(model: pycolmap.Reconstruction, point_ids: Collection[int]) -> pycolmap.Reconstruction:
    """A copy of a model that has only some points and the images that observe them. Ids stay the same."""
    part = pycolmap.Reconstruction(model)
    for point_id in sorted(part.point3D_ids() - set(point_ids)):
        part.delete_point3D(point_id)
    for frame_id in sorted(part.reg_frame_ids()):
        images = [part.images[data.id] for data in part.frames[frame_id].data_ids if data.id in part.images]
        if all(image.num_points3D == 0 for image in images):
            part.deregister_frame(frame_id)
    return part


def copy_back(part: pycolmap.Reconstruction, model: pycolmap.Reconstruction, image_ids: Collection[int]) -> None:
    """Take poses and cameras of images, and the positions of all points of a part, into the model."""
    for image_id in sorted(set(image_ids) & set(part.reg_image_ids())):
        image = model.images[image_id]
        model.frames[image.frame_id].rig_from_world = part.frames[image.frame_id].rig_from_world
        model.cameras[image.camera_id].params = part.cameras[image.camera_id].params.tolist()
    for point_id in part.point3D_ids():
        model.points3D[point_id].xyz = part.points3D[point_id].xyz


def adjust_images(
    model: pycolmap.Reconstruction,
    image_ids: Collection[int],
    loss_px: float,
    constant_camera_ids: Collection[int],
    num_threads: int,
    refine_principal_point: bool = False,
) -> None:
    """Adjust the poses of some images, their points, and the cameras that no other image has, with a robust loss.

    All other poses are constant, so the frame of the model cannot move.

    Args:
        model: changed in place; some registered image is none of `image_ids`.
        image_ids: registered images.
        loss_px: scale of the soft L1 loss.
        constant_camera_ids: cameras whose intrinsics are not refined.
        num_threads: of the solver.
        refine_principal_point: refine it too where intrinsics are refined.
    """
    part = part_seen_by(model, image_ids)
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(part.reg_image_ids()):
        adjusted.add_image(image_id)
        if image_id not in image_ids:
            adjusted.set_constant_rig_from_world_pose(part.images[image_id].frame_id)
    for camera_id in sorted(constant_cameras(model, image_ids, constant_camera_ids)):
        adjusted.set_constant_cam_intrinsics(camera_id)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_sensor_from_rig = False
    options.refine_principal_point = refine_principal_point
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = num_threads
    options.ceres.solver_options.function_tolerance = _FUNCTION_TOLERANCE
    with quiet_log():
        pycolmap.create_default_bundle_adjuster(options, adjusted, part).solve()
    copy_back(part, model, image_ids)


def constant_cameras(
    model: pycolmap.Reconstruction, image_ids: Collection[int], constant_camera_ids: Collection[int]
) -> set[int]:
    """The cameras of a model that stay when some images are adjusted: given ones, and those of other images."""
    others = {model.images[image_id].camera_id for image_id in model.reg_image_ids() if image_id not in image_ids}
    return (others | set(constant_camera_ids)) & set(model.cameras)


def filter_points_of(
    model: pycolmap.Reconstruction, image_ids: Collection[int], max_error_px: float, min_angle_deg: float
) -> None:
    """Remove what is beyond the limits from the points that some images observe.

    Args:
        model: changed in place.
        image_ids: of the images.
        max_error_px: largest reprojection error.
        min_angle_deg: smallest triangulation angle.
    """
    with quiet_log():
        manager = pycolmap.ObservationManager(model)
        manager.filter_points3D(max_error_px, min_angle_deg, seen_points(model, image_ids))
    model.update_point_3d_errors()
