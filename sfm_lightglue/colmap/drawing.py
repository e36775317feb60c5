"""A `pycolmap.Reconstruction` as the arrays that `sfm_lightglue.drawing` draws."""

from __future__ import annotations

import numpy as np
from pycolmap import Reconstruction

from sfm_lightglue.drawing.scene import ModelArrays, image_corners, pinhole_corner_rays
from sfm_lightglue.geometry.transforms import Rigid3


def model_arrays(reconstruction: Reconstruction) -> ModelArrays:
    """Points in the order of their ids, and the registered images in the order of their names.

    Cameras whose corner rays do not point forwards, such as panoramas, get a field of view of 90 degrees.
    """
    points = [reconstruction.points3D[point_id] for point_id in sorted(reconstruction.points3D)]
    images = [reconstruction.images[image_id] for image_id in reconstruction.reg_image_ids()]
    poses, corner_rays = [], []
    for image in sorted(images, key=lambda image: image.name):
        poses.append(Rigid3.from_matrix(image.cam_from_world().matrix()))
        camera = reconstruction.cameras[image.camera_id]
        rays = np.asarray(camera.cam_ray_from_img(image_corners(camera.width, camera.height)), np.float64)
        is_usable = np.isfinite(rays).all() and (rays[:, 2] > 0.05).all()
        corner_rays.append(rays if is_usable else pinhole_corner_rays(camera.width, camera.height))
    return ModelArrays(
        np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3),
        np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3),
        tuple(poses),
        tuple(corner_rays),
    )
