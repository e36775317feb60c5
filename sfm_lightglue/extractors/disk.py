"""DISK as an `Extractor`: dense, accurate, and slow on a CPU; it has learned from colour."""

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

    from sfm_lightglue.models.disk import Disk


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """Options of DISK."""

    weights: str = ""
    """File or name of weights, in the layout of the authors; "" looks for the published ones."""

    max_keypoints: int = 2048
    """At most so many per image, those with the highest scores."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger pictures are shrunk for detection."""

    detection_threshold: float = 0.0
    """Lowest logit of a keypoint, any number; scores are logits too."""

    nms_radius_px: int = 2
    """No two keypoints are nearer to each other than this in the picture that the network sees."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 16:
            raise ConfigError("disk: max_keypoints must be positive, max_image_size at least 16")
        if self.nms_radius_px < 0:
            raise ConfigError("disk: nms_radius_px must not be negative")


class DiskExtractor(NetworkExtractor[DiskConfig, "Disk"]):
    """DISK with weights from a file, loaded when the first image comes.

    Args:
        config: with the path of the weights.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing.

    Source: Tyszkiewicz, Fua and Trulls, DISK: Learning local features with policy gradient, 2020.
    """

    name = "disk"
    default_weights = "disk"
    needs_colour = True

    def __init__(self, config: DiskConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or DiskConfig(), device)

    def load(self, path: Path) -> Disk:
        """Read the network."""
        from sfm_lightglue.models.disk import load_disk

        return load_disk(path)

    def run(self, network: Disk, picture: UInt8Array, device: torch.device) -> Detection:
        """Find features in a picture [H, W, 3]."""
        from sfm_lightglue.models.keypoints import Limits

        config = self.config
        limits = Limits(config.detection_threshold, config.nms_radius_px, config.max_keypoints)
        points = network(as_batch(picture, device), limits)[0]
        return as_detection(points.keypoints, points.scores, points.descriptors)
