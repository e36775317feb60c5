"""Batches: labels follow the sampled keypoints; mirrored, rotated and cropped views are those of such images."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.lightglue import upright_positions
from sfm_lightglue.training.data.batches import BatchConfig, BatchSampler
from sfm_lightglue.training.data.labelled_scenes import (
    MATCHED,
    UNMATCHABLE,
    PairLabels,
    TrainingScene,
    TrainingView,
    quantised,
)
from sfm_lightglue.training.data.stored_pairs import StoredPairs
from sfm_lightglue.training.losses import PairBatch
from sfm_lightglue.types import Features
from tests.helpers.training_scenes import CPU, block_of, make_scene

PLAIN = BatchConfig().unchanged


def sample(scenes: list[TrainingScene], config: BatchConfig, num_keypoints: int, seed: int = 0) -> PairBatch:
    """A batch of the first pair of each scene, in this order, whose images are not exchanged."""
    stored = StoredPairs.of([block_of(scenes, num_keypoints)], CPU)
    sampler = BatchSampler(stored, config, has_scale_orientation=True)
    return sampler.batch(torch.arange(len(scenes)), seed, num_keypoints, exchange=False)


def drawn_rows(batch: PairBatch, row: int, side: int, view: TrainingView) -> np.ndarray:
    """Indices of the sampled keypoints in the view."""
    mask = batch.inputs[4 + side][row]
    descriptors = batch.inputs[2 + side][row][mask].numpy()
    distances = np.abs(descriptors[:, None] - view.unit_descriptors[None]).max(2)
    assert distances.min(1).max() < 1e-5
    return distances.argmin(1)


@pytest.mark.parametrize("best_share", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_those_of_the_sampled_keypoints(best_share, seed):
    scene = make_scene(seed)
    labels = scene.pairs[0]
    batch = sample([scene], replace(PLAIN, best_share=best_share), 35, seed)
    idx0, idx1 = (drawn_rows(batch, 0, side, scene.views[side]) for side in (0, 1))
    assert len(set(idx0)) == len(set(idx1)) == 35
    partners = batch.targets.partners[0].numpy()
    found = {(int(idx0[i]), int(idx1[j])) for i, j in enumerate(partners) if j >= 0}
    wanted = {(int(i), int(j)) for i, j in labels.matches if i in idx0 and j in idx1}
    assert found == wanted and len(found) > 5
    assert np.array_equal(batch.targets.unmatchable0[0].numpy(), labels.state0[idx0] == UNMATCHABLE)
    assert np.array_equal(batch.targets.unmatchable1[0].numpy(), labels.state1[idx1] == UNMATCHABLE)
    if best_share == 1.0:
        assert set(idx0) == set(np.argsort(-scene.views[0].scores)[:35])


def test_exchanged_images_have_exchanged_labels():
    scenes = [make_scene(seed) for seed in range(6)]
    stored = StoredPairs.of([block_of(scenes)], CPU)
    batch = BatchSampler(stored, PLAIN, True).batch(torch.arange(6), 0, 60)
    num_exchanged = 0
    for row, scene in enumerate(scenes):
        is_exchanged = (batch.inputs.descriptors0[row].sort(0).values[0] - _lowest(scene.views[0])).abs().max() > 1e-5
        views = scene.views[::-1] if is_exchanged else scene.views
        columns = [1, 0] if is_exchanged else [0, 1]
        idx0, idx1 = (drawn_rows(batch, row, side, views[side]) for side in (0, 1))
        found = {(int(idx0[i]), int(idx1[j])) for i, j in enumerate(batch.targets.partners[row].tolist()) if j >= 0}
        assert found == {tuple(match) for match in scene.pairs[0].matches[:, columns].tolist()}
        num_exchanged += bool(is_exchanged)
    assert 0 < num_exchanged < 6


def _lowest(view: TrainingView) -> torch.Tensor:
    return torch.from_numpy(view.unit_descriptors.min(0))


def test_random_sampling_keeps_the_fraction_of_matches():
    scene = make_scene(3, num_points=400)
    batches = [sample([scene], replace(PLAIN, best_share=0.0), 100, seed) for seed in range(10)]
    shares = [(batch.targets.partners >= 0).float().mean().item() for batch in batches]
    assert 0.5 < np.mean(shares) <= 0.65  # of 0.6; independent sampling would leave 0.15


@pytest.mark.parametrize("mirrored_share", [0.0, 1.0])
def test_rotated_views_equal_those_of_a_rotated_image(mirrored_share):
    """Positions equal those that the matcher computes for an image with this orientation, mirrored first."""
    scene = make_scene(0)
    config = replace(PLAIN, turned_share=1.0, mirrored_share=mirrored_share)
    batch = sample([scene] * 12, config, 60, 1)
    turns_of_views = []
    for side, view in enumerate(scene.views):
        keypoints, orientations = view.keypoints.copy(), view.orientations
        if mirrored_share:
            keypoints[:, 0] = view.image_size[0] - keypoints[:, 0]
            orientations = np.float32(np.pi) - orientations
        parts = (keypoints, view.scores, view.unit_descriptors, view.image_size, view.scales, orientations)
        wanted = [_sorted(upright_positions(Features(*parts, turns), True)) for turns in range(4)]
        found = [_sorted(positions.numpy()) for positions in batch.inputs[side]]
        turns_of_views += [np.argmin([np.abs(one - other).max() for other in wanted]) for one in found]
        for one, turns in zip(found, turns_of_views[12 * side :], strict=True):
            assert np.abs(one - wanted[turns]).max() < 1e-4
    assert set(turns_of_views) == {1, 2, 3}


def _sorted(positions: np.ndarray) -> np.ndarray:
    """Rows in the order of the scales, which no change of the view touches."""
    return positions[np.argsort(positions[:, 2])]


def test_mirrored_views_equal_those_of_a_mirrored_image():
    """Keypoints and descriptors equal those of SIFT in the mirrored image."""
    pixels = np.clip(cv2.GaussianBlur(np.random.default_rng(0).normal(128, 400, (240, 320)), (0, 0), 2.5), 0, 255)
    pixels = np.repeat(pixels.astype(np.uint8)[..., None], 3, 2)
    extractor = SiftExtractor(SiftConfig(max_keypoints=500))
    straight, mirrored = (
        extractor.extract(Image.from_array(np.ascontiguousarray(image))) for image in (pixels, pixels[:, ::-1])
    )
    view = TrainingView(
        straight.keypoints,
        straight.scales,
        straight.orientations,
        straight.scores,
        quantised(straight.descriptors),
        straight.image_size,
    )
    states = np.full(len(view), UNMATCHABLE, np.int8)
    labels = PairLabels(0, 1, np.zeros((0, 2), np.int32), states, states, 1.0)
    batch = sample([TrainingScene((view, view), (labels,))], replace(PLAIN, mirrored_share=1.0), len(view))
    positions, descriptors = batch.inputs.keypoints0[0].numpy(), batch.inputs.descriptors0[0].numpy()
    wanted = upright_positions(mirrored, with_scale_orientation=True)
    # Rounding changes a few keypoints; those with the same position, scale and angle are compared.
    differences = np.abs(positions[:, None] - wanted[None]) / (0.01, 0.01, 0.5, 0.05)
    partner = differences.max(2).argmin(1)
    same = differences.max(2).min(1) < 1
    assert same.mean() > 0.8 and len(view) > 100
    assert np.median((descriptors[same] * mirrored.descriptors[partner[same]]).sum(1)) > 0.999
    plain = sample([TrainingScene((view, view), (labels,))], PLAIN, len(view)).inputs.descriptors0[0].numpy()
    assert np.median((plain[same] * mirrored.descriptors[partner[same]]).sum(1)) < 0.95


def test_a_window_keeps_the_points_inside_and_loses_the_matches_outside():
    scenes = [make_scene(seed, 100) for seed in range(8)]
    config = replace(PLAIN, cropped_share=1.0)
    batch = sample(scenes, config, 100)
    whole = sample(scenes, PLAIN, 100)
    masks = (batch.inputs.mask0, batch.inputs.mask1)
    kept = torch.stack(masks).float().mean()
    assert 0.35 < kept < 0.95 and torch.stack((whole.inputs.mask0, whole.inputs.mask1)).all()
    for row, scene in enumerate(scenes):
        positions = batch.inputs.keypoints0[row][masks[0][row]]
        assert positions[:, :2].abs().max() <= 1.0
        idx0, idx1 = (drawn_rows(batch, row, side, scene.views[side]) for side in (0, 1))
        # Positions are those of the points in a smaller image: a shift and a magnification.
        original = scene.views[0].keypoints[idx0]
        shown = positions[:, :2].numpy()
        slopes = [np.polyfit(original[:, axis], shown[:, axis], 1) for axis in (0, 1)]
        assert slopes[0][0] == pytest.approx(slopes[1][0], rel=1e-3) and slopes[0][0] > 2 / 640
        partner = dict(scene.pairs[0].matches.tolist())
        for place, idx in zip(np.flatnonzero(masks[0][row]), idx0, strict=True):
            if scene.pairs[0].state0[idx] != MATCHED:
                continue
            is_inside = partner[int(idx)] in idx1
            assert (batch.targets.partners[row, place] >= 0) == is_inside
            assert bool(batch.targets.unmatchable0[row, place]) == (not is_inside)


def test_scales_change_by_one_factor_for_each_view():
    scenes = [make_scene(seed) for seed in range(20)]
    plain, changed = (sample(scenes, replace(PLAIN, scale_jitter=jitter), 60) for jitter in (0.0, 0.3))
    ratios = [
        (one[..., 2].sort(1).values / other[..., 2].sort(1).values)
        for one, other in zip(changed.inputs[:2], plain.inputs[:2], strict=True)
    ]
    factors = torch.cat(ratios)
    assert (factors.amax(1) - factors.amin(1)).max() < 1e-4
    is_same = (factors.mean(1) - 1).abs() < 1e-4
    assert 0.3 < is_same.float().mean() < 0.7
    assert math.exp(-0.3) - 1e-4 <= factors.min() < 0.95 and 1.05 < factors.max() <= math.exp(0.3) + 1e-4


def test_padding_has_no_labels_and_no_values():
    batch = sample([make_scene(0, 20), make_scene(1, 40)], PLAIN, 50)
    assert batch.inputs.mask0.sum(1).tolist() == [20, 40]
    assert (batch.targets.partners >= 0).sum(1).tolist() == [12, 24]
    assert not (batch.targets.unmatchable0 & ~batch.inputs.mask0).any()
    assert not (batch.targets.unmatchable1 & ~batch.inputs.mask1).any()
    assert batch.inputs.keypoints0[~batch.inputs.mask0].abs().max() == 0
    assert batch.inputs.descriptors1[~batch.inputs.mask1].abs().max() == 0


def test_the_same_seed_gives_the_same_batch_and_another_one_does_not():
    scenes = [make_scene(seed, 100) for seed in range(4)]
    config = BatchConfig(cropped_share=0.3, scale_jitter=0.3)
    one, same, other = (sample(scenes, config, 40, seed) for seed in (7, 7, 8))
    assert all(
        torch.equal(a, b) for a, b in zip((*one.inputs, *one.targets), (*same.inputs, *same.targets), strict=True)
    )
    assert not torch.equal(one.inputs.keypoints0, other.inputs.keypoints0)


def test_features_without_scales_have_positions_only():
    stored = StoredPairs.of([block_of([make_scene(0)])], CPU)
    batch = BatchSampler(stored, PLAIN, has_scale_orientation=False).batch(torch.zeros(1, dtype=torch.int64), 0, 30)
    assert batch.inputs.keypoints0.shape == (1, 30, 2)


def test_impossible_values_are_refused():
    for values in ({"batch_size": 0}, {"num_keypoints": 1}, {"cropped_share": 1.5}, {"scale_jitter": -0.1}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            BatchConfig(**values)
