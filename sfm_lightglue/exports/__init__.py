"""Models in the formats of other programs: one exporter a file, behind the protocol of `base.py`."""

import PIL.Image  # noqa: F401  (before pycolmap: else pycolmap's own zlib replaces Pillow's, and writing a PNG aborts)
