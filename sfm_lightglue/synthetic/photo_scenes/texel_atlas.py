"""All texture levels of a batch in one array of texels, and colours by bilinear interpolation in it, on every device.

A texel is an int32 with red in the lowest byte, then green and blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.synthetic.photo_scenes.surfaces import Texture

MAX_LEVELS = 16
"""Rows of the table of levels per texture; the last level is repeated."""

_BITS = 5
ONE = 1 << _BITS
"""Weights are multiples of 1 / `ONE`, as in OpenCV's `remap` and `warpPerspective`."""
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
        rows = level_rows(textures, len(skies))
        heights, widths = np.array(shapes)[rows].T
        starts = np.concatenate([[0], ends[:-1]])[rows]
        device = skies.device
        table = torch.from_numpy(np.stack([starts, widths, heights]).astype(np.int32)).to(device)
        return cls(_packed([*levels, *skies]), *table)

    def lit_colours(self, x: Tensor, y: Tensor, rows: Tensor, gains: Tensor) -> Tensor:
        """Colours at places of textures, which are repeated beyond their border, times gains.

        Args:
            x: [n, m] float32, in widths of the texture; overwritten.
            y: [n, m] float32, in heights of the texture; overwritten.
            rows: [n, m] int32, row of the texture times `MAX_LEVELS` plus level.
            gains: [n, m] float32.

        Returns:
            uint8 [n, m, 3] RGB.
        """
        channels = self._channels(x.view(-1), y.view(-1), rows.view(-1))
        lit = [channel.float().mul_(gains.view(-1)).round_().clamp_(max=255).to(torch.uint8) for channel in channels]
        return torch.stack(lit, dim=1).view(*x.shape, 3)

    def _channels(self, x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Red, green and blue [N], int32 between 0 and 255."""
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


def level_rows(textures: Sequence[Texture], num_skies: int) -> IndexArray:
    """The index of the level in each row of the table of levels: all levels of all textures, then one of each sky."""
    counts = np.array([len(texture.levels) for texture in textures] + [1] * num_skies)
    first = np.cumsum(counts) - counts
    rows: IndexArray = (first[:, None] + np.minimum(np.arange(MAX_LEVELS), counts[:, None] - 1)).ravel()
    return rows


def _axis(places: Tensor, sides: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two neighbouring texels along an axis, and the weight of the second one times 32; int32 each.

    Args:
        places: [N] float32, 1 is the side of the texture; overwritten.
        sides: [N] int32, number of texels of the side.
    """
    places.sub_(places.floor())
    fixed = places.mul_(sides).mul_(ONE).sub_(ONE / 2).round_().int()
    share = fixed & (ONE - 1)
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
        (right - left).mul_(share_x).add_(left, alpha=ONE).add_(0x00020002).bitwise_right_shift_(2)
        for left, right in (corners[:2], corners[2:])
    ]
    above, below = (line.bitwise_and_(0x07FF07FF) for line in lines)  # 8 bits, and 3 bits of the fraction
    return (below - above).mul_(share_y).add_(above, alpha=ONE).add_(0x00800080).bitwise_right_shift_(8)


def _packed(images: Sequence[Tensor]) -> Tensor:
    """The pixels of all images uint8 [H, W, 3] in int32 [N]."""
    red, green, blue = torch.cat([image.reshape(-1, 3) for image in images]).int().unbind(1)
    return red | (green << 8) | (blue << 16)
