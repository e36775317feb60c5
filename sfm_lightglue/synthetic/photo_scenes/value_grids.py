"""Arrays of several sizes in one array, with lookups in all of them at once: masks of holes, heights of reliefs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Grids:
    """Arrays [H, W], each with one more column and row at the end, which are equal to the last ones.

    Args:
        values: [C, N] float32; there are C arrays of each size.
        starts: [grids] int32 first value of each.
        widths: [grids] int32, without the additional column.
        heights: [grids] int32, without the additional row.
    """

    values: Tensor
    starts: Tensor
    widths: Tensor
    heights: Tensor

    @classmethod
    def of(cls, grids: Sequence[Tensor], device: torch.device) -> Grids:
        """The values of all grids [C, H, W], as float32."""
        shapes = np.array([grid.shape[1:] for grid in grids], np.int64).reshape(-1, 2)
        ends = np.cumsum((shapes + 1).prod(1))
        starts = ends - (shapes + 1).prod(1)
        table = torch.from_numpy(np.stack([starts, shapes[:, 1], shapes[:, 0]]).astype(np.int32)).to(device)
        padded = [F.pad(grid.float()[None], (0, 1, 0, 1), mode="replicate").reshape(len(grid), -1) for grid in grids]
        return cls(torch.cat(padded, dim=1) if padded else torch.zeros(1, 0, device=device), *table)

    def nearest(self, rows: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The first values at (x, y) in widths and heights [n, s, s] of grids [n], repeated beyond their border."""
        starts, widths, heights = self._of(rows)
        columns = (x - x.floor()).mul_(widths).int().minimum(widths - 1)
        lines = (y - y.floor()).mul_(heights).int().minimum(heights - 1)
        return self._at(0, lines.mul_(widths + 1).add_(columns).add_(starts))

    def linear(self, rows: Tensor, x: Tensor, y: Tensor, num_values: int) -> list[Tensor]:
        """The first values at (x, y) [n, s, s] of grids [n] by bilinear interpolation, constant beyond the border.

        Places are in cells; the centre of the first cell is at 0.5.
        """
        starts, widths, heights = self._of(rows)
        x = torch.minimum((x - 0.5).clamp_(min=0), (widths - 1).float())
        y = torch.minimum((y - 0.5).clamp_(min=0), (heights - 1).float())
        columns, lines = x.int(), y.int()
        share_x, share_y = x.sub_(columns), y.sub_(lines)
        first = lines.mul_(widths + 1).add_(columns).add_(starts)
        lines_of_two = [(at, at + 1) for at in (first, first + (widths + 1))]
        found = []
        for channel in range(num_values):
            above, under = (
                torch.lerp(self._at(channel, left), self._at(channel, right), share_x) for left, right in lines_of_two
            )
            found.append(torch.lerp(above, under, share_y))
        return found

    def _of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        starts, widths, heights = (table[rows, None, None] for table in (self.starts, self.widths, self.heights))
        return starts, widths, heights

    def _at(self, channel: int, places: Tensor) -> Tensor:
        return self.values[channel].index_select(0, places.view(-1)).view(places.shape)
