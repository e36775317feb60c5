"""XFeat as an `Extractor`: the fastest of the networks on a CPU, with 64-d descriptors for LighterGlue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import require_dense_limit
from sfm_lightglue.extractors.network import PeakExtractor

if TYPE_CHECKING:
    from sfm_lightglue.models.xfeat import XFeat


@dataclass(frozen=True, slots=True)
class XFeatConfig:
    """Options of XFeat."""

    weights: str = ""
    """File or name of weights, in the layout of the authors; "" for the published weights."""

    max_keypoints: int = 2048
    """Largest number of keypoints per image; those with the highest scores are kept."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger images are shrunk for detection."""

    detection_threshold: float = 0.05
    """Lowest probability of a keypoint; its score is the probability times the reliability of its descriptor."""

    nms_radius_px: int = 2
    """Radius of non-maximum suppression, in pixels of the image at the network's input."""

    max_keypoints_dense: int = 8192
    """Largest number of keypoints per image of the dense layer, which densifies a finished model; 0 for none."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 32:
            raise ConfigError("`extractor.max_keypoints` must be positive, `extractor.max_image_size` at least 32")
        if min(self.detection_threshold, self.nms_radius_px) < 0:
            raise ConfigError("`extractor.detection_threshold` and `extractor.nms_radius_px` must not be negative")
        require_dense_limit(self.max_keypoints_dense)


class XFeatExtractor(PeakExtractor[XFeatConfig, "XFeat"]):
    """XFeat with weights from a file, which are loaded at the first image.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing.

    Source: Potje et al., XFeat: Accelerated Features for Lightweight Image Matching, 2024.
    """

    name = "xfeat"
    default_weights = "xfeat"
    needs_colour = True

    def __init__(self, config: XFeatConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or XFeatConfig(), device)

    def load(self, path: Path) -> XFeat:
        """Reads the network."""
        from sfm_lightglue.models.xfeat import load_xfeat

        return load_xfeat(path)
