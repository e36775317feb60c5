"""What a report is made of: the model, the record of the run, the database and the photos, as far as they exist."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm_lightglue.colmap.model import OUTPUT_FOLDER, find_map
from sfm_lightglue.colmap.model_check import MODEL_FILES
from sfm_lightglue.colmap.model_table import ModelTable, read_model_table
from sfm_lightglue.colmap.pair_counts import DatabaseCounts, database_counts
from sfm_lightglue.errors import DataError
from sfm_lightglue.report.assets import assets_digest
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import is_results_folder, read_record
from sfm_lightglue.store.publication import file_digest
from sfm_lightglue.version import __version__

logger = logging.getLogger(__name__)

REPORT_VERSION = 1
"""Changes whenever the same results give another report, except by its template, style and scripts."""

DATABASE_NAME = "database.db"

REJECTED_MODEL = "rejected/0"

REPORT_NAME = "report.html"

_CHANGES_IN_EACH_RUN = ("seconds", "cache", "peak_memory_mb", "peak_memory_mb_by_stage")
"""Entries of the summary that a second run without new results changes; the report keeps those of the first."""


@dataclass(frozen=True, slots=True)
class ReportSources:
    """Where the content of a report comes from.

    Args:
        model: folder of the model; None if the run built none.
        output: output folder of the run; None for a model of another program.
        images: folder of the images; None if it is not known.
        record: content of `run.json`; empty without one.
    """

    model: Path | None
    output: Path | None
    images: Path | None
    record: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder that the report is written into by default."""
        folder = self.output or self.model
        assert folder is not None, "a source has a model or a record"
        return folder

    @property
    def default_name(self) -> str:
        """Name of the page in that folder: the largest model has the plain one."""
        if self.model_path in {"", "sparse/0", REJECTED_MODEL} or self.output is None:
            return REPORT_NAME
        return f"report_{self.model_path.replace('/', '_')}.html"

    @property
    def model_path(self) -> str:
        """Path of the model as the record names it; "" without a model."""
        if self.model is None:
            return ""
        model = self.model.resolve()
        inside = self.output is not None and model.is_relative_to(self.output.resolve())
        return model.relative_to(self.output.resolve()).as_posix() if inside and self.output else self.model.name

    @property
    def summary(self) -> Mapping[str, Any]:
        """The summary of the run; empty without one."""
        summary = self.record.get("summary", {})
        return summary if isinstance(summary, dict) else {}

    def key(self, wording: str, max_mb: float) -> str:
        """Digest of everything that the report depends on, except the times of the run.

        Args:
            wording: an example of how the advice names options.
            max_mb: largest size of a single file in megabytes.

        Raises:
            DataError: if the model has to be read for the names of its images, and is damaged.
        """
        summary = {name: value for name, value in self.summary.items() if name not in _CHANGES_IN_EACH_RUN}
        files = self.record.get("files") or self._model_digests()
        record = {name: value for name, value in self.record.items() if name not in {"summary", "versions"}}
        images = None if self.images is None else self.images.name
        photos = [[name, None if self.images is None else _size(self.images / name)] for name in self._photo_names()]
        parts = [
            REPORT_VERSION,
            __version__,
            assets_digest(),
            self.model_path,
            images,
            photos,
            record,
            summary,
            files,
            wording,
            max_mb,
        ]
        return hashlib.sha256(json_bytes(parts)).hexdigest()

    def _photo_names(self) -> list[str]:
        """Names of the images that may have a photo, sorted; those of the model if there is no record of them."""
        known = self.summary.get("images")
        if known:
            return sorted(name for name, image in known.items() if image.get("status") != "unreadable")
        table = self.read_model()
        return [] if table is None else list(table.names)

    def _model_digests(self) -> dict[str, str | None]:
        if self.model is None:
            return {}
        names = [f"{name}{suffix}" for name in MODEL_FILES for suffix in (".bin", ".txt")]
        return {name: file_digest(self.model / name) for name in names}

    def read_model(self) -> ModelTable | None:
        """The model; None if there is none.

        Raises:
            DataError: if its files are damaged.
        """
        return None if self.model is None else read_model_table(self.model)

    def read_counts(self) -> DatabaseCounts:
        """Keypoints and pairs of the database; empty, with a warning, if it cannot be read."""
        if self.database is None:
            return DatabaseCounts({}, ())
        try:
            return database_counts(self.database)
        except DataError as error:
            logger.warning("report: without pairs and keypoints: %s", error)
            return DatabaseCounts({}, ())

    @property
    def database(self) -> Path | None:
        """The database of the run; None if there is none."""
        path = None if self.output is None else self.output / DATABASE_NAME
        return path if path is not None and path.is_file() else None


def _size(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def find_sources(path: Path, images: Path | None = None) -> ReportSources:
    """Locate what a report can show.

    Args:
        path: an output folder, also of a run that published no model, a scene folder that has one, or a COLMAP model.
        images: the folder of the images; None looks for it.

    Raises:
        DataError: if there is neither a model nor the record of a run.
    """
    try:
        location = find_map(path, images)
        record = None if location.output is None else read_record(location.output)
        return ReportSources(location.model, location.output, location.images, record or {})
    except DataError:
        output = next((one for one in (path, path / OUTPUT_FOLDER) if is_results_folder(one)), None)
        if output is None or (images is not None and not images.is_dir()):
            raise
    rejected = output / REJECTED_MODEL
    scene = output.resolve().parent
    found = images or (scene / "images" if (scene / "images").is_dir() else None)
    return ReportSources(rejected if rejected.is_dir() else None, output, found, read_record(output) or {})
