"""Features and matches of keyframes in the store of a run, where other jobs look for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import Features
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Matches

FileOfFrame = Callable[[Image], Image]
"""Makes the file of a frame, as it is or will be in the folder of images, from its pixels."""


def file_in_folder(folder: Path) -> FileOfFrame:
    """Frames that are files of a folder. A frame whose file was removed meanwhile stays as it is."""

    def file_of(frame: Image) -> Image:
        try:
            return Image.read(folder / frame.name, frame.name)
        except DataError:
            return frame

    return file_of


class StoredFeatures:
    """An extractor of frames, whose features have the keys of the files of these frames.

    Only what `keep` gets is saved: features of frames that become no keyframes would fill the disk.

    Args:
        extractor: computes what the store does not hold.
        store: of the run.
        file_of: the file of a frame. Its pixels count: those of a JPEG file differ from those of a video.
    """

    def __init__(self, extractor: Extractor, store: Store, file_of: FileOfFrame) -> None:
        self._cached, self._file_of = CachedExtractor(extractor, store), file_of

    @property
    def identity(self) -> Identity:
        """That of the wrapped extractor."""
        return self._cached.identity

    def extract(self, image: Image) -> Features:
        """Features of the file of a frame, with their key."""
        file = self._file_of(image)
        key = self._cached.key(file.content_digest, file.quarter_turns)
        found = self._cached.read(key)
        return found if found is not None else dataclasses.replace(self._cached.extractor.extract(file), key=key)

    def keep(self, features: Features) -> None:
        """Save the features of a keyframe."""
        if features.key and not self._cached.has(features.key):
            self._cached.save(features, features.key)


class StoredMatches:
    """A matcher that can save matches, and take them from the store.

    Only those of `match_keyframes` are saved: matches of frames that become no keyframes would fill the disk.

    Args:
        matcher: computes what the store does not hold.
        store: of the run.
    """

    def __init__(self, matcher: Matcher, store: Store) -> None:
        self._cached = CachedMatcher(matcher, store)

    @property
    def identity(self) -> Identity:
        """That of the wrapped matcher."""
        return self._cached.identity

    @property
    def batch_size(self) -> int:
        """That of the wrapped matcher."""
        return self._cached.batch_size

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of one pair, computed and not saved."""
        return self._cached.matcher.match(features0, features1)

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs, computed and not saved."""
        return self._cached.matcher.match_batch(pairs)

    def match_keyframes(self, features0: Features, features1: Features) -> Matches:
        """Matches of two keyframes in the order of their names, from the store if it has them.

        Features without keys differ from those of the extractor, and so do their matches: they are not saved.
        """
        has_keys = bool(features0.key and features1.key)
        return (self._cached if has_keys else self._cached.matcher).match(features0, features1)
