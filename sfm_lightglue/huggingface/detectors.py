"""Detectors within the model: pictures in the model's input -> points and what LightGlue wants of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.huggingface.detector_configuration import (
    DetectorConfig,
    DiskDetectorConfig,
    SiftDetectorConfig,
    SuperPointDetectorConfig,
)
from sfm_lightglue.models.disk import Disk
from sfm_lightglue.models.initialization import draw_normal
from sfm_lightglue.models.keypoints import Limits
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture, SuperPointThresholds


class Found(NamedTuple):
    """The points of one picture."""

    keypoints: Tensor
    """[N, 2] float32 (x, y) in pixels, the centre of the first one at 0."""
    positions: Tensor
    """[N, 2] the same as LightGlue was trained on them, or [N, 4] with scale in pixels and orientation in radians."""
    descriptors: Tensor
    """[N, D]."""


class SuperPointDetector(nn.Module):
    """SuperPoint with the thresholds of a configuration.

    Args:
        config: sizes and thresholds.
        network: with weights; None makes one that nobody trained.
    """

    def __init__(self, config: SuperPointDetectorConfig, network: SuperPoint | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = network or _untrained(config)

    def forward(self, pictures: Tensor) -> list[Found]:
        """Pictures [P, C, H, W] in [0, 1], of which the first channel counts, as in `transformers`."""
        config, limit = self.config, self.config.max_keypoints
        thresholds = SuperPointThresholds(
            config.keypoint_threshold,
            config.nms_radius,
            config.border_removal_distance,
            None if limit < 0 else limit + 1,  # one more tells whether there are more
        )
        output = self.network(pictures[:, :1].to(self.network.conv1a.weight.dtype), thresholds)
        found = []
        for points, descriptors, mask in zip(output.keypoints, output.descriptors, output.mask, strict=True):
            points, descriptors = points[mask].float(), descriptors[mask]
            if limit < 0 or len(points) <= limit:
                # As they are read, best first only where there are too many: the order of `transformers`.
                order = torch.argsort(points[:, 1] * pictures.shape[3] + points[:, 0])
            else:
                order = torch.arange(limit, device=points.device)
            found.append(Found(points[order], points[order], descriptors[order]))
        return found


class SiftDetector(nn.Module):
    """OpenCV's SIFT, on the CPU, as RootSIFT with scale and orientation.

    Args:
        config: thresholds.
    """

    def __init__(self, config: SiftDetectorConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, pictures: Tensor) -> list[Found]:
        """Pictures [P, C, H, W] in [0, 1], of which the first channel counts."""
        config = self.config
        extractor = SiftExtractor(
            SiftConfig(
                max_keypoints=config.max_keypoints,
                contrast_threshold=config.contrast_threshold,
                edge_threshold=config.edge_threshold,
            )
        )
        grey = (pictures[:, 0].float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        found = []
        for picture in grey:
            detection = extractor.detect(np.ascontiguousarray(picture))
            assert detection.scales is not None and detection.orientations is not None  # SIFT has both
            positions = np.column_stack([detection.keypoints, detection.scales, detection.orientations])
            tensors = (detection.keypoints - np.float32(0.5), positions.astype(np.float32), detection.descriptors)
            found.append(Found(*(torch.from_numpy(values).to(pictures.device) for values in tensors)))
        return found


class DiskDetector(nn.Module):
    """DISK with the thresholds of a configuration.

    Args:
        config: thresholds.
        network: with weights; None makes one that nobody trained.
    """

    def __init__(self, config: DiskDetectorConfig, network: Disk | None = None) -> None:
        super().__init__()
        self.config = config
        if network is None:
            network = Disk()
            draw_weights(network, config.initializer_range)
        self.network = network

    def forward(self, pictures: Tensor) -> list[Found]:
        """Pictures [P, 3, H, W] RGB in [0, 1]."""
        limits = Limits(self.config.keypoint_threshold, self.config.nms_radius, self.config.max_num_keypoints)
        found = self.network(pictures.to(next(self.network.parameters()).dtype), limits)
        return [Found(each.keypoints.float(), each.keypoints.float(), each.descriptors) for each in found]


Detector = SuperPointDetector | SiftDetector | DiskDetector


def make_detector(config: DetectorConfig) -> Detector:
    """The detector of a configuration, with weights that nobody trained where it has any."""
    if isinstance(config, SiftDetectorConfig):
        return SiftDetector(config)
    return DiskDetector(config) if isinstance(config, DiskDetectorConfig) else SuperPointDetector(config)


def superpoint_config(architecture: SuperPointArchitecture) -> SuperPointDetectorConfig:
    """The configuration of a network."""
    return SuperPointDetectorConfig(
        encoder_hidden_sizes=architecture.encoder_channels,
        decoder_hidden_size=architecture.decoder_channels,
        descriptor_decoder_dim=architecture.descriptor_dim,
    )


def superpoint_architecture(config: SuperPointDetectorConfig) -> SuperPointArchitecture:
    """The network of a configuration."""
    c1, c2, c3, c4 = config.encoder_hidden_sizes
    return SuperPointArchitecture((c1, c2, c3, c4), config.decoder_hidden_size, config.descriptor_decoder_dim)


def draw_weights(module: nn.Module, deviation: float) -> None:
    """Weights that nobody trained: normal, of this standard deviation; biases are 0."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            draw_normal(part.weight, deviation)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _untrained(config: SuperPointDetectorConfig) -> SuperPoint:
    network = SuperPoint(superpoint_architecture(config))
    draw_weights(network, config.initializer_range)
    return network
