"""Camera poses of a COLMAP model in our type."""

from __future__ import annotations

import pycolmap

from sfm_lightglue.geometry.transforms import Rigid3


def poses_of_model(model: pycolmap.Reconstruction) -> dict[str, Rigid3]:
    """`cam_from_world` of each registered image by name, sorted by name."""
    images = sorted((model.images[image_id] for image_id in model.reg_image_ids()), key=lambda image: image.name)
    return {image.name: Rigid3.from_matrix(image.cam_from_world().matrix()) for image in images}
