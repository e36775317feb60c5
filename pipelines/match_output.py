"""Where `match` writes the picture of two photos and its JSON, and which files it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.image_pair.matching import ImagePairResult
from sfm_lightglue.store.store import atomic_write

_FORMAT_FROM_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def output_paths(out: Path) -> tuple[Path, Path]:
    """Where picture and JSON go: `out` names one of them, and the other lies beside it, or their folder.

    Raises:
        ConfigError: where `out` ends like a file of another kind.
    """
    suffix = out.suffix.lower()
    if out.is_dir():
        return out / "matches.png", out / "matches.json"
    if suffix == ".json":
        return out.with_suffix(".png"), out
    if suffix in _FORMAT_FROM_SUFFIX:
        return out, out.with_suffix(".json")
    if suffix:
        raise ConfigError(f"--out {out}: expected a name that ends in .png, .jpg, .webp or .json, or a folder")
    return out / "matches.png", out / "matches.json"


def require_replaceable(paths: tuple[Path, Path], inputs: Iterable[Path]) -> None:
    """Make sure that nothing is lost where a file is there already: as COLMAP's, our own outputs are replaced.

    Args:
        paths: of picture and JSON.
        inputs: photos, which are never written to.

    Raises:
        ConfigError: where a path is an input, by any name, or a file that this command did not write.
    """
    from sfm_lightglue.viewer.matches import is_drawing

    existing = [path for path in inputs if path.exists()]
    for path, is_ours in zip(paths, (is_drawing, _is_result), strict=True):
        if not path.exists():
            continue
        if any(path.samefile(one) for one in existing):
            raise ConfigError(f"--out: {path} is one of the photos, and would be overwritten; choose another name")
        # An empty file is a name that somebody reserved, as mktemp does.
        if path.is_dir() or (path.stat().st_size > 0 and not is_ours(path)):
            raise ConfigError(
                f"--out: {path} is there already, and not from this command; choose another name, or move it away"
            )


def _is_result(path: Path) -> bool:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and values.keys() >= {"images", "verdict", "cam1_from_cam0", "num_inliers"}


def write_result(result: ImagePairResult, picture_path: Path, json_path: Path) -> None:
    """Write the picture of the matches, and all that was found as JSON.

    Raises:
        StoreError: where one cannot be written.
    """
    from sfm_lightglue.viewer.matches import draw_matches, save_drawing

    with atomic_write(picture_path) as file:
        save_drawing(draw_matches(result), file, _FORMAT_FROM_SUFFIX[picture_path.suffix.lower()])
    with atomic_write(json_path) as file:
        file.write(json.dumps(result.as_dict(), indent=2, ensure_ascii=False).encode() + b"\n")
