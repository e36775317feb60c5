"""COLMAP's own model, binary or text: cameras, images, points3D, rigs and frames.

Nothing is converted: our conventions are those of COLMAP. Every camera can be expressed. The files are read back and
compared with the model, because pycolmap ignores errors of the disk.

Source: colmap.github.io/format.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pycolmap

from sfm_lightglue.colmap.model_check import checked_content
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.colmap.written_model import difference_from_model
from sfm_lightglue.errors import ConfigError, DataError, StoreError
from sfm_lightglue.exports.base import ExportScene, Pictures
from sfm_lightglue.messages import shown_path
from sfm_lightglue.types import Camera


@dataclass(frozen=True, slots=True)
class ColmapConfig:
    """Options of the export to COLMAP."""

    encoding: Literal["binary", "text"] = "binary"
    """binary: .bin files. text: .txt files, with all digits."""

    def __post_init__(self) -> None:
        if self.encoding not in {"binary", "text"}:
            raise ConfigError(f"`export.encoding` {self.encoding!r}: expected binary or text")


@dataclass(frozen=True, slots=True)
class ColmapTextConfig(ColmapConfig):
    """Options of the export to COLMAP's text files."""

    encoding: Literal["binary", "text"] = "text"
    """binary: .bin files. text: .txt files, with all digits."""


class ColmapExporter:
    """An `Exporter` to the files of COLMAP."""

    file_name = ""
    pictures: Pictures = "none"

    def __init__(self, config: ColmapConfig | None = None) -> None:
        self.config = config or ColmapConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """None: all cameras are COLMAP's."""
        return None

    def check(self, scene: ExportScene) -> None:
        """Find names that the encoding cannot express.

        Raises:
            DataError: if a name has a space, which ends it in a text file.
        """
        with_space = [image.name for image in scene.images if self.config.encoding == "text" and " " in image.name]
        if with_space:
            raise DataError(
                f"image {with_space[0]!r}: text models cannot express spaces in names; choose the format colmap, or"
                " rename the image"
            )

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the files of the model into a folder.

        Raises:
            DataError: if a name has a space, which ends it in a text file.
            StoreError: if they were not written completely.
        """
        self.check(scene)
        write_model(scene.model, target, self.config.encoding == "text")


def write_model(model: pycolmap.Reconstruction, folder: Path, as_text: bool = False) -> None:
    """Write a model, and compare the files with it.

    Args:
        model: to be written.
        folder: an existing folder.
        as_text: .txt in place of .bin.

    Raises:
        StoreError: if the files are not complete, for example because the disk is full.
    """
    try:
        with quiet_log():
            if as_text:
                model.write_text(folder)
            else:
                model.write_binary(folder)
        fault = difference_from_model(checked_content(folder), model)
    except (RuntimeError, ValueError, DataError) as error:
        raise StoreError(f"{shown_path(folder)}: the model cannot be written ({error})") from error
    if fault is not None:
        raise StoreError(
            f"{shown_path(folder)}: the model was not written completely ({fault}); free space on the disk"
        )
