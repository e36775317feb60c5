"""Configurations and files for reconstructions of the small scene."""

from __future__ import annotations

import shutil
from pathlib import Path

from sfm_lightglue.reconstruction.config import ReconstructConfig


def one_thread(**values: object) -> ReconstructConfig:
    """A configuration with one thread and without a network, to keep tests fast."""
    return ReconstructConfig.from_mapping({"num_threads": 1, "matcher": {"name": "nearest"}, **values})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def copy_scene(source: Path, target: Path) -> Path:
    shutil.copytree(source / "images", target / "images")
    return target
