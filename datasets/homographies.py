"""Pairs of photographs of planes with known homographies: folders of HPatches and of Oxford's graffiti and boats.

Both have OpenCV's pixels, where the centre of the first pixel is (0, 0); ours are COLMAP's.
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
"""Scenes of HPatches that papers leave out since D2-Net (2019), whose memory they overran."""

_FROM_OPENCV = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
"""The first centre goes from 0 to 0.5."""

_PPM_SUFFIXES = (".ppm", ".pgm")


def read_homographies(path: Path, all_scenes: bool = False) -> list[EvaluationPair]:
    """Pairs of a folder of either kind, or of all such folders in it.

    Args:
        path: a scene with `H1to2p` (Oxford) or `H_1_2` (HPatches), or a folder of such scenes. A scene is a group;
            those of HPatches are two, "illumination" and "viewpoint", by what changes.
        all_scenes: take the eight large scenes of HPatches that papers leave out, too.

    Raises:
        DataError: where there is no homography, or one cannot be read.
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
    """Image 1 with each other image of an Oxford folder: `img1.png`, ..., and `H1toNp`; each is a group "NAME 1-N".

    Raises:
        DataError: where a homography cannot be read, or a picture is missing.
    """
    pairs = []
    for path in _by_number(folder, "H1to*p", "H1to", "p"):
        number = path.name.removeprefix("H1to").removesuffix("p")
        pairs.append(_pair(folder, path, f"img{number}", "img1", f"{group} 1-{number}"))
    return pairs


def hpatches_pairs(folder: Path) -> list[EvaluationPair]:
    """Image 1 with each other image of a scene of HPatches: `1.ppm`, ..., and `H_1_N`.

    Raises:
        DataError: where a homography cannot be read, or a picture is missing.

    Source: Balntas et al., HPatches: A benchmark and evaluation of handcrafted and learned local descriptors, 2017.
    """
    name = folder.resolve().name
    group = {"i_": "illumination", "v_": "viewpoint"}.get(name[:2], name)
    return [
        _pair(folder, path, path.name.removeprefix("H_1_"), "1", group)
        for path in _by_number(folder, "H_1_*", "H_1_", "")
    ]


def read_homography(path: Path) -> Float64Array:
    """A file of 3 x 3 numbers: H [3, 3] from image 1 to the other, in COLMAP's pixels.

    Raises:
        DataError: where it is no such file, or H has no inverse.
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
        raise DataError(f"{folder}: {path.name} is there, but no picture {' and '.join(missing)}")
    return EvaluationPair(group, photos[first_stem], photos[stem], H=H)


def _by_number(folder: Path, pattern: str, prefix: str, suffix: str) -> list[Path]:
    """Files of homographies in the order of their numbers; others of such names are none."""
    numbered = {
        int(number): path
        for path in folder.glob(pattern)
        if (number := path.name.removeprefix(prefix).removesuffix(suffix)).isdecimal()
    }
    return [numbered[number] for number in sorted(numbered)]
