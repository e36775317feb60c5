"""The test images of the contracts."""

from sfm_lightglue.testing.photos import make_exif, textured, write_photo

__all__ = ["make_exif", "textured", "write_photo"]
