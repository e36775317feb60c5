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
from sfm_lightglue.types import ImagePair, Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PairsFromFileConfig:
    """Options of the pairs from a file."""

    path: str = ""
    """Text file with two image names a line; blank lines and lines that begin with # are passed over. Names
    are relative to the folder of the photos, whose own name may stand before them, as in images/a.jpg."""


class PairsFromFile:
    """Two names a line, with a space or a tab between them; names may hold spaces themselves."""

    def __init__(self, config: PairsFromFileConfig) -> None:
        self.config = config

    def select(self, scene: Scene) -> tuple[ImagePair, ...]:
        """The pairs, sorted, without repetition.

        Raises:
            DataError: where the file cannot be read, or a line does not hold two names of the scene.
        """
        path = Path(self.config.path)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{path}: the list of pairs cannot be read ({reason})") from error
        skipped = {image.name for image in scene.skipped}
        names = _Names.of(scene)
        pairs = set()
        for number, line in enumerate(lines, start=1):
            text = unicodedata.normalize("NFC", line.strip())
            if not text:
                continue
            pair = _split(text, names)
            if pair is None and text.startswith("#"):  # only now: a name may begin with # too
                continue
            if pair is None:
                raise DataError(f"{path}:{number}: {_explain(text, names, scene.root)}")
            if pair[0] == pair[1] or skipped & set(pair):
                logger.warning("%s:%d: passed over (%s)", path, number, text)
                continue
            pairs.add(ImagePair.from_names(*pair))
        if not pairs:
            raise DataError(f"{path}: lists no pair of usable photos")
        return tuple(sorted(pairs))


@dataclass(frozen=True, slots=True)
class _Names:
    """What a list may call the photos of a scene.

    Args:
        known: names by how they are spelt: macOS spells é as two characters, lists from elsewhere as one.
        prefixes: what may stand before a name, such as "images/": the end of the folder's own path. None with which
            the name of a photo begins, so that a name means one photo only.
    """

    known: Mapping[str, str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, scene: Scene) -> _Names:
        """Of all its photos, the unusable ones too."""
        names = (*sorted(image.name for image in scene.skipped), *scene.names)
        known = {unicodedata.normalize("NFC", name): name for name in names}
        folder = PurePosixPath(unicodedata.normalize("NFC", Path(os.path.abspath(scene.root)).as_posix()))
        parts = folder.parts[1:]
        ends = ["/".join(parts[i:]) + "/" for i in range(len(parts))]
        prefixes = (*ends, f"{folder}/")
        return cls(known, tuple(one for one in prefixes if not any(name.startswith(one) for name in known)))

    def find(self, text: str) -> str | None:
        """The photo of that name, with a prefix or without."""
        return next((self.known[rest] for rest in self._readings(text) if rest in self.known), None)

    def _readings(self, text: str) -> tuple[str, ...]:
        bare = text.removeprefix("./")
        return (text, bare, *(bare.removeprefix(prefix) for prefix in self.prefixes))

    def nearest(self, text: str) -> list[str]:
        """Names that may have been meant: of the same file in another folder, then of similar spelling.

        Suffixes do not count: nearly all photos have the same.
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
    """Everything before a space or tab, and everything after it."""
    for i, character in enumerate(text):
        if character in " \t":
            yield text[:i].strip().strip('"'), text[i + 1 :].strip().strip('"')


def _split(text: str, names: _Names) -> tuple[str, str] | None:
    """At the first place where both sides are names of the scene."""
    for half0, half1 in _halves(text):
        name0, name1 = names.find(half0), names.find(half1)
        if name0 is not None and name1 is not None:
            return name0, name1
    return None


def _explain(text: str, names: _Names, root: Path) -> str:
    """Which of the two names is no photo: the one beside a name that is one."""
    halves = next((pair for pair in _halves(text) if any(map(names.find, pair))), None)
    words = [word.strip('"') for word in text.split()]
    if halves is None and len(words) != 2:
        return f"expected two names of photos of {root}, got {text!r}"
    both = halves or words
    unknown = list(dict.fromkeys(half for half in both if names.find(half) is None))
    other = {names.find(half) for half in both}
    near = [name for one in unknown for name in [near for near in names.nearest(one) if near not in other][:3]]
    some = f"the closest names are {_quoted(near)}" if near else f"names look like {_quoted(sorted(names.known)[:1])}"
    return f"no photo {' and no photo '.join(map(repr, unknown))} in {root}; {some}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, dict.fromkeys(names)))
