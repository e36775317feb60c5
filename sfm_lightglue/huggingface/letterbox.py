"""Where a picture lies in the network's input, and the way of points back to the original.

A picture of any shape goes into an input of fixed size without being squashed: it is scaled until it touches
two sides, and lies at the upper left; the rest is padding. Points come out of the network in pixels of its
input, whose first centre is at 0, divided by width and height of the picture as it lies there. A resize moves
pixels as areas, so a point at p lies in the original at (p + 0.5) s - 0.5, with the scale s along an axis.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fit_within(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture of this `size` once it touches the sides of a frame (height, width)."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    height, width = (min(max(1, round(scale * side)), limit) for side, limit in zip(size, frame, strict=True))
    return height, width


def to_original_pixels(keypoints: Tensor, original_sizes: Tensor, seen_sizes: Tensor | None) -> Tensor:
    """Normalised points -> pixels of the originals, the centre of the first pixel at 0.

    Args:
        keypoints: [B, 2, N, 2] (x, y), as `LightGlueKeypointMatchingOutput` has them.
        original_sizes: [B, 2, 2] (height, width).
        seen_sizes: [B, 2, 2] (height, width) of the pictures that the network saw; where it is None, the half
            pixel that a resize shifts them by is unknown and left out.

    Returns:
        [B, 2, N, 2].
    """
    size = original_sizes.flip(-1)[:, :, None].to(keypoints)  # [B, 2, 1, 2] (width, height)
    pixels = keypoints * size
    if seen_sizes is None:
        return pixels
    seen = seen_sizes.flip(-1)[:, :, None].to(keypoints)
    return pixels + 0.5 * (size / seen - 1.0)


def sizes_in_frame(original_sizes: Tensor, frame: tuple[int, int]) -> Tensor:
    """`fit_within` for sizes [B, 2, 2]."""
    fitted = [[fit_within((int(h), int(w)), frame) for h, w in pair] for pair in original_sizes.tolist()]
    return torch.tensor(fitted, dtype=torch.int64).reshape(-1, 2, 2)
