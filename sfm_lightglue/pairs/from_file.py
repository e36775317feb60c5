"""Pairs that a text file lists."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.scene.list_file import read_list_lines
from sfm_lightglue.scene.listed_names import ListedNames
from sfm_lightglue.types import Scene

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

    def num_pairs(self, scene: Scene) -> int:
        """The number of lines."""
        return sum(len(line.strip()) > 0 for line in read_list_lines(Path(self.config.path)))

    def needs_features(self, scene: Scene) -> bool:
        """No: the file is enough."""
        return False

    def select(self, context: PairContext) -> IndexedPairs:
        """The pairs, sorted, without repetition.

        Raises:
            DataError: if the file cannot be read, or a line does not contain two names of the scene.
        """
        return self._read(context.scene, report=True)

    def _read(self, scene: Scene, report: bool) -> IndexedPairs:
        pairs = read_pairs(Path(self.config.path), scene, report)
        if len(pairs) == 0:
            raise DataError(f"{self.config.path}: lists no pair of usable images")
        return pairs


def read_pairs(path: Path, scene: Scene, report: bool) -> IndexedPairs:
    """The pairs of usable images that a file lists.

    Args:
        path: text file with two names a line.
        scene: the images.
        report: warn of lines that name an unusable image, or one image twice, and count those that name an image of
            the folder that is not in the scene.

    Raises:
        DataError: if the file cannot be read, or a line does not contain two names of the scene.
    """
    skipped = {image.name for image in scene.skipped}
    names = ListedNames.from_names((*sorted(skipped), *scene.names), scene.root)
    idx_from_name = {name: i for i, name in enumerate(scene.names)}
    rows, unused = [], []
    for number, line in enumerate(read_list_lines(path), start=1):
        text = unicodedata.normalize("NFC", line.strip())
        if not text:
            continue
        pair = _split(text, names)
        if pair is None and text.startswith("#"):  # checked second: a name may begin with # too
            continue
        if pair is None and _names_files(text, names):
            unused.append(number)
            continue
        if pair is None:
            raise DataError(f"{path}:{number}: {_explain(text, names)}")
        if pair[0] == pair[1] or pair[0] in skipped or pair[1] in skipped:
            if report:
                logger.warning("%s:%d: skipped (%s)", path, number, text)
            continue
        rows.append((idx_from_name[pair[0]], idx_from_name[pair[1]]))
    if report and unused:
        logger.warning(
            "%s: skipped %d lines with photos that are not used (the first is line %d)", path, len(unused), unused[0]
        )
    return IndexedPairs.from_rows(scene.names, np.array(rows, np.int64).reshape(-1, 2))


def _halves(text: str) -> Iterator[tuple[str, str]]:
    """Each way to split a text at a space or tab."""
    for i, character in enumerate(text):
        if character in " \t":
            yield text[:i].strip().strip('"'), text[i + 1 :].strip().strip('"')


def _split(text: str, names: ListedNames) -> tuple[str, str] | None:
    """Split at the first space or tab with a name of the scene on both sides."""
    words = text.split()
    if len(words) == 2 and words[0] in names.known and words[1] in names.known:  # most lines of most files
        return names.known[words[0]], names.known[words[1]]
    for half0, half1 in _halves(text):
        name0, name1 = names.find(half0), names.find(half1)
        if name0 is not None and name1 is not None:
            return name0, name1
    return None


def _names_files(text: str, names: ListedNames) -> bool:
    """Whether both names of a line are files of the folder, also ones that a list of images leaves out."""
    return any(
        all(half and (names.find(half) is not None or os.path.isfile(names.root / half)) for half in halves)
        for halves in _halves(text)
    )


def _explain(text: str, names: ListedNames) -> str:
    """Which of the two names is not an image; if one of them is, then the other."""
    halves = next((pair for pair in _halves(text) if any(map(names.find, pair))), None)
    words = [word.strip('"') for word in text.split()]
    if halves is None and len(words) != 2:
        return f"expected two names of images of {names.root}, got {text!r}"
    both = halves or words
    unknown = list(dict.fromkeys(half for half in both if names.find(half) is None))
    return names.explain(unknown, {names.find(half) for half in both})
