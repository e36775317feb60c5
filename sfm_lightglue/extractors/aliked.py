"""ALIKED as an `Extractor`: learned sub-pixel keypoints, with weights that are free for any use (BSD-3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection
from sfm_lightglue.extractors.network import NetworkExtractor, as_batch, as_detection

if TYPE_CHECKING:
    import torch

    from sfm_lightglue.models.aliked import Aliked

MODELS = ("t16", "n16", "n16rot", "n32")
"""The published networks: the smallest, the usual one, the same for turned pictures, and the largest."""


@dataclass(frozen=True, slots=True)
class AlikedConfig:
    """Options of ALIKED."""

    weights: str = ""
    """File of weights in the authors' layout, any of the models; "" looks for those of `model`."""

    model: str = "n16"
    """Which published weights are looked for where no file is given: t16, n16, n16rot or n32."""

    max_keypoints: int = 2048
    """At most so many per image, those with the highest scores."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger pictures are shrunk for detection."""

    detection_threshold: float = 0.2
    """Lowest peak of the score map that makes a keypoint, between 0 and 1."""

    nms_radius_px: int = 2
    """No two peaks are nearer to each other than this in the picture that the network sees; also the window within
    which a peak is refined, for which the weights were trained with 2."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ConfigError(f"aliked: model is one of {', '.join(MODELS)}, not {self.model!r}")
        if self.max_keypoints < 1 or self.max_image_size < 8:
            raise ConfigError("aliked: max_keypoints must be positive, max_image_size at least 8")
        if not 0 <= self.detection_threshold <= 1:
            raise ConfigError(f"aliked: detection_threshold must lie in [0, 1], got {self.detection_threshold}")
        if self.nms_radius_px < 1:
            raise ConfigError(f"aliked: nms_radius_px must be at least 1, got {self.nms_radius_px}")


class AlikedExtractor(NetworkExtractor[AlikedConfig, "Aliked"]):
    """ALIKED with weights from a file, loaded when the first image comes.

    Args:
        config: with the path of the weights, or the name of a model.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing.

    Source: Zhao et al., ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable
    Transformation, 2023.
    """

    name = "aliked"
    needs_colour = True
    not_in_identity = frozenset({"weights", "model"})

    def __init__(self, config: AlikedConfig | None = None, device: str = "auto") -> None:
        config = config or AlikedConfig()
        self.default_weights = f"aliked-{config.model}"
        super().__init__(config, device)

    def load(self, path: Path) -> Aliked:
        """Read the network; its sizes are read off the weights."""
        from sfm_lightglue.models.aliked import load_aliked

        return load_aliked(path)

    def run(self, network: Aliked, picture: UInt8Array, device: torch.device) -> Detection:
        """Find features in a colour picture [H, W, 3]."""
        from sfm_lightglue.models.keypoints import Limits

        config = self.config
        limits = Limits(config.detection_threshold, config.nms_radius_px, config.max_keypoints)
        points = network(as_batch(picture, device), limits)[0]
        return as_detection(points.keypoints, points.scores, points.descriptors)
