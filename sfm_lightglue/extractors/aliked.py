"""ALIKED as an `Extractor`: learned sub-pixel keypoints; the licence of its weights (BSD-3) allows any use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import require_dense_limit
from sfm_lightglue.extractors.network import PeakExtractor

if TYPE_CHECKING:
    from sfm_lightglue.models.aliked import Aliked

MODELS = ("t16", "n16", "n16rot", "n32")
"""The published networks: smallest, standard, standard trained on rotated images too, largest."""


@dataclass(frozen=True, slots=True)
class AlikedConfig:
    """Options of ALIKED."""

    weights: str = ""
    """File of weights of any model, in the layout of the authors; "" for the published weights of `model`."""

    model: str = "n16"
    """Published weights to use if `weights` is empty: t16, n16, n16rot or n32."""

    max_keypoints: int = 2048
    """Largest number of keypoints per image; those with the highest scores are kept."""

    max_image_size: int = 1024
    """Longer side in pixels to which larger images are shrunk for detection."""

    detection_threshold: float = 0.2
    """Lowest score of a keypoint, between 0 and 1."""

    nms_radius_px: int = 2
    """Radius of non-maximum suppression, in pixels of the image at the network's input. It is also the radius of
    the window in which a peak is refined; the weights were trained with 2."""

    max_keypoints_dense: int = 8192
    """Largest number of keypoints per image of the dense layer, which densifies a finished model; 0 for none."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ConfigError(f"`extractor.model` must be one of {', '.join(MODELS)}, got {self.model!r}")
        if self.max_keypoints < 1 or self.max_image_size < 8:
            raise ConfigError("`extractor.max_keypoints` must be positive, `extractor.max_image_size` at least 8")
        if not 0 <= self.detection_threshold <= 1:
            raise ConfigError(f"`extractor.detection_threshold` must lie in [0, 1], got {self.detection_threshold}")
        if self.nms_radius_px < 1:
            raise ConfigError(f"`extractor.nms_radius_px` must be at least 1, got {self.nms_radius_px}")
        require_dense_limit(self.max_keypoints_dense)


class AlikedExtractor(PeakExtractor[AlikedConfig, "Aliked"]):
    """ALIKED with weights from a file, which are loaded at the first image.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing.

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
        """Reads the network; its sizes are inferred from the weights."""
        from sfm_lightglue.models.aliked import load_aliked

        return load_aliked(path)
