"""The output folder of a densified model: which folder it is, what is in it, and its record."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.colmap.model import MapLocation
from sfm_lightglue.errors import ConfigError, DataError, SfmError
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.mapping.model_files import CLOUD_MODEL, PLY_NAME, pack_models
from sfm_lightglue.messages import shown_path
from sfm_lightglue.reconstruction.run_record import recorded_versions
from sfm_lightglue.stages.run_log import LOG_NAME, STATE_NAME
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.publication import (
    Publication,
    changed_files,
    complete_publication,
    file_digest,
    is_publication_pending,
    publish_together,
    sole_publisher,
)

if TYPE_CHECKING:
    import pycolmap

FOLDER_NAME = "densified"
"""Name of the default output folder."""

RECORD_NAME = "densify.json"

_UNFINISHED = frozenset({"features", "dense_features", LOG_NAME, STATE_NAME})
"""What a run that was interrupted leaves, beside hidden files."""

_MAX_RECORD_BYTES = 10**7


@dataclass(frozen=True, slots=True)
class DensifiedFolder:
    """The output folder of a densified model.

    Args:
        path: the folder, which need not exist.
        location: of the model that is densified.
    """

    path: Path
    location: MapLocation

    @classmethod
    def choose(cls, location: MapLocation, output: Path | None, completes: bool = True) -> DensifiedFolder:
        """The stated folder, or "densified" in the output folder of the model, or beside another tool's model.

        Args:
            location: of the model that is densified.
            output: the stated folder.
            completes: complete the publication of a run that was killed; False changes nothing, and takes such a
                folder without a further check.

        Raises:
            ConfigError: if it is the folder of the model itself, or has files of the user, another program or the
                densified model of another one.
            StoreError: if a run was killed while it published a model there, and the folder is not writable now.
        """
        folder = cls(output if output is not None else _folder_around(location) / FOLDER_NAME, location)
        folder._require_ours(completes)
        return folder

    def _require_ours(self, completes: bool) -> None:
        shown = shown_path(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"`output` {shown}: is a file; choose another folder")
        if not self.path.is_dir():
            return
        if completes:
            complete_publication(self.path)
        if _is_within(self.location.model, self.path):
            raise ConfigError(f"`output` {shown}: has the model that is to be densified; choose another folder")
        if is_publication_pending(self.path):
            return
        record = self.record()
        if record is None:
            names = sorted(path.name for path in self.path.iterdir())
            foreign = [name for name in names if not name.startswith(".") and name not in _UNFINISHED]
            if foreign:
                raise ConfigError(
                    f"`output` {shown}: has files that are not of a densified model ({foreign[0]}); choose another"
                    " folder"
                )
        elif record.get("model") != self._model_path():
            raise ConfigError(
                f"`output` {shown}: has the densified model of {record.get('model')}; choose another folder, or remove"
                " this one"
            )

    def _model_path(self) -> str:
        """Path of the model, relative to the folder if possible: both can be moved together."""
        model = self.location.model.resolve()
        with contextlib.suppress(ValueError):  # another drive
            return Path(os.path.relpath(model, self.path.resolve())).as_posix()
        return model.as_posix()

    def record(self) -> dict[str, Any] | None:
        """The record of the last run that finished here; None if there is none of this library."""
        try:
            record = json.loads(read_input_file(self.path / RECORD_NAME, _MAX_RECORD_BYTES))
        except (SfmError, ValueError, RecursionError):
            return None
        versions = record.get("versions") if isinstance(record, dict) else None
        return record if isinstance(versions, dict) and "sfm_lightglue" in versions else None

    def summary_of(self, key: str) -> Any:
        """The summary of the run with a key, if it finished here and its files are unchanged; else None."""
        record = self.record()
        if record is None or record.get("key") != key or not isinstance(record.get("files"), dict):
            return None
        return None if changed_files(self.path, record["files"]) else record.get("summary")

    def publish(
        self,
        model: pycolmap.Reconstruction,
        work: Path,
        config: Mapping[str, Any],
        key: str,
        summary: Mapping[str, Any],
    ) -> None:
        """Replace model, cloud and record as one.

        Args:
            model: the densified one.
            work: an existing folder for intermediate files, in this folder.
            config: of the run.
            key: of everything that the model depends on.
            summary: of the run.

        Raises:
            StoreError: if the folder cannot be written.
        """
        with sole_publisher(self.path):
            publication = Publication(work / "results")
            for name, content in pack_models({CLOUD_MODEL: model}, work).items():
                publication.write(name, content.tobytes())
            record = {
                "config": dict(config),
                "versions": recorded_versions(),
                "model": self._model_path(),
                "key": key,
                "files": dict(publication.digests),
                "summary": dict(summary),
            }
            publication.write(RECORD_NAME, json_bytes(record, indent=2) + b"\n")
            publish_together(publication, self.path, [CLOUD_MODEL, PLY_NAME, RECORD_NAME])


def folder_of_images(location: MapLocation, path: Path) -> Path:
    """The folder of a model's images.

    Args:
        location: of the model.
        path: that the user gave.

    Raises:
        DataError: if it is not known.
    """
    if location.images is not None:
        return location.images
    beside = _folder_around(location) / "images"
    if beside.is_dir():
        return beside
    raise DataError(
        f"{shown_path(path)}: the folder of the images of this model is not known; give the folder that their names are"
        " relative to by `images`"
    )


def digest_of_model(folder: Path) -> dict[str, str | None]:
    """Digests of the files of a model by name."""
    names = [f"{name}{suffix}" for name in _MODEL_PARTS for suffix in (".bin", ".txt")]
    return {name: file_digest(folder / name) for name in names if (folder / name).is_file()}


_MODEL_PARTS = ("cameras", "images", "points3D", "rigs", "frames")


def _folder_around(location: MapLocation) -> Path:
    """The output folder, or the folder in which another tool put the model: that of sparse/0 for sparse/0."""
    if location.output is not None:
        return location.output
    above = location.model.resolve().parent
    return above.parent if above.name == "sparse" else above


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
