"""Positions of images from a file that the user gives: geographic, or in metres of a frame of their own."""

from __future__ import annotations

import csv
import logging
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.list_file import read_list_lines
from sfm_lightglue.scene.listed_names import ListedNames
from sfm_lightglue.types import SceneImage

logger = logging.getLogger(__name__)

_NAME_COLUMNS = frozenset({"name", "image", "image_name", "file", "filename", "file_name", "label"})

_GEOGRAPHIC_COLUMNS: tuple[frozenset[str], ...] = (
    frozenset({"latitude", "lat"}),
    frozenset({"longitude", "lon", "lng", "long"}),
    frozenset({"altitude", "alt", "height", "elevation"}),
)

_LOCAL_COLUMNS: tuple[frozenset[str], ...] = (
    frozenset({"x", "x_m"}),
    frozenset({"y", "y_m"}),
    frozenset({"z", "z_m"}),
)

_LIMITS = (("latitude", 90.0), ("longitude", 180.0), ("altitude", 100_000.0))
"""Largest absolute values of a geographic position, in degrees and metres."""

_EXPECTED = "expected a header such as name,latitude,longitude,altitude or name,x,y,z"


@dataclass(frozen=True, slots=True)
class GivenPositions:
    """Positions by name of image.

    Args:
        is_geographic: whether they are latitude, longitude (degrees) and altitude (metres) of WGS84; else they are x,
            y, z in metres of any frame of right angles.
        from_name: three numbers by name of image.
    """

    is_geographic: bool
    from_name: Mapping[str, tuple[float, float, float]]

    def applied_to(self, images: Sequence[SceneImage]) -> tuple[SceneImage, ...]:
        """The images with these positions.

        Geographic positions replace those of the EXIF data one by one. Positions in another frame replace all of them:
        the two cannot be compared.
        """
        if self.is_geographic:
            return tuple(
                replace(image, gps_position=self.from_name.get(image.name, image.gps_position)) for image in images
            )
        return tuple(replace(image, gps_position=None, xyz_m=self.from_name.get(image.name)) for image in images)


def read_positions(path: Path, names: ListedNames) -> GivenPositions:
    """Read a table with a header, a position on each line, and commas, semicolons or tabs between the columns.

    The header names the columns, in any order: name, latitude, longitude, altitude, or name, x, y, z. Other columns are
    not used. Blank lines and lines that begin with # are skipped.

    Args:
        path: the file, in UTF-8.
        names: the images of the folder. Names of other images are counted in a warning.

    Raises:
        DataError: if the file cannot be read, a line cannot be understood, or no name is that of an image.
    """
    shown = shown_path(path)
    table: _Columns | None = None
    line_from_name: dict[str, int] = {}
    found: dict[str, tuple[float, float, float]] = {}
    unknown: dict[str, int] = {}
    for number, line in enumerate(read_list_lines(path, what="table of positions"), start=1):
        where = f"{shown}:{number}"
        text = unicodedata.normalize("NFC", line.strip())
        if not text or (
            text.startswith("#") and (table is not None or _Columns.find(text.lstrip("# "), where) is None)
        ):
            continue
        if table is None:
            table = _Columns.find(text.lstrip("# "), where)
            if table is None:
                raise DataError(f"{where}: {_EXPECTED}, got {text!r}")
            continue
        listed, position = table.read(text, where)
        name = names.find(listed)
        if name is None:
            unknown.setdefault(listed, number)
            continue
        if name in found:
            raise DataError(f"{where}: {name!r} has a position in line {line_from_name[name]} already")
        found[name], line_from_name[name] = position, number
    if table is None:
        raise DataError(f"{shown}: no positions; {_EXPECTED}")
    _report_unknown(shown, unknown, len(found), names)
    return GivenPositions(table.is_geographic, found)


def _report_unknown(shown: str, unknown: Mapping[str, int], num_found: int, names: ListedNames) -> None:
    if num_found == 0 and not unknown:
        raise DataError(f"{shown}: no positions below the header")
    if not unknown:
        return
    first, line = next(iter(unknown.items()))
    if num_found == 0:
        raise DataError(f"{shown}:{line}: {names.explain([first])}")
    logger.warning(
        "%s: %d of %d names are not used; line %d: %s",
        shown,
        len(unknown),
        len(unknown) + num_found,
        line,
        names.explain([first]),
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """What the header of a table says.

    Args:
        delimiter: between the columns.
        num: number of columns.
        name: index of the column of names.
        values: indices of the columns of the three numbers, and their titles.
        is_geographic: whether the numbers are latitude, longitude and altitude.
    """

    delimiter: str
    num: int
    name: int
    values: tuple[tuple[int, str], ...]
    is_geographic: bool

    @classmethod
    def find(cls, text: str, where: str) -> _Columns | None:
        """The columns of a header; None if it names too few of them.

        Raises:
            DataError: if a column is too long.
        """
        delimiter = next((each for each in "\t;," if each in text), ",")
        titles = [title.strip().casefold() for title in _cells(text, delimiter, where)]
        name = next((i for i, title in enumerate(titles) if title in _NAME_COLUMNS), None)
        for wanted in (_GEOGRAPHIC_COLUMNS, _LOCAL_COLUMNS):
            values = [next((i for i, title in enumerate(titles) if title in each), None) for each in wanted]
            if name is not None and None not in values:
                places = tuple((i, titles[i]) for i in values if i is not None)
                return cls(delimiter, len(titles), name, places, wanted is _GEOGRAPHIC_COLUMNS)
        return None

    def read(self, text: str, where: str) -> tuple[str, tuple[float, float, float]]:
        """Name and position of a line.

        Raises:
            DataError: if columns are missing, or a value is not a number or out of range.
        """
        cells = [cell.strip() for cell in _cells(text, self.delimiter, where)]
        if len(cells) < self.num:
            raise DataError(f"{where}: expected {self.num} columns as in the header, got {len(cells)} ({text!r})")
        x, y, z = (_number(cells[i], title, where) for i, title in self.values)
        if self.is_geographic:
            for value, (what, limit) in zip((x, y, z), _LIMITS, strict=True):
                if abs(value) > limit:
                    raise DataError(f"{where}: {what} {value:g} lies outside [-{limit:g}, {limit:g}]")
        return cells[self.name], (x, y, z)


def _cells(text: str, delimiter: str, where: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{where}: not a line of a table of positions ({error}); {_EXPECTED}") from error


def _number(text: str, title: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{where}: {title}: expected a number, got {text!r}") from error
    if not math.isfinite(value):
        raise DataError(f"{where}: {title}: expected a finite number, got {text!r}")
    return value
