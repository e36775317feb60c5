"""Video -> trajectory and map: visual SLAM with one camera."""

import PIL.Image  # noqa: F401  (before pycolmap: else pycolmap's own zlib replaces Pillow's, and writing a PNG aborts)
