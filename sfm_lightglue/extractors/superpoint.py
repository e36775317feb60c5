"""SuperPoint as an `Extractor`, with the weights of its authors, whose licence forbids commercial use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection, require_dense_limit
from sfm_lightglue.extractors.network import NetworkExtractor, as_batch, as_detection

if TYPE_CHECKING:
    import torch

    from sfm_lightglue.models.superpoint import SuperPoint


@dataclass(frozen=True, slots=True)
class SuperPointConfig:
    """Options of SuperPoint."""

    weights: str = ""
    """File or name of weights, in the layout of the authors or of Hugging Face, alone or within its LightGlue; "" for
    the published weights."""

    max_keypoints: int = 2048
    """Largest number of keypoints per image; those with the highest scores are kept."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger images are shrunk for detection."""

    detection_threshold: float = 0.0005
    """Lowest score of a keypoint."""

    nms_radius_px: int = 4
    """Radius of non-maximum suppression, in pixels of the image at the network's input."""

    border_px: int = 4
    """Keypoints nearer to the border of the image than this are dropped."""

    max_keypoints_dense: int = 8192
    """Largest number of keypoints per image of the dense layer, which densifies a finished model; 0 for none."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 8:
            raise ConfigError("`extractor.max_keypoints` must be positive, `extractor.max_image_size` at least 8")
        if min(self.detection_threshold, self.nms_radius_px, self.border_px) < 0:
            raise ConfigError(
                "`extractor.detection_threshold`, `extractor.nms_radius_px`, `extractor.border_px`: must be at least 0"
            )
        require_dense_limit(self.max_keypoints_dense)


class SuperPointExtractor(NetworkExtractor[SuperPointConfig, "SuperPoint"]):
    """SuperPoint with weights from a file, which are loaded at the first image.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing.

    Source: DeTone, Malisiewicz and Rabinovich, SuperPoint: Self-Supervised Interest Point Detection and
    Description, 2018.
    """

    name = "superpoint"
    default_weights = "superpoint_v1"

    def __init__(self, config: SuperPointConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or SuperPointConfig(), device)

    def load(self, path: Path) -> SuperPoint:
        """Reads the network, in any known layout."""
        from sfm_lightglue.models.checkpoints import load_superpoint

        return load_superpoint(path)

    def run(
        self, network: SuperPoint, pixels: UInt8Array, device: torch.device, max_keypoints: int
    ) -> tuple[Detection, int]:
        """Finds features in a grey image [H, W]."""
        from sfm_lightglue.models.superpoint import SuperPointThresholds

        config = self.config
        thresholds = SuperPointThresholds(
            config.detection_threshold,
            config.nms_radius_px,
            config.border_px,
            max(config.max_keypoints, max_keypoints),
        )
        output = network(as_batch(pixels, device), thresholds)
        mask = output.mask[0]
        found = as_detection(output.keypoints[0, mask], output.scores[0, mask], output.descriptors[0, mask])
        return found, min(len(found.keypoints), config.max_keypoints)
