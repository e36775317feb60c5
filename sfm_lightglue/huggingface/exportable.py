"""SuperPoint and LightGlue as one graph without decisions, for `torch.export`, ONNX and compilers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.detectors import SuperPointDetector
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.models.keypoints import suppress_neighbours
from sfm_lightglue.models.lightglue import normalize_keypoints
from sfm_lightglue.models.lightglue_graph import LightGlueGraph
from sfm_lightglue.models.superpoint import CELL


class ExportedMatches(NamedTuple):
    """Results of `ExportableKeypointMatching`, with a fixed number K of points in each image."""

    keypoints: Tensor
    """[B, 2, K, 2] float: (x, y) in pixels of the input; the centre of the first pixel is at 0."""
    matches: Tensor
    """[B, 2, K]: index of the matching point in the other image, -1 without."""
    matching_scores: Tensor
    """[B, 2, K] float."""
    mask: Tensor
    """[B, 2, K]: whether there is a point; images with few points have padding."""


class ExportableKeypointMatching(nn.Module):
    """The matches of a model with SuperPoint, with fixed control flow: all layers, all points.

    Matches are those of the model without adaptive depth and width. The points of an image are its best `num_points`
    ones, in the order of their scores. Height, width and number of pairs may be dynamic.

    Args:
        model: with SuperPoint; its weights are used, not copied.
        num_points: K; None takes `max_keypoints` of the detector's configuration, or 2048 if that is unlimited.

    Raises:
        ConfigError: for a model with another detector or in another type than float32, or a number that is not
            positive.

    Example:
        >>> import torch
        >>> config = sfm_lightglue.LightGlueConfig(num_hidden_layers=2)
        >>> model = sfm_lightglue.LightGlueForKeypointMatching(config).eval()
        >>> exportable = sfm_lightglue.ExportableKeypointMatching(model, num_points=64).eval()
        >>> exportable(torch.rand(1, 2, 1, 64, 96)).keypoints.shape
        torch.Size([1, 2, 64, 2])
    """

    def __init__(self, model: LightGlueForKeypointMatching, num_points: int | None = None) -> None:
        super().__init__()
        detector = model.keypoint_detector
        if model.dtype != torch.float32:
            raise ConfigError(f"only models in float32 can be exported, not in {model.dtype}; give dtype=torch.float32")
        if num_points is not None and num_points < 1:
            raise ConfigError(f"the number of points must be positive, got {num_points}")
        if not isinstance(detector, SuperPointDetector):
            raise ConfigError("only models with SuperPoint can be exported together with their detector")
        self.network, self.detector_config = detector.network, detector.config
        limit = detector.config.max_keypoints
        self.num_points = num_points or (limit if limit > 0 else _MOST_POINTS)
        self.matcher = LightGlueGraph(model.lightglue, model.config.filter_threshold)

    def forward(self, pixel_values: Tensor) -> ExportedMatches:
        """Match pairs of images.

        Args:
            pixel_values: [B, 2, C, H, W] in [0, 1]; only the first channel is used. H W must be at least K.
        """
        batch, _, _, height, width = pixel_values.shape
        features = self.network.encode(pixel_values.flatten(0, 1)[:, :1])  # [2 B, C, H / 8, W / 8]
        scores = suppress_neighbours(self.network.score(features), self.detector_config.nms_radius)
        scores = scores * self._is_inside(scores, height, width)
        values, order = torch.topk(scores.flatten(1), self.num_points)  # [2 B, K]
        line = torch.full_like(order[:1, :1], scores.shape[2])  # a tensor: ONNX has no division by a dynamic size
        rows = torch.div(order, line, rounding_mode="floor")
        columns = order - rows * line
        keypoints = torch.stack([columns, rows], dim=-1).to(scores.dtype)  # [2 B, K, 2]
        mask = values > self.detector_config.keypoint_threshold
        descriptors = _sampled(keypoints, self.network.describe(features))
        size = torch.stack(
            [torch.full_like(keypoints[:, 0, 0], width), torch.full_like(keypoints[:, 0, 0], height)], -1
        )
        positions = normalize_keypoints(keypoints, size)
        pairs = [torch.unflatten(each, 0, (batch, 2)) for each in (positions, descriptors, mask)]
        (positions0, positions1), (descriptors0, descriptors1), (mask0, mask1) = (each.unbind(1) for each in pairs)
        found = self.matcher(positions0, positions1, descriptors0, descriptors1, mask0, mask1)
        matches0, matches1, scores0, scores1 = found
        return ExportedMatches(
            torch.unflatten(keypoints, 0, (batch, 2)),
            torch.stack([matches0, matches1], dim=1),
            torch.stack([scores0, scores1], dim=1),
            torch.unflatten(mask, 0, (batch, 2)),
        )

    def _is_inside(self, scores: Tensor, height: int, width: int) -> Tensor:
        """1 where a pixel of scores [P, h, w] is not too near to the border of the image, else 0: [h, w]."""
        border = self.detector_config.border_removal_distance
        rows = torch.arange(scores.shape[1], device=scores.device)
        columns = torch.arange(scores.shape[2], device=scores.device)
        is_row = (rows >= border) & (rows < height - border)
        is_column = (columns >= border) & (columns < width - border)
        return (is_row[:, None] & is_column).to(scores.dtype)


_MOST_POINTS = 2048
"""Number of points of a graph whose model does not limit them."""


def _sampled(keypoints: Tensor, descriptor_map: Tensor) -> Tensor:
    """Descriptors [P, K, D] of length 1 at keypoints [P, K, 2], as `models.superpoint.sample_descriptors`."""
    _, _, height, width = descriptor_map.shape
    x = (keypoints[..., 0] - CELL / 2 + 0.5) / (width * CELL - CELL / 2 - 0.5) * 2 - 1
    y = (keypoints[..., 1] - CELL / 2 + 0.5) / (height * CELL - CELL / 2 - 0.5) * 2 - 1
    grid = torch.stack([x, y], dim=-1)[:, None]  # [P, 1, K, 2]
    sampled = F.grid_sample(descriptor_map, grid, mode="bilinear", align_corners=True)  # [P, D, 1, K]
    return F.normalize(sampled[:, :, 0].transpose(1, 2), dim=-1)
