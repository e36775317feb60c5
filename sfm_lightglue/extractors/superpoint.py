"""SuperPoint as an `Extractor`, with the weights of its authors (whose licence forbids commercial use)."""

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

    from sfm_lightglue.models.superpoint import SuperPoint


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


class SuperPointExtractor(NetworkExtractor[SuperPointConfig, "SuperPoint"]):
    """SuperPoint with weights from a file, loaded when the first image comes.

    Args:
        config: with the path of the weights.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing.

    Source: DeTone, Malisiewicz and Rabinovich, SuperPoint: Self-Supervised Interest Point Detection and
    Description, 2018.
    """

    name = "superpoint"
    default_weights = "superpoint_v1"

    def __init__(self, config: SuperPointConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or SuperPointConfig(), device)

    def load(self, path: Path) -> SuperPoint:
        """Read the network, in any known layout."""
        from sfm_lightglue.models.checkpoints import load_superpoint

        return load_superpoint(path)

    def run(self, network: SuperPoint, picture: UInt8Array, device: torch.device) -> Detection:
        """Find features in a grey picture [H, W]."""
        from sfm_lightglue.models.superpoint import SuperPointThresholds

        config = self.config
        thresholds = SuperPointThresholds(
            config.detection_threshold, config.nms_radius_px, config.border_px, config.max_keypoints
        )
        output = network(as_batch(picture, device), thresholds)
        mask = output.mask[0]
        return as_detection(output.keypoints[0, mask], output.scores[0, mask], output.descriptors[0, mask])
