"""Size of an image in the input of the network, and transformation of points back to the original image.

An image is scaled, with its aspect ratio, to the largest size that fits into the input, and placed at the upper left;
the rest is padding. The model returns points in pixels of its input, whose first pixel centre is at 0, divided by
width and height of the scaled image. A point p of the scaled image is (p + 0.5) s - 0.5 in the original image, with
the scale s along each axis.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fit_within(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Largest size with the aspect ratio of `size` that fits into `frame`; all are (height, width)."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    height, width = (min(max(1, round(scale * side)), limit) for side, limit in zip(size, frame, strict=True))
    return height, width


def to_original_pixels(keypoints: Tensor, original_sizes: Tensor, seen_sizes: Tensor | None) -> Tensor:
    """Points in pixels of the original images; the centre of the first pixel is at 0.

    Args:
        keypoints: [B, 2, N, 2] normalised (x, y) of a `LightGlueKeypointMatchingOutput`.
        original_sizes: [B, 2, 2] (height, width).
        seen_sizes: [B, 2, 2] (height, width) of the scaled images; with None, the shift of pixel centres by the
            resize is unknown and left out.

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
