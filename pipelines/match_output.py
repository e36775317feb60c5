"""The drawing and the JSON that `match` writes, and the files that it never overwrites."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import atomic_write

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


def write_result(drawing: PilImage.Image, values: dict[str, Any], drawing_path: Path, json_path: Path) -> None:
    """Write the drawing of the matches, and all results as JSON.

    Args:
        drawing: of the matches.
        values: for the JSON.
        drawing_path: of the drawing.
        json_path: of the JSON.

    Raises:
        StoreError: if a file cannot be written.
    """
    from sfm_lightglue.drawing.matches import save_drawing

    with sole_writer(json_path):  # so that both files are of one run
        with atomic_write(drawing_path) as file:
            save_drawing(drawing, file, _FORMAT_FROM_SUFFIX[drawing_path.suffix.lower()])
        with atomic_write(json_path) as file:
            file.write(json_bytes(values, indent=2) + b"\n")


def show_drawing(drawing: PilImage.Image, path: Path) -> bool:
    """Show a drawing that was written to a file in the viewer of the desktop; False if there is no display."""
    if not has_display():
        return False
    drawing.show(title=path.name)
    return True


def has_display() -> bool:
    """Whether this process can open a window: on a desktop, not over a plain ssh."""
    if sys.platform in {"darwin", "win32"}:
        return not os.environ.get("SSH_CONNECTION")
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def default_drawing_path(image0: Path, image1: Path) -> Path:
    """Where `--show` writes a drawing without `--out`: into the working folder, not among the photos."""
    return Path(f"{image0.stem}_{image1.stem}_matches.png")
