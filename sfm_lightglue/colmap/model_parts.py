"""Take images out of a model, frame by frame, and copy parts of it."""

from __future__ import annotations

import copy
from collections.abc import Collection

import pycolmap


def take_out_images(model: pycolmap.Reconstruction, names: Collection[str]) -> None:
    """Remove the frames of images with their observations, and points that are observed in one image only.

    Args:
        model: changed in place.
        names: of registered images; the other images of their frames are removed too.
    """
    images = [model.images[image_id] for image_id in sorted(model.reg_image_ids())]
    for frame_id in dict.fromkeys(image.frame_id for image in images if image.name in names):
        pycolmap.ObservationManager(model).deregister_frame(frame_id)
    model.tear_down()  # removes what is not registered, as after mapping


def copy_of_part(model: pycolmap.Reconstruction, names: Collection[str]) -> pycolmap.Reconstruction:
    """A copy of a model with the images of some names only."""
    part = copy.deepcopy(model)
    take_out_images(part, sorted({part.images[i].name for i in part.reg_image_ids()} - set(names)))
    return part


def partners_in_frames(model: pycolmap.Reconstruction, names: Collection[str]) -> dict[str, str]:
    """The registered images that have no name of these, but are in a frame with one; the first such name for each."""
    images = {model.images[image_id].name: model.images[image_id] for image_id in sorted(model.reg_image_ids())}
    name_from_frame: dict[int, str] = {}
    for name in sorted(names):
        name_from_frame.setdefault(images[name].frame_id, name)
    return {
        name: name_from_frame[image.frame_id]
        for name, image in images.items()
        if image.frame_id in name_from_frame and name not in names
    }
