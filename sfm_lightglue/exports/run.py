"""Export a model: choose what happens to its cameras and images, and put the files into their place as one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.exports.base import (
    IMAGES_FOLDER,
    ChecksScene,
    Exporter,
    ExportScene,
    Pictures,
    RecognizesFiles,
)
from sfm_lightglue.exports.pictures import copy_images, picture_names, require_inside, undistort_images
from sfm_lightglue.exports.undistort import undistorted_scene
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.atomic_file import flush_folder, part_beside, publish_file, store_errors
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import EXPORT_KEY, EXPORT_MARKER, is_export_folder
from sfm_lightglue.version import __version__

if TYPE_CHECKING:
    from sfm_lightglue.types import Camera


_HEAD_BYTES = 1 << 16
"""Bytes by which an exporter knows its files again."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was exported.

    Args:
        format: name of the format.
        output: file or folder that was written.
        num_images: registered images.
        num_points: 3D points that were given to the exporter.
        undistorted: whether the images were undistorted.
    """

    format: str
    output: Path
    num_images: int
    num_points: int
    undistorted: bool

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "format": self.format,
            "output": str(self.output),
            "num_images": self.num_images,
            "num_points": self.num_points,
            "undistorted": self.undistorted,
        }

    def __str__(self) -> str:
        pictures = ", images undistorted" if self.undistorted else ""
        return f"{self.format}: {self.num_images} images, {self.num_points} points{pictures}"


def write_export(
    scene: ExportScene,
    exporter: Exporter,
    format_name: str,
    output: Path,
    *,
    undistort: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> ExportSummary:
    """Write a model in the format of another program. The output appears when it is complete.

    Args:
        scene: the model, with the folder of its images.
        exporter: of the format.
        format_name: its name, for messages and the record.
        output: file, or folder if the format is a folder or the images are undistorted.
        undistort: write undistorted images too, and the cameras of these; the output is a folder then.
        overwrite: replace an earlier export.
        progress: called with the stage "images" after each image.

    Raises:
        ConfigError: if the output exists, or the format cannot express a camera.
        DataError: if images are missing, or the model lacks what the format needs.
        StoreError: if the output cannot be written.
    """
    given, output = Path(output), Path(os.path.realpath(output))  # "." and "a/.." have no name beside which to write
    with_images, is_folder = checked_export(scene, exporter, format_name, given, undistort, overwrite)
    if not is_folder:
        _write_file(scene, exporter, output)
    else:
        with _new_folder(output) as part:
            scene = _with_pictures(scene, with_images, part, output, progress)
            if with_images == "undistorted":
                _require_expressible(exporter, format_name, list(scene.cameras.values()))
            target = part / exporter.file_name if exporter.file_name else part
            with store_errors(output):
                exporter.write(scene, target)
                record = {EXPORT_KEY: __version__, "format": format_name, "undistorted": with_images == "undistorted"}
                (part / EXPORT_MARKER).write_bytes(json_bytes(record, indent=2) + b"\n")
    return ExportSummary(format_name, given, len(scene.images), len(scene.points), with_images == "undistorted")


def checked_export(
    scene: ExportScene, exporter: Exporter, format_name: str, output: Path, undistort: bool, overwrite: bool
) -> tuple[Pictures, bool]:
    """Check everything that can be checked before an export; the arguments and errors are those of `write_export`.

    Returns:
        What happens to the images, and whether the output is a folder.
    """
    if not scene.images:
        raise DataError("the model has no registered image, so there is nothing to export")
    require_inside([image.name for image in scene.images])
    with_images: Pictures = "undistorted" if undistort else exporter.pictures
    is_folder = with_images != "none" or not exporter.file_name
    if with_images != "undistorted":
        _require_expressible(exporter, format_name, list(scene.cameras.values()))
    if with_images != "none" and scene.image_folder is None:
        raise DataError(
            f"format {format_name}: needs the images, and their folder is not known; give the folder that the names of"
            " the model's images are relative to by `images`"
        )
    if isinstance(exporter, ChecksScene):
        exporter.check(scene)
    _require_free(output, is_folder, overwrite, exporter, format_name)
    return with_images, is_folder


def _require_expressible(exporter: Exporter, name: str, cameras: list[Camera]) -> None:
    problem = exporter.problem(cameras)
    if problem is not None:
        raise ConfigError(
            f"format {name}: cannot express {problem}; write undistorted images and the cameras of these by"
            " `undistort=True`, or choose the format colmap, which expresses every camera"
        )


def _require_free(output: Path, is_folder: bool, overwrite: bool, exporter: Exporter, format_name: str) -> None:
    """Refuse an output that is there already, unless it is an earlier export that may be replaced."""
    shown = shown_path(output)
    if not os.path.lexists(output):
        return
    if output.is_dir() and not is_folder:
        raise ConfigError(f"`output` {shown}: is a folder, and this format is one file; give the path of a file")
    if is_folder and not output.is_dir():
        raise ConfigError(f"`output` {shown}: is a file, and this export is a folder; give the path of a folder")
    if is_folder and next(output.iterdir(), None) is None:
        return
    if is_folder and not is_export_folder(output):
        raise ConfigError(
            f"`output` {shown}: has files that are not of an export, which are never replaced; choose another folder"
        )
    if not is_folder and not _is_earlier_file(output, exporter):
        raise ConfigError(
            f"`output` {shown}: exists and is no export in the format {format_name}; other files are never replaced, so"
            " choose another path"
        )
    if not overwrite:
        raise ConfigError(f"`output` {shown}: exists already; replace it by `overwrite=True`, or choose another path")


def _is_earlier_file(output: Path, exporter: Exporter) -> bool:
    """Whether a file is one that the exporter may have written, or a part of an export."""
    if not output.is_file():
        return False
    if is_export_folder(output.resolve().parent):
        return True
    with store_errors(output), open(output, "rb") as file:
        head = file.read(_HEAD_BYTES)
    return isinstance(exporter, RecognizesFiles) and exporter.is_own(head)


def _write_file(scene: ExportScene, exporter: Exporter, output: Path) -> None:
    part = part_beside(output)
    try:
        with store_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            exporter.write(scene, part)
            publish_file(part, output)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A hidden folder beside the output that takes its place at the end of the block."""
    part = part_beside(output)
    old = output.with_name(f".{output.name[:64]}.{secrets.token_hex(4)}.old")
    try:
        with store_errors(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir()
        yield part
        with store_errors(output):
            for path in sorted(part.rglob("*")):
                if path.is_file():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
            if output.is_dir():
                os.rename(output, old)
            os.rename(part, output)
            flush_folder(output.parent)
    finally:
        if not os.path.lexists(output) and old.is_dir():  # the second of both renames failed
            with contextlib.suppress(OSError):
                os.rename(old, output)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _with_pictures(scene: ExportScene, pictures: str, part: Path, output: Path, progress: Progress) -> ExportScene:
    """The model as the export has it, after its images were written."""
    if pictures == "none" or scene.image_folder is None:
        return scene
    names = picture_names([image.name for image in scene.images])
    source, folder = scene.image_folder, part / IMAGES_FOLDER
    with store_errors(output):
        if pictures == "undistorted":
            found = undistorted_scene(scene, names)
            after = {image.name: image.camera for image in found.images}
            cameras = {image.name: (image.camera, after[names[image.name]]) for image in scene.images}
            undistort_images(source, folder, names, cameras, progress)
        else:
            copy_images(source, folder, names, progress)
            found = replace(scene, images=tuple(replace(image, name=names[image.name]) for image in scene.images))
    return replace(found, image_folder=output.absolute() / IMAGES_FOLDER)
