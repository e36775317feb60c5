"""From a map of scores to keypoints: what detectors that keep one maximum per window do alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Limits:
    """Which points to keep; nothing here changes the weights.

    Raises:
        ValueError: on a negative radius or number.
    """

    score_threshold: float = 0.0
    """Points need a score above this."""
    nms_radius_px: int = 2
    """A point is the maximum of a square window of twice this and one pixels."""
    max_num_keypoints: int | None = None
    """The best so many are kept; None keeps all."""

    def __post_init__(self) -> None:
        if self.nms_radius_px < 0 or (self.max_num_keypoints or 0) < 0:
            raise ValueError(
                "Limits: nms_radius_px and max_num_keypoints must not be negative, got "
                f"{self.nms_radius_px} and {self.max_num_keypoints}"
            )


class Points(NamedTuple):
    """Points of one image, best first."""

    keypoints: Tensor
    """[N, 2] float: (x, y) in pixels of the network's input, **the centre of the first pixel at 0**."""
    scores: Tensor
    """[N] float."""
    descriptors: Tensor
    """[N, D] float of length 1."""


def local_maxima(scores: Tensor, radius_px: int) -> Tensor:
    """Where a pixel is the maximum of the square window around it, which ends at the sides of the image.

    Of equal neighbours the first in the order of reading counts, so that no two maxima share a window.

    Args:
        scores: [B, H, W].
        radius_px: half the side of the window, without its centre.

    Returns:
        [B, H, W] bool.
    """

    def window_max(x: Tensor) -> Tensor:
        # A square window's maximum is one along rows, then along columns.
        size = 2 * radius_px + 1
        rows = F.max_pool2d(x[:, None], (1, size), stride=1, padding=(0, radius_px))
        return F.max_pool2d(rows, (size, 1), stride=1, padding=(radius_px, 0))[:, 0]

    peaks = scores == window_max(scores)
    # The number of a peak in the order of reading, which float32 holds exactly up to 16 million.
    number = peaks.flatten(1).cumsum(1).view_as(scores).float()
    lowest = -window_max(torch.where(peaks, -number, -torch.inf))
    return peaks & (number == lowest)


def select_peaks(scores: Tensor, limits: Limits) -> list[Tensor]:
    """The pixels (x, y) of the maxima above the threshold, in the order of reading, for each image.

    Args:
        scores: [B, H, W].
        limits: their radius and threshold count.

    Returns:
        For each image [N, 2] int64.
    """
    peaks = local_maxima(scores, limits.nms_radius_px) & (scores > limits.score_threshold)
    return [torch.nonzero(each).flip(-1) for each in peaks]


def best_first(values: Tensor, limits: Limits) -> Tensor:
    """Indices of the highest values [N], at most as many as allowed; equal ones keep their order."""
    return torch.sort(values, descending=True, stable=True).indices[: limits.max_num_keypoints]
