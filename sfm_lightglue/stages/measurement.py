"""How long extraction and matching take on this machine, from a few images; nothing is written."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.threads import as_one_of
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import Features
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher

NUM_MEASURED = 3
"""Images that are extracted; each is matched with the next one."""


@dataclass(frozen=True, eq=False, slots=True)
class StepTimes:
    """Medians over a few images, of one worker among those that share the cores.

    Args:
        extract_s: seconds of an image, with its decoding.
        match_s: seconds of a pair; 0 without a matcher.
        num_images: number of images that were measured.
    """

    extract_s: float
    match_s: float
    num_images: int

    @property
    def basis(self) -> str:
        """Where the times are from, in words."""
        return f"measured on {self.num_images} image{'s' * (self.num_images != 1)} here"


def measure_steps(
    paths: Sequence[Path],
    extractor: Extractor,
    matcher: Matcher | None = None,
    num_workers: int = 1,
    max_keypoints_dense: int = 0,
) -> StepTimes:
    """Extract a few images in memory, and match neighbours.

    The first image and the first pair are extracted and matched twice, because a network is loaded with them. A single
    image is matched with itself.

    Args:
        paths: of images; those from the middle are taken, and those that cannot be decoded are left out.
        extractor: of features.
        matcher: of pairs; None matches nothing.
        num_workers: images or pairs that the command computes at a time; its time is that of one, divided by this
            number.
        max_keypoints_dense: largest number of keypoints of the dense layer that is extracted too; 0 for none.

    Raises:
        DataError: if no image can be decoded.
        WeightsError: if the weights of a network are missing.
    """
    with as_one_of(num_workers):
        return _step_times(paths, extractor, matcher, max_keypoints_dense)


def _step_times(
    paths: Sequence[Path], extractor: Extractor, matcher: Matcher | None, max_keypoints_dense: int
) -> StepTimes:
    middle = max(0, len(paths) // 2 - NUM_MEASURED // 2)
    features: list[Features] = []
    seconds: list[float] = []
    for path in (*paths[middle:], *paths[:middle]):
        if len(features) == NUM_MEASURED:
            break
        try:
            if not features:
                _extracted(path, extractor, max_keypoints_dense)
            start = time.perf_counter()
            features.append(_extracted(path, extractor, max_keypoints_dense))
        except DataError:
            continue
        seconds.append(time.perf_counter() - start)
    if not features:
        raise DataError("an estimate needs an image that can be decoded, and there is none")
    match_s = 0.0 if matcher is None else _match_seconds(features, matcher)
    return StepTimes(statistics.median(seconds), match_s, len(features))


def _extracted(path: Path, extractor: Extractor, max_keypoints_dense: int) -> Features:
    image = Image.read(path)
    if max_keypoints_dense == 0:
        return extractor.extract(image)
    from sfm_lightglue.stages.cached import both_layers

    return both_layers(extractor, image, max_keypoints_dense, None)[0]


def _match_seconds(features: Sequence[Features], matcher: Matcher) -> float:
    pairs = list(itertools.pairwise(features)) or [(features[0], features[0])]
    matcher.match(*pairs[0])
    seconds = []
    for pair in pairs:
        start = time.perf_counter()
        matcher.match(*pair)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
