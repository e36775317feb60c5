"""One image: pixels, EXIF data, orientation. The names below are the public interface for users and plug-ins."""

from sfm_lightglue.images.exif import Exif
from sfm_lightglue.images.formats import PHOTO_SUFFIXES
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.images.orientation import quarter_turned, resize_to_fit, turn_back, turn_forward

__all__ = [
    "MIN_SIDE_PX",
    "PHOTO_SUFFIXES",
    "Exif",
    "Image",
    "Mask",
    "quarter_turned",
    "resize_to_fit",
    "turn_back",
    "turn_forward",
]
