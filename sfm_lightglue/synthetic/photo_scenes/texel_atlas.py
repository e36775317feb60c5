"""All texture levels of a batch in one array of texels, and colours by bilinear interpolation in it.

A texel is an int32 with red in the lowest byte, then green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.synthetic.photo_scenes.surfaces import Texture

MAX_LEVELS = 16
"""Rows of the table of levels per texture; the last level is repeated."""

_BITS = 5
"""Weights are multiples of 2^-5, as in OpenCV's `remap` and `warpPerspective`."""

_ONE = 1 << _BITS
_RED_BLUE = 0x00FF00FF


@dataclass(frozen=True, slots=True, eq=False)
class TexelAtlas:
    """Texels of all levels of all textures. `of` makes it.

    Args:
        texels: [N] int32.
        starts: [rows * MAX_LEVELS] int32, first texel of each level.
        widths: the same length, int32.
        heights: the same length, int32.
    """

    texels: Tensor
    starts: Tensor
    widths: Tensor
    heights: Tensor

    @classmethod
    def of(cls, textures: Sequence[Texture], skies: Tensor) -> TexelAtlas:
        """The levels of textures, and images of one level, which become textures of the rows after them.

        Args:
            textures: on one device.
            skies: uint8 [V, h, w, 3], on the same device.
        """
        levels = [level for texture in textures for level in texture.levels]
        shapes = [(*level.shape[:2],) for level in levels] + [(*skies.shape[1:3],)] * len(skies)
        ends = np.cumsum([height * width for height, width in shapes])
        counts = [len(texture.levels) for texture in textures] + [1] * len(skies)
        first = np.cumsum([0, *counts[:-1]])
        rows = (first[:, None] + np.minimum(np.arange(MAX_LEVELS), np.array(counts)[:, None] - 1)).ravel()
        heights, widths = np.array(shapes)[rows].T
        starts = np.concatenate([[0], ends[:-1]])[rows]
        device = skies.device
        table = torch.from_numpy(np.stack([starts, widths, heights]).astype(np.int32)).to(device)
        return cls(packed_texels([*levels, *skies]), *table)

    def colours(self, x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Red, green and blue at places of textures, which are repeated beyond their border.

        Args:
            x: [N] float32, in widths of the texture; overwritten.
            y: [N] float32, in heights of the texture; overwritten.
            rows: [N] int32, row of the texture times `MAX_LEVELS` plus level.

        Returns:
            Three int32 tensors [N] between 0 and 255.
        """
        width, height, start = (table.index_select(0, rows) for table in (self.widths, self.heights, self.starts))
        columns, next_columns, share_x = _axis(x, width)
        lines, next_lines, share_y = _axis(y, height)
        above, below = start + lines * width, next_lines.mul_(width).add_(start)
        corners = [
            self.texels.index_select(0, line + column) for line in (above, below) for column in (columns, next_columns)
        ]
        red_blue = _mixed([corner & _RED_BLUE for corner in corners], share_x, share_y)
        green = _mixed([(corner >> 8).bitwise_and_(0xFF) for corner in corners], share_x, share_y)
        return red_blue & 0xFF, green.bitwise_and_(0xFF), (red_blue >> 16).bitwise_and_(0xFF)


def _axis(places: Tensor, sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two neighbouring texels along an axis, and the weight of the second one times 32; int32 each.

    Args:
        places: [N] float32, 1 is the side of the texture; overwritten.
        sides: [N] int32, number of texels of the side.
    """
    places.sub_(places.floor())
    fixed = places.mul_(sides).mul_(_ONE).sub_(_ONE / 2).round_().int()
    share = fixed & (_ONE - 1)
    first = fixed.bitwise_right_shift_(_BITS)
    second = first + 1
    # A right shift by 31 gives -1 for negative numbers, otherwise 0: without comparisons, which are slow on a CPU.
    first.add_((first >> 31).bitwise_and_(sides))
    second.bitwise_and_((second - sides).bitwise_right_shift_(31))
    return first, second, share


def _mixed(corners: list[Tensor], share_x: Tensor, share_y: Tensor) -> Tensor:
    """Bilinear interpolation of two channels at once.

    Each is in 16 bits. The result is in bits 0 to 7 and 16 to 23; the other bits are meaningless.

    Args:
        corners: upper left, upper right, lower left, lower right, with values up to 255 in each half.
        share_x: weight of the right corners times 32.
        share_y: weight of the lower corners times 32.
    """
    lines = [
        (right - left).mul_(share_x).add_(left, alpha=_ONE).add_(0x00020002).bitwise_right_shift_(2)
        for left, right in (corners[:2], corners[2:])
    ]
    above, below = (line.bitwise_and_(0x07FF07FF) for line in lines)  # 8 bits, and 3 bits of the fraction
    return (below - above).mul_(share_y).add_(above, alpha=_ONE).add_(0x00800080).bitwise_right_shift_(8)


def packed_texels(images: Sequence[Tensor]) -> Tensor:
    """The pixels of all images uint8 [H, W, 3] in int32 [N]: by OpenCV on the CPU."""
    if images[0].is_cuda:
        return torch_packed_texels(images)
    texels = torch.empty(sum(image.shape[0] * image.shape[1] for image in images), dtype=torch.int32)
    target = texels.numpy().view(np.uint8).reshape(-1, 4)
    start = 0
    for image in images:
        height, width = image.shape[:2]
        part = target[start : start + height * width].reshape(height, width, 4)
        cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2RGBA, dst=part)
        start += height * width
    return texels


def torch_packed_texels(images: Sequence[Tensor]) -> Tensor:
    """`packed_texels` in torch; the highest byte differs."""
    red, green, blue = torch.cat([image.reshape(-1, 3) for image in images]).int().unbind(1)
    return red | (green << 8) | (blue << 16)
