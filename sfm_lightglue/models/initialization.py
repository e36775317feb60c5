"""Initial values of weights."""

from __future__ import annotations

from torch import Tensor, nn


def draw_normal(weight: Tensor, deviation: float = 1.0) -> None:
    """Fills weights with normal random numbers, except on the meta device, where torch would import its compiler."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=deviation)
