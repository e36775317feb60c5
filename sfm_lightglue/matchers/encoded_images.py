"""Keeps what a network computed from single images, for their next pairs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sfm_lightglue.arrays import IndexArray
from sfm_lightglue.types import Features

if TYPE_CHECKING:
    from sfm_lightglue.models.lightglue import EncodedSide


class EncodedImages:
    """Results of `LightGlue.encode` by image, the least recently used dropped first. Safe to use from several threads.

    Two threads may compute the same result at the same time; it is equal.

    Args:
        max_bytes: memory of all results; one larger than this is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._sides: OrderedDict[Features, EncodedSide] = OrderedDict()  # features are equal only to themselves
        self._lock = threading.Lock()

    def get(self, features: Features, encode: Callable[[Features], EncodedSide]) -> EncodedSide:
        """The result for an image; computed and kept if it is not there.

        Args:
            features: of the image; the same object for each pair.
            encode: computes the result.
        """
        with self._lock:
            if features in self._sides:
                self._sides.move_to_end(features)
                return self._sides[features]
        side = encode(features)
        with self._lock:
            if features not in self._sides:
                self._sides[features] = side
                self._num_bytes += _num_bytes(side)
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= _num_bytes(self._sides.popitem(last=False)[1])
        return side


def with_rows(side: EncodedSide, rows: IndexArray | None) -> EncodedSide:
    """The result for some keypoints of an image, a batch of one pair.

    Args:
        side: for all of its keypoints.
        rows: of the keypoints; None for all.
    """
    import torch

    if rows is None or len(rows) == side.x.shape[1]:
        return side
    index = torch.from_numpy(rows).to(side.x.device)
    return side._replace(x=side.x.index_select(1, index), rotations=side.rotations.index_select(1, index))


def padded(sides: Sequence[EncodedSide]) -> EncodedSide:
    """One image of each pair, padded to equal numbers of points, from batches of one pair."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from sfm_lightglue.models.lightglue import EncodedSide

    if len(sides) == 1:
        return sides[0]
    counts = torch.tensor([one.x.shape[1] for one in sides], device=sides[0].x.device)
    x, rotations = (
        pad_sequence(list(rows), batch_first=True)
        for rows in ((one.x[0] for one in sides), (one.rotations[0] for one in sides))
    )
    return EncodedSide(x, rotations, torch.arange(x.shape[1], device=x.device) < counts[:, None])


def _num_bytes(side: EncodedSide) -> int:
    return sum(one.numel() * one.element_size() for one in side if one is not None)
