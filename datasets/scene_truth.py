"""What is known of the photos of a scene, whatever file told it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sfm_lightglue.images.image import PHOTO_SUFFIXES


def image_root_of(path: Path) -> Path:
    """`path/images` where there is such a folder, else the path itself."""
    return path / "images" if (path / "images").is_dir() else path


def scene_name(path: Path) -> str:
    """The name of a scene folder, or of the one that holds the folder `images`."""
    path = path.resolve()
    return path.parent.name if path.name == "images" else path.name


def photo_from_stem(folders: Iterable[Path]) -> dict[str, Path]:
    """The photos of some folders by their names without suffix; of equal ones the first counts."""
    photos: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in PHOTO_SUFFIXES:
                    photos.setdefault(path.stem, path)
    return photos
