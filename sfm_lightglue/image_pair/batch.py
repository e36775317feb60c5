"""Many pairs from a list: each line becomes one result or one error, independent of the other lines."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import ConfigError, DataError, SfmError, StoreError, WeightsError
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import DENSE_VERSION, Extractor
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.image_pair.cameras import StatedCameras
from sfm_lightglue.image_pair.guided_step import dense_limit
from sfm_lightglue.image_pair.matching import ImagePairResult, match_images
from sfm_lightglue.image_pair.pair_list import ListedPair
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.two_view.relative_pose import POSE_VERSION
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import Camera

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class PairOutcome:
    """The result of one line.

    Args:
        key: digest of everything that the result depends on.
        pair: the line of the list.
        result: of the pair; None if there was an error.
        error: "" if there was none.
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
        """Errors of rotation and direction, if the list states the true pose and a pose was found."""
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
    """Matches listed pairs; the features of an image that occurs in several pairs are extracted once.

    Args:
        image_root: folder that the names are relative to.
        extractor: finds the features, which are kept in a temporary folder while the batch runs.
        matcher: matches them.
        cameras: of images whose line states no intrinsics; `same_camera` holds for all pairs.
        config: thresholds of the verification.
        seed: of its random samples, the same for every pair, as for a single one.
        guided: options of a second matching along the epipolar lines; None for none.

    Raises:
        ConfigError: if the library of the estimator is not installed.
    """

    def __init__(
        self,
        image_root: Path,
        extractor: Extractor,
        matcher: Matcher,
        cameras: StatedCameras | None = None,
        config: TwoViewConfig | None = None,
        seed: int = 0,
        guided: GuidedConfig | None = None,
    ) -> None:
        self._image_root, self._extractor, self._matcher = image_root, extractor, matcher
        self._cameras, self._config, self._seed = cameras or StatedCameras(), config or TwoViewConfig(), seed
        self._guided = guided
        self._settings = (
            POSE_VERSION,
            extractor.identity,
            matcher.identity,
            verification_identity(self._config),
            self._cameras,
            seed,
            *(() if guided is None else (guided, dense_limit(extractor), DENSE_VERSION)),
        )
        self._digest_from_name: dict[str, str] = {}
        self._recent: LruCache[str, Image] = LruCache(_NUM_RECENT)

    def key(self, pair: ListedPair) -> str:
        """Digest of everything that the result of a line depends on: options, bytes of the images, values of the line.

        The spelling of the line enters only if the line cannot be parsed.
        """
        meaning = (pair.names, pair.rotations, pair.intrinsics, pair.truth) if not pair.error else pair.text.split()
        return make_key("listed pair", self._settings, meaning, [self._digest(name) for name in pair.names])

    def outcomes(
        self, pairs: Sequence[ListedPair], done: Mapping[str, int] | None = None, progress: Progress = silent
    ) -> Iterator[PairOutcome]:
        """One outcome for each line, in the order of the list.

        Args:
            pairs: of a list.
            done: number of existing results by key; this many lines of a key are skipped.
            progress: called after each line.

        Raises:
            WeightsError: if the weights of a network are missing.
            StoreError: if the temporary folder is full.
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
            stated = self._cameras.configs if pair.intrinsics is None else _cameras(pair.intrinsics, images)
            result = match_images(
                *images,
                extractor,
                self._matcher,
                stated,
                self._config,
                self._seed,
                same_camera=self._cameras.same_camera,
                guided=self._guided or False,
            )
        except (WeightsError, StoreError):
            raise  # every other pair would fail too
        except (ConfigError, DataError) as error:
            return PairOutcome(key, pair, None, str(error))
        except Exception as error:  # one pair must not end a long batch; the next run tries it again
            logger.exception("%s: unexpected error", " ".join(pair.names))
            return PairOutcome(key, pair, None, f"{type(error).__name__}: {error}")
        return PairOutcome(key, pair, result)

    def _image(self, name: str, turns: int) -> Image:
        image = self._recent.get(name) or Image.read(self._image_root / name, name)
        self._recent.put(name, image)
        return replace(image, quarter_turns_override=-turns % 4) if turns else image

    def _digest(self, name: str) -> str:
        if name not in self._digest_from_name:
            try:
                self._digest_from_name[name] = self._image(name, 0).digest
            except (SfmError, OSError, ValueError):  # the error of the line tells the cause
                self._digest_from_name[name] = "unreadable"
        return self._digest_from_name[name]


def _cameras(
    intrinsics: tuple[tuple[float, ...], tuple[float, ...]], images: tuple[Image, Image]
) -> tuple[Camera, Camera]:
    # The centre of the first pixel is at 0 in OpenCV, at 0.5 in COLMAP.
    camera0, camera1 = (
        make_camera("PINHOLE", image.size, (fx, fy, cx + 0.5, cy + 0.5))
        for image, (fx, fy, cx, cy) in zip(images, intrinsics, strict=True)
    )
    return camera0, camera1


_NUM_RECENT = 16
"""Number of encoded images that are kept in memory."""
