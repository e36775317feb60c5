"""A LightGlue without training whose matches and whose adaptivity the descriptors steer, and pairs for it."""

from __future__ import annotations

import itertools
import math

import torch

from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture, LightGlueOutput, LightGlueThresholds

DIM, LAYERS = 32, 6

ADAPTIVITY = [
    LightGlueThresholds(depth_confidence=depth, width_confidence=width)
    for depth, width in itertools.product((0.9, None), (0.99, None))
] + [LightGlueThresholds(depth_confidence=0.9, width_confidence=0.99, width_multiple=8)]

ALL_LAYERS = LightGlueThresholds(depth_confidence=None, width_confidence=None)

PAIRS = ((70, 55, 1.0), (40, 64, 3.0), (61, 61, 5.0))
"""Numbers of points and the depth at which each pair is meant to stop."""


def make_network(**options) -> LightGlue:
    """A random network that matches equal descriptors, and whose adaptivity the descriptors steer.

    Entry 0 of a state makes it confident, the more so the deeper the layer; entry 1 makes it matchable. The
    layers add small updates only, so that both survive to the end.
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
    """Descriptors [n, D]; the first rows are `shared`, steered to stop after some `depth` layers."""
    descriptors = torch.randn(n, DIM)
    descriptors[: len(shared)] = shared[:n]
    descriptors[:, 0] = 0.5 * (LAYERS - 1.5 - depth) + 0.25 * torch.randn(n) - 1.2
    descriptors[:, 1] = 0.3
    descriptors[n - unmatchable :, 1] = -3.0
    descriptors[n - unmatchable :, 0] += 2.0  # sure of it early on
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
    """[n, D] each -> [B, N, D] padded with rubbish, and the mask [B, N]."""
    counts = torch.tensor([len(tensor) for tensor in tensors])
    padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=filling)
    return padded, torch.arange(padded.shape[1]) < counts[:, None]


def match_batch(network: LightGlue, pairs, thresholds, **options) -> LightGlueOutput:
    (kp0, mask0), (kp1, mask1), (desc0, _), (desc1, _) = (pad(list(side)) for side in zip(*pairs, strict=True))
    return network(kp0, kp1, desc0, desc1, mask0, mask1, thresholds=thresholds, **options)


def match_alone(network: LightGlue, pair, thresholds, **options) -> LightGlueOutput:
    return network(*(tensor[None] for tensor in pair), thresholds=thresholds, **options)
