"""Lists of queries and of pairs, as hloc writes them, and the files of QUERY arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.scene.list_file import read_list_lines
from sfm_lightglue.scene.photo import is_video
from sfm_lightglue.scene.walk import find_files, has_photo_suffix, name_below
from sfm_lightglue.types import Camera

QUERY_FORMAT = "NAME, or NAME MODEL WIDTH HEIGHT PARAMS..."


@dataclass(frozen=True, slots=True)
class Query:
    """An image that is to be found.

    Args:
        name: in the results.
        path: of the file.
        camera: intrinsics that a list states; None for none.
    """

    name: str
    path: Path
    camera: Camera | None = None


def queries_of_paths(paths: Sequence[Path]) -> list[Query]:
    """The images of files and folders: a file by its path, those of a folder by their path below it, sorted.

    Raises:
        DataError: if a path does not exist, or a folder has no image.
    """
    found: list[Query] = []
    for path in paths:
        if path.is_dir():
            files = [one for one in find_files(path).paths if has_photo_suffix(one) and not is_video(one)]
            if not files:
                raise DataError(f"{shown_path(path)}: no image in this folder")
            found += [Query(name_below(one, path), one) for one in files]
        elif path.exists():
            found.append(Query(str(path), path))
        else:
            raise DataError(f"{shown_path(path)}: no such file or folder")
    return found


def read_query_list(path: Path, folders: Sequence[Path]) -> list[Query]:
    """The queries of a list of hloc, one a line: a name, and optionally COLMAP's camera model, size and parameters.

    Args:
        path: of the list.
        folders: that the names may be relative to; the first one that has the file is used.

    Raises:
        DataError: if the list cannot be read, lists nothing, or names a file that no folder has.
        ConfigError: if the parameters are not those of a camera.
    """
    found = []
    for number, line in _lines(path):
        name, camera = _parsed(line, f"{shown_path(path)}:{number}")
        file = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if file is None:
            raise DataError(
                f"{shown_path(path)}:{number}: no file {name!r} in {' or '.join(shown_path(one) for one in folders)};"
                f" expected {QUERY_FORMAT}"
            )
        found.append(Query(name, file, camera))
    if not found:
        raise DataError(f"{shown_path(path)}: lists no image")
    return found


def _parsed(line: str, where: str) -> tuple[str, Camera | None]:
    """The name and the camera of a line; names with spaces need no quotes if no camera follows."""
    words = line.split()
    for i in range(1, len(words) - 3):  # the model is followed by the size and the parameters
        if words[i + 1].isdigit() and words[i + 2].isdigit() and words[i].replace("_", "").isalpha():
            try:
                params = [float(word) for word in words[i + 3 :]]
                return " ".join(words[:i]), make_camera(words[i], (int(words[i + 1]), int(words[i + 2])), params)
            except (ConfigError, ValueError) as error:
                raise ConfigError(f"{where}: {error}") from error
    return line, None


def read_candidates(path: Path, queries: Collection[str], names: Collection[str]) -> dict[str, list[str]]:
    """The images of the map for each query, of a list with a query and an image of the map a line.

    Args:
        path: of the list.
        queries: names of the queries.
        names: of the images of the map.

    Raises:
        DataError: if the list cannot be read, or a line has no two such names.
    """
    known_queries, known_names = set(queries), set(names)
    found: dict[str, list[str]] = {}
    for number, line in _lines(path):
        pair = _split(line, known_queries, known_names)
        if pair is None:
            raise DataError(
                f"{shown_path(path)}:{number}: expected the name of a query and that of an image of the map, got"
                f" {line!r}"
            )
        if pair[1] not in found.setdefault(pair[0], []):
            found[pair[0]].append(pair[1])
    return found


def _split(line: str, queries: Collection[str], names: Collection[str]) -> tuple[str, str] | None:
    for i, character in enumerate(line):
        if character in " \t" and line[:i].strip() in queries and line[i + 1 :].strip() in names:
            return line[:i].strip(), line[i + 1 :].strip()
    return None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank and no comments, with their numbers."""
    for number, line in enumerate(read_list_lines(path), start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text
