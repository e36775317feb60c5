"""An untrained LightGlue whose matches and adaptivity are controlled by the descriptors, and pairs for it."""

from __future__ import annotations

import itertools
import math

import torch

from sfm_lightglue.models.lightglue import (
    LightGlue,
    LightGlueArchitecture,
    LightGlueOutput,
    LightGlueThresholds,
    Side,
)

DIM, LAYERS = 32, 6

ADAPTIVITY = [
    LightGlueThresholds(depth_confidence=depth, width_confidence=width)
    for depth, width in itertools.product((0.9, None), (0.99, None))
] + [LightGlueThresholds(depth_confidence=0.9, width_confidence=0.99, width_multiple=8)]

ALL_LAYERS = LightGlueThresholds(depth_confidence=None, width_confidence=None)

PAIRS = ((70, 55, 1.0), (40, 64, 3.0), (61, 61, 5.0))
"""Numbers of points of each pair, and the depth at which it should stop."""


def make_network(**options) -> LightGlue:
    """A random network that matches equal descriptors, and whose adaptivity is controlled by the descriptors.

    Entry 0 of a state is its confidence, which grows with depth; entry 1 is its matchability. The layers add only
    small updates, so that both entries persist.
    """
    network = LightGlue(
        LightGlueArchitecture(
            **{"input_dim": DIM, "descriptor_dim": DIM, "num_layers": LAYERS, "num_heads": 4, **options}
        )
    ).eval()
    with torch.no_grad():
        for layer in network.layers:
            for mlp in (layer.self_mlp, layer.cross_mlp):
                mlp.fc2.weight.mul_(0.5)
        for assignment in network.assignments:
            torch.nn.init.orthogonal_(assignment.projection.weight)
            assignment.projection.weight.mul_(1.8)
            assignment.matchability.weight.zero_()[0, 1] = 8.0
            assignment.matchability.bias.fill_(5.0)
        for index, confidence in enumerate(network.confidences):
            confidence.weight.zero_()[0, 0] = 6.0
            confidence.bias.fill_(3.0 * index)
    return network


def make_image(n: int, depth: float, unmatchable: int, shared: torch.Tensor) -> torch.Tensor:
    """Descriptors [n, D] that stop after about `depth` layers; the first rows are `shared`."""
    descriptors = torch.randn(n, DIM)
    descriptors[: len(shared)] = shared[:n]
    descriptors[:, 0] = 0.5 * (LAYERS - 1.5 - depth) + 0.25 * torch.randn(n) - 1.2
    descriptors[:, 1] = 0.3
    descriptors[n - unmatchable :, 1] = -3.0
    descriptors[n - unmatchable :, 0] += 2.0  # confident early
    return descriptors


def make_pair(n0: int, n1: int, depth: float) -> tuple[torch.Tensor, ...]:
    shared = torch.randn(min(n0, n1) * 2 // 3, DIM)
    keypoints = torch.rand(max(n0, n1), 2) * 2 - 1
    keypoints0, keypoints1 = keypoints[:n0], keypoints[:n1] + 0.01 * torch.randn(n1, 2)
    order = torch.randperm(n1)
    descriptors0 = make_image(n0, depth, n0 // 5, shared)
    descriptors1 = make_image(n1, depth, n1 // 4, shared)
    return keypoints0, keypoints1[order], descriptors0, descriptors1[order]


def pad(tensors: list[torch.Tensor], filling: float = math.nan) -> tuple[torch.Tensor, torch.Tensor]:
    """[n, D] each -> [B, N, D] padded with `filling`, and the mask [B, N]."""
    counts = torch.tensor([len(tensor) for tensor in tensors])
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=filling)
    return padded, torch.arange(padded.shape[1]) < counts[:, None]


def padded_sides(pairs) -> tuple[Side, Side]:
    """Both sides of a batch of pairs."""
    (kp0, mask0), (kp1, mask1), (desc0, _), (desc1, _) = (pad(list(part)) for part in zip(*pairs, strict=True))
    return Side(kp0, desc0, mask0), Side(kp1, desc1, mask1)


def single_sides(pair) -> tuple[Side, Side]:
    """Both sides of a batch of one pair, without masks."""
    keypoints0, keypoints1, descriptors0, descriptors1 = (tensor[None] for tensor in pair)
    return Side(keypoints0, descriptors0), Side(keypoints1, descriptors1)


def match_batch(network: LightGlue, pairs, thresholds, **options) -> LightGlueOutput:
    return network(*padded_sides(pairs), thresholds=thresholds, **options)


def match_alone(network: LightGlue, pair, thresholds, **options) -> LightGlueOutput:
    return network(*single_sides(pair), thresholds=thresholds, **options)
