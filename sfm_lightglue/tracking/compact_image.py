"""The grey image of a keyframe in little memory."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.refinement.patches import Pyramid
from sfm_lightglue.tracking.optical_flow import FlowImage

_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, eq=False)
class CompactImage:
    """A grey image as JPEG: about 0.1 MB for 640 x 480 pixels.

    Args:
        data: of the file; empty if the image could not be encoded.
        factors: (x, y) stored pixels per pixel of the image, which may be shrunk.
    """

    data: bytes
    factors: tuple[float, float]

    @classmethod
    def of(cls, image: FlowImage) -> CompactImage:
        """From an image for optical flow."""
        is_encoded, data = cv2.imencode(".jpg", image.grey, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return cls(data.tobytes() if is_encoded else b"", image.factors)

    def pyramid(self) -> Pyramid | None:
        """The image in several resolutions, for patches in its own pixels; None if it cannot be decoded."""
        if len(self.data) == 0:  # OpenCV raises an error for it
            return None
        grey = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        return None if grey is None else Pyramid(np.asarray(grey, np.uint8))
