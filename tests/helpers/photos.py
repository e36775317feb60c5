"""Photographs made on the spot, as the contracts make them too."""

from sfm_lightglue.testing.photos import make_exif, textured, write_photo

__all__ = ["make_exif", "textured", "write_photo"]
