"""Find the files of an image folder: which folders and files may hold photographs, and which are left out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.images.formats import PHOTO_SUFFIXES, RAW_SUFFIXES
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.output_folder import is_export_folder, is_results_folder
from sfm_lightglue.types import SkippedImage

_THUMBNAIL_FOLDERS = frozenset({"thumb", "thumbs", "thumbnail", "thumbnails", ".@__thumb", "@eadir"})
_SYSTEM_FOLDERS = frozenset(
    {
        *("#recycle", "#snapshot", "@recently-snapshot", "@recycle", "@snapshot", "@tmp"),
        *("$recycle.bin", "__macosx", "lost+found", "system volume information"),
    }
)
_MASK_FOLDERS = frozenset({"mask", "masks"})


@dataclass
class FoundFiles:
    """The files of a folder and of its sub-folders.

    Args:
        folder: where the search began; names are relative to it.
        paths: regular files, sorted by name.
        mask_folders: the files of each folder named "masks", which are not among `paths`.
        skipped: files and folders that cannot be read.
        thumbnails: names of folders of thumbnails that have images and were left out.
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    mask_folders: dict[Path, list[Path]] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)
    thumbnails: list[str] = field(default_factory=list)

    def sort(self) -> None:
        """Sort everything by name: folders are listed in any order."""
        for paths in (self.paths, *self.mask_folders.values()):
            paths.sort(key=lambda path: name_below(path, self.folder))
        self.mask_folders = dict(sorted(self.mask_folders.items()))
        self.skipped.sort(key=lambda photo: photo.name)
        self.thumbnails.sort()


def find_files(folder: Path, ignore: Iterable[Path] = (), mask_folders: bool = True) -> FoundFiles:
    """Find the files of a folder that may be photographs. Links are followed.

    Hidden files and folders, folders of the system, of thumbnails and of results are left out; files that are not
    regular ones, and folders that cannot be listed, are named.

    Args:
        folder: the folder; its own name does not matter.
        ignore: folders to leave out.
        mask_folders: list the files of folders named "masks" apart.

    Raises:
        DataError: if the folder itself cannot be listed.
    """
    walk = _Walk(FoundFiles(folder), {path.resolve() for path in ignore}, mask_folders)
    try:
        walk.list_all(folder)
    except OSError as error:
        raise DataError(f"{shown_path(folder)}: the folder cannot be read ({error.strerror or error})") from error
    walk.found.sort()
    return walk.found


def name_below(path: Path, folder: Path) -> str:
    """The path of a file below a folder with forward slashes; a fifth of the time of `relative_to`."""
    return "/".join(path.parts[len(folder.parts) :])


def has_photo_suffix(path: Path) -> bool:
    """Whether a file has the usual suffix of photographs, raw ones included."""
    return path.suffix.lower() in PHOTO_SUFFIXES | RAW_SUFFIXES


class _Walk:
    def __init__(self, found: FoundFiles, ignore: set[Path], mask_folders: bool) -> None:
        self.found = found
        self._ignore = ignore
        self._mask_folders = mask_folders
        self._visited: set[Path] = set()

    def list_all(self, root: Path) -> None:
        """Find the files of a folder and of its sub-folders.

        Raises:
            OSError: if the folder itself cannot be listed.
        """
        waiting = [(root, self.found.paths)]
        while waiting:
            folder, paths = waiting.pop()
            try:
                waiting += reversed(self._list(folder, paths))
            except OSError as error:
                if folder == root:
                    raise
                self._skip(folder, f"the folder cannot be read ({error.strerror or error})", is_folder=True)

    def _list(self, folder: Path, paths: list[Path]) -> list[tuple[Path, list[Path]]]:
        """Append the files of a folder to a list; returns its sub-folders, each with the list of its files."""
        resolved = folder.resolve()
        if resolved in self._visited:  # a circular link
            return []
        self._visited.add(resolved)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        below = []
        for entry in listed:
            path = folder / entry.name
            try:
                if entry.is_dir():
                    if self._is_wanted(path):
                        below.append((path, self._list_of_files(path, paths)))
                elif not entry.name.startswith("."):
                    self._add_file(entry, path, paths)
            except OSError as error:  # a link to itself, or a folder without permission to look at its files
                self._skip(path, f"cannot be read ({error.strerror or error})")
        return below

    def _is_wanted(self, folder: Path) -> bool:
        name = folder.name.casefold()
        if name in _THUMBNAIL_FOLDERS:
            if folder.resolve() not in self._ignore and _has_photo(folder):
                self.found.thumbnails.append(self._name(folder))
            return False
        if name.startswith(".") or name in _SYSTEM_FOLDERS:
            return False
        is_of_results = is_results_folder(folder) or is_export_folder(folder)
        return folder.resolve() not in self._ignore and not is_of_results

    def _list_of_files(self, folder: Path, paths: list[Path]) -> list[Path]:
        is_for_masks = self._mask_folders and folder.name.casefold() in _MASK_FOLDERS and paths is self.found.paths
        return self.found.mask_folders.setdefault(folder, []) if is_for_masks else paths

    def _add_file(self, entry: os.DirEntry[str], path: Path, paths: list[Path]) -> None:
        if entry.is_file():
            paths.append(path)
        elif path.exists():  # a named pipe, a socket or a device
            try:
                read_input_file(path)
            except DataError as error:
                self._skip(path, str(error).removeprefix(f"{shown_path(path)}: "))
        elif has_photo_suffix(path):
            self._skip(path, "cannot be read (a link to a file that does not exist)")

    def _skip(self, path: Path, reason: str, is_folder: bool = False) -> None:
        self.found.skipped.append(SkippedImage(self._name(path) + "/" * is_folder, reason))

    def _name(self, path: Path) -> str:
        return name_below(path, self.found.folder).encode(errors="backslashreplace").decode()


def _has_photo(folder: Path) -> bool:
    return any(has_photo_suffix(Path(name)) for _, _, names in os.walk(folder) for name in names)
