"""The optimizers of a network: AdamW for all weights, or Muon for the matrices and AdamW for the others."""

from __future__ import annotations

import torch
from torch import nn

from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.training.muon import Muon
from sfm_lightglue.training.options import TrainingConfig


def make_optimizers(network: LightGlue, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """New optimizers of all weights.

    The second moments of AdamW average over about 100 steps. Only matrices have weight decay. Steps of Muon are
    scaled to the size of those of AdamW, so that both use the same learning rate.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.ndim > 1 and len(parameter) > 1 and name != "position_projection.weight"
        (matrices if is_matrix else others).append(parameter)
    rate, decay, betas = config.learning_rate, config.weight_decay, (0.9, 0.99)
    if config.optimizer == "muon":
        return [
            Muon(matrices, lr=rate, weight_decay=decay),
            torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=betas, fused=True),
        ]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)]
