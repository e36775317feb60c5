"""Pairs that a text file lists."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from sfm_lightglue.errors import DataError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.list_file import read_list_lines
from sfm_lightglue.types import ImagePair, Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PairsFromFileConfig:
    """Options of the pairs from a file."""

    path: str = ""
    """Text file with two image names a line. Blank lines and lines that begin with # are skipped. Names are relative
    to the folder of the images; the name of that folder may precede them, as in images/a.jpg."""


class PairsFromFile:
    """Two names a line, with a space or a tab between them; names may contain spaces."""

    def __init__(self, config: PairsFromFileConfig) -> None:
        self.config = config

    def check(self, scene: Scene) -> None:
        """Read the list once, so that an error in it is reported before the features are extracted."""
        self._read(scene, report=False)

    def select(self, context: PairContext) -> tuple[ImagePair, ...]:
        """The pairs, sorted, without repetition.

        Raises:
            DataError: if the file cannot be read, or a line does not contain two names of the scene.
        """
        return self._read(context.scene, report=True)

    def _read(self, scene: Scene, report: bool) -> tuple[ImagePair, ...]:
        path = Path(self.config.path)
        skipped = {image.name for image in scene.skipped}
        names = _SceneNames.from_scene(scene)
        pairs = set()
        for number, line in enumerate(read_list_lines(path), start=1):
            text = unicodedata.normalize("NFC", line.strip())
            if not text:
                continue
            pair = _split(text, names)
            if pair is None and text.startswith("#"):  # checked second: a name may begin with # too
                continue
            if pair is None:
                raise DataError(f"{path}:{number}: {_explain(text, names, scene.root)}")
            if pair[0] == pair[1] or skipped & set(pair):
                if report:
                    logger.warning("%s:%d: skipped (%s)", path, number, text)
                continue
            pairs.add(ImagePair.from_names(*pair))
        if not pairs:
            raise DataError(f"{path}: lists no pair of usable images")
        return tuple(sorted(pairs))


@dataclass(frozen=True, slots=True)
class _SceneNames:
    """The spellings under which a list may name the images of a scene.

    Args:
        known: name of the image by its spelling in Unicode's NFC form: macOS stores é as two characters, other
            systems as one.
        prefixes: what may precede a name, such as "images/": the ends of the path of the folder. A prefix with which
            the name of an image begins is left out, so that a spelling means one image only.
    """

    known: Mapping[str, str]
    prefixes: tuple[str, ...]

    @classmethod
    def from_scene(cls, scene: Scene) -> _SceneNames:
        """The names of all images, the unusable ones too."""
        names = (*sorted(image.name for image in scene.skipped), *scene.names)
        known = {unicodedata.normalize("NFC", name): name for name in names}
        folder = PurePosixPath(unicodedata.normalize("NFC", Path(os.path.abspath(scene.root)).as_posix()))
        parts = folder.parts[1:]
        ends = ["/".join(parts[i:]) + "/" for i in range(len(parts))]
        prefixes = (*ends, f"{folder}/")
        return cls(known, tuple(one for one in prefixes if not any(name.startswith(one) for name in known)))

    def find(self, text: str) -> str | None:
        """The image of that name, with a prefix or without."""
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


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("") if path.name else path).casefold()


def _halves(text: str) -> Iterator[tuple[str, str]]:
    """Each way to split a text at a space or tab."""
    for i, character in enumerate(text):
        if character in " \t":
            yield text[:i].strip().strip('"'), text[i + 1 :].strip().strip('"')


def _split(text: str, names: _SceneNames) -> tuple[str, str] | None:
    """Split at the first space or tab with a name of the scene on both sides."""
    for half0, half1 in _halves(text):
        name0, name1 = names.find(half0), names.find(half1)
        if name0 is not None and name1 is not None:
            return name0, name1
    return None


def _explain(text: str, names: _SceneNames, root: Path) -> str:
    """Which of the two names is not an image; if one of them is, then the other."""
    halves = next((pair for pair in _halves(text) if any(map(names.find, pair))), None)
    words = [word.strip('"') for word in text.split()]
    if halves is None and len(words) != 2:
        return f"expected two names of images of {root}, got {text!r}"
    both = halves or words
    unknown = list(dict.fromkeys(half for half in both if names.find(half) is None))
    other = {names.find(half) for half in both}
    near = [name for one in unknown for name in [near for near in names.nearest(one) if near not in other][:3]]
    some = f"the closest names are {_quoted(near)}" if near else f"names look like {_quoted(sorted(names.known)[:1])}"
    return f"no image {' and no image '.join(map(repr, unknown))} in {root}; {some}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(names)))
