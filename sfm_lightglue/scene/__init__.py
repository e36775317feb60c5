"""A folder of images -> `Scene`; camera models; which images share a camera."""

import PIL.Image  # noqa: F401  (before pycolmap: else pycolmap's own zlib replaces Pillow's, and writing a PNG aborts)
