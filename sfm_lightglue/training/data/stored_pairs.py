"""Views and labelled pairs in tensors of fixed shape on a device, from which batches are drawn."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.training.data.labelled_scenes import UNMATCHABLE
from sfm_lightglue.training.data.shards import ShardArrays


@dataclass(frozen=True, slots=True)
class PairBlock:
    """The views and pairs of one shard, padded to S keypoints; V views, P pairs, D values of a descriptor."""

    points: Tensor
    """[V, S, 5] float32: x, y, scale in pixels, orientation in radians, score."""
    descriptors: Tensor
    """[V, S, D] uint8 or float16."""
    num_keypoints: Tensor
    """[V] int64."""
    image_sizes: Tensor
    """[V, 2] float32 (width, height) in pixels."""
    views: Tensor
    """[P, 2] int64 views of each pair, as indices within the block."""
    partners: Tensor
    """[P, 2, S] int16: index of the match of each keypoint in the other view, -1 for none."""
    unmatchable: Tensor
    """[P, 2, S] bool."""

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of views and of pairs."""
        return len(self.num_keypoints), len(self.views)

    def pinned(self) -> PairBlock:
        """The same in page-locked memory, from which copies to a GPU do not wait."""
        return PairBlock(*(getattr(self, field.name).pin_memory() for field in fields(self)))


def pair_block(arrays: ShardArrays, max_keypoints: int) -> PairBlock:
    """The content of a shard as padded tensors on the CPU.

    Args:
        arrays: of the shard.
        max_keypoints: S.

    Raises:
        DataError: if a view has more keypoints.
    """
    counts = arrays.num_keypoints
    if len(counts) and counts.max() > max_keypoints:
        raise DataError(f"a shard has views with {counts.max()} keypoints, more than {max_keypoints}")
    filled = np.arange(max_keypoints) < counts[:, None]  # [V, S]
    points = np.zeros((len(counts), max_keypoints, 5), np.float32)
    columns = [arrays.keypoints, *(values[:, None] for values in (arrays.scales, arrays.orientations, arrays.scores))]
    points[filled] = np.concatenate(columns, axis=1)
    descriptors = np.zeros((*filled.shape, arrays.descriptors.shape[1]), arrays.descriptors.dtype)
    descriptors[filled] = arrays.descriptors
    views = arrays.view_rows
    partners, unmatchable = _padded_labels(arrays, counts[views], max_keypoints)
    parts = (points, descriptors, counts.astype(np.int64), arrays.image_sizes.astype(np.float32), views)
    return PairBlock(*map(torch.from_numpy, (*parts, partners, unmatchable)))


def _padded_labels(arrays: ShardArrays, counts: AnyArray, max_keypoints: int) -> tuple[AnyArray, AnyArray]:
    """Partners and unmatchable points [P, 2, S] of pairs whose views have `counts` [P, 2] keypoints."""
    num_pairs = len(counts)
    partners = np.full((num_pairs, 2, max_keypoints), -1, np.int16)
    pair_of_match = np.repeat(np.arange(num_pairs), arrays.num_matches)
    for side in (0, 1):
        partners[pair_of_match, side, arrays.matches[:, side]] = arrays.matches[:, 1 - side]
    unmatchable = np.zeros((num_pairs, 2, max_keypoints), np.bool_)
    for side, states in enumerate((arrays.states0, arrays.states1)):
        labels = unmatchable[:, side]
        labels[np.arange(max_keypoints) < counts[:, side, None]] = states == UNMATCHABLE
    return partners, unmatchable


@dataclass(frozen=True, slots=True)
class BlockRows:
    """Where the views and pairs of a block are stored."""

    views: Tensor
    """[V] int64."""
    pairs: Tensor
    """[P] int64."""


class StoredPairs:
    """Storage for the blocks of many shards on one device. Blocks can be removed again.

    Args:
        max_views: number of views for which memory is reserved.
        max_pairs: number of pairs.
        like: a block with the same number of keypoints and the same descriptors.
        device: of all tensors.
    """

    def __init__(self, max_views: int, max_pairs: int, like: PairBlock, device: torch.device) -> None:
        def reserved(size: int, example: Tensor) -> Tensor:
            return torch.zeros(size, *example.shape[1:], dtype=example.dtype, device=device)

        self.device = device
        self.points = reserved(max_views, like.points)
        self.descriptors = reserved(max_views, like.descriptors)
        self.num_keypoints = reserved(max_views, like.num_keypoints)
        self.image_sizes = reserved(max_views, like.image_sizes)
        self.views = reserved(max_pairs, like.views)
        self.partners = reserved(max_pairs, like.partners)
        self.unmatchable = reserved(max_pairs, like.unmatchable)
        self._free_views, self._free_pairs = torch.arange(max_views), torch.arange(max_pairs)

    @classmethod
    def of(cls, blocks: list[PairBlock], device: torch.device) -> StoredPairs:
        """A storage that is filled with at least one block; the rows of the pairs are 0, 1, ... in their order."""
        num_views, num_pairs = (sum(sizes) for sizes in zip(*(block.size for block in blocks), strict=True))
        stored = cls(num_views, num_pairs, blocks[0], device)
        for block in blocks:
            stored.put(block)
        return stored

    def has_room(self, num_views: int, num_pairs: int) -> bool:
        """Whether a block of this size fits into the free memory."""
        return num_views <= len(self._free_views) and num_pairs <= len(self._free_pairs)

    def put(self, block: PairBlock) -> BlockRows:
        """Store a block for which there is room; copies to a GPU are not waited for."""
        num_views, num_pairs = block.size
        views, self._free_views = self._free_views[:num_views], self._free_views[num_views:]
        pairs, self._free_pairs = self._free_pairs[:num_pairs], self._free_pairs[num_pairs:]
        view_rows, pair_rows = views.to(self.device), pairs.to(self.device)
        for name in ("points", "descriptors", "num_keypoints", "image_sizes"):
            getattr(self, name)[view_rows] = getattr(block, name).to(self.device, non_blocking=True)
        self.views[pair_rows] = view_rows[block.views.to(self.device, non_blocking=True)]
        for name in ("partners", "unmatchable"):
            getattr(self, name)[pair_rows] = getattr(block, name).to(self.device, non_blocking=True)
        return BlockRows(views, pairs)

    def remove(self, rows: BlockRows) -> None:
        """Free the memory of a block."""
        self._free_views = torch.cat([self._free_views, rows.views]).sort().values
        self._free_pairs = torch.cat([self._free_pairs, rows.pairs]).sort().values
