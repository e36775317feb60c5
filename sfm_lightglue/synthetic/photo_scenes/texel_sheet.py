"""All texture levels of a batch in one image, and colours in it by OpenCV: the counterpart of `TexelAtlas` on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import AnyArray, Float32Array, UInt8Array
from sfm_lightglue.synthetic.photo_scenes.surfaces import Texture
from sfm_lightglue.synthetic.photo_scenes.texel_atlas import ONE, level_rows

_MIN_WIDTH = 2048


@dataclass(frozen=True, slots=True, eq=False)
class TexelSheet:
    """Levels side by side, each with one more pixel at every border, which continues its repetition. `of` makes it.

    Args:
        pixels: uint8 [H, W, 3].
        columns: [rows * MAX_LEVELS] float32, column of the left border of the first pixel of each level.
        lines: the same for rows of the image.
        widths: the same length, float32.
        heights: the same length, float32.
    """

    pixels: UInt8Array
    columns: Tensor
    lines: Tensor
    widths: Tensor
    heights: Tensor

    @classmethod
    def of(cls, textures: Sequence[Texture], skies: Tensor) -> TexelSheet:
        """See `TexelAtlas.of`; all tensors are on the CPU."""
        levels = [level.numpy() for texture in textures for level in texture.levels] + [*skies.numpy()]
        shapes = np.array([level.shape[:2] for level in levels])
        places, size = _placed(shapes + 2)
        pixels = np.empty((*size, 3), np.uint8)
        for level, (y, x) in zip(levels, places.tolist(), strict=True):
            part = pixels[y : y + level.shape[0] + 2, x : x + level.shape[1] + 2]
            cv2.copyMakeBorder(level, 1, 1, 1, 1, cv2.BORDER_WRAP, dst=part)
        rows = level_rows(textures, len(skies))
        table = np.concatenate([places + 1, shapes], axis=1)[rows].T.astype(np.float32)
        lines, columns, heights, widths = torch.from_numpy(table)
        return cls(pixels, columns, lines, widths, heights)

    def lit_colours(self, x: Tensor, y: Tensor, rows: Tensor, gains: Tensor) -> Tensor:
        """See `TexelAtlas.lit_colours`."""
        map_x = self._places(x, rows, self.widths, self.columns)
        map_y = self._places(y, rows, self.heights, self.lines)
        colours = cv2.remap(self.pixels, map_x, map_y, cv2.INTER_LINEAR)
        lit = cv2.multiply(colours, cv2.merge([gains.numpy()] * 3), dtype=cv2.CV_8U)
        return torch.from_numpy(np.asarray(lit, np.uint8))

    def _places(self, places: Tensor, rows: Tensor, sides: Tensor, starts: Tensor) -> Float32Array:
        """Places in sides of a texture -> coordinates in the sheet, where the centre of the first pixel is at 0.

        They are rounded to OpenCV's multiples of 1/32 before the start is added. So the result does not depend on it.
        """
        flat = rows.view(-1)
        places.sub_(places.floor()).mul_(sides.index_select(0, flat).view(rows.shape))
        places.mul_(ONE).sub_(ONE / 2).round_().mul_(1 / ONE)
        coordinates: Float32Array = places.add_(starts.index_select(0, flat).view(rows.shape)).numpy()
        return coordinates


def _placed(shapes: AnyArray) -> tuple[AnyArray, tuple[int, int]]:
    """First (row, column) [N, 2] of rectangles (height, width) that lie in lines, highest first; and the whole size."""
    width = max(_MIN_WIDTH, int(shapes[:, 1].max()), int(np.sqrt(shapes.prod(1).sum())))
    places = np.zeros_like(shapes)
    y, x, height = 0, 0, 0
    for idx in np.argsort(-shapes[:, 0], kind="stable").tolist():
        if x + shapes[idx, 1] > width:
            y, x, height = y + height, 0, 0
        places[idx] = y, x
        x, height = x + int(shapes[idx, 1]), max(height, int(shapes[idx, 0]))
    return places, (y + height, width)
