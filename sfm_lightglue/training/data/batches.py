"""Batches from labelled pairs on a device, with random choice of keypoints, windows, rotation, mirroring and order.

Images are not rendered again. A pair is different each time it is used: other keypoints are sampled, its images are
exchanged, rotated by quarter turns, mirrored, or only a window of an image is kept. All shapes are fixed, and nothing
waits for the device.

B is the number of pairs, S of stored keypoints of a view, K of keypoints of a batch, D the dimension of a descriptor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.training.data.stored_pairs import StoredPairs
from sfm_lightglue.training.losses import NetworkInputs, PairBatch, Targets

_MIRRORED_VALUES = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8)].reshape(-1)
"""Indices that turn a SIFT descriptor into that of the mirrored image. A descriptor has 4 x 4 histograms of 8
directions, in the frame of the keypoint's orientation; mirroring exchanges both sides of this axis."""

_SMALLEST_WINDOW = 0.6
_ASPECT_CHANGE = 0.1


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How batches are made of pairs."""

    batch_size: int = 16
    """Number of pairs of one step."""

    num_keypoints: int = 384
    """At most this many keypoints per view; batches are padded to this number, so that all steps take the same time."""

    best_share: float = 0.5
    """Fraction of the pairs that use the highest-scoring keypoints; the others use random ones."""

    turned_share: float = 0.1
    """Fraction of the views that are rotated: positions and orientations by 90, 180 or 270 degrees."""

    mirrored_share: float = 0.5
    """Fraction of the pairs whose images are both mirrored horizontally."""

    cropped_share: float = 0.0
    """Fraction of the views of which only a random window with 54 to 100 % of each side is kept."""

    scale_jitter: float = 0.0
    """In half of the views, all scales are multiplied by one factor between exp(-x) and exp(x)."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.num_keypoints < 2:
            raise ConfigError("train: batch_size must be positive, and num_keypoints at least 2")
        for name in ("best_share", "turned_share", "mirrored_share", "cropped_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train: {name} must lie in [0, 1], got {getattr(self, name)}")
        if self.scale_jitter < 0:
            raise ConfigError(f"train: scale_jitter must not be negative, got {self.scale_jitter}")

    @property
    def unchanged(self) -> BatchConfig:
        """The same sampling of keypoints without changes of the views, as for validation."""
        return replace(self, turned_share=0.0, mirrored_share=0.0, cropped_share=0.0, scale_jitter=0.0)


@dataclass(frozen=True, slots=True)
class _Side:
    """One view of each pair: keypoints with their values, and their labels for this pair."""

    views: Tensor
    """[B] row of the view."""
    points: Tensor
    """[B, S, 5]: x, y, scale, orientation, score."""
    sizes: Tensor
    """[B, 2] (width, height)."""
    valid: Tensor
    """[B, S] bool."""
    partners: Tensor
    """[B, S] int64: index of the match in the other view, -1 for none."""
    unmatchable: Tensor
    """[B, S] bool."""


class BatchSampler:
    """Makes batches of stored pairs.

    A matched point whose match was not sampled is ignored, not unmatchable: another keypoint may lie close to the
    same point, and the labels do not state this.

    Args:
        stored: the pairs, on the device of the batches.
        config: how to sample.
        has_scale_orientation: whether the network takes scales and orientations.
    """

    def __init__(self, stored: StoredPairs, config: BatchConfig, has_scale_orientation: bool) -> None:
        self._stored, self._config, self._has_scale_orientation = stored, config, has_scale_orientation
        self._generator = torch.Generator(stored.device)
        self._mirrored_values = torch.from_numpy(_MIRRORED_VALUES.copy()).to(stored.device)

    def batch(self, rows: Tensor, seed: int, num_keypoints: int | None = None, exchange: bool = True) -> PairBatch:
        """The batch of some pairs.

        Args:
            rows: [B] int64 rows of the pairs.
            seed: the same seed and pairs give the same batch on one kind of device.
            num_keypoints: K; None for that of the configuration.
            exchange: whether half of the pairs have their images exchanged.
        """
        self._generator.manual_seed(seed)
        is_exchanged = self._rand(len(rows)) < (0.5 if exchange else 0.0)
        sides = self._sides(rows, is_exchanged)
        if self._config.cropped_share > 0:
            sides = self._cropped(sides)
        chosen = self._choose(sides, num_keypoints or self._config.num_keypoints)
        masks = [side.valid.gather(1, idx) for side, idx in zip(sides, chosen, strict=True)]
        is_mirrored = self._rand(len(rows)) < self._config.mirrored_share
        keypoints = [
            self._keypoints(side, idx, mask, is_mirrored) for side, idx, mask in zip(sides, chosen, masks, strict=True)
        ]
        descriptors = [
            self._descriptors(side, idx, mask, is_mirrored)
            for side, idx, mask in zip(sides, chosen, masks, strict=True)
        ]
        unmatchable = [
            side.unmatchable.gather(1, idx) & mask for side, idx, mask in zip(sides, chosen, masks, strict=True)
        ]
        partners = _renumbered(sides, chosen, masks)
        return PairBatch(NetworkInputs(*keypoints, *descriptors, *masks), Targets(partners, *unmatchable))

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, device=self._stored.device, generator=self._generator)

    def _sides(self, rows: Tensor, is_exchanged: Tensor) -> tuple[_Side, _Side]:
        stored = self._stored
        views = stored.views[rows]  # [B, 2]
        partners, unmatchable = stored.partners[rows].long(), stored.unmatchable[rows]  # [B, 2, S] each
        order = torch.stack([is_exchanged, ~is_exchanged], 1).long()  # [B, 2]
        wide = order[..., None].expand_as(partners)
        views, partners, unmatchable = views.gather(1, order), partners.gather(1, wide), unmatchable.gather(1, wide)
        idx = torch.arange(partners.shape[2], device=stored.device)
        sides = []
        for k in (0, 1):
            own = views[:, k]
            valid = idx < stored.num_keypoints[own, None]
            sides.append(
                _Side(own, stored.points[own], stored.image_sizes[own], valid, partners[:, k], unmatchable[:, k])
            )
        return sides[0], sides[1]

    def _cropped(self, sides: tuple[_Side, _Side]) -> tuple[_Side, _Side]:
        """Keep a window of some views. The match of a point outside of it becomes unmatchable."""
        windows = []
        for side in sides:
            size = len(side.views)
            is_cropped = self._rand(size, 1) < self._config.cropped_share
            share = _SMALLEST_WINDOW + (1 - _SMALLEST_WINDOW) * self._rand(size, 1)
            share = (share * (1 + _ASPECT_CHANGE * (2 * self._rand(size, 2) - 1))).clamp(max=1.0)
            window = torch.where(is_cropped, share, 1.0) * side.sizes
            corner = (side.sizes - window) * self._rand(size, 2)
            positions = side.points[..., :2] - corner[:, None]
            inside = side.valid & ((positions >= 0) & (positions < window[:, None])).all(-1)
            points = torch.cat([positions, side.points[..., 2:]], -1)
            windows.append(replace(side, points=points, sizes=window, valid=inside))
        cropped = []
        for side, other in (windows, windows[::-1]):
            is_lost = (side.partners >= 0) & ~other.valid.gather(1, side.partners.clamp(min=0))
            partners = torch.where(side.valid & ~is_lost, side.partners, -1)
            cropped.append(replace(side, partners=partners, unmatchable=side.unmatchable | is_lost))
        return cropped[0], cropped[1]

    def _choose(self, sides: tuple[_Side, _Side], num_keypoints: int) -> list[Tensor]:
        """Indices [B, K] of keypoints of both views, in any order; padding only if a view has no more keypoints.

        Either the highest-scoring keypoints, as a detector with a limit returns them, or random ones. Both keypoints
        of a match have the same random priority, so that the fraction of matched points does not fall.
        """
        size, num_stored = sides[0].partners.shape
        takes_best = self._rand(size, 1) < self._config.best_share
        draws0, draws1 = self._rand(size, num_stored), self._rand(size, num_stored)
        partners1 = sides[1].partners
        draws1 = torch.where(partners1 >= 0, draws0.gather(1, partners1.clamp(min=0)), draws1)
        chosen = []
        for side, draws in zip(sides, (draws0, draws1), strict=True):
            priorities = torch.where(takes_best, -side.points[..., 4], draws)
            priorities = priorities.masked_fill(~side.valid, torch.inf)
            chosen.append(priorities.topk(num_keypoints, 1, largest=False, sorted=False).indices)
        return chosen

    def _descriptors(self, side: _Side, chosen: Tensor, mask: Tensor, is_mirrored: Tensor) -> Tensor:
        """[B, K, D] float32 of unit length, 0 on padding."""
        values = self._stored.descriptors[side.views[:, None], chosen]
        if self._config.mirrored_share > 0:
            values = torch.where(is_mirrored[:, None, None], values[..., self._mirrored_values], values)
        unit: Tensor = F.normalize(values.float(), dim=-1, eps=1e-6)
        return unit * mask[..., None]

    def _keypoints(self, side: _Side, chosen: Tensor, mask: Tensor, is_mirrored: Tensor) -> Tensor:
        """[B, K, 4] or [B, K, 2] positions as the matcher computes them, 0 on padding."""
        points = side.points.gather(1, chosen[..., None].expand(-1, -1, 5))
        sizes = side.sizes[:, None]
        x, y = ((points[..., :2] - sizes / 2) / (sizes.amax(-1, keepdim=True) / 2)).unbind(-1)
        scales, orientations = points[..., 2], points[..., 3]
        x = torch.where(is_mirrored[:, None], -x, x)
        orientations = torch.where(is_mirrored[:, None], math.pi - orientations, orientations)
        size = len(chosen)
        is_turned = self._rand(size, 1) < self._config.turned_share
        turns = torch.where(is_turned, torch.floor(1 + 3 * self._rand(size, 1)).clamp(max=3), 0.0)
        for turn in range(3):
            x, y = torch.where(turns > turn, -y, x), torch.where(turns > turn, x, y)
        if not self._has_scale_orientation:
            return torch.stack([x, y], -1) * mask[..., None]
        if self._config.scale_jitter > 0:
            factors = torch.exp((2 * self._rand(size, 1) - 1) * self._config.scale_jitter)
            scales = scales * torch.where(self._rand(size, 1) < 0.5, factors, 1.0)
        orientations = torch.remainder(orientations + turns * (math.pi / 2), 2 * math.pi)
        return torch.stack([x, y, scales, orientations], -1) * mask[..., None]


def _renumbered(sides: tuple[_Side, _Side], chosen: list[Tensor], masks: list[Tensor]) -> Tensor:
    """For each chosen keypoint of view 0, the index of its match among those of view 1, -1 for none: [B, K]."""
    size, num_keypoints = chosen[0].shape
    numbers = torch.arange(num_keypoints, device=chosen[1].device).expand(size, -1)
    new_idx = torch.full_like(sides[1].partners, -1)
    new_idx.scatter_(1, chosen[1], torch.where(masks[1], numbers, -1))
    partners = sides[0].partners.gather(1, chosen[0])
    return torch.where((partners >= 0) & masks[0], new_idx.gather(1, partners.clamp(min=0)), -1)
