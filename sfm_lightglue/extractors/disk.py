"""DISK as an `Extractor`: dense and accurate, but slow on a CPU; it uses colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import require_dense_limit
from sfm_lightglue.extractors.network import PeakExtractor

if TYPE_CHECKING:
    from sfm_lightglue.models.disk import Disk


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """Options of DISK."""

    weights: str = ""
    """File or name of weights, in the layout of the authors; "" for the published weights."""

    max_keypoints: int = 2048
    """Largest number of keypoints per image; those with the highest scores are kept."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger images are shrunk for detection."""

    detection_threshold: float = 0.0
    """Lowest score of a keypoint; scores are logits, so any number is allowed."""

    nms_radius_px: int = 2
    """Radius of non-maximum suppression, in pixels of the image at the network's input."""

    max_keypoints_dense: int = 8192
    """Largest number of keypoints per image of the dense layer, which densifies a finished model; 0 for none."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 16:
            raise ConfigError("`extractor.max_keypoints` must be positive, `extractor.max_image_size` at least 16")
        if self.nms_radius_px < 0:
            raise ConfigError("`extractor.nms_radius_px` must not be negative")
        require_dense_limit(self.max_keypoints_dense)


class DiskExtractor(PeakExtractor[DiskConfig, "Disk"]):
    """DISK with weights from a file, which are loaded at the first image.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing.

    Source: Tyszkiewicz, Fua and Trulls, DISK: Learning local features with policy gradient, 2020.
    """

    name = "disk"
    default_weights = "disk"
    needs_colour = True

    def __init__(self, config: DiskConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or DiskConfig(), device)

    def load(self, path: Path) -> Disk:
        """Reads the network."""
        from sfm_lightglue.models.disk import load_disk

        return load_disk(path)
