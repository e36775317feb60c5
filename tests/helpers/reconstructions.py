"""Configurations and files for reconstructions of the small scene."""

from __future__ import annotations

import shutil
from pathlib import Path

from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.stages.run_log import LOG_NAME, STATE_NAME


def one_thread(**values: object) -> ReconstructConfig:
    """A configuration with one thread and without a network, to keep tests fast."""
    return ReconstructConfig.from_mapping({"num_threads": 1, "matcher": {"name": "nearest"}, **values})


def tree(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder by relative path, without the log and the state, which have times."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in {LOG_NAME, STATE_NAME}]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def copy_scene(source: Path, target: Path) -> Path:
    shutil.copytree(source / "images", target / "images")
    return target
