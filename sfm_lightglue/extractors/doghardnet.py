"""DoGHardNet as an `Extractor`: positions, scales and orientations of SIFT, descriptors of HardNet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Detection, require_dense_limit
from sfm_lightglue.extractors.network import NetworkExtractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.identity import Identity

if TYPE_CHECKING:
    import torch

    from sfm_lightglue.models.hardnet import HardNet

PATCH_RADIUS_IN_DIAMETERS = 6.0
"""Half the side of a patch, in diameters (2 sigma) of OpenCV keypoints; LightGlue was trained with this value."""


@dataclass(frozen=True, slots=True)
class DoGHardNetConfig:
    """Options of DoGHardNet."""

    weights: str = ""
    """File or name of HardNet's weights, in the layout of the authors; "" for the weights that LightGlue was trained
    with."""

    max_keypoints: int = 2048
    """Largest number of keypoints per image; they are spread over the image."""

    max_image_size: int = 1600
    """Longer side in pixels to which larger images are shrunk for detection."""

    contrast_threshold: float = 0.02
    """OpenCV's threshold on the contrast of a blob; a lower value finds fainter blobs."""

    edge_threshold: float = 10.0
    """OpenCV's threshold on the ratio of curvatures; a higher value keeps more edges."""

    reverse_turn: bool = False
    """Rotate patches against their orientation, as the code of LightGlue does by mistake; descriptors then change
    with the roll of the camera."""

    max_keypoints_dense: int = 8192
    """About the number of places per image of the dense layer, which densifies a finished model, at most half as many
    more; 0 for none. A place with two orientations has a keypoint for each."""

    def __post_init__(self) -> None:
        if self.max_keypoints < 1 or self.max_image_size < 1:
            raise ConfigError("`extractor.max_keypoints` and `extractor.max_image_size` must be positive")
        if self.contrast_threshold < 0 or self.edge_threshold <= 0:
            raise ConfigError(
                "`extractor.contrast_threshold` must not be negative, `extractor.edge_threshold` must be positive"
            )
        require_dense_limit(self.max_keypoints_dense)


class DoGHardNetExtractor(NetworkExtractor[DoGHardNetConfig, "HardNet"]):
    """SIFT keypoints, one per pixel, with HardNet descriptors of the patches around them.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing.

    Source: Lowe, Distinctive image features from scale-invariant keypoints, 2004; Mishchuk et al., Working hard to
    know your neighbor's margins: Local descriptor learning loss, 2017.
    """

    name = "doghardnet"
    default_weights = "hardnet"

    def __init__(self, config: DoGHardNetConfig | None = None, device: str = "auto") -> None:
        super().__init__(config or DoGHardNetConfig(), device)
        self._detector = SiftExtractor(
            SiftConfig(
                max_keypoints=self.config.max_keypoints,
                max_image_size=self.config.max_image_size,
                contrast_threshold=self.config.contrast_threshold,
                edge_threshold=self.config.edge_threshold,
                max_keypoints_dense=self.config.max_keypoints_dense,
            )
        )

    @property
    def identity(self) -> Identity:
        """Name, options, digest of the weights, and identity of the detector."""
        own, detector = super().identity, self._detector.identity
        return replace(own, config=(*own.config, detector.name, detector.version))

    def load(self, path: Path) -> HardNet:
        """Reads the network."""
        from sfm_lightglue.models.hardnet import load_hardnet

        return load_hardnet(path)

    def run(
        self, network: HardNet, pixels: UInt8Array, device: torch.device, max_keypoints: int
    ) -> tuple[Detection, int]:
        """Finds features in a grey image [H, W]."""
        import torch

        from sfm_lightglue.models.hardnet import cut_patches

        found, num_sparse = self._detector.detect_layers(pixels, None, max_keypoints)
        assert found.scales is not None and found.orientations is not None  # SIFT always has both
        centres, diameters, angles = (
            torch.from_numpy(array).to(device) for array in (found.keypoints, found.scales, found.orientations)
        )
        image = torch.from_numpy(pixels).to(device).float() / 255
        patches = cut_patches(
            image,
            centres - 0.5,  # COLMAP's convention -> the centre of the first pixel at 0
            PATCH_RADIUS_IN_DIAMETERS * diameters,
            -angles if self.config.reverse_turn else angles,
        )
        return replace(found, descriptors=network(patches).cpu().numpy()), num_sparse
