"""XFeat as an `Extractor`: the fastest network here on a CPU, with 64-d descriptors for LighterGlue."""

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

    from sfm_lightglue.models.xfeat import XFeat


@dataclass(frozen=True, slots=True)
class XFeatConfig:
    """Options of XFeat."""

    weights: str = ""
    """File or name of weights, in the layout of the authors; "" looks for the published ones."""

    max_keypoints: int = 2048
    """At most so many per image, those with the highest scores."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger pictures are shrunk for detection."""

    detection_threshold: float = 0.05
    """Lowest probability of a keypoint; its score is that times how well its descriptor can be matched."""

    nms_radius_px: int = 2
    """No two keypoints are nearer to each other than this in the picture that the network sees."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 32:
            raise ConfigError("xfeat: max_keypoints must be positive, max_image_size at least 32")
        if min(self.detection_threshold, self.nms_radius_px) < 0:
            raise ConfigError("xfeat: thresholds must not be negative")


class XFeatExtractor(NetworkExtractor[XFeatConfig, "XFeat"]):
    """XFeat with weights from a file, loaded when the first image comes.

    Args:
        config: with the path of the weights.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing.

    Source: Potje et al., XFeat: Accelerated Features for Lightweight Image Matching, 2024.
    """

    name = "xfeat"
    default_weights = "xfeat"
    needs_colour = True

    def __init__(self, config: XFeatConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or XFeatConfig(), device)

    def load(self, path: Path) -> XFeat:
        """Read the network."""
        from sfm_lightglue.models.xfeat import load_xfeat

        return load_xfeat(path)

    def run(self, network: XFeat, picture: UInt8Array, device: torch.device) -> Detection:
        """Find features in a picture [H, W, 3]."""
        from sfm_lightglue.models.keypoints import Limits

        config = self.config
        limits = Limits(config.detection_threshold, config.nms_radius_px, config.max_keypoints)
        points = network(as_batch(picture, device), limits)[0]
        return as_detection(points.keypoints, points.scores, points.descriptors)
