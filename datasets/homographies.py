"""Read image pairs with known homographies: folders of HPatches and of Oxford's data (graffiti, boat and others).

Both have OpenCV's pixels, with the centre of the first pixel at (0, 0); the results are in COLMAP's pixels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.scene_truth import photo_from_stem
from datasets.text import finite_numbers, read_text
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import EvaluationPair

TOO_LARGE = frozenset(
    {"i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding", "v_artisans", "v_astronautis", "v_talent"}
)
"""Scenes of HPatches that papers leave out since D2-Net (2019), because they did not fit into its memory."""

_FROM_OPENCV = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
"""Moves the centre of the first pixel from 0 to 0.5."""

_PPM_SUFFIXES = (".ppm", ".pgm")


def read_homographies(path: Path, all_scenes: bool = False) -> list[EvaluationPair]:
    """Read the pairs of a scene, or of all scenes in a folder.

    Args:
        path: a scene with `H1to2p` (Oxford) or `H_1_2` (HPatches), or a folder of such scenes. A scene of Oxford is
            a group; scenes of HPatches form two groups, "illumination" and "viewpoint".
        all_scenes: include the eight large scenes of HPatches that papers leave out.

    Raises:
        DataError: if there is no homography, or one cannot be read.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    if is_oxford(path):
        return _oxford_scene(path)
    if is_hpatches(path):
        return hpatches_pairs(path)
    pairs: list[EvaluationPair] = []
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        if is_oxford(folder):
            pairs += _oxford_scene(folder)
        elif is_hpatches(folder) and (all_scenes or folder.name not in TOO_LARGE):
            pairs += hpatches_pairs(folder)
    if not pairs:
        raise DataError(f"{path}: no homographies here (H_1_2 as in HPatches, H1to2p as in Oxford's folders)")
    return pairs


def _oxford_scene(folder: Path) -> list[EvaluationPair]:
    name = folder.resolve().name
    return [replace(pair, group=name) for pair in homography_pairs(folder, name)]


def is_oxford(path: Path) -> bool:
    """Whether a folder has homographies named as in Oxford's data."""
    return any(path.glob("H1to*p"))


def is_hpatches(path: Path) -> bool:
    """Whether a folder has homographies named as in HPatches."""
    return any(path.glob("H_1_*"))


def homography_pairs(folder: Path, group: str) -> list[EvaluationPair]:
    """Image 1 with each other image of an Oxford folder (`img1.png`, ..., and `H1toNp`), each as a group "NAME 1-N".

    Raises:
        DataError: if a homography cannot be read, or an image is missing.
    """
    pairs = []
    for path in _by_number(folder, "H1to*p", "H1to", "p"):
        number = path.name.removeprefix("H1to").removesuffix("p")
        pairs.append(_pair(folder, path, f"img{number}", "img1", f"{group} 1-{number}"))
    return pairs


def hpatches_pairs(folder: Path) -> list[EvaluationPair]:
    """Image 1 with each other image of a scene of HPatches (`1.ppm`, ..., and `H_1_N`).

    Raises:
        DataError: if a homography cannot be read, or an image is missing.

    Source: Balntas et al., HPatches: A benchmark and evaluation of handcrafted and learned local descriptors, 2017.
    """
    name = folder.resolve().name
    group = {"i_": "illumination", "v_": "viewpoint"}.get(name[:2], name)
    return [
        _pair(folder, path, path.name.removeprefix("H_1_"), "1", group)
        for path in _by_number(folder, "H_1_*", "H_1_", "")
    ]


def read_homography(path: Path) -> Float64Array:
    """Read a file of 3 x 3 numbers: H [3, 3] from image 1 to the other image, in COLMAP's pixels.

    Raises:
        DataError: if the file does not have this format, or H has no inverse.
    """
    H = finite_numbers(str(path), read_text(path).split(), 9, "a homography of 3 x 3 numbers").reshape(3, 3)
    if abs(np.linalg.det(H)) < 1e-12:
        raise DataError(f"{path}: the homography has no inverse")
    converted: Float64Array = _FROM_OPENCV @ H @ np.linalg.inv(_FROM_OPENCV)
    return converted


def _pair(folder: Path, path: Path, stem: str, first_stem: str, group: str) -> EvaluationPair:
    H = read_homography(path)
    photos = photo_from_stem([folder]) | {
        file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in _PPM_SUFFIXES
    }
    missing = [name for name in (first_stem, stem) if name not in photos]
    if missing:
        raise DataError(f"{folder}: {path.name} exists, but not its image {' and '.join(missing)}")
    return EvaluationPair(group, photos[first_stem], photos[stem], H=H)


def _by_number(folder: Path, pattern: str, prefix: str, suffix: str) -> list[Path]:
    """Files of homographies, sorted by their numbers; names without a number are ignored."""
    numbered = {
        int(number): path
        for path in folder.glob(pattern)
        if (number := path.name.removeprefix(prefix).removesuffix(suffix)).isdecimal()
    }
    return [numbered[number] for number in sorted(numbered)]
