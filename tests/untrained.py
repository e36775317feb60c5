"""Files of weights that nobody trained, and that work all the same: what adapters and commands are tested with."""

from __future__ import annotations

from pathlib import Path

import torch

from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture
from sfm_lightglue.models.weights import save_lightglue, save_superpoint


def write_lightglue(path: Path, **options: object) -> Path:
    """A LightGlue for RootSIFT that matches what is alike: its layers hardly change the descriptors.

    Its confidence grows with the layers, so that pairs stop early.
    """
    sizes: dict[str, object] = {"input_dim": 128, "descriptor_dim": 128, "num_layers": 4, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LightGlue(LightGlueArchitecture(**(sizes | {"use_scale_orientation": True} | options)))
        with torch.no_grad():
            network.position_projection.weight.mul_(0.1)
            for layer in network.layers:
                for mlp in (layer.self_mlp, layer.cross_mlp):
                    mlp.fc2.weight.mul_(0.01)
                    mlp.fc2.bias.zero_()
            for assignment in network.assignments:
                torch.nn.init.orthogonal_(assignment.projection.weight)
                assignment.projection.weight.mul_(22.0)
                assignment.projection.bias.zero_()
                assignment.matchability.weight.zero_()
                assignment.matchability.bias.fill_(4.0)
            for index, confidence in enumerate(network.confidences):
                confidence.weight.zero_()
                confidence.bias.fill_(3.0 * index)
    save_lightglue(network, path)
    return path


def write_superpoint(path: Path) -> Path:
    """A small SuperPoint with random weights: its keypoints mean nothing, but obey all rules."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = SuperPointArchitecture((16, 16, 16, 16), decoder_channels=16, descriptor_dim=32)
        save_superpoint(SuperPoint(architecture), path)
    return path
