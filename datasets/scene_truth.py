"""Paths and names that readers of all formats need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sfm_lightglue.images.formats import PHOTO_SUFFIXES


def image_root_of(path: Path) -> Path:
    """`path/images` if that folder exists, else the path itself."""
    return path / "images" if (path / "images").is_dir() else path


def scene_name(path: Path) -> str:
    """The name of a scene folder; of its parent folder if the path is its folder `images`."""
    path = path.resolve()
    return path.parent.name if path.name == "images" else path.name


def photo_from_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """The images of some folders by their names without suffix; for equal names the first folder is used."""
    photos: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in PHOTO_SUFFIXES:
                    photos.setdefault(path.stem, path)
    return photos
