"""Many pairs from a list: each line of it becomes one result, or one error, whatever becomes of the others."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import ConfigError, DataError, StoreError, WeightsError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.image_pair import ImagePairResult, StatedCameras, match_images
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.relative_pose import POSE_VERSION
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import Camera

logger = logging.getLogger(__name__)

PAIR_FORMAT = "name0 name1 [rot0 rot1] [K0 (9 numbers) K1 (9 numbers)] [T_0to1 (16 numbers)]"
"""A line of a list: SuperGlue's, of which everything after the names may be missing."""

_NUM_NUMBERS = (36, 34, 20, 18, 2, 0)
"""How many numbers may follow the names: with or without rotations, intrinsics, and a pose after these."""


@dataclass(frozen=True, slots=True)
class ListedPair:
    """A line of a list of pairs.

    Args:
        text: the line.
        names: of the two images; empty where the line could not be understood.
        rotations: quarter turns counter-clockwise that stand each image upright; 0 leaves it to EXIF data.
        intrinsics: (fx, fy, cx, cy) of both images in OpenCV's pixels, or None.
        truth: 16 numbers of the true cam1_from_cam0 by rows, or None.
        error: what is wrong with the line, "" where nothing is.
    """

    text: str
    names: tuple[str, ...]
    rotations: tuple[int, int] = (0, 0)
    intrinsics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    truth: tuple[float, ...] | None = None
    error: str = ""


def read_listed_pairs(path: Path, image_root: Path) -> list[ListedPair]:
    """The pairs of a text file; a line that cannot be understood is one with an error.

    Args:
        path: of the list: a pair a line, `PAIR_FORMAT`; blank lines and lines that begin with # are passed over.
            Names may hold spaces where both are files.
        image_root: folder that the names are relative to.

    Raises:
        DataError: where the list cannot be read, or holds no pair.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the list of pairs cannot be read ({error})") from error
    texts = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    pairs = [_parse(text, f"{path}:{number}", image_root) for number, text in texts if text and text[0] != "#"]
    if not pairs:
        raise DataError(f"{path}: lists no pair; a line is {PAIR_FORMAT}")
    return pairs


def _parse(text: str, place: str, image_root: Path) -> ListedPair:
    for num_numbers in _NUM_NUMBERS:
        words = text.rsplit(maxsplit=num_numbers) if num_numbers else [text]
        numbers = _numbers(words[1:])
        names = _two_names(words[0], image_root) if len(words) == num_numbers + 1 else None
        if numbers is None or names is None:
            continue
        turns, rest = (numbers[:2], numbers[2:]) if num_numbers in {36, 20, 2} else ([0.0, 0.0], numbers)
        if not all(turn in (0, 1, 2, 3) for turn in turns):
            return ListedPair(text, names, error=f"{place}: rot0 and rot1 are quarter turns, 0 to 3")
        return ListedPair(
            text,
            names,
            (int(turns[0]), int(turns[1])),
            (_intrinsics(rest[:9]), _intrinsics(rest[9:18])) if rest else None,
            tuple(rest[18:]) or None,
        )
    return ListedPair(text, (), error=f"{place}: expected {PAIR_FORMAT}")


def _numbers(words: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _two_names(text: str, image_root: Path) -> tuple[str, str] | None:
    words = [word.strip('"') for word in text.split()]
    if len(words) == 2:
        return words[0], words[1]
    for i, character in enumerate(text):
        if character in " \t":
            name0, name1 = text[:i].strip().strip('"'), text[i:].strip().strip('"')
            if (image_root / name0).is_file() and (image_root / name1).is_file():
                return name0, name1
    return None


def _intrinsics(K: Sequence[float]) -> tuple[float, float, float, float]:
    return K[0], K[4], K[2], K[5]


@dataclass(frozen=True, eq=False, slots=True)
class PairOutcome:
    """What became of one line.

    Args:
        key: digest of all that the result depends on.
        pair: the line.
        result: of the pair; None where there was an error.
        error: "" where there was none.
    """

    key: str
    pair: ListedPair
    result: ImagePairResult | None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the result, or names and error."""
        values: dict[str, Any] = {"key": self.key, "images": list(self.pair.names), "error": self.error or None}
        if self.result is None:
            return values | {"line": self.pair.text}
        return values | self.result.as_dict() | {"truth_error_deg": self.truth_error_deg()}

    def truth_error_deg(self) -> dict[str, float] | None:
        """Errors of rotation and direction, where the list states the true pose and one was found."""
        pose = None if self.result is None else self.result.relative_pose.cam1_from_cam0
        if pose is None or self.pair.truth is None:
            return None
        rotation_deg, direction_deg = relative_pose_error_deg(pose, _pose_of(self.pair.truth))
        return {"rotation": rotation_deg, "direction": direction_deg}


def _pose_of(numbers: Sequence[float]) -> Rigid3:
    matrix: Float64Array = np.array(numbers).reshape(4, 4)
    try:
        return Rigid3.from_matrix(matrix)
    except ValueError as error:
        raise DataError(f"T_0to1 is no rigid transform ({error})") from error


class PairBatch:
    """Matches listed pairs; the features of an image that occurs in many are extracted once.

    Args:
        image_root: folder that the names are relative to.
        extractor: finds the features; kept in a temporary folder while the batch runs.
        matcher: matches them.
        cameras: of images whose line states no intrinsics; whether they are one camera, of all.
        config: thresholds of the verification.
        seed: of its random samples, the same for every pair, as for a single one.

    Raises:
        ConfigError: where the estimator's library is not installed.
    """

    def __init__(
        self,
        image_root: Path,
        extractor: Extractor,
        matcher: Matcher,
        cameras: StatedCameras | None = None,
        config: TwoViewConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._image_root, self._extractor, self._matcher = image_root, extractor, matcher
        self._cameras, self._config, self._seed = cameras or StatedCameras(), config or TwoViewConfig(), seed
        self._settings = (
            POSE_VERSION,
            extractor.identity,
            matcher.identity,
            verification_identity(self._config),
            self._cameras,
            seed,
        )
        self._digest_from_name: dict[str, str] = {}
        self._recent: OrderedDict[str, Image] = OrderedDict()

    def key(self, pair: ListedPair) -> str:
        """Digest of all that the result of a line depends on: options, the bytes of the images, what it states.

        Not of how the line is written, unless that is all there is of it.
        """
        meaning = (pair.names, pair.rotations, pair.intrinsics, pair.truth) if not pair.error else pair.text.split()
        return make_key("listed pair", self._settings, meaning, [self._digest(name) for name in pair.names])

    def outcomes(
        self, pairs: Sequence[ListedPair], done: Mapping[str, int] | None = None, progress: Progress = silent
    ) -> Iterator[PairOutcome]:
        """One outcome a line, in their order.

        Args:
            pairs: of a list.
            done: how many results of each key there are already; as many lines are passed over.
            progress: told of each line.

        Raises:
            WeightsError: where a network's weights are missing.
            StoreError: where the temporary folder is full.
        """
        left = Counter(done)
        with tempfile.TemporaryDirectory(prefix="sfm_lightglue-") as folder:
            extractor = CachedExtractor(self._extractor, Store(Path(folder)))
            for num_done, pair in enumerate(pairs, start=1):
                key = self.key(pair)
                if left[key] > 0:
                    left[key] -= 1
                else:
                    yield self._outcome(key, pair, extractor)
                progress("pairs", num_done, len(pairs))

    def _outcome(self, key: str, pair: ListedPair, extractor: Extractor) -> PairOutcome:
        if pair.error:
            return PairOutcome(key, pair, None, pair.error)
        try:
            if pair.truth is not None:
                _pose_of(pair.truth)
            images = self._image(pair.names[0], pair.rotations[0]), self._image(pair.names[1], pair.rotations[1])
            stated = self._cameras.of(*images) if pair.intrinsics is None else _cameras(pair.intrinsics, images)
            result = match_images(
                *images,
                extractor,
                self._matcher,
                stated,
                self._config,
                self._seed,
                same_camera=self._cameras.same_camera,
            )
        except (WeightsError, StoreError):
            raise  # they would befall every pair
        except (ConfigError, DataError) as error:
            return PairOutcome(key, pair, None, str(error))
        except Exception as error:  # hours of work do not hang on one pair, and the next run tries it again
            logger.exception("%s: unexpected error", " ".join(pair.names))
            return PairOutcome(key, pair, None, f"{type(error).__name__}: {error}")
        return PairOutcome(key, pair, result)

    def _image(self, name: str, turns: int) -> Image:
        image = self._recent.pop(name, None) or Image.read(self._image_root / name, name)
        self._recent[name] = image
        while len(self._recent) > _NUM_RECENT:
            self._recent.popitem(last=False)
        return replace(image, quarter_turns_override=-turns % 4) if turns else image

    def _digest(self, name: str) -> str:
        if name not in self._digest_from_name:
            try:
                self._digest_from_name[name] = self._image(name, 0).digest
            except DataError:
                self._digest_from_name[name] = "unreadable"
        return self._digest_from_name[name]


def _cameras(
    intrinsics: tuple[tuple[float, ...], tuple[float, ...]], images: tuple[Image, Image]
) -> tuple[Camera, Camera]:
    # OpenCV's first pixel centre is at 0, COLMAP's at 0.5.
    camera0, camera1 = (
        make_camera("PINHOLE", image.size, (fx, fy, cx + 0.5, cy + 0.5))
        for image, (fx, fy, cx, cy) in zip(images, intrinsics, strict=True)
    )
    return camera0, camera1


_NUM_RECENT = 16
"""Encoded photos that are kept in memory."""
