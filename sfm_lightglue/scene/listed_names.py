"""The names of images in files that users write: lists of images, of pairs and of positions."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.list_file import read_list_lines


@dataclass(frozen=True, slots=True)
class ListedNames:
    """The spellings under which a file may name the images of a folder.

    Args:
        root: the folder.
        known: name of the image by its spelling in Unicode's NFC form: macOS stores é as two characters, other
            systems as one.
        prefixes: what may precede a name, such as "images/": the ends of the path of the folder. A prefix with which
            the name of an image begins is left out, so that a spelling means one image only.
    """

    root: Path
    known: Mapping[str, str]
    prefixes: tuple[str, ...]

    @classmethod
    def from_names(cls, names: Iterable[str], root: Path) -> ListedNames:
        """The spellings of all images of a folder, the unusable ones too; later names win over equal earlier ones."""
        known = {unicodedata.normalize("NFC", name): name for name in names}
        folder = PurePosixPath(unicodedata.normalize("NFC", Path(os.path.abspath(root)).as_posix()))
        parts = folder.parts[1:]
        ends = ["/".join(parts[i:]) + "/" for i in range(len(parts))]
        prefixes = (*ends, f"{folder}/")
        return cls(root, known, tuple(one for one in prefixes if not any(name.startswith(one) for name in known)))

    def find(self, text: str) -> str | None:
        """The image of a name in NFC form, with a prefix or without; None if there is none."""
        if text in self.known:
            return self.known[text]
        return next((self.known[rest] for rest in self._readings(text) if rest in self.known), None)

    def _readings(self, text: str) -> tuple[str, ...]:
        bare = text.removeprefix("./")
        return (text, bare, *(bare.removeprefix(prefix) for prefix in self.prefixes))

    def nearest(self, text: str) -> list[str]:
        """Names that may have been meant: the same file in another folder first, then similar spellings.

        Suffixes are not compared: nearly all images have the same.
        """
        text = min(self._readings(text), key=len)
        moved = [one for one in self.known if PurePosixPath(one).name == PurePosixPath(text).name]
        from_stem: dict[str, list[str]] = {}
        for one in self.known:
            from_stem.setdefault(_stem(one), []).append(one)
        stems = get_close_matches(_stem(text), list(from_stem), n=3)
        return [self.known[one] for one in dict.fromkeys((*moved, *(one for stem in stems for one in from_stem[stem])))]

    def explain(self, unknown: Sequence[str], besides: Collection[str | None] = ()) -> str:
        """A message that names are no images, and which ones may have been meant.

        Args:
            unknown: names of no image.
            besides: images that are not meant: they are named already.
        """
        near = [name for one in unknown for name in [near for near in self.nearest(one) if near not in besides][:3]]
        some = (
            f"the closest names are {_quoted(near)}" if near else f"names look like {_quoted(sorted(self.known)[:1])}"
        )
        return f"no image {' and no image '.join(map(repr, unknown))} in {self.root}; {some}"


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.name else path).casefold()


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(names)))


def read_image_list(path: Path, names: ListedNames) -> frozenset[str]:
    """The images that a file lists as COLMAP's `image_list_path`: a name on each line.

    Blank lines, and lines that begin with # and are no name, are skipped.

    Args:
        path: the text file, in UTF-8.
        names: the images of the folder.

    Raises:
        DataError: if the file cannot be read, a line is not the name of an image, or no image is listed.
    """
    listed = set()
    for number, line in enumerate(read_list_lines(path, what="list of images"), start=1):
        text = unicodedata.normalize("NFC", line.strip())
        name = names.find(text) or names.find(text.strip('"'))
        if name is not None:
            listed.add(name)
        elif text and not text.startswith("#"):
            raise DataError(f"{shown_path(path)}:{number}: {names.explain([text])}")
    if not listed:
        raise DataError(f"{shown_path(path)}: lists no image")
    return frozenset(listed)
