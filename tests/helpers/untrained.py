"""Files of untrained weights that give usable results, to test adapters and commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from sfm_lightglue.models.aliked import Aliked, AlikedArchitecture
from sfm_lightglue.models.checkpoints import save_lightglue, save_superpoint
from sfm_lightglue.models.disk import Disk
from sfm_lightglue.models.hardnet import HardNet
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture
from sfm_lightglue.models.xfeat import XFeat


def write_lightglue(path: Path, **options: object) -> Path:
    """A LightGlue for RootSIFT that matches similar descriptors, since its layers hardly change them.

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
    """A small SuperPoint with random weights: its keypoints are arbitrary but valid."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = SuperPointArchitecture((16, 16, 16, 16), decoder_channels=16, descriptor_dim=32)
        save_superpoint(SuperPoint(architecture), path)
    return path


def write_aliked(path: Path) -> Path:
    """A small ALIKED with random weights; its coarse levels are weak, so that keypoints are spread over the image."""
    architecture = AlikedArchitecture((8, 8, 16, 16), descriptor_dim=32, num_positions=4)
    return _write_random(lambda: Aliked(architecture), path, {"conv3": 0.1, "conv4": 0.1})


def write_xfeat(path: Path) -> Path:
    """An XFeat with random weights that finds keypoints in many cells."""
    return _write_random(XFeat, path, {"keypoint_head.3": 8.0})


def write_disk(path: Path) -> Path:
    """A DISK with random weights."""
    return _write_random(Disk, path, {})


def write_hardnet(path: Path) -> Path:
    """A HardNet with random weights: random projections, which still distinguish patches."""
    return _write_random(HardNet, path, {})


def _write_random(make: Callable[[], nn.Module], path: Path, gains: dict[str, float]) -> Path:
    """Random weights that preserve the magnitude of activations, times the gains of single layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make()
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=gains.get(name, 1.0) * (2.0 / module.weight[0].numel()) ** 0.5)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.8, 1.2)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path
