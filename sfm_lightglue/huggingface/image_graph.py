"""SuperPoint and LightGlue as one graph: control flow does not depend on values, the number of keypoints does."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.detectors import Detector, SuperPointDetector
from sfm_lightglue.models.keypoints import suppress_neighbours
from sfm_lightglue.models.lightglue import LightGlue, normalize_keypoints
from sfm_lightglue.models.lightglue_graph import LightGlueGraph
from sfm_lightglue.models.superpoint import CELL

_AFTER_ALL = 2**31 - 1
"""Key of padding in an order of pixels: no image has so many."""


class ExportedMatches(NamedTuple):
    """Results of `ExportableKeypointMatching`.

    N is the number of keypoints of the image that has most of them, and at least 1.
    """

    keypoints: Tensor
    """[B, 2, N, 2] float: (x, y) in pixels of the input; the centre of the first pixel is at 0."""
    matches: Tensor
    """[B, 2, N]: index of the matching point in the other image, -1 without."""
    matching_scores: Tensor
    """[B, 2, N] float."""
    mask: Tensor
    """[B, 2, N]: whether there is a point; images with fewer points have padding."""


class ImageGraph(nn.Module):
    """The matches of pairs of images, by all layers and all points.

    Args:
        detector: whose weights and thresholds are used; not copied.
        lightglue: whose weights are used; not copied.
        filter_threshold: matches with a lower score are left out.
        num_points: most points of an image, the best ones; None takes the limit of the detector, which can be none.

    Raises:
        ConfigError: for another detector than SuperPoint, and for one that finds no points.
    """

    def __init__(
        self, detector: Detector, lightglue: LightGlue, filter_threshold: float, num_points: int | None = None
    ) -> None:
        super().__init__()
        if not isinstance(detector, SuperPointDetector):
            raise ConfigError("only models with SuperPoint can be exported together with their detector")
        if detector.network.architecture.cell_px != CELL:
            raise ConfigError("only a SuperPoint with four stages can be exported")
        self.network, self.detector_config = detector.network, detector.config
        self.matcher = LightGlueGraph(lightglue, filter_threshold)
        limit = detector.config.max_keypoints if num_points is None else num_points
        if limit == 0:
            raise ConfigError("max_keypoints is 0 in the configuration of the detector: it finds no points")
        self.num_points = None if limit < 0 else limit

    def forward(self, pixel_values: Tensor) -> ExportedMatches:
        """Match pairs of images.

        Args:
            pixel_values: [B, 2, C, H, W] in [0, 1]; only the first channel is used.
        """
        batch, _, _, height, width = pixel_values.shape
        features = self.network.encode(pixel_values.flatten(0, 1)[:, :1])  # [2 B, C, H / 8, W / 8]
        scores = suppress_neighbours(self.network.score(features), self.detector_config.nms_radius)
        scores = scores * self._is_inside(scores, height, width)
        keypoints, mask = self._keypoints(scores)
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

    def _keypoints(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints [P, N, 2] and their mask [P, N] from scores [P, h, w], in the order of `SuperPointDetector`."""
        flat, limit, threshold = scores.flatten(1), self.num_points, self.detector_config.keypoint_threshold
        # Padding with zeros: an image may have fewer pixels than the limit.
        candidates = flat if limit is None else F.pad(flat, (0, limit))
        values, pixels = torch.topk(candidates, flat.shape[1] if limit is None else limit)  # [P, M]
        mask = values > threshold
        is_used = mask.any(0)  # [M]: the first ones, because values are in descending order
        is_used = torch.cat([torch.ones_like(is_used[:1]), is_used[1:]])  # no reduction over 0 points
        ranks = torch.nonzero(is_used)[:, 0]  # [N]
        pixels, mask = pixels.index_select(1, ranks), mask.index_select(1, ranks)
        order = torch.argsort(torch.where(mask, pixels, _AFTER_ALL), dim=1)  # by row and column
        if limit is not None:  # by score if there are too many
            is_crowded = (flat > threshold).sum(1, keepdim=True) > limit
            order = torch.where(is_crowded, ranks, order)
        pixels, mask = pixels.gather(1, order), mask.gather(1, order)
        # A tensor, because ONNX has no division by a dynamic size; its shape does not depend on N.
        line = torch.full_like(scores[:1, 0, :1], scores.shape[2], dtype=torch.int64)
        rows = torch.div(pixels, line, rounding_mode="floor")
        keypoints = torch.stack([pixels - rows * line, rows], dim=-1).to(scores.dtype)
        return torch.where(mask[..., None], keypoints, 0.0), mask

    def _is_inside(self, scores: Tensor, height: int, width: int) -> Tensor:
        """1 where a pixel of scores [P, h, w] is not too near to the border of the image, else 0: [h, w]."""
        border = self.detector_config.border_removal_distance
        rows = torch.arange(scores.shape[1], device=scores.device)
        columns = torch.arange(scores.shape[2], device=scores.device)
        is_row = (rows >= border) & (rows < height - border)
        is_column = (columns >= border) & (columns < width - border)
        return (is_row[:, None] & is_column).to(scores.dtype)


def _sampled(keypoints: Tensor, descriptor_map: Tensor) -> Tensor:
    """Descriptors [P, N, D] of length 1 at keypoints [P, N, 2], as `models.superpoint.sample_descriptors`."""
    _, _, height, width = descriptor_map.shape
    x = (keypoints[..., 0] - CELL / 2 + 0.5) / (width * CELL - CELL / 2 - 0.5) * 2 - 1
    y = (keypoints[..., 1] - CELL / 2 + 0.5) / (height * CELL - CELL / 2 - 0.5) * 2 - 1
    grid = torch.stack([x, y], dim=-1)[:, None]  # [P, 1, N, 2]
    sampled = F.grid_sample(descriptor_map, grid, mode="bilinear", align_corners=True)  # [P, D, 1, N]
    return F.normalize(sampled[:, :, 0].transpose(1, 2), dim=-1)
