"""Detectors of the model: keypoints, positions and descriptors of the images in the model input."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.detector_configuration import (
    DetectorConfig,
    DiskDetectorConfig,
    SiftDetectorConfig,
    SuperPointConfig,
)
from sfm_lightglue.models.disk import Disk
from sfm_lightglue.models.initialization import draw_normal
from sfm_lightglue.models.keypoints import Limits
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.models.superpoint import CELL, SuperPoint, SuperPointArchitecture, SuperPointThresholds


class DetectedPoints(NamedTuple):
    """The keypoints of one image."""

    keypoints: Tensor
    """[N, 2] float32 (x, y) in pixels; the centre of the first pixel is at 0."""
    positions: Tensor
    """[N, 2] input of LightGlue in its pixel convention, or [N, 4] with scale in pixels and orientation in radians."""
    descriptors: Tensor
    """[N, D]."""
    scores: Tensor | None = None
    """[N] of SuperPoint."""


class SuperPointDetector(nn.Module):
    """SuperPoint with the thresholds of a configuration.

    Args:
        config: sizes and thresholds.
        network: with weights; None makes an untrained one.
    """

    def __init__(self, config: SuperPointConfig, network: SuperPoint | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = network or _untrained(config)

    def forward(self, images: Tensor) -> list[DetectedPoints]:
        """Keypoints of images [P, C, H, W] in [0, 1]; only the first channel is used, as in `transformers`."""
        config, limit = self.config, self.config.max_keypoints
        thresholds = SuperPointThresholds(
            config.keypoint_threshold,
            config.nms_radius,
            config.border_removal_distance,
            None if limit < 0 else limit + 1,  # one more shows whether there are too many
        )
        output = self.network(images[:, :1].to(self.network.convPa.weight.dtype), thresholds)
        detected = []
        for points, descriptors, scores, mask in zip(
            output.keypoints, output.descriptors, output.scores, output.mask, strict=True
        ):
            points, descriptors, scores = points[mask].float(), descriptors[mask], scores[mask]
            if limit < 0 or len(points) <= limit:
                # The order of `transformers`: by row and column; by score only if there are too many points.
                x, y = points.double().unbind(1)
                order = torch.argsort(y * (CELL * images.shape[3]) + x)  # with few stages, y are parts of pixels
            else:
                order = torch.arange(limit, device=points.device)
            detected.append(DetectedPoints(points[order], points[order], descriptors[order], scores[order]))
        return detected


class SiftDetector(nn.Module):
    """SIFT of OpenCV on the CPU, as RootSIFT with scale and orientation.

    Args:
        config: thresholds.
    """

    def __init__(self, config: SiftDetectorConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, images: Tensor) -> list[DetectedPoints]:
        """Keypoints of images [P, C, H, W] in [0, 1]; only the first channel is used."""
        config = self.config
        extractor = SiftExtractor(
            SiftConfig(
                max_keypoints=config.max_keypoints,
                contrast_threshold=config.contrast_threshold,
                edge_threshold=config.edge_threshold,
            )
        )
        grey = (images[:, 0].float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        detected = []
        for image in grey:
            detection = extractor.detect(np.ascontiguousarray(image))
            assert detection.scales is not None and detection.orientations is not None  # SIFT has both
            positions = np.column_stack([detection.keypoints, detection.scales, detection.orientations])
            tensors = (detection.keypoints - np.float32(0.5), positions.astype(np.float32), detection.descriptors)
            detected.append(DetectedPoints(*(torch.from_numpy(values).to(images.device) for values in tensors)))
        return detected


class DiskDetector(nn.Module):
    """DISK with the thresholds of a configuration.

    Args:
        config: thresholds.
        network: with weights; None makes an untrained one.
    """

    def __init__(self, config: DiskDetectorConfig, network: Disk | None = None) -> None:
        super().__init__()
        self.config = config
        if network is None:
            network = Disk()
            draw_weights(network, config.initializer_range)
        self.network = network

    def forward(self, images: Tensor) -> list[DetectedPoints]:
        """Keypoints of images [P, 3, H, W], RGB in [0, 1]."""
        limits = Limits(self.config.keypoint_threshold, self.config.nms_radius, self.config.max_num_keypoints)
        detected = self.network(images.to(next(self.network.parameters()).dtype), limits)
        return [DetectedPoints(each.keypoints.float(), each.keypoints.float(), each.descriptors) for each in detected]


Detector = SuperPointDetector | SiftDetector | DiskDetector


def make_detector(config: DetectorConfig) -> Detector:
    """The detector of a configuration, with untrained weights if it has any."""
    if isinstance(config, SiftDetectorConfig):
        return SiftDetector(config)
    return DiskDetector(config) if isinstance(config, DiskDetectorConfig) else SuperPointDetector(config)


def superpoint_config(architecture: SuperPointArchitecture) -> SuperPointConfig:
    """The configuration of a SuperPoint with this architecture."""
    return SuperPointConfig(
        encoder_hidden_sizes=architecture.encoder_channels,
        decoder_hidden_size=architecture.decoder_channels,
        descriptor_decoder_dim=architecture.descriptor_dim,
    )


def superpoint_architecture(config: SuperPointConfig) -> SuperPointArchitecture:
    """The architecture of a configuration."""
    return SuperPointArchitecture(
        config.encoder_hidden_sizes, config.decoder_hidden_size, config.descriptor_decoder_dim
    )


def detect(detector: Detector, images: Tensor, sizes: Tensor) -> list[DetectedPoints]:
    """The points of images at the upper left of their inputs, without gradients.

    Args:
        detector: gets images of one size as one batch.
        images: [P, C, H, W] in [0, 1].
        sizes: [P, 2] (height, width) of the images, on the CPU.
    """
    flat = [(int(height), int(width)) for height, width in sizes.tolist()]
    from_row: dict[int, DetectedPoints] = {}
    for height, width in sorted(set(flat)):
        rows = [row for row, size in enumerate(flat) if size == (height, width)]
        with torch.no_grad():
            points = detector(images[rows, :, :height, :width])
        from_row |= dict(zip(rows, points, strict=True))
    return [from_row[row] for row in range(len(flat))]


def checked_sizes(pixel_values: Tensor, image_sizes: Tensor | None) -> Tensor:
    """Sizes [..., 2] (height, width) of images [..., C, H, W], on the CPU; None is that of the input.

    Raises:
        ValueError: on another shape, and on sizes outside of the input.
    """
    shape, frame = (*pixel_values.shape[:-3], 2), torch.tensor(pixel_values.shape[-2:])
    if image_sizes is None:
        return frame.expand(shape)
    sizes = torch.as_tensor(image_sizes).cpu().long()
    if tuple(sizes.shape) != shape or bool(((sizes < 1) | (sizes > frame)).any()):
        height, width = frame.tolist()
        raise ValueError(f"image_sizes: expected {list(shape)} within {height} x {width}, got {sizes.tolist()}")
    return sizes


def filled_sizes(pixel_values: Tensor) -> Tensor:
    """Numbers of rows and columns [..., 2] up to the last one that is not black, of images [..., C, H, W]."""
    bright = (pixel_values != 0).any(-3)  # [..., H, W]
    sizes = []
    for lines in (bright.any(-1), bright.any(-2)):
        numbers = torch.arange(1, lines.shape[-1] + 1, device=lines.device)
        sizes.append((lines * numbers).amax(-1))
    return torch.stack(sizes, dim=-1)


def untrained_lightglue(config: LightGlueConfig, cross_is_tied: bool = False) -> LightGlue:
    """The LightGlue of a configuration, with untrained weights."""
    lightglue = LightGlue(replace(config.architecture(), tied_cross_attention=cross_is_tied))
    draw_weights(lightglue, config.initializer_range)
    draw_normal(lightglue.position_projection.weight)  # with smaller weights, positions are hardly distinguished
    return lightglue


def draw_weights(module: nn.Module, deviation: float) -> None:
    """Set untrained weights: normal with this standard deviation; biases are 0."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            draw_normal(part.weight, deviation)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _untrained(config: SuperPointConfig) -> SuperPoint:
    network = SuperPoint(superpoint_architecture(config))
    draw_weights(network, config.initializer_range)
    return network
