"""A model with SuperPoint as a module without decisions, for ONNX and exporters of the user."""

from __future__ import annotations

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.image_graph import ExportedMatches, ImageGraph
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching

__all__ = ["ExportableKeypointMatching", "ExportedMatches"]


class ExportableKeypointMatching(ImageGraph):
    """The matches of a model with SuperPoint, with fixed control flow: all layers, all points.

    Keypoints and matches are those of the model without adaptive depth and width, in the same order. Height, width,
    the number of pairs and that of keypoints are dynamic.

    Args:
        model: with SuperPoint; its weights are used, not copied.
        num_points: most keypoints of an image, the best ones; None takes `max_keypoints` of the detector's
            configuration, and all keypoints if that is unlimited.

    Raises:
        ConfigError: for a model with another detector or in another type than float32, or a number that is not
            positive.

    Example:
        >>> import torch
        >>> config = sfm_lightglue.LightGlueConfig(num_hidden_layers=2)
        >>> model = sfm_lightglue.LightGlueForKeypointMatching(config).eval()
        >>> exportable = sfm_lightglue.ExportableKeypointMatching(model, num_points=16).eval()
        >>> exportable(torch.rand(1, 2, 1, 64, 96)).keypoints.shape
        torch.Size([1, 2, 16, 2])
    """

    def __init__(self, model: LightGlueForKeypointMatching, num_points: int | None = None) -> None:
        if model.dtype != torch.float32:
            raise ConfigError(f"only models in float32 can be exported, not in {model.dtype}; give dtype=torch.float32")
        if num_points is not None and num_points < 1:
            raise ConfigError(f"the number of points must be positive, got {num_points}")
        super().__init__(model.keypoint_detector, model.lightglue, model.config.filter_threshold, num_points)
