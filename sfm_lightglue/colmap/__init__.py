"""Read and write COLMAP's databases and models."""

import PIL.Image  # noqa: F401  (before pycolmap: else pycolmap's own zlib replaces Pillow's, and writing a PNG aborts)
