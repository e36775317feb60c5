"""Cameras and poses that are known already, read from the files of other programs."""

import PIL.Image  # noqa: F401  (before pycolmap: else pycolmap's own zlib replaces Pillow's, and writing a PNG aborts)
