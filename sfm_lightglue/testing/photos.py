"""Photographs made on the spot: textured pictures, and files of every format with EXIF data."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.arrays import UInt8Array


def textured(width: int, height: int, seed: int = 0) -> UInt8Array:
    """A grey picture [H, W] of blobs of many sizes, the same for the same seed."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cell_px in (4, 8, 16, 32):
        coarse = generator.uniform(-1, 1, (max(2, height // cell_px), max(2, width // cell_px)))
        layer = PilImage.fromarray(coarse.astype(np.float32)).resize((width, height), PilImage.Resampling.BICUBIC)
        total += np.asarray(layer)
    return np.clip(128 + 60 * total, 0, 255).astype(np.uint8)


def make_exif(orientation: int = 1, **details: Any) -> PilImage.Exif:
    """EXIF data: names of tags as in `PIL.ExifTags.Base`; Make and Model belong to the first directory."""
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
    """Write pixels [H, W] or [H, W, 3] as they are to be stored; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix.lower() == ".webp" else {"quality": 95}
    if orientation != 1 or details:
        options["exif"] = make_exif(orientation, **details)
    PilImage.fromarray(pixels).save(path, **options)
    return path
