"""Padded batches from labelled views, with random choice of keypoints, rotation, mirroring and order.

Images are not rendered again. A pair is different each time it is used: other keypoints are sampled, and its images
are exchanged, rotated by quarter turns, or mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sfm_lightglue.arrays import BoolArray, Float32Array, IndexArray
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.matchers.lightglue import upright_positions
from sfm_lightglue.training.data.labelled_scenes import PairLabels, TrainingView
from sfm_lightglue.training.data.labels import UNMATCHABLE
from sfm_lightglue.training.losses import NetworkInputs, PairBatch, Targets
from sfm_lightglue.types import Features

DESCRIPTOR_DIM = 128

_MIRRORED_VALUES = np.arange(DESCRIPTOR_DIM).reshape(4, 4, 8)[::-1, :, -np.arange(8)].reshape(-1)
"""Indices that turn a SIFT descriptor into that of the mirrored image. A descriptor has 4 x 4 histograms of 8
directions, in the frame of the keypoint's orientation; mirroring exchanges both sides of this axis."""


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

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.num_keypoints < 2:
            raise ConfigError("train: batch_size must be positive, and num_keypoints at least 2")
        for name in ("best_share", "turned_share", "mirrored_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train: {name} must lie in [0, 1], got {getattr(self, name)}")


class ViewSample(NamedTuple):
    """The sampled keypoints of one view."""

    positions: Float32Array
    """[N, 4] input of the network: (x, y) in [-1, 1], scale in pixels, orientation in radians."""
    descriptors: Float32Array
    """[N, 128]."""
    unmatchable: BoolArray
    """[N]."""


class PairSample(NamedTuple):
    """One pair with its sampled keypoints."""

    view0: ViewSample
    view1: ViewSample
    matches: IndexArray
    """[M, 2] indices of the sampled keypoints."""


def sample_pair(
    view0: TrainingView, view1: TrainingView, labels: PairLabels, config: BatchConfig, rng: np.random.Generator
) -> PairSample:
    """Sample the keypoints of a pair; mirror, rotate and exchange its images; renumber its labels.

    A matched point whose match was not sampled is ignored, not unmatchable: another keypoint may lie close to the
    same point, and the labels do not state this.

    Args:
        view0: one view of a scene.
        view1: another view of it.
        labels: of both views, in this order.
        config: how to sample.
        rng: source of random numbers.
    """
    kept = _draw(view0, view1, labels, config, rng)
    is_mirrored = rng.random() < config.mirrored_share
    drawn, new_idx = [], []
    for view, state, rows in zip((view0, view1), (labels.state0, labels.state1), kept, strict=True):
        turns = int(rng.integers(1, 4)) if rng.random() < config.turned_share else 0
        descriptors = view.root_sift[rows]
        if is_mirrored:
            descriptors = descriptors[:, _MIRRORED_VALUES]
        positions = _positions(view, rows, turns, is_mirrored)
        drawn.append(ViewSample(positions, descriptors, state[rows] == UNMATCHABLE))
        renumbered = np.full(len(state), -1, dtype=np.int64)
        renumbered[rows] = np.arange(len(rows))
        new_idx.append(renumbered)
    matches = np.stack([new_idx[side][labels.matches[:, side]] for side in (0, 1)], axis=1)
    matches = matches[(matches >= 0).all(axis=1)]
    if rng.random() < 0.5:
        return PairSample(drawn[0], drawn[1], matches)
    return PairSample(drawn[1], drawn[0], np.ascontiguousarray(matches[:, ::-1]))


def collate(samples: Sequence[PairSample], num_keypoints: int) -> PairBatch:
    """Pad pairs to a batch.

    Args:
        samples: pairs with at most `num_keypoints` points per view.
        num_keypoints: number of points of each image in the batch.
    """
    size, longest = len(samples), max(1, max(len(sample.matches) for sample in samples))
    positions = np.zeros((2, size, num_keypoints, 4), np.float32)
    descriptors = np.zeros((2, size, num_keypoints, DESCRIPTOR_DIM), np.float32)
    masks = np.zeros((2, size, num_keypoints), np.bool_)
    unmatchable = np.zeros((2, size, num_keypoints), np.bool_)
    matches = np.zeros((size, longest, 2), np.int64)
    match_mask = np.zeros((size, longest), np.bool_)
    for row, sample in enumerate(samples):
        for side, view in enumerate((sample.view0, sample.view1)):
            n = len(view.positions)
            positions[side, row, :n], descriptors[side, row, :n] = view.positions, view.descriptors
            masks[side, row, :n], unmatchable[side, row, :n] = True, view.unmatchable
        matches[row, : len(sample.matches)] = sample.matches
        match_mask[row, : len(sample.matches)] = True
    inputs = [torch.from_numpy(array[side]) for array in (positions, descriptors, masks) for side in (0, 1)]
    targets = [torch.from_numpy(array) for array in (matches, match_mask, *unmatchable)]
    return PairBatch(NetworkInputs(*inputs), Targets(*targets))


def _draw(
    view0: TrainingView, view1: TrainingView, labels: PairLabels, config: BatchConfig, rng: np.random.Generator
) -> tuple[IndexArray, IndexArray]:
    """Ascending indices of keypoints of both views, at most `num_keypoints` of each.

    Either the highest-scoring keypoints, as a detector with a limit returns them, or random ones. Both keypoints of
    a match have the same random priority, so that the fraction of matched points does not fall.
    """
    if rng.random() < config.best_share:
        priorities = [-np.asarray(view.scores, dtype=np.float64) for view in (view0, view1)]
    else:
        priorities = [rng.random(len(view.scores)) for view in (view0, view1)]
        priorities[1][labels.matches[:, 1]] = priorities[0][labels.matches[:, 0]]
    rows0, rows1 = (np.sort(np.argsort(priority, kind="stable")[: config.num_keypoints]) for priority in priorities)
    return rows0, rows1


def _positions(view: TrainingView, rows: IndexArray, quarter_turns: int, is_mirrored: bool) -> Float32Array:
    """[N, 4] positions as the matcher computes them."""
    keypoints = np.array(view.keypoints[rows], dtype=np.float32)
    orientations = np.array(view.orientations[rows], dtype=np.float32)
    if is_mirrored:
        keypoints[:, 0] = view.image_size[0] - keypoints[:, 0]
        orientations = np.float32(np.pi) - orientations
    features = Features(
        keypoints,
        np.asarray(view.scores[rows], dtype=np.float32),
        np.zeros((len(rows), 0), np.float32),
        view.image_size,
        np.asarray(view.scales[rows], dtype=np.float32),
        orientations,
        quarter_turns,
    )
    return upright_positions(features, with_scale_orientation=True)
