"""Keypoints that the refinement adds to images: all models of a run have the same ones, like its database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.image_points import pixels_of


class FoundKeypoints:
    """The keypoints of the images of several models, some of which got further ones after those that all have.

    Args:
        models: that are going to get keypoints, one after the other.
    """

    def __init__(self, models: Sequence[pycolmap.Reconstruction]) -> None:
        names = [model.images[image_id].name for model in models for image_id in model.reg_image_ids()]
        self._shared = frozenset(names) if len(names) > len(set(names)) else frozenset()
        self._pixels_from_name: dict[str, Float64Array] = {}

    def take(self, model: pycolmap.Reconstruction) -> None:
        """Remember the keypoints that a model has beyond those known so far, which it was given."""
        for image in self._images(model):
            if image.num_points2D() > len(self._pixels_from_name.get(image.name, ())):
                self._pixels_from_name[image.name] = pixels_of(image)

    def give(self, model: pycolmap.Reconstruction) -> None:
        """Add the keypoints that a model lacks; none of them observes a point of it."""
        for image in self._images(model):
            points = image.points2D
            for pixel in self._pixels_from_name.get(image.name, np.zeros((0, 2)))[len(points) :]:
                points.append(pycolmap.Point2D(pixel))

    def _images(self, model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
        images = (model.images[image_id] for image_id in sorted(model.reg_image_ids()))
        return [image for image in images if image.name in self._shared]
