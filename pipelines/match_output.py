"""The drawing and the JSON that `match` writes, and the files that it never overwrites."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.image_pair.matching import ImagePairResult
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import atomic_write
from sfm_lightglue.types import TwoViewGeometry

if TYPE_CHECKING:
    from PIL import Image as PilImage

_FORMAT_FROM_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def output_paths(out: Path) -> tuple[Path, Path]:
    """Paths of the drawing and the JSON; `out` is one of them, and the other lies beside it, or it is their folder.

    Raises:
        ConfigError: if `out` has another suffix.
    """
    suffix = out.suffix.lower()
    if os.path.isdir(out):
        return out / "matches.png", out / "matches.json"
    if suffix == ".json":
        return out.with_suffix(".png"), out
    if suffix in _FORMAT_FROM_SUFFIX:
        return out, out.with_suffix(".json")
    if suffix:
        raise ConfigError(f"--out {out}: expected a name that ends in .png, .jpg, .webp or .json, or a folder")
    return out / "matches.png", out / "matches.json"


def require_replaceable(paths: tuple[Path, Path], inputs: Iterable[Path]) -> None:
    """Make sure that no file of the user is overwritten; earlier outputs of this command may be replaced.

    Args:
        paths: of drawing and JSON.
        inputs: images, which are never written to.

    Raises:
        ConfigError: if a path is an input, also through a link, or a file that this command did not write.
    """
    from sfm_lightglue.drawing.matches import is_drawing

    existing = [path for path in inputs if os.path.exists(path)]
    for path, is_ours in zip(paths, (is_drawing, _is_result), strict=True):
        if not os.path.exists(path):
            continue
        if any(path.samefile(one) for one in existing):
            raise ConfigError(f"--out: {path} is one of the photos and would be overwritten; choose another name")
        # An empty file may be replaced: programs such as mktemp create one to reserve a name.
        if path.is_dir() or (path.stat().st_size > 0 and not is_ours(path)):
            raise ConfigError(
                f"--out: {path} exists and was not written by this command; choose another name, or move the file"
            )


def _is_result(path: Path) -> bool:
    try:
        values = json.loads(read_input_file(path))
    except (DataError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.keys() >= {"images", "verdict", "cam1_from_cam0", "num_inliers"}


def write_result(result: ImagePairResult, drawing_path: Path, json_path: Path) -> None:
    """Write the drawing of the matches, and all results as JSON.

    Raises:
        StoreError: if a file cannot be written.
    """
    from sfm_lightglue.drawing.matches import save_drawing

    with sole_writer(json_path):  # so that both files are of one run
        with atomic_write(drawing_path) as file:
            save_drawing(draw_result(result), file, _FORMAT_FROM_SUFFIX[drawing_path.suffix.lower()])
        with atomic_write(json_path) as file:
            file.write(json_bytes(result.as_dict(), indent=2) + b"\n")


def draw_result(result: ImagePairResult) -> PilImage.Image:
    """Draw the matches of two images, as `draw_matches` does; without a geometry all are outliers."""
    from sfm_lightglue.drawing.matches import draw_matches

    geometry, indices = result.geometry, result.matches.indices
    no_inliers = np.zeros(len(indices), dtype=np.bool_)
    inlier_mask = geometry.inlier_mask if isinstance(geometry, TwoViewGeometry) else no_inliers
    keypoints0, keypoints1 = (features.keypoints[indices[:, side]] for side, features in enumerate(result.features))
    return draw_matches(result.images, (keypoints0, keypoints1), inlier_mask)
