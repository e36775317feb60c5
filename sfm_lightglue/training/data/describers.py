"""Features of rendered images, with the extractors and options of inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.aliked import AlikedConfig, AlikedExtractor
from sfm_lightglue.extractors.base import Detection
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.extractors.xfeat import XFeatConfig, XFeatExtractor
from sfm_lightglue.synthetic.photo_scenes.resampling import grey
from sfm_lightglue.training.data.labelled_scenes import TrainingView
from sfm_lightglue.training.data.sift_worker import sift_view

ExtractorConfig = SiftConfig | AlikedConfig | XFeatConfig

_CONFIGS: dict[str, type[ExtractorConfig]] = {"sift": SiftConfig, "aliked": AlikedConfig, "xfeat": XFeatConfig}

_IMAGES_AT_ONCE = 8
"""Images of one pass of a network."""


class Describer(Protocol):
    """Finds features in images. Images are submitted, and their features are fetched later."""

    def submit(self, images: Sequence[Tensor]) -> int:
        """Begin with some images. They must not be changed afterwards.

        Args:
            images: [H, W, 3] uint8 RGB each, on one device.

        Returns:
            The number to give to `result`.

        Raises:
            DataError: if a process that describes images has ended or failed.
        """

    def result(self, ticket: int) -> list[TrainingView]:
        """The features of the images of one call of `submit`, once.

        Raises:
            DataError: if a process that describes images has ended or failed.
        """

    def close(self) -> None:
        """End all processes and free all memory."""


def extractor_config(name: str, max_keypoints: int, options: Sequence[tuple[str, Any]] = ()) -> ExtractorConfig:
    """The configuration of an extractor.

    Args:
        name: "sift", "aliked" or "xfeat".
        max_keypoints: largest number of keypoints of an image.
        options: names and values of other options.

    Raises:
        ConfigError: if the extractor or an option is unknown or wrong.
    """
    if name not in _CONFIGS:
        raise ConfigError(f"scenes: matchers can be trained for {', '.join(_CONFIGS)}, not for {name!r}")
    try:
        return _CONFIGS[name](max_keypoints=max_keypoints, **dict(options))
    except TypeError as error:
        raise ConfigError(f"scenes: {name} has no such option ({error})") from error


def build_extractor(config: ExtractorConfig, device: str) -> SiftExtractor | AlikedExtractor | XFeatExtractor:
    """The extractor of a configuration; networks run on the device.

    Raises:
        WeightsError: if the weights of a network are missing.
    """
    if isinstance(config, SiftConfig):
        return SiftExtractor(config)
    return AlikedExtractor(config, device) if isinstance(config, AlikedConfig) else XFeatExtractor(config, device)


class InlineDescriber:
    """A `Describer` that works in the process of the caller: SIFT on the CPU, or a network on its device."""

    def __init__(self, extractor: SiftExtractor | AlikedExtractor | XFeatExtractor) -> None:
        self._extractor = extractor
        self._results: dict[int, list[TrainingView]] = {}
        self._num_tickets = 0

    def submit(self, images: Sequence[Tensor]) -> int:
        """Find the features of some images."""
        if isinstance(self._extractor, SiftExtractor):
            extractor = self._extractor
            views = [sift_view(extractor, grey(image).cpu().numpy()) for image in images]
        else:
            views = _network_views(self._extractor, images)
        self._num_tickets += 1
        self._results[self._num_tickets] = views
        return self._num_tickets

    def result(self, ticket: int) -> list[TrainingView]:
        """The features of the images of one call of `submit`, once."""
        return self._results.pop(ticket)

    def close(self) -> None:
        """Nothing is to be ended."""


def _network_views(extractor: AlikedExtractor | XFeatExtractor, images: Sequence[Tensor]) -> list[TrainingView]:
    views: list[TrainingView | None] = [None] * len(images)
    for shape in dict.fromkeys(image.shape for image in images):
        rows = [row for row, image in enumerate(images) if image.shape == shape]
        for start in range(0, len(rows), _IMAGES_AT_ONCE):
            part = rows[start : start + _IMAGES_AT_ONCE]
            found = extractor.detect_batch(torch.stack([images[row] for row in part]))
            for row, detection in zip(part, found, strict=True):
                views[row] = _network_view(detection, (shape[1], shape[0]))
    return [view for view in views if view is not None]


def _network_view(found: Detection, image_size: tuple[int, int]) -> TrainingView:
    zeros = np.zeros(len(found.scores), np.float32)
    descriptors = found.descriptors.astype(np.float16)
    return TrainingView(found.keypoints, zeros, zeros, found.scores, descriptors, image_size)
