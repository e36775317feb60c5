"""`write_report`: a model and everything that is known about it as one HTML file."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.report.assets import SCRIPTS, asset
from sfm_lightglue.report.images_table import doubtful_pairs, image_rows, recorded_pairs
from sfm_lightglue.report.packed_model import PackingLimits
from sfm_lightglue.report.page_data import Gathered, data_of_script, jpeg_url, values_of_template
from sfm_lightglue.report.photos import Photo, read_photos
from sfm_lightglue.report.sources import ReportSources, find_sources
from sfm_lightglue.store.atomic_file import atomic_write, store_errors
from sfm_lightglue.version import __version__

logger = logging.getLogger(__name__)

_KEY_PATTERN = re.compile(r'<meta name="sfm-lightglue-report" content="([0-9a-f]{64})">')

MAX_PHOTOS = 1000
"""Photos in a report; of more images, every n-th has one, because each takes some hundredths of a second."""

_DATA_PATTERN = re.compile(r'<meta name="sfm-lightglue-data" content="([^"]*)">')

DATA_NAME = "data.js"

_DATA_HEAD = b"window.sfmReportData = "

_HEAD_BYTES = 2000
"""Key and folder of a report are in its first bytes, so that a report of 15 MB need not be read."""

_ANY_OPTION = "`extractor.max_keypoints`"
"""Reports whose advice has another wording are different reports."""

_IN_FOLDER = PackingLimits(max_points=400_000, max_observations=3_000_000)


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Options of a report.

    Raises:
        ConfigError: if a value is not valid.
    """

    map_dir: Path
    """An output folder, a scene folder that has one, or a COLMAP model."""

    file: Path | None = None
    """The HTML file; None for `report.html` in the output folder, or beside the files of the model."""

    images: Path | None = None
    """Folder of the images; None looks for them in the scene folder."""

    max_mb: float = 15.0
    """Largest size of a single file in megabytes; a larger report has its photos in a folder beside it."""

    num_threads: int = 0
    """Photos that are read at a time; 0 for one for each core."""

    def __post_init__(self) -> None:
        if self.file is not None and self.file.suffix.lower() not in {".html", ".htm"}:
            raise ConfigError(f"{self.file}: the report is a page; name it {self.file.stem or 'report'}.html")
        if not self.max_mb > 0:
            raise ConfigError(f"`max_mb` must be positive, got {self.max_mb}")


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report on disk.

    Args:
        file: the page.
        folder: with its photos and numbers; None if the page has everything.
        num_bytes: of all files.
        is_new: False if the report was there already, and its sources have not changed.
    """

    file: Path
    folder: Path | None
    num_bytes: int
    is_new: bool


def write_report(config: ReportConfig, wording: Callable[[str], str] = str) -> WrittenReport:
    """Write the report of a reconstruction: a page that needs neither a network nor other files.

    A report whose sources have not changed is not written again. The same sources give the same bytes.

    Args:
        config: options.
        wording: changes the texts of the advice, which name options between backticks; commands insert their flags.

    Raises:
        ConfigError: if a file that is no report has its name, or that of its folder.
        DataError: if there is no model, or it is damaged.
        StoreError: if the file cannot be written.
    """
    sources = find_sources(config.map_dir, config.images)
    file = config.file or sources.folder / sources.default_name
    folder = file.with_name(f"{file.stem}_files")
    key = sources.key(wording(_ANY_OPTION), config.max_mb)
    earlier = _earlier_report(file)
    written = earlier.as_written(file, folder, key)
    if written is not None:
        return written
    gathered = gather(sources, ThreadExecutor(config.num_threads))
    page = _Page(gathered, key, title_of(sources), wording)
    limit = int(config.max_mb * 1e6)
    whole = page.in_one_file() if page.photo_bytes() < limit else None
    with store_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if whole is not None and len(whole) <= limit:
            _write(file, whole)
            if earlier.data_url == _data_url(folder):
                _remove_files(folder)
            return WrittenReport(file, None, len(whole), is_new=True)
        _require_own_folder(folder, earlier)
        parts = page.with_folder(folder)
        for name, content in parts.items():
            if name:
                _write(folder / name, content)
        _write(file, parts[""])
        _remove_files(folder, parts.keys())
        return WrittenReport(file, folder, sum(map(len, parts.values())), is_new=True)


def gather(sources: ReportSources, executor: Executor) -> Gathered:
    """Read all that a report shows.

    Args:
        sources: of the results.
        executor: for the photos.

    Raises:
        DataError: if the model is damaged.
    """
    table, counts = sources.read_model(), sources.read_counts()
    rows = image_rows(sources.summary, table, counts)
    photos: dict[str, Photo] = {}
    if sources.images is None:
        logger.warning("report: without photos: the folder of the images is not known; state it with `images`")
    else:
        names = [row.name for row in rows if row.status != "unreadable"]
        shown = names[:: max(1, -(-len(names) // MAX_PHOTOS))]
        photos = read_photos(sources.images, shown, photo_side_px(len(names)), executor)
    doubtful = doubtful_pairs(counts, recorded_pairs(sources.record))
    limits = PackingLimits() if len(rows) <= 200 else _IN_FOLDER
    return Gathered(sources, table, counts, rows, doubtful, photos, limits)


def photo_side_px(num_photos: int) -> int:
    """Longest side of the photos in the report: 200 of them fit into 10 MB."""
    return 720 if num_photos <= 50 else 600 if num_photos <= 100 else 440 if num_photos <= 200 else 600


def title_of(sources: ReportSources) -> str:
    """Name of the scene: of the folder of the images, or of the results."""
    folder = (sources.images or sources.folder).resolve()
    if folder.name in {"images", "reconstruction", "tracking"}:
        folder = folder.parent
    return folder.name or "model"


def page_in_one_file(gathered: Gathered, key: str, title: str, wording: Callable[[str], str] = str) -> bytes:
    """The page with everything, whatever its size is.

    Args:
        gathered: the content.
        key: of the sources.
        title: of the page.
        wording: as in `write_report`.
    """
    return _Page(gathered, key, title, wording).in_one_file()


class _Page:
    def __init__(self, gathered: Gathered, key: str, title: str, wording: Callable[[str], str]) -> None:
        self._gathered = gathered
        self._values = values_of_template(gathered, title, wording) | {"key": key, "version": __version__}

    def photo_bytes(self) -> int:
        """Size of the photos inside a page."""
        return sum(4 * len(photo.jpeg) // 3 for photo in self._gathered.photos.values())

    def in_one_file(self) -> bytes:
        """The page with everything."""
        urls = {name: jpeg_url(photo.jpeg) for name, photo in self._gathered.photos.items()}
        return self._rendered(_as_json(data_of_script(self._gathered, urls)), "")

    def with_folder(self, folder: Path) -> dict[str, bytes]:
        """The page, "", and the files that lie in a folder beside it, first that by which the folder is recognised."""
        name_from_image = {name: f"photo{row:06d}.jpg" for row, name in enumerate(sorted(self._gathered.photos))}
        files = {name_from_image[name]: photo.jpeg for name, photo in self._gathered.photos.items()}
        urls = {name: f"{_url(folder.name)}/{file}" for name, file in name_from_image.items()}
        data = _as_json(data_of_script(self._gathered, urls))
        script = _DATA_HEAD + f"{data};\n".encode()
        return {DATA_NAME: script} | files | {"": self._rendered("", _data_url(folder))}

    def _rendered(self, data: str, data_url: str) -> bytes:
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(asset("page.html.jinja"))
        assets = {
            "style": asset("page.css"),
            "three": asset("three.min.js"),
            "three_license": asset("three.LICENSE.txt"),
            "script": "\n".join(asset(name) for name in SCRIPTS),
        }
        text = template.render(self._values, **assets, data=data, data_url=data_url)
        return text.encode("utf-8", "backslashreplace")


def _as_json(values: dict[str, Any]) -> str:
    """JSON that can stand in a script: no tag can begin in it."""
    return json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@dataclass(frozen=True, slots=True)
class _EarlierReport:
    """What the head of a report says that has the name of the new one; empty if there is none."""

    key: str = ""
    data_url: str = ""

    def as_written(self, file: Path, folder: Path, key: str) -> WrittenReport | None:
        """The report, if it is that of a key and has the folder that it needs; else None."""
        if self.key != key:
            return None
        try:
            if not self.data_url:
                return WrittenReport(file, None, file.stat().st_size, is_new=False)
            if self.data_url != _data_url(folder) or not (folder / DATA_NAME).is_file():
                return None
            sizes = [path.stat().st_size for path in folder.iterdir() if _OWN_FILE.fullmatch(path.name)]
            return WrittenReport(file, folder, file.stat().st_size + sum(sizes), is_new=False)
        except OSError:
            return None


def _earlier_report(file: Path) -> _EarlierReport:
    """Read the head of the file that the report would replace.

    Raises:
        ConfigError: if it is no report. An empty file may be replaced: it reserves the name.
    """
    head = _head(file)
    key, data = _KEY_PATTERN.search(head), _DATA_PATTERN.search(head)
    if head and key is None:
        raise ConfigError(
            f"{file}: exists and is no report of this program; choose another name with `output`, or move the file"
        )
    return _EarlierReport("" if key is None else key[1], "" if data is None else data[1])


def _require_own_folder(folder: Path, earlier: _EarlierReport) -> None:
    """Make sure that a report writes into no folder with files of the user that have the names of its own.

    Raises:
        ConfigError: if neither the earlier report nor its data script says that the folder is one of a report.
    """
    if earlier.data_url == _data_url(folder) or _head(folder / DATA_NAME).startswith(_DATA_HEAD.decode()):
        return
    if folder.is_dir() and any(_OWN_FILE.fullmatch(path.name) for path in folder.iterdir()):
        raise ConfigError(
            f"{folder}: has files that are not of a report, and that its photos would replace; choose another name"
            " with `output`, or move the folder"
        )


def _head(path: Path) -> str:
    """The first characters of a file; "" if there is none, or it cannot be read."""
    try:
        with open(path, "rb") as opened:
            return opened.read(_HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _data_url(folder: Path) -> str:
    return f"{_url(folder.name)}/{DATA_NAME}"


def _url(name: str) -> str:
    """The name of a file as a relative address: `#`, `?` and `%` have another meaning there."""
    return quote(os.fsencode(name), safe="")


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


_OWN_FILE = re.compile(r"photo\d{6}\.jpg|data\.js")


def _remove_files(folder: Path, kept: Collection[str] = ()) -> None:
    """Remove the files of an earlier report; other files stay."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if _OWN_FILE.fullmatch(path.name) and path.name not in kept:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
