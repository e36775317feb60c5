"""Undamaged files that the inputs of the fuzz are made of."""

from __future__ import annotations

import functools
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CORPUS_FILE = "corpus.pickle"

_FORMATS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "jpg", {"quality": 80}),
    ("JPEG", "jpg", {"quality": 30, "progressive": True}),
    ("PNG", "png", {}),
    ("TIFF", "tif", {}),
    ("TIFF", "tif", {"compression": "tiff_lzw"}),
    ("TIFF", "tif", {"compression": "tiff_deflate"}),
    ("TIFF", "tif", {"compression": "jpeg"}),
    ("TIFF", "tif", {"compression": "packbits"}),
    ("WEBP", "webp", {"quality": 60}),
    ("WEBP", "webp", {"lossless": True}),
    ("BMP", "bmp", {}),
    ("DIB", "dib", {}),
    ("GIF", "gif", {}),
    ("PPM", "ppm", {}),
    ("JPEG2000", "jp2", {}),
    ("JPEG2000", "j2k", {"no_jp2": True}),
    ("AVIF", "avif", {"quality": 50, "speed": 9}),
    ("HEIF", "heic", {"quality": 50}),
    ("MPO", "mpo", {"save_all": True}),
    *((name, name.lower(), {}) for name in ("TGA", "ICO", "PCX", "SGI", "IM", "DDS", "SPIDER", "MSP", "XBM", "PDF")),
)
"""Format of Pillow, suffix, and options. Formats that Pillow cannot write here are left out."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Files by kind.

    Args:
        images: (suffix, content).
        entries: (path, content) of the files of the store of a small reconstruction, relative to its folder.
        good_image: an undamaged JPEG.
        database: a COLMAP database.
        models: files by name, of a binary and a text model.
        record: `run.json`.
        weights: small networks as safetensors and by `torch.save`.
        names: of the images of the reconstruction.
        images_by_name: their content.
    """

    images: tuple[tuple[str, bytes], ...]
    entries: tuple[tuple[str, bytes], ...]
    good_image: bytes
    database: bytes
    models: tuple[dict[str, bytes], ...]
    record: dict[str, Any]
    weights: tuple[bytes, ...]
    names: tuple[str, ...]
    images_by_name: dict[str, bytes]


def make_corpus(folder: Path, scene: Path, output: Path) -> None:
    """Write the corpus from a scene and its finished output folder, unless it exists."""
    if (folder / CORPUS_FILE).is_file():
        return
    import pycolmap

    folder.mkdir(parents=True, exist_ok=True)
    model = pycolmap.Reconstruction(output / "sparse" / "0")
    (folder / "text").mkdir(exist_ok=True)
    model.write_text(folder / "text")
    models = tuple(
        {path.name: path.read_bytes() for path in sorted(place.iterdir())}
        for place in (output / "sparse" / "0", folder / "text")
    )
    entries = tuple((str(path.relative_to(output)), path.read_bytes()) for path in sorted(output.rglob("*.npz")))
    photos = {path.name: path.read_bytes() for path in sorted((scene / "images").iterdir())}
    corpus = Corpus(
        tuple(_images()),
        entries,
        next(iter(photos.values())),
        (output / "database.db").read_bytes(),
        models,
        json.loads((output / "run.json").read_text()),
        _weights(folder),
        tuple(photos),
        photos,
    )
    with open(folder / CORPUS_FILE, "wb") as file:
        pickle.dump({name: getattr(corpus, name) for name in corpus.__dataclass_fields__}, file)


@functools.cache
def load_corpus(folder: Path) -> Corpus:
    """Read what `make_corpus` wrote."""
    with open(folder / CORPUS_FILE, "rb") as file:
        return Corpus(**pickle.load(file))


def _images() -> list[tuple[str, bytes]]:
    from PIL import Image as PilImage

    from sfm_lightglue.testing.photos import make_exif, textured

    grey = textured(48, 40)
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2)
    deep = grey.astype(np.uint16) * 16
    pictures = [
        PilImage.fromarray(colour),
        PilImage.fromarray(grey),
        PilImage.fromarray(deep),
        PilImage.fromarray(colour).convert("P"),
        PilImage.fromarray(colour).convert("RGBA"),
        PilImage.fromarray(grey).convert("1"),
        PilImage.fromarray(colour).convert("CMYK"),
        PilImage.fromarray(grey.astype(np.float32)),
        PilImage.fromarray(grey.astype(np.int32)),
    ]
    exif = make_exif(6, Make="maker", Model="model", FocalLengthIn35mmFilm=28, DigitalZoomRatio=2.0, FocalLength=4.5)
    found: dict[bytes, str] = {}
    for name, suffix, options in _FORMATS:
        for picture in pictures:
            for more in ({}, {"exif": exif}):
                buffer = io.BytesIO()
                try:
                    picture.save(buffer, name, **options | more)
                except Exception:  # what a format cannot hold raises OSError, KeyError, ValueError, TypeError ...
                    continue
                if buffer.tell() > 0:
                    found.setdefault(buffer.getvalue(), suffix)
    return [(suffix, content) for content, suffix in found.items()]


def _weights(folder: Path) -> tuple[bytes, ...]:
    import torch

    from sfm_lightglue.models.checkpoints import save_lightglue
    from sfm_lightglue.models.lightglue import LightGlue
    from sfm_lightglue.models.lightglue_types import LightGlueArchitecture

    model = LightGlue(LightGlueArchitecture(input_dim=8, descriptor_dim=8, num_layers=2, num_heads=2))
    save_lightglue(model, folder / "weights.safetensors", {"licence": "none"})
    torch.save(model.state_dict(), folder / "weights.pth")
    torch.save({"model": model.state_dict()}, folder / "old.pth", _use_new_zipfile_serialization=False)
    return tuple((folder / name).read_bytes() for name in ("weights.safetensors", "weights.pth", "old.pth"))
