"""Adjust images that came into a model, with what they touch; everything else stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.geometry.transforms import project_to_rotation
from sfm_lightglue.mapping.extend_keypoints import num_observed, seen_points

_FUNCTION_TOLERANCE = 1e-6

_MIN_TOUCHED = 0.1
"""Images with a smaller fraction of points that images which came in observe keep their poses."""

_MAX_TOUCHED = 8
"""Largest number of such images whose poses are adjusted, for each image that came in."""

_MIN_CONSTANT = 3
"""With fewer images of constant pose beside them, these are adjusted too: two poses alone would pass on their error."""


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


def touched_images(model: pycolmap.Reconstruction, added: Collection[int]) -> set[int]:
    """The other images of a model whose points images that came in observe most: new rays move their poses.

    Args:
        model: with the observations of the images that came in.
        added: ids of these images.
    """
    num_shared = num_observed(model, seen_points(model, added))
    share = {image_id: num / model.images[image_id].num_points3D for image_id, num in num_shared.items()}
    touched = [image_id for image_id in share if image_id not in added and share[image_id] >= _MIN_TOUCHED]
    touched.sort(key=lambda image_id: (-share[image_id], image_id))
    return set(touched[: _MAX_TOUCHED * len(added)])


@dataclass(frozen=True, eq=False, slots=True)
class MovablePart:
    """What is adjusted of a model: some images with all their points, and the other images that see these points.

    Args:
        model: the part, a copy.
        moved: ids of the images whose poses are adjusted.
        constant: ids of the others; none if the part has no others.
    """

    model: pycolmap.Reconstruction
    moved: frozenset[int]
    constant: frozenset[int]

    @classmethod
    def around(
        cls, model: pycolmap.Reconstruction, added: Collection[int], touched: Collection[int] = ()
    ) -> MovablePart:
        """The part of images that came in.

        If one or two images would be constant, they are adjusted too, with all their points. If one or two others
        see these points, only the images that came in are adjusted.

        Args:
            model: with these images.
            added: their ids.
            touched: other images whose poses are adjusted; without any, all poses but those of `added` are constant.
        """
        moved = frozenset(added) | frozenset(touched)
        for _ in range(2):
            part = part_seen_by(model, moved)
            constant = frozenset(part.reg_image_ids()) - moved
            if not touched or not constant or len(constant) >= _MIN_CONSTANT:
                return cls(part, moved, constant)
            moved |= constant
        return cls.around(model, added)

    def take_back(self, model: pycolmap.Reconstruction, added: Collection[int]) -> None:
        """Take the poses, cameras and points of the adjusted part into the model, in the frame of the model.

        Without constant images, the frame is that in which the earlier images have moved least; without any earlier
        image, it is that of the part.

        Args:
            model: changed in place.
            added: ids of the images that came in.
        """
        old = sorted(self.moved - set(added))
        if old and not self.constant:
            moved, before = ([one.images[image_id].cam_from_world() for image_id in old] for one in (self.model, model))
            self.model.transform(pycolmap.Sim3d(_aligning(moved, before)))
        for image_id in sorted(self.moved & set(self.model.reg_image_ids())):
            image = model.images[image_id]
            model.frames[image.frame_id].rig_from_world = self.model.frames[image.frame_id].rig_from_world
            model.cameras[image.camera_id].params = self.model.cameras[image.camera_id].params.tolist()
        points = model.points3D
        for point_id, adjusted in self.model.points3D.items():
            points[point_id].xyz = adjusted.xyz


def _aligning(moved: Sequence[pycolmap.Rigid3d], before: Sequence[pycolmap.Rigid3d]) -> Float64Array:
    """[3, 4] similarity to the poses before: the rotation of all orientations, scale and shift of all centres."""
    matrices = [np.array([pose.rotation.matrix() for pose in poses]) for poses in (moved, before)]
    centers = [np.array([pose.inverse().translation for pose in poses]) for poses in (moved, before)]
    R = project_to_rotation(np.einsum("nki,nkj->ij", matrices[1], matrices[0]))
    means = [each.mean(axis=0) for each in centers]
    spreads = [float(np.linalg.norm(each - mean)) for each, mean in zip(centers, means, strict=True)]
    scale = spreads[1] / spreads[0] if min(spreads) > 0 else 1.0
    return np.column_stack([scale * R, means[1] - scale * R @ means[0]])


def adjust_images(
    model: pycolmap.Reconstruction,
    image_ids: Collection[int],
    loss_px: float,
    constant_camera_ids: Collection[int],
    num_threads: int,
    refine_principal_point: bool = False,
    touched: Collection[int] = (),
) -> frozenset[int]:
    """Adjust the poses of some images, their points, and the cameras that no other image has, with a robust loss.

    What `MovablePart` does not have stays as it is. Images without points keep their poses.

    Args:
        model: changed in place; some registered image is none of `image_ids`.
        image_ids: registered images.
        loss_px: scale of the soft L1 loss.
        constant_camera_ids: cameras whose intrinsics are not refined.
        num_threads: of the solver.
        refine_principal_point: refine it too where intrinsics are refined.
        touched: further images whose poses are adjusted; their cameras are not.

    Returns:
        Ids of the images whose poses were adjusted: those of `MovablePart.moved`.
    """
    part = MovablePart.around(model, image_ids, touched)
    if part.model.num_points3D() == 0:
        return part.moved
    adjusted = pycolmap.BundleAdjustmentConfig()
    for image_id in sorted(part.model.reg_image_ids()):
        adjusted.add_image(image_id)
        if image_id in part.constant:
            adjusted.set_constant_rig_from_world_pose(part.model.images[image_id].frame_id)
    for camera_id in sorted(constant_cameras(model, image_ids, constant_camera_ids) & set(part.model.cameras)):
        adjusted.set_constant_cam_intrinsics(camera_id)
    if not part.constant:
        adjusted.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_sensor_from_rig = False
    options.refine_principal_point = refine_principal_point
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = num_threads
    options.ceres.solver_options.function_tolerance = _FUNCTION_TOLERANCE
    with quiet_log():
        pycolmap.create_default_bundle_adjuster(options, adjusted, part.model).solve()
    part.take_back(model, image_ids)
    return part.moved


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
        manager.filter_points3D_in_images(max_error_px, min_angle_deg, set(image_ids))
    model.update_point_3d_errors()
