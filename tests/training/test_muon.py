"""Muon: equal to torch's implementation, matrices of one shape together, state that is saved and loaded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sfm_lightglue.training.muon import Muon, orthogonalised


def matrices(seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(8, 24), (24, 8), (8, 24), (8, 8)]]


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: range) -> None:
    for seed in seeds:
        for parameter, gradient in zip(parameters, matrices(100 + seed), strict=True):
            parameter.grad = gradient.detach().clone()
        optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon since version 2.9")
def test_steps_are_those_of_torch(monkeypatch):
    """Torch computes in bfloat16, which is replaced by float32 here."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    mine, theirs = matrices(0), matrices(0)
    take_steps(Muon(mine, lr=0.01, weight_decay=0.1), mine, range(5))
    other = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    take_steps(other, theirs, range(5))
    for one, two in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_singular_values_become_about_one():
    for x in (torch.randn(3, 16, 40), torch.randn(3, 40, 16)):
        values = torch.linalg.svdvals(orthogonalised(x))
        assert values.min() > 0.5 and values.max() < 1.3


def test_a_saved_state_continues():
    straight, resumed = matrices(0), matrices(0)
    optimizer = Muon(straight, lr=0.01)
    take_steps(optimizer, straight, range(6))
    first = Muon(resumed, lr=0.01)
    take_steps(first, resumed, range(3))
    second = Muon(resumed, lr=0.01)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    take_steps(second, resumed, range(3, 6))
    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))


def test_only_matrices_with_gradients_change():
    with pytest.raises(ValueError, match="matrices only"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)
    parameters = matrices(0)
    before = [parameter.detach().clone() for parameter in parameters]
    parameters[1].grad = torch.ones_like(parameters[1])
    Muon(parameters, lr=0.01).step()
    changed = [not torch.equal(one, other) for one, other in zip(parameters, before, strict=True)]
    assert changed == [False, True, False, False]
