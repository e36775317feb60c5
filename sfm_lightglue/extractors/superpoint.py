"""SuperPoint as an `Extractor`, with the weights of its authors (whose licence forbids commercial use)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection, UprightExtractor
from sfm_lightglue.identity import Identity
from sfm_lightglue.models.files import file_sha256, require_weights
from sfm_lightglue.types import UInt8Array

if TYPE_CHECKING:
    from sfm_lightglue.models.superpoint import SuperPoint

_EXAMPLE = "superpoint_v1.pth of https://github.com/cvg/LightGlue/releases/tag/v0.1_arxiv"


@dataclass(frozen=True, slots=True)
class SuperPointConfig:
    """Options of SuperPoint."""

    weights: str = ""
    """File of weights, in the layout of the authors or of Hugging Face (also within its LightGlue)."""

    max_keypoints: int = 2048
    """At most so many per image, those with the highest scores."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger pictures are shrunk for detection."""

    detection_threshold: float = 0.0005
    """Lowest score of a keypoint."""

    nms_radius_px: int = 4
    """No two keypoints are nearer to each other than this in the picture that the network sees."""

    border_px: int = 4
    """Keypoints so near to the border are dropped."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 8:
            raise ConfigError("superpoint: max_keypoints must be positive, max_image_size at least 8")
        if min(self.detection_threshold, self.nms_radius_px, self.border_px) < 0:
            raise ConfigError("superpoint: thresholds must not be negative")


class SuperPointExtractor(UprightExtractor):
    """SuperPoint with weights from a file, loaded when the first image comes.

    Args:
        config: with the path of the weights.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing.

    Source: DeTone, Malisiewicz and Rabinovich, SuperPoint: Self-Supervised Interest Point Detection and
    Description, 2018.
    """

    def __init__(self, config: SuperPointConfig | None = None, device: str = "auto") -> None:
        self.config = config or SuperPointConfig()
        self.max_image_size = self.config.max_image_size
        self._path = require_weights(self.config.weights, "extractor superpoint", "--extractor-weights", _EXAMPLE)
        self._digest = file_sha256(self._path)
        self._device_name = device
        self._network: SuperPoint | None = None
        self._lock = threading.Lock()

    @property
    def identity(self) -> Identity:
        """Name, options and the digest of the weights; where the file lies does not matter."""
        config = self.config
        options = (
            config.max_keypoints,
            config.max_image_size,
            config.detection_threshold,
            config.nms_radius_px,
            config.border_px,
        )
        return Identity("superpoint", 1, options, self._digest)

    def detect(self, picture: UInt8Array) -> Detection:
        """Find features in a grey picture [H, W]."""
        import torch

        from sfm_lightglue.models.devices import resolve_device
        from sfm_lightglue.models.superpoint import SuperPointThresholds
        from sfm_lightglue.models.weights import load_superpoint

        config = self.config
        thresholds = SuperPointThresholds(
            config.detection_threshold, config.nms_radius_px, config.border_px, config.max_keypoints
        )
        with self._lock:  # torch spreads one picture over all cores
            device = resolve_device(self._device_name)
            if self._network is None:
                self._network = load_superpoint(self._path).to(device)
            pixels = torch.from_numpy(picture.astype(np.float32) / 255)[None, None].to(device)
            with torch.inference_mode():
                output = self._network(pixels, thresholds)
            keypoints, scores, descriptors = (
                tensor[0][output.mask[0]].float().cpu().numpy()
                for tensor in (output.keypoints, output.scores, output.descriptors)
            )
        return Detection(keypoints + np.float32(0.5), scores, descriptors)
