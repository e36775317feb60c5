"""From a map of scores to keypoints; used by detectors that keep one maximum per window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Limits:
    """Which points to keep; independent of the weights.

    Raises:
        ValueError: a negative radius or number.
    """

    score_threshold: float = 0.0
    """Points have a score above this."""
    nms_radius_px: int = 2
    """A point is the maximum of a square window with a side of 2 r + 1 pixels."""
    max_num_keypoints: int | None = None
    """Number of best points to keep; None keeps all."""

    def __post_init__(self) -> None:
        if self.nms_radius_px < 0 or (self.max_num_keypoints or 0) < 0:
            raise ValueError(
                "Limits: nms_radius_px and max_num_keypoints must not be negative, got "
                f"{self.nms_radius_px} and {self.max_num_keypoints}"
            )


class Points(NamedTuple):
    """Points of one image, highest score first."""

    keypoints: Tensor
    """[N, 2] float: (x, y) in pixels of the network's input, **the centre of the first pixel at 0**."""
    scores: Tensor
    """[N] float."""
    descriptors: Tensor
    """[N, D] float of length 1."""


def window_max(x: Tensor, radius_px: int) -> Tensor:
    """Maximum [B, H, W] of the square window around each pixel; the window is cut at the border of the image."""
    # First along rows, then along columns: 2 k instead of k² comparisons.
    size = 2 * radius_px + 1
    rows = F.max_pool2d(x[:, None], (1, size), stride=1, padding=(0, radius_px))
    return F.max_pool2d(rows, (size, 1), stride=1, padding=(radius_px, 0))[:, 0]


def local_maxima(scores: Tensor, radius_px: int) -> Tensor:
    """Whether each pixel is the maximum of the square window around it.

    Of equal pixels, the first in reading order is the maximum, so no two maxima share a window.

    Args:
        scores: [B, H, W].
        radius_px: half the side of the window, without its centre.

    Returns:
        [B, H, W] bool.
    """
    peaks = scores == window_max(scores, radius_px)
    # Number of each peak in reading order; float32 is exact up to 16 million.
    number = peaks.flatten(1).cumsum(1).view_as(scores).float()
    lowest = -window_max(torch.where(peaks, -number, -torch.inf), radius_px)
    return peaks & (number == lowest)


def suppress_neighbours(scores: Tensor, radius_px: int) -> Tensor:
    """Keeps local maxima and sets all other scores to 0.

    A point that was suppressed only by a suppressed neighbour is considered again, twice.

    Args:
        scores: [B, H, W].
        radius_px: half the side of the window, without its centre.

    Returns:
        [B, H, W].

    Source: the fast approximation in the code of SuperGlue (Sarlin et al., 2020).
    """
    if radius_px == 0:
        return scores
    is_max = scores == window_max(scores, radius_px)
    for _ in range(2):
        suppressed = window_max(is_max.to(scores.dtype), radius_px) > 0
        remaining = scores.masked_fill(suppressed, 0.0)
        is_max |= (remaining == window_max(remaining, radius_px)) & ~suppressed
    return scores.masked_fill(~is_max, 0.0)


def select_peaks(scores: Tensor, limits: Limits) -> list[Tensor]:
    """Pixels (x, y) of the local maxima above the threshold, in reading order, for each image.

    Args:
        scores: [B, H, W].
        limits: radius and threshold are used.

    Returns:
        For each image [N, 2] int64.
    """
    peaks = local_maxima(scores, limits.nms_radius_px) & (scores > limits.score_threshold)
    return [torch.nonzero(each).flip(-1) for each in peaks]


def best_first(values: Tensor, limits: Limits) -> Tensor:
    """Indices of the highest of the values [N], at most `max_num_keypoints`; equal values keep their order."""
    return torch.sort(values, descending=True, stable=True).indices[: limits.max_num_keypoints]
