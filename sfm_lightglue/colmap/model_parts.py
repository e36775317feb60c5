"""Take images out of a model."""

from __future__ import annotations

from collections.abc import Collection

import pycolmap


def take_out_images(model: pycolmap.Reconstruction, names: Collection[str]) -> None:
    """Remove images with their observations, and points that are observed in one image only.

    Args:
        model: changed in place.
        names: of registered images.
    """
    frame_ids = [model.images[i].frame_id for i in sorted(model.reg_image_ids()) if model.images[i].name in names]
    for frame_id in frame_ids:
        pycolmap.ObservationManager(model).deregister_frame(frame_id)
    model.tear_down()  # removes what is not registered, as after mapping
