"""Images made for tests: textured pixels, and files of all formats with EXIF data."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.arrays import UInt8Array


def textured(width: int, height: int, seed: int = 0) -> UInt8Array:
    """A grey image [H, W] of blobs of several sizes; the seed determines the image.

    Args:
        width: in pixels.
        height: in pixels.
        seed: seed of the random blobs.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cell_px in (4, 8, 16, 32):
        coarse = generator.uniform(-1, 1, (max(2, height // cell_px), max(2, width // cell_px)))
        layer = PilImage.fromarray(coarse.astype(np.float32)).resize((width, height), PilImage.Resampling.BICUBIC)
        total += np.asarray(layer)
    return np.clip(128 + 60 * total, 0, 255).astype(np.uint8)


def make_exif(orientation: int = 1, **details: Any) -> PilImage.Exif:
    """Make EXIF data.

    Args:
        orientation: EXIF orientation, 1..8.
        details: values by name of the tag, as in `PIL.ExifTags.Base`; Make and Model belong to the first directory.
    """
    exif = PilImage.Exif()
    if orientation != 1:
        exif[ExifTags.Base.Orientation] = orientation
    for name, value in details.items():
        tag = ExifTags.Base[name]
        if name in {"Make", "Model"}:
            exif[tag] = value
        else:
            exif.get_ifd(ExifTags.IFD.Exif)[tag] = value
    return exif


def write_photo(path: Path, pixels: UInt8Array, orientation: int = 1, **details: Any) -> Path:
    """Write an image file.

    Args:
        path: path of the file; its suffix determines the format.
        pixels: [H, W] or [H, W, 3] in stored orientation.
        orientation: EXIF orientation, 1..8.
        details: other EXIF data, as in `make_exif`.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {"quality": 95}
    if orientation != 1 or details:
        options["exif"] = make_exif(orientation, **details)
    PilImage.fromarray(pixels).save(path, **options)
    return path
