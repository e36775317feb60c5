"""Which pixels of the images of a scene may have keypoints, by their masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.types import SceneImage


class AllowedPixels:
    """Reads the mask of an image when it is asked for.

    Args:
        images: of a scene.
    """

    def __init__(self, images: Sequence[SceneImage]) -> None:
        self._masked = {image.name: image for image in images if image.mask is not None}

    def __call__(self, name: str, xy: Float64Array) -> BoolArray:
        """Whether the pixels [N, 2] of an image may have keypoints: all without a mask, none if it cannot be read."""
        image = self._masked.get(name)
        if image is None or image.mask is None:
            return np.ones(len(xy), np.bool_)
        try:
            mask = Mask.read(image.mask, image.camera.size, image.quarter_turns)
        except DataError:  # readable when features were extracted, so it was changed meanwhile
            return np.zeros(len(xy), np.bool_)
        return mask.allows(xy, image.camera.size)
