"""Focal lengths of the images of a scene from EXIF data and digital zoom."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sfm_lightglue.images.exif import Exif

_SMALLEST_ZOOM_STEP = 1.02
"""Smallest ratio of two digital zooms for which their 35 mm focal lengths, whole numbers, are compared."""


class ZoomedFocalLengths:
    """Focal lengths in pixels that include the digital zoom.

    By the EXIF standard, the 35 mm focal length includes the digital zoom. Some cameras write the one without it: then
    images of one lens with different digital zooms have equal 35 mm focal lengths, and the zoom is multiplied.

    Args:
        exifs: the EXIF data of all images of the scene.
    """

    def __init__(self, exifs: Iterable[Exif]) -> None:
        focal_from_zoom: dict[str, dict[float, float]] = {}
        for exif in exifs:
            if exif.focal_35mm:
                focal_from_zoom.setdefault(exif.lens_id, {}).setdefault(exif.digital_zoom, exif.focal_35mm)
        self._lenses_without_zoom = frozenset(
            lens_id for lens_id, focals in focal_from_zoom.items() if _is_without_zoom(focals)
        )

    def focal_length_px(self, exif: Exif) -> float | None:
        """The focal length of an image of the scene in pixels, None if its header does not give it."""
        if exif.focal_length_px and exif.focal_35mm and exif.lens_id in self._lenses_without_zoom:
            return exif.focal_length_px * exif.digital_zoom
        return exif.focal_length_px


def _is_without_zoom(focal_35mm_from_zoom: dict[float, float]) -> bool:
    """Whether the 35 mm focal lengths stay the same, rather than change by the ratio of the digital zooms."""
    smallest, largest = min(focal_35mm_from_zoom), max(focal_35mm_from_zoom)
    if largest < _SMALLEST_ZOOM_STEP * smallest:
        return False
    change = math.log(focal_35mm_from_zoom[largest] / focal_35mm_from_zoom[smallest])
    return change < math.log(largest / smallest) / 2
