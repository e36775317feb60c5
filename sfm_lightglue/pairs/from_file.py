"""Pairs that a text file lists."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.types import ImagePair, Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PairsFromFileConfig:
    """Options of the pairs from a file."""

    path: str = ""
    """Text file with two image names a line; blank lines and lines that begin with # are passed over."""


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
            raise DataError(f"{path}: the list of pairs cannot be read ({error})") from error
        skipped = {image.name for image in scene.skipped}
        # macOS spells é as two characters, lists from elsewhere as one.
        known = {unicodedata.normalize("NFC", name): name for name in (*sorted(skipped), *scene.names)}
        pairs = set()
        for number, line in enumerate(lines, start=1):
            text = unicodedata.normalize("NFC", line.strip())
            if not text:
                continue
            names = _split(text, known)
            if names is None and text.startswith("#"):  # only now: a name may begin with # too
                continue
            if names is None:
                raise DataError(f"{path}:{number}: {_explain(text, known)}")
            if names[0] == names[1] or skipped & set(names):
                logger.warning("%s:%d: passed over (%s)", path, number, text)
                continue
            pairs.add(ImagePair.of(*names))
        if not pairs:
            raise DataError(f"{path}: lists no pair of usable photos")
        return tuple(sorted(pairs))


def _split(text: str, known: Mapping[str, str]) -> tuple[str, str] | None:
    """At the first place where both sides are names of the scene."""
    for i, character in enumerate(text):
        if character in " \t":
            name0, name1 = text[:i].strip().strip('"'), text[i + 1 :].strip().strip('"')
            if name0 in known and name1 in known:
                return known[name0], known[name1]
    return None


def _explain(text: str, known: Mapping[str, str]) -> str:
    words = [word.strip('"') for word in text.split()]
    unknown = [word for word in words if word not in known]
    near = get_close_matches(unknown[0], sorted(known), n=1) if unknown else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"expected two names of photos of the scene, got {text!r}{hint}"
